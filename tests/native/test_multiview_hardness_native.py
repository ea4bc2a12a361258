"""The compiled `multiview_hardness` against the float64 reference: accuracy, threads, hostile calls, arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from spcl_fast import arrays, backends, ops, reference
from spcl_fast.ops import MultiviewHardness

NAN = float("nan")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
OPTIONS = (1, 4.0, 0.6, 0.4)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cpu")
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def raw(*inputs: Any, valid: Tensor | None = None, scaling: Tensor | None = None, sign: int = 1) -> MultiviewHardness:
    kinds = [[part] if isinstance(part, Tensor) else part for part in inputs[:4]]
    return MultiviewHardness(
        *torch.ops.spcl_fast.multiview_hardness(*kinds, inputs[4], valid, scaling, sign, *OPTIONS[1:])
    )


def same(a: MultiviewHardness, b: MultiviewHardness) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return all(
        u.dtype == v.dtype and torch.equal(u.isnan(), v.isnan()) and torch.equal(u.nan_to_num(), v.nan_to_num())
        for u, v in zip(a, b, strict=True)
    )


def problem(T: int, F: int, M: int = 3, scale: float = 1.5) -> list[Tensor]:
    r, x, z, c = (scale * torch.randn(n, T, F, dtype=torch.float64) for n in (M, M, M, M * (M - 1) // 2))
    return [r, x, z, c, torch.rand(M, T) < 0.5]


# Features: both sides of the lanes, of the pieces that float32 is summed in, and of what a GPU holds in registers.
@pytest.mark.parametrize("F", [1, 3, 31, 32, 33, 256, 257, 1024, 1025, 3000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_parts_are_those_of_the_reference(dtype: torch.dtype, F: int) -> None:
    for scale in (0.1, 1.5, 20.0):
        inputs = [part.to(dtype) for part in problem(20, F, scale=scale)[:4]] + [torch.rand(3, 20) < 0.5]
        exact = reference.multiview_hardness(*(part.double() for part in inputs[:4]), inputs[4])
        got = raw(*inputs)
        tol = (1e-12, 1e-12) if dtype == torch.float64 else (3e-7, 2e-6 if F < 1024 else 5e-6)
        torch.testing.assert_close(got.direct.double(), exact.direct, rtol=tol[0], atol=0)
        torch.testing.assert_close(got.information.double(), exact.information, rtol=tol[0], atol=tol[1])


def test_many_modalities() -> None:
    inputs = problem(9, 12, M=8)  # 36 rows of units: more than the lanes of a warp
    exact = reference.multiview_hardness(*inputs)
    for got in (raw(*inputs), raw(*(list(part) for part in inputs[:4]), inputs[4])):
        for part, expected in zip(got, exact, strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.host_only
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_widened_exactly(dtype: torch.dtype) -> None:
    for F in (40, 256, 7):
        *kinds, present = problem(50, F)
        halves = [part.to(dtype) for part in kinds]
        assert same(raw(*halves, present), raw(*(part.float() for part in halves), present))


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC00001, 0x7FFFFFFF, -1, 0x7F800001, -0x400001])
def test_every_nan_is_seen(bits: int) -> None:
    nan = torch.tensor([bits], dtype=torch.int32).view(torch.float32)
    for scale in (0.1, 4.0, 60.0):
        r, x, z, c = (part.float() for part in problem(6, 50, scale=scale)[:4])
        present = torch.tensor([[True] * 6, [False] * 6, [True] * 6])
        r[1, 0, 3], x[1, 1, 49], z[2, 2, 20], c[0, 3, 0] = nan, nan, nan, nan
        got = raw(r, x, z, c, present)
        assert got.hardness.isnan().tolist() == got.information.isnan().tolist() == [True] * 4 + [False] * 2


@pytest.mark.host_only
def test_neither_threads_nor_the_batch_change_a_bit() -> None:
    *kinds, present = problem(5000, 20)
    kinds, valid = [part.float() for part in kinds], torch.rand(5000) < 0.9
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(raw(*kinds, present, valid=valid))
    finally:
        torch.set_num_threads(before)
    assert all(same(other, found[0]) for other in found)
    for begin, end in ((0, 1), (1, 18), (17, 3001), (4999, 5000)):
        rows = slice(begin, end)
        part = raw(*(kind[:, rows] for kind in kinds), present[:, rows], valid=valid[rows], scaling=found[0].scaling)
        assert same(part, MultiviewHardness(*(value[rows] for value in found[0][:3]), found[0].scaling))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_raw_op_passes_opcheck(dtype: torch.dtype) -> None:
    *kinds, present = problem(30, 8)
    r, x, z, c = (part.to(dtype) for part in kinds)
    valid, scaling = torch.ones(30, dtype=torch.bool), torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    op = torch.ops.spcl_fast.multiview_hardness.default
    opcheck(op, ([r], [x], [z], [c], present, valid, None, *OPTIONS))
    opcheck(op, (list(r), [], list(z), list(c), present, None, scaling, -1, *OPTIONS[1:]))


@pytest.mark.host_only
def test_a_compiled_model_calls_the_kernel() -> None:
    *kinds, present = problem(30, 8)
    scaling = torch.tensor([0.0, 9.0, -2.0, 20.0], dtype=torch.float64)

    def both(*inputs: Tensor) -> Tensor:
        own = ops.multiview_hardness(*inputs).scaling
        return ops.multiview_hardness(*inputs, scaling=ops.merged_scaling(own, scaling)).hardness

    compiled = torch.compile(both, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*kinds, present), both(*kinds, present))


def too_small(tensor: Tensor) -> Tensor:
    """A tensor whose storage was cut under it."""
    copy = tensor.clone()
    copy.untyped_storage().resize_(copy.untyped_storage().nbytes() // 2)
    return copy


T = 40
Change = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Any]
HOSTILE: list[tuple[Change, str]] = [
    (lambda r, x, z, c, p: raw(r, x, [], c, p), "no tensor"),
    (lambda r, x, z, c, p: raw(r, x, z[:1], c, p), r"at least 2 of them, and at most 8 \(got 1\)"),
    (lambda r, x, z, c, p: raw(r, x, z[:1].expand(9, -1, -1), c, p), r"at most 8 \(got 9\)"),
    (lambda r, x, z, c, p: raw(r, x, z[..., :0], c, p), "hidden must have at least one feature"),
    (lambda r, x, z, c, p: raw(r[..., :0], x, z, c, p), "reconstruction must have at least one feature"),
    (lambda r, x, z, c, p: raw(r, x, z, c[:2], p), r"crossed must have 3 entries for 3 modalities \(got 2\)"),
    (lambda r, x, z, c, p: raw([], x, z, c, p), r"reconstruction must have 3 entries for 3 modalities \(got 0\)"),
    (lambda r, x, z, c, p: raw(r, x.repeat(2, 1, 1), z, c, p), r"target must have 3 entries"),
    (lambda r, x, z, c, p: raw(r, x[..., 1:], z, c, p), r"features of its modality \(got 7 for 8\)"),
    (lambda r, x, z, c, p: raw(r, x, z, c[..., 1:], p), r"features of its modality \(got 7 for 8\)"),
    (lambda r, x, z, c, p: raw(r, x[:, 1:], z, c, p), r"target must have the utterances of hidden \(got 39 for 40\)"),
    (lambda r, x, z, c, p: raw(r.float(), x, z, c, p), "reconstruction must have the dtype of hidden"),
    (lambda r, x, z, c, p: raw(r, x, z.long(), c, p), "hidden must be float16"),
    (lambda r, x, z, c, p: raw(r[0, 0], x, z, c, p), r"one tensor \[n, T, F\] or n tensors \[T, F\]"),
    (lambda r, x, z, c, p: raw(too_small(r), x, z, c, p), "inside its storage"),
    (lambda r, x, z, c, p: raw(r, x, z, list(map(too_small, c)), p), "inside its storage"),
    (lambda r, x, z, c, p: raw(r, x, z, c, too_small(p)), "inside its storage"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p, valid=too_small(p[0].clone())), "inside its storage"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p, scaling=too_small(r[0, 0, :4])), "inside its storage"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p.T), r"present must be \[M, T\]"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p.byte()), "present must be bool"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p, valid=p[0, 1:]), r"valid must be \[T\]"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p, valid=p[0].byte()), "valid must be bool"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p, scaling=torch.zeros(4)), "scaling must be float64"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p, scaling=torch.zeros(3).double()), "scaling must have the shape"),
    (lambda r, x, z, c, p: raw(r, x, z, c, p, sign=0), r"mi_sign must be 1 or -1 \(got 0\)"),
    (lambda r, x, z, c, p: raw(r, x, z.to_sparse(), c, p), "Sparse|strided"),
    (lambda r, x, z, c, p: raw(r, x, z, c.to("meta"), p), "one device"),
]


@pytest.mark.parametrize("case", range(len(HOSTILE)))
def test_a_hostile_call_raises(case: int) -> None:
    change, message = HOSTILE[case]
    with pytest.raises((RuntimeError, NotImplementedError), match=message):
        change(*problem(T, 8))


@pytest.mark.host_only
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("F", [1, 20, 70])
def test_arrays_give_the_bits_of_the_torch_op(dtype: type, F: int) -> None:
    r, x, z, c, present = (part.numpy() for part in problem(100, F))
    kinds = [part.astype(dtype) for part in (r, x, z, c)]
    valid, scaling = np.arange(100) % 7 > 0, np.array([0.1, 2.0, -1.0, 3.0])
    tensors = [torch.from_numpy(part) for part in (*kinds, present)]
    for options in ({}, {"valid": valid, "mi_sign": -1, "slope": 2.0}, {"scaling": scaling, "direct_weight": 0.1}):
        of_torch = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        expected = ops.multiview_hardness(*tensors, **of_torch)
        record = np.zeros(kinds[0].shape, np.dtype([("flag", "i1"), ("r", dtype)]))  # unaligned
        record["r"] = kinds[0]
        turned = [np.asfortranarray(part) for part in kinds]
        for forms in (kinds, list(map(list, kinds)), turned, [record["r"], *kinds[1:]]):
            got = arrays.multiview_hardness(*forms, np.asfortranarray(present), **options)
            for array, tensor in zip(got, expected, strict=True):
                np.testing.assert_array_equal(array, tensor.numpy(), strict=True)
    code = arrays.multiview_hardness(kinds[0], None, *kinds[2:], present, target_source="code")
    zero = ops.multiview_hardness(tensors[0], torch.zeros_like(tensors[1]), *tensors[2:])
    np.testing.assert_array_equal(code.direct, zero.direct.numpy())
    assert arrays.multiview_hardness(*(part[:, :0] for part in (*kinds, present))).hardness.shape == (0,)


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"reconstruction": [[1.0]]}, TypeError, r"reconstruction\[0\] must be a NumPy array \(got list\)"),
        ({"target": None}, ValueError, "target_source 'true' needs a target"),
        ({"target_source": "zero"}, ValueError, "target_source must be one of 'true', 'code'"),
        ({"mi_sign": 2}, ValueError, r"mi_sign must be 1 or -1 \(got 2\)"),
        ({"slope": NAN}, ValueError, r"slope must be finite \(got nan\)"),
        ({"direct_weight": None}, TypeError, r"direct_weight must be a number \(got NoneType\)"),
        ({"hidden": np.zeros((1, 5, 2))}, ValueError, r"at least 2 of them, and at most 8 \(got 1\)"),
        ({"hidden": np.zeros((2, 5, 0))}, ValueError, "at least one feature"),
        ({"hidden": np.zeros((2, 5, 2), np.float32)}, ValueError, "crossed must have the dtype of hidden"),
        ({"crossed": np.zeros((2, 5, 2))}, ValueError, r"crossed must have 1 entries for 2 modalities \(got 2\)"),
        ({"crossed": np.zeros((1, 4, 2))}, ValueError, r"the utterances of hidden \(got 4 for 5\)"),
        ({"target": np.zeros((2, 5, 4))}, ValueError, r"the features of its modality \(got 4 for 3\)"),
        ({"present": np.zeros((2, 4), bool)}, ValueError, r"present must be \[M, T\]"),
        ({"valid": np.zeros(4, bool)}, ValueError, r"valid must be \[T\]"),
        ({"valid": np.zeros(5)}, TypeError, "valid must be bool"),
        ({"scaling": np.zeros(4, np.float32)}, ValueError, "scaling must be float64"),
        ({"scaling": np.zeros(3)}, ValueError, "scaling must have the shape"),
    ],
)
def test_arrays_refuse_what_does_not_fit(change: dict[str, Any], error: type[Exception], message: str) -> None:
    x = np.zeros((2, 5, 3))
    call = {"reconstruction": x, "target": x, "hidden": x[..., :2], "crossed": x[:1, :, :2]}
    with pytest.raises(error, match=f"multiview_hardness: .*{message}|multiview_hardness: {message}"):
        arrays.multiview_hardness(**({**call, "present": np.zeros((2, 5), bool)} | change))
