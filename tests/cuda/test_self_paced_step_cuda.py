"""The CUDA kernels of `self_paced_step`, its backward and `modality_spread`: what only they have.

The raw ops get tensors of the default device, and offsets and weights whose faults a device does not look for.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spcl_fast import reference
from spcl_fast._options import MEASURES, MEASURES_OF_SPREAD, NUMBERS, step_weighting
from spcl_fast.reference import SelfPacedStep

NAN, INF = float("nan"), float("inf")
FIELDS = ("loss", "weight", "difficulty", "utterance_loss", "confidence", "spread")
PARAMETERS = {"mixture": {"lower": 0.3}, "polynomial": {"degree": 3.0}, "superloss": {"regularization": 0.5}}
PARAMETERS |= {"curml": {"degree": 1.5, "formula": "curml"}}
#: what the kernels may differ by from the reference in float64
TOLERANCE = {torch.float64: 1e-12, torch.float32: 4e-6}
Results = tuple[Tensor, ...]


def raw(
    z: Tensor | list[Tensor], y: Tensor, o: Tensor, threshold: Tensor | float | None = 0.8, **given: Any
) -> Results:
    """What the op returns; `given` are options of the reference, and `needs_gradient`."""
    level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
    tensors = [given.get(name) for name in ("joint", "extra_difficulty", "class_weight", "present")]
    weighting = step_weighting("self_paced_step", given.get("scheme", "hard"), given.get("scheme_parameters"))
    measure = MEASURES.index(given.get("measure", "spcl"))
    options = (
        *(given.get("normalizer", "all") == "selected", given.get("aggregate", "sum") == "mean"),
        *(given.get("label_smoothing", 0.0), given.get("ignore_index", -100), given.get("flags", True)),
    )
    logits = [z] if isinstance(z, Tensor) else z
    needs_gradient = given.get("needs_gradient", True)
    return torch.ops.spcl_fast.self_paced_step(
        logits, y, o, level, number, *tensors, measure, *weighting, *options, needs_gradient
    )


def problem(lengths: list[int], M: int = 3, C: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    T = sum(lengths)
    logits = torch.randn(M, T, C, generator=generator, dtype=torch.float64)
    labels = torch.randint(C, (T,), generator=generator)
    device = torch.get_default_device()
    return logits.to(device), labels.to(device), torch.tensor([0, *lengths]).cumsum(0)


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def undivided(expected: SelfPacedStep, gradient: Tensor, normalizer: str) -> Tensor:
    norm = expected.weight.sum() if normalizer == "selected" else expected.totals.scored
    return gradient * torch.where(norm > 0, norm, 1)


def assert_like_reference(got: Results, z: Tensor, y: Tensor, o: Tensor, threshold: Any, **options: Any) -> None:
    leaf = z.detach().double().requires_grad_()
    needs_gradient = options.pop("needs_gradient", True)
    if "joint" in options:
        options["joint"] = options["joint"].double().requires_grad_()
    expected = reference.self_paced_step(leaf, y, o, threshold, **options)
    tolerance = TOLERANCE[got[0].dtype]
    close = {"rtol": 4 * tolerance, "atol": 4 * tolerance}
    for name, field in zip(FIELDS, got[:6], strict=True):
        wanted = getattr(expected, name).detach()
        torch.testing.assert_close(field.double(), wanted, **close, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")
    gradient, counts, sums = got[6:]
    assert counts.tolist() == expected.totals.counts.tolist()
    size = len(z)
    torch.testing.assert_close(sums[: 1 + 2 * size], expected.totals.sums[: 1 + 2 * size], **close)
    torch.testing.assert_close(sums[1 + 2 * size], expected.weight.sum().double(), **close)
    if not needs_gradient:
        assert gradient.shape == (0, z.shape[2])
        return
    source = options.get("joint", leaf)
    if not expected.loss.requires_grad:
        return
    (wanted,) = torch.autograd.grad(expected.loss, source)
    wanted = undivided(expected, wanted, options.get("normalizer", "all"))
    has = options.get("present", torch.ones(z.shape[:2], dtype=torch.bool))
    for m, of_modality in enumerate(wanted if wanted.ndim == 3 else wanted[None]):
        rows = has[m] if wanted.ndim == 3 else slice(None)
        torch.testing.assert_close(gradient[rows].double(), of_modality[rows], **close)
    unscored = expected.utterance_loss.isnan()
    assert not gradient[unscored].any()


# Dialogues around the borders of chunks (32 rows), spans (64) and groups (512 rows, 255 dialogues).
BORDERS = [1, 31, 32, 33, 0, 63, 64, 65, 0, 0, 15, 16, 17, 511, 2, 513]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("C", [1, 2, 3, 4, 5, 6, 7, 8, 9, 65])
def test_every_kernel_at_the_borders_of_chunks_spans_and_groups(C: int, dtype: torch.dtype) -> None:
    z, y, o = problem([1, 31, 33, 0, 64, 17], C=C)
    z = z.to(dtype)
    y[[2, 40]] = -100
    z[1, 50, 0] = NAN
    assert_like_reference(raw(z, y, o, 0.8), z, y, o, 0.8)


@pytest.mark.parametrize("lengths", [BORDERS, [700], [1] * 300, [0] * 300, [0, 0, 520, 0, 0, 3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dialogues_of_every_length_and_number(lengths: list[int], dtype: torch.dtype) -> None:
    z, y, o = problem(lengths)
    z = z.to(dtype)
    for options in ({}, {"present": torch.rand(z.shape[:2]) < 0.7}, {"needs_gradient": False}):
        assert_like_reference(raw(z, y, o, 0.9, **options), z, y, o, 0.9, **options)


@pytest.mark.parametrize("C", [1025, 1500])
def test_a_block_shares_a_row_of_many_classes(C: int) -> None:
    z, y, o = problem([3, 0, 4], C=C)
    options = {"class_weight": torch.rand(C), "label_smoothing": 0.1}
    for dtype in (torch.float32, torch.bfloat16):
        w = z.to(dtype)
        assert_like_reference(raw(w, y, o, 3.0, **options), w, y, o, 3.0, **options)


@pytest.mark.parametrize("C", [6, 7, 8, 20])
@pytest.mark.parametrize("M", [2, 4, 5, 9, 33, 64, 96])
def test_any_number_of_modalities_to_the_limit(M: int, C: int) -> None:
    z, y, o = problem([40, 2, 0, 30], M=M, C=C)
    z = z.float()
    assert_like_reference(raw(z, y, o, 3.0), z, y, o, 3.0)
    if M <= 32:
        assert all(same(a, b) for a, b in zip(raw(list(z), y, o, 3.0), raw(z, y, o, 3.0), strict=True))
    else:
        with pytest.raises(RuntimeError, match=r"one tensor or at most 32 \(got "):
            raw(list(z), y, o)
    with pytest.raises(RuntimeError, match=r"at most 96 modalities \(got 97\)"):
        raw(torch.zeros(97, 1, C), torch.zeros(1, dtype=torch.long), torch.tensor([0, 1]))


@pytest.mark.parametrize("scheme", [*(name for name in NUMBERS if name != "spld"), "curml"])
@pytest.mark.parametrize("normalizer", ["all", "selected"])
@pytest.mark.parametrize("C", [6, 12])
def test_every_scheme_weighs_the_gradient(scheme: str, normalizer: str, C: int) -> None:
    z, y, o = problem([40, 9, 60], C=C)
    options = {"scheme": scheme, "normalizer": normalizer, "scheme_parameters": PARAMETERS.get(scheme)}
    if scheme == "curml":
        options["scheme"] = "polynomial"
    for threshold in (0.7, torch.tensor(0.7), torch.tensor(0.7, dtype=torch.bfloat16)):
        level = threshold if isinstance(threshold, Tensor) else torch.tensor(threshold, dtype=torch.float64)
        assert_like_reference(raw(z, y, o, threshold, **options), z, y, o, level.double(), **options)


@pytest.mark.parametrize("M", [1, 2, 5])
@pytest.mark.parametrize("C", [6, 20])
@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_is_that_of_the_reference(measure: str, C: int, M: int) -> None:
    z, y, o = problem([40, 1, 0, 60], M=M, C=C)
    z[0, 7, 1], z[:, 9, y[9]], y[11] = NAN, -INF, -100
    extra = torch.rand(len(y)).double()
    extra[3] = NAN
    for dtype in (torch.float32, torch.float64):
        for options in ({"extra_difficulty": extra}, {"extra_difficulty": extra, "scheme": "given"}, {}):
            if (measure == "none" and not options) or (M == 1 and measure in MEASURES_OF_SPREAD):
                with pytest.raises(RuntimeError, match=r"needs at least 2 of them|needs extra_difficulty"):
                    raw(z.to(dtype), y, o, 0.9, measure=measure, **options)
            else:
                w = z.to(dtype)
                got = raw(w, y, o, 0.9, measure=measure, **options)
                assert_like_reference(got, w, y, o, 0.9, measure=measure, **options)


@pytest.mark.parametrize("C", [4, 6, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_may_be_given_at_once(C: int, dtype: torch.dtype) -> None:
    z, y, o = problem([40, 9, 60], C=C)
    z, T = z.to(dtype), len(y)
    options: dict[str, Any] = {
        "class_weight": torch.linspace(0.2, 1.5, C).to(dtype),
        "label_smoothing": 0.1,
        "present": torch.rand(3, T) < 0.7,
        "extra_difficulty": torch.rand(T).double(),
        "aggregate": "mean",
    }
    assert_like_reference(raw(z, y, o, 0.9, **options), z, y, o, 0.9, **options)
    for of_joint in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        joint = torch.randn(C, T).to(of_joint).T
        options["joint"] = joint
        assert_like_reference(raw(z, y, o, None, **options), z, y, o, None, **options)


@pytest.mark.parametrize("C", [6, 20])
def test_a_class_without_a_proper_weight_is_not_scored(C: int) -> None:
    z, y, o = problem([40, 9, 60], C=C)
    for bad in (NAN, INF, -0.5):
        weight = torch.rand(C, dtype=torch.float64)
        weight[2] = bad
        options = {"class_weight": weight, "label_smoothing": 0.2}
        assert_like_reference(raw(z, y, o, 0.9, **options), z, y, o, 0.9, **options)


MALFORMED = {
    "falls": lambda o, T: o.flip(0),
    "starts late": lambda o, T: (o + 70).clamp(max=T),
    "ends early": lambda o, T: o // 2,
    "outside": lambda o, T: torch.where(
        torch.arange(len(o)) % 3 == 1, -(2**62), o + T * (torch.arange(len(o)) % 7 == 3)
    ),
    "one falls": lambda o, T: torch.where(torch.arange(len(o)) == len(o) // 2, 3, o),
    "all at the end": lambda o, T: torch.full_like(o, T),
    "one entry": lambda o, T: o[1:2],
    "int64 ends": lambda o, T: torch.where(torch.arange(len(o)) % 2 == 0, 2**63 - 1, -(2**63)),
}


@pytest.mark.parametrize("fault", MALFORMED)
@pytest.mark.parametrize(
    "lengths", [[40, 9, 0, 60, 31], [3, 0, 1] * 86, [1, 0, 0] * 700], ids=["few", "many", "chunks"]
)
def test_malformed_offsets_are_read_as_their_running_maximum(lengths: list[int], fault: str) -> None:
    z, y, o = problem(lengths, M=2, C=3)
    z = z.float()
    y[5] = 99
    o = MALFORMED[fault](o, len(y))
    for flags in (True, False):
        got = raw(z, y, o, 0.9, flags=flags)
        assert_like_reference(got, z, y, o, 0.9, flags=flags)
    torch.testing.assert_close(
        torch.ops.spcl_fast.modality_spread(z[..., 0].double(), o, None, False),
        reference.modality_spread(z[..., 0].double(), o),
        equal_nan=True,
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint8, torch.int32, torch.uint64])
def test_offsets_of_every_integer_in_steps(dtype: torch.dtype) -> None:
    z, y, o = problem([0, 1] * 60 + [0] * 200)
    spaced = o.to(dtype).repeat_interleave(3)[::3]
    assert all(same(a, b) for a, b in zip(raw(z, y, spaced), raw(z, y, o), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("C", [2, 3, 4, 5, 6, 7, 8])
def test_any_address_and_stride_gives_the_same_bits(C: int, dtype: torch.dtype) -> None:
    z, y, o = problem([33, 0, 50, 8], C=C)
    z = z.to(dtype)
    M, T, _ = z.shape
    expected = raw(z, y, o)
    for shift in (1, 2, 3, 5):
        store = torch.full((M * T * C + 16,), NAN, dtype=dtype)
        moved = store[shift : shift + M * T * C].view(M, T, C)
        moved.copy_(z)
        assert all(same(a, b) for a, b in zip(raw(moved, y, o), expected, strict=True))
    for form in (z.permute(2, 0, 1).contiguous().permute(1, 2, 0), z.transpose(0, 1).contiguous().transpose(0, 1)):
        assert all(same(a, b) for a, b in zip(raw(form, y, o), expected, strict=True))
    apart = [torch.cat([row[:1], row])[1:] for row in z]
    assert all(same(a, b) for a, b in zip(raw(apart, y, o), expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_dialogue_has_the_same_bits_in_any_batch(dtype: torch.dtype) -> None:
    lengths = [9, 600, 1, 16, 0, 70, 31, 530]
    z, y, o = problem(lengths, C=7)
    z = z.to(dtype)
    whole = raw(z, y, o)
    for first, last in ((0, 1), (1, 2), (2, 6), (5, 8), (7, 8)):
        own = slice(int(o[first]), int(o[last]))
        part = raw(z[:, own], y[own], o[first : last + 1] - o[first])
        for k in (1, 2, 3, 6):
            assert same(part[k], whole[k][own])
        assert same(part[4], whole[4][:, own])
        assert same(part[5], whole[5][first:last])


def test_nothing_at_all() -> None:
    for D in (0, 3, 400):
        o = torch.zeros(D + 1, dtype=torch.int64)
        for C in (1, 6):
            got = raw(torch.zeros(2, 0, C), torch.zeros(0, dtype=torch.int64), o)
            assert got[0] == 0
            assert got[5].shape == (D,)
            assert got[5].isnan().all()
            assert got[6].shape == (0, C)
            assert got[7].tolist() == [1, 0, 0, 0, 0, 0, 0]
            assert got[8].tolist() == [0.0] * 6


@pytest.mark.parametrize("of_gradient", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("T", [0, 1, 3, 8, 700])
def test_backward_divides_scales_and_casts(T: int, dtype: torch.dtype, of_gradient: torch.dtype) -> None:
    gradient = torch.randn(T, 7, dtype=of_gradient)
    counts, sums = torch.tensor([1, 40, 9, 0, 0, 0, 0]), torch.tensor([3.0, 1, 1, 1, 1, 12.5], dtype=torch.float64)
    for grad_loss in (torch.tensor(3.0), torch.tensor(2.0, dtype=torch.float16), torch.tensor(0.5).double()):
        for by_weight, norm in ((False, 40), (True, 12.5)):
            got = torch.ops.spcl_fast.self_paced_step_backward(gradient, grad_loss, counts, sums, by_weight, dtype)
            assert got.dtype == dtype
            wanted = (gradient.double() * grad_loss.double() / norm).to(dtype)
            torch.testing.assert_close(got, wanted, rtol=None, atol=None)
    none = torch.zeros_like(counts), torch.zeros_like(sums)
    for by_weight in (False, True):
        got = torch.ops.spcl_fast.self_paced_step_backward(gradient, torch.tensor(1.0), *none, by_weight, dtype)
        assert torch.equal(got, gradient.to(dtype))
    if T > 1 and of_gradient == torch.float32:  # an address that is no multiple of 16
        got = torch.ops.spcl_fast.self_paced_step_backward(gradient[1:], torch.tensor(1.0), *none, False, dtype)
        assert torch.equal(got, gradient[1:].to(dtype))


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("lengths", [[1, 16, 17, 0, 300], [1, 0, 2] * 200])
def test_the_spread_alone_has_the_bits_of_the_step(lengths: list[int], aggregate: str) -> None:
    for M in (2, 5):
        z, y, o = problem(lengths, M=M)
        present = torch.rand(z.shape[:2]) < 0.8
        y[7] = -100
        for dtype in (torch.float32, torch.float64):
            for has in (None, present):
                got = raw(z.to(dtype), y, o, aggregate=aggregate, present=has)
                scored = ~got[3].isnan() & (torch.ones_like(present) if has is None else has)
                of_means = aggregate == "mean"
                wide = got[4].T.contiguous().T
                for p in (got[4], wide):
                    assert same(torch.ops.spcl_fast.modality_spread(p, o, scored, of_means), got[5])
                if has is None:
                    assert same(torch.ops.spcl_fast.modality_spread(got[4], o, None, of_means), got[5])
                expected = reference.modality_spread(got[4].double(), o, aggregate=aggregate, present=scored)
                torch.testing.assert_close(got[5].double(), expected, rtol=1e-6, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_spread_of_every_dtype_and_many_modalities(dtype: torch.dtype) -> None:
    for M in (2, 3, 160):
        p = torch.rand(M, 50).to(dtype)
        p[1, 3] = NAN
        o = torch.tensor([0, 20, 20, 50])
        got = torch.ops.spcl_fast.modality_spread(p, o, None, False)
        torch.testing.assert_close(
            got.double(), reference.modality_spread(p.double(), o), rtol=1e-6, atol=1e-7, equal_nan=True
        )
    with pytest.raises(RuntimeError, match=r"at most 160 modalities \(got 161\)"):
        torch.ops.spcl_fast.modality_spread(torch.rand(161, 2), torch.tensor([0, 2]), None, False)
