"""`ops.multiview_hardness` against the formulas, by hand, and what it does with faulty input; on every backend."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from spcl_fast import ops, reference
from spcl_fast.ops import MultiviewHardness

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
NONE = [INF, -INF, INF, -INF]  # the scaling of no utterance


class Batch(NamedTuple):
    reconstruction: list[Tensor]
    target: list[Tensor]
    hidden: Tensor
    crossed: Tensor
    present: Tensor

    def with_dtype(self, dtype: torch.dtype) -> Batch:
        r, x = ([part.to(dtype) for part in parts] for parts in self[:2])
        return Batch(r, x, self.hidden.to(dtype), self.crossed.to(dtype), self.present)

    def rows(self, kept: Any) -> Batch:
        r, x = ([part[kept] for part in parts] for parts in self[:2])
        return Batch(r, x, self.hidden[:, kept], self.crossed[:, kept], self.present[:, kept])


def problem(T: int = 40, widths: tuple[int, ...] = (5, 16, 33), F: int = 24, scale: float = 2.0) -> Batch:
    M = len(widths)
    r, x = ([torch.randn(T, width, dtype=torch.float64) for width in widths] for _ in range(2))
    hidden, crossed = (scale * torch.randn(n, T, F, dtype=torch.float64) for n in (M, M * (M - 1) // 2))
    return Batch(r, x, hidden, crossed, torch.rand(M, T) < 0.6)


def same(a: MultiviewHardness, b: MultiviewHardness) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return all(
        u.dtype == v.dtype and torch.equal(u.isnan(), v.isnan()) and torch.equal(u.nan_to_num(), v.nan_to_num())
        for u, v in zip(a, b, strict=True)
    )


def agree(a: MultiviewHardness, b: MultiviewHardness, backend: str) -> bool:
    """A kernel gives the same bits; what torch's own ops give may hang on where a row lies."""
    if backend != "reference":
        return same(a, b)
    tol = 1e-12 if a.hardness.dtype == torch.float64 else 1e-4
    return all(torch.allclose(u, v, rtol=tol, atol=tol, equal_nan=True) for u, v in zip(a, b, strict=True))


def entropy_by_hand(row: list[float]) -> float:
    largest = max(row)
    total = math.fsum(math.exp(x - largest) for x in row)
    p = [min(max(math.exp(x - largest) / total, 1e-6), 1.0) for x in row]
    return -math.fsum(q * math.log(q + 1e-7) for q in p)


def by_hand(batch: Batch, valid: Tensor, against_zero: bool, sign: int) -> tuple[list[float], ...]:
    """Hardness, direct hardness and information, number by number, of utterances without fault."""
    M, T = batch.present.shape
    direct, information = [NAN] * T, [NAN] * T
    for t in range(T):
        if not valid[t]:
            continue
        parts = []
        for m in range(M):
            if not batch.present[m, t]:
                r, x = batch.reconstruction[m][t].tolist(), batch.target[m][t].tolist()
                x = [0.0] * len(r) if against_zero else x
                parts.append(math.fsum((a - b) ** 2 for a, b in zip(r, x, strict=True)) / len(r))
        direct[t] = math.fsum(parts) / M
        H = [entropy_by_hand(row) for row in batch.hidden[:, t].tolist()]
        crossed = [entropy_by_hand(row) for row in batch.crossed[:, t].tolist()]
        pairs = list(combinations(range(M), 2))
        information[t] = sign * math.fsum(H[m] + H[n] - crossed[k] for k, (m, n) in enumerate(pairs))

    def scaled(values: list[float]) -> list[float]:
        known = [v for v in values if v == v]
        low, high = min(known), max(known)
        return [(v - low) / (high - low) if high > low else 0.0 * v for v in values]

    d, g = scaled(direct), scaled(information)
    return [1 / (1 + math.exp(-4 * (0.6 * a + 0.4 * b))) for a, b in zip(d, g, strict=True)], direct, information


@pytest.mark.parametrize(("against_zero", "sign"), [(False, 1), (True, 1), (False, -1)])
@pytest.mark.parametrize("widths", [(7, 3), (5, 16, 33), (1, 1, 1, 70)])
@pytest.mark.parametrize("scale", [1.0, 9.0])  # with the second, many probabilities are clamped
def test_the_formulas_by_hand(widths: tuple[int, ...], against_zero: bool, sign: int, scale: float) -> None:
    batch, valid = problem(30, widths, scale=scale), torch.rand(30) < 0.8
    source = "code" if against_zero else "true"
    got = ops.multiview_hardness(*batch, target_source=source, mi_sign=sign, valid=valid)
    expected = by_hand(batch, valid, against_zero, sign)
    for value, numbers in zip(got[:3], expected, strict=True):
        torch.testing.assert_close(value.cpu().tolist(), numbers, rtol=1e-12, atol=1e-12, equal_nan=True)
    counted = valid.nonzero().squeeze(1)
    assert got.scaling.tolist() == [
        *(float(end) for part in got[1:3] for end in (part[counted].min(), part[counted].max()))
    ]
    if against_zero:
        assert same(
            got, ops.multiview_hardness(batch[0], None, *batch[2:], target_source=source, mi_sign=sign, valid=valid)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("F", [1, 2, 15, 16, 17, 100, 256, 300])
def test_every_dtype_is_close_to_float64(dtype: torch.dtype, F: int) -> None:
    for scale in (0.3, 3.0, 12.0):
        batch = problem(50, (F, 3, F), F, scale).with_dtype(dtype)
        got = ops.multiview_hardness(*batch)
        exact = reference.multiview_hardness(*batch.with_dtype(torch.float64))
        assert got.hardness.dtype == got.direct.dtype == got.information.dtype == torch.float32
        torch.testing.assert_close(got.direct.double(), exact.direct, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(got.information.double(), exact.information, rtol=0, atol=1e-5)
        # The scaling makes the rounding of g larger, the more the less g differs: hence from what was given.
        bounds = got.scaling.view(2, 2)
        d, g = (
            (part - low) / (high - low).clamp(min=1e-30) for part, (low, high) in zip(got[1:3], bounds, strict=True)
        )
        expected = torch.sigmoid(4 * (0.6 * d + 0.4 * g)).float()
        torch.testing.assert_close(got.hardness, expected, rtol=0, atol=1.2e-7)


def test_slope_and_weights() -> None:
    batch = problem()
    got = ops.multiview_hardness(*batch, slope=-1.5, direct_weight=2.0, information_weight=0.25)
    d, g = ((x - low) / (high - low) for x, (low, high) in zip(got[1:3], got.scaling.view(2, 2), strict=True))
    torch.testing.assert_close(got.hardness, torch.sigmoid(-1.5 * (2.0 * d + 0.25 * g)))
    flat = ops.multiview_hardness(*batch, slope=0.0).hardness
    assert torch.equal(flat, torch.full_like(flat, 0.5))
    steep = ops.multiview_hardness(*batch, slope=1e9).hardness
    assert set(steep.tolist()) <= {0.5, 1.0}
    assert set(ops.multiview_hardness(*batch, slope=-1e9).hardness.tolist()) <= {0.0, 0.5}


def test_what_is_equal_everywhere_is_scaled_to_zero() -> None:
    batch = problem(12)
    alike = batch._replace(
        hidden=batch.hidden[:, :1].expand(-1, 12, -1), crossed=batch.crossed[:, :1].expand(-1, 12, -1)
    )
    got = ops.multiview_hardness(*alike)
    d = (got.direct - got.scaling[0]) / (got.scaling[1] - got.scaling[0])
    torch.testing.assert_close(got.hardness, torch.sigmoid(2.4 * d))
    nothing_missing = ops.multiview_hardness(*alike[:4], torch.ones(3, 12, dtype=torch.bool))
    assert torch.equal(nothing_missing.hardness, torch.full((12,), 0.5, dtype=torch.float64))
    assert nothing_missing.scaling[:2].tolist() == [0.0, 0.0]
    one = ops.multiview_hardness(*batch.rows([3]))
    assert one.hardness.tolist() == [0.5]


def test_all_modalities_missing_and_none() -> None:
    batch = problem(3)
    batch.present[:, 0], batch.present[:, 1] = False, True
    batch.present[:, 2] = torch.tensor([True, False, True])
    direct = ops.multiview_hardness(*batch).direct
    errors = [(r - x).square().mean(-1) for r, x in zip(*batch[:2], strict=True)]
    torch.testing.assert_close(direct[0], (errors[0][0] + errors[1][0] + errors[2][0]) / 3)
    assert direct[1] == 0
    torch.testing.assert_close(direct[2], errors[1][2] / 3)


def test_what_does_not_count_is_nan_and_touches_nothing(backend: str) -> None:
    """Padding; faults where they count; and no fault where they do not."""
    batch = problem(40)
    batch.present[:, :10] = torch.tensor([[True], [False], [True]])
    clean = ops.multiview_hardness(*batch.rows(slice(8, None)))
    valid = torch.ones(40, dtype=torch.bool)
    valid[0] = False
    batch.target[1][0] = 1e9  # padding
    batch.reconstruction[1][1, 3] = NAN
    batch.target[1][2, 3] = -INF
    batch.hidden[2, 3, 0] = NAN
    batch.hidden[0, 4, 23] = INF
    batch.hidden[1, 5] = -INF
    batch.crossed[2, 6, 1] = NAN
    batch.reconstruction[1][7] = 1e300  # its square is infinite
    batch.reconstruction[0][8:10] = NAN  # of a modality that is there: not looked at
    batch.target[2][8:10] = INF
    got = ops.multiview_hardness(*batch, valid=valid)
    assert all(part[:8].isnan().all() for part in got[:3])
    assert agree(MultiviewHardness(*(part[8:] for part in got[:3]), got.scaling), clean, backend)
    without = ops.multiview_hardness(*batch, valid=torch.zeros_like(valid))
    assert all(part.isnan().all() for part in without[:3])
    assert without.scaling.tolist() == NONE


def test_minus_infinity_is_a_probability_of_zero() -> None:
    batch = problem(6)
    batch.hidden[:, :, 5] = -INF
    batch.crossed[:, :, 7:9] = -1e30
    got = ops.multiview_hardness(*batch)
    expected = by_hand(batch, torch.ones(6), False, 1)
    torch.testing.assert_close(got.information.tolist(), expected[2], rtol=1e-12, atol=1e-12)


def test_a_scaling_that_is_given_counts(backend: str) -> None:
    batch = problem(30)
    whole = ops.multiview_hardness(*batch)
    halves = [batch.rows(slice(0, 11)), batch.rows(slice(11, None))]
    parts = [ops.multiview_hardness(*half, scaling=whole.scaling) for half in halves]
    joined = MultiviewHardness(*(torch.cat(both) for both in zip(*(p[:3] for p in parts), strict=True)), whole.scaling)
    assert agree(joined, whole, backend)
    assert torch.equal(parts[0].scaling, whole.scaling)
    own = [ops.multiview_hardness(*half).scaling for half in halves]
    torch.testing.assert_close(ops.merged_scaling(*own), whole.scaling, rtol=1e-12, atol=1e-12)
    none = torch.tensor(NONE, dtype=torch.float64)
    assert torch.equal(ops.merged_scaling(none, own[0]), own[0])
    # Beyond [0, 1], and where there is no room: 0.
    d, g = whole.direct, whole.information
    narrow = ops.multiview_hardness(*batch, scaling=torch.tensor([0.1, 0.2, 3.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(narrow.hardness, torch.sigmoid(2.4 * (d - 0.1) / 0.1))
    for bad in ([NAN, 1.0, 5.0, 2.0], NONE, [0.0, INF, -1e308, 1e308]):
        got = ops.multiview_hardness(*batch, scaling=torch.tensor(bad, dtype=torch.float64))
        assert torch.equal(got.hardness, torch.full_like(d, 0.5))
        assert torch.equal(got.information, g)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_no_utterance(dtype: torch.dtype) -> None:
    got = ops.multiview_hardness(*problem(0).with_dtype(dtype))
    result = torch.float64 if dtype == torch.float64 else torch.float32
    assert [(part.shape, part.dtype) for part in got[:3]] == [((0,), result)] * 3
    assert got.scaling.tolist() == NONE


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("F", [1, 5, 64])
def test_every_memory_order_and_form_gives_the_same_bits(dtype: torch.dtype, F: int, backend: str) -> None:
    batch, valid = problem(33, (F, F, F), F).with_dtype(dtype), torch.rand(33) < 0.9
    expected = ops.multiview_hardness(*batch, valid=valid)

    def spaced(x: Tensor) -> Tensor:
        memory = torch.full((*x.shape[:-2], 2 * x.shape[-2] + 1, 3 * F + 1), NAN, dtype=dtype)[..., 1::2, 1::3]
        return memory.copy_(x)

    def turned(x: Tensor) -> Tensor:
        return x.mT.contiguous().mT

    def sideways(x: Tensor) -> Tensor:
        return torch.stack([x, x], -1)[..., 0]

    for change in (spaced, turned, sideways):
        r, x, z, c = (change(torch.stack(list(part))) for part in batch[:4])
        present = batch.present.T.contiguous().T
        both = torch.stack([valid, ~valid], 1)[:, 0]
        for forms in ((r, x, z, c), (list(r), x, list(z), list(c))):
            assert agree(ops.multiview_hardness(*forms, present, valid=both), expected, backend)
    alike = [torch.stack(list(part))[:1] for part in batch[:4]]
    got = ops.multiview_hardness(*(part.expand(3, -1, -1) for part in alike), batch.present)
    assert agree(got, ops.multiview_hardness(*(part.repeat(3, 1, 1) for part in alike), batch.present), backend)


def test_nothing_is_written_and_nothing_is_differentiable() -> None:
    batch = problem()
    for part in (*batch.reconstruction, *batch.target, batch.hidden, batch.crossed):
        part.requires_grad_()
    kept = [part.clone() for part in (*batch.reconstruction, *batch.target, *batch[2:])]
    scaling = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    got = ops.multiview_hardness(*batch, scaling=scaling)
    assert not any(part.requires_grad for part in got)
    assert scaling.tolist() == [0.0, 1.0, 0.0, 1.0]
    for part, before in zip((*batch.reconstruction, *batch.target, *batch[2:]), kept, strict=True):
        assert torch.equal(part, before)


T = 10
FAULTS: dict[str, tuple[type[Exception], str]] = {
    "M = 1": (ValueError, r"needs at least 2 of them, and at most 8 \(got 1\)"),
    "M = 9": (ValueError, r"at most 8 \(got 9\)"),
    "pairs": (ValueError, r"crossed must have 3 entries for 3 modalities \(got 2\)"),
    "too few": (ValueError, r"reconstruction must have 3 entries for 3 modalities \(got 2\)"),
    "utterances": (ValueError, r"reconstruction\[1\] must have shape \(10, 16\) \(got \(9, 16\)\)"),
    "features": (ValueError, r"target\[2\] must have shape \(10, 33\) \(got \(10, 4\)\)"),
    "units": (ValueError, r"crossed\[0\] must have shape \(10, 24\) \(got \(10, 23\)\)"),
    "no features": (ValueError, r"reconstruction must have at least one feature \(got none\)"),
    "no units": (ValueError, r"hidden must have at least one feature \(got none\)"),
    "two dtypes": (TypeError, r"all tensors must have one dtype \(hidden torch.float64, target torch.float32\)"),
    "integers": (TypeError, r"hidden must hold floating point numbers \(got torch.int64\)"),
    "no tensor": (TypeError, r"crossed\[0\] must be a tensor \(got list\)"),
    "no target": (ValueError, r"target_source 'true' needs a target \(got None\)"),
    "source": (ValueError, r"target_source must be one of 'true', 'code' \(got 'zero'\)"),
    "sign": (ValueError, r"mi_sign must be 1 or -1 \(got 0\)"),
    "bool": (ValueError, r"mi_sign must be 1 or -1 \(got True\)"),
    "slope": (ValueError, r"slope must be finite \(got inf\)"),
    "weight": (TypeError, r"direct_weight must be a number \(got str\)"),
    "present": (ValueError, r"present must have shape \(3, 10\) \(got \(10, 3\)\)"),
    "none present": (TypeError, r"present must be a tensor \(got NoneType\)"),
    "bytes": (TypeError, r"present must hold booleans \(got torch.uint8\)"),
    "valid": (ValueError, r"valid must have shape \(10,\) \(got \(9,\)\)"),
    "scaling": (TypeError, r"scaling must hold float64 \(got torch.float32\)"),
    "three": (ValueError, r"scaling must have shape \(4,\) \(got \(3,\)\)"),
    "device": (ValueError, r"all tensors must be on one device \(hidden on .*, target\[0\] on meta\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_refused(fault: str) -> None:
    r, x, z, c, present = problem(T)
    doubles = {"dtype": torch.float64}
    calls: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "M = 1": ({"hidden": z[:1]}, {}),
        "M = 9": ({"hidden": z[:1].expand(9, -1, -1)}, {}),
        "pairs": ({"crossed": c[:2]}, {}),
        "too few": ({"reconstruction": r[:2]}, {}),
        "utterances": ({"reconstruction": [r[0], r[1][1:], r[2]]}, {}),
        "features": ({"target": [x[0], x[1], x[2][:, :4]]}, {}),
        "units": ({"crossed": c[..., 1:]}, {}),
        "no features": ({"reconstruction": [r[0], r[1][:, :0], r[2]]}, {}),
        "no units": ({"hidden": z[..., :0]}, {}),
        "two dtypes": ({"target": [part.float() for part in x]}, {}),
        "integers": ({"hidden": z.long()}, {}),
        "no tensor": ({"crossed": c.tolist()}, {}),
        "no target": ({"target": None}, {}),
        "source": ({}, {"target_source": "zero"}),
        "sign": ({}, {"mi_sign": 0}),
        "bool": ({}, {"mi_sign": True}),
        "slope": ({}, {"slope": INF}),
        "weight": ({}, {"direct_weight": "0.6"}),
        "present": ({"present": present.T}, {}),
        "none present": ({"present": None}, {}),
        "bytes": ({"present": present.byte()}, {}),
        "valid": ({}, {"valid": present[0, 1:]}),
        "scaling": ({}, {"scaling": torch.zeros(4)}),
        "three": ({}, {"scaling": torch.zeros(3, **doubles)}),
        "device": ({"target": [part.to("meta") for part in x]}, {}),
    }
    inputs, options = calls[fault]
    names = {"reconstruction": r, "target": x, "hidden": z, "crossed": c, "present": present} | inputs
    error, message = FAULTS[fault]
    with pytest.raises(error, match=f"^multiview_hardness: .*{message}"):
        ops.multiview_hardness(**names, **options)


def test_merged_scaling_refuses_what_is_none() -> None:
    four = torch.zeros(4, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"second must hold float64 \(got torch.float32\)"):
        ops.merged_scaling(four, four.float())
    with pytest.raises(ValueError, match=r"first must have shape \(4,\) \(got \(2,\)\)"):
        ops.merged_scaling(four[:2], four)
