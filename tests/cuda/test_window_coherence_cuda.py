"""The CUDA kernels of `window_coherence`: what only they have, against the float64 reference."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from spcl_fast import reference

NAN, INF = float("nan"), float("inf")
SOURCES = ("embedding", "prediction")
FORWARD_TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-7, torch.bfloat16: 5e-7, torch.float16: 5e-7}
# Relative and absolute; halves are rounded when they are written.
BACKWARD_TOLERANCE = {
    torch.float64: (1e-10, 1e-12),
    torch.float32: (2e-5, 1e-6),
    torch.bfloat16: (1e-2, 1e-4),
    torch.float16: (2e-3, 1e-5),
}


def raw(
    e: Tensor | list[Tensor], offsets: Tensor, window: int = 5, source: str = "embedding", present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Coherence and counts."""
    tensors = [e] if isinstance(e, Tensor) else e
    return torch.ops.spcl_fast.window_coherence(tensors, offsets, present, window, source == "prediction", True)


def raw_gradient(
    e: Tensor | list[Tensor],
    offsets: Tensor,
    grad: Tensor,
    window: int = 5,
    source: str = "embedding",
    present: Tensor | None = None,
) -> Tensor:
    counts = raw(e, offsets, window, source, present)[1]
    tensors = [e] if isinstance(e, Tensor) else e
    return torch.ops.spcl_fast.window_coherence_backward(
        grad, counts, tensors, offsets, present, window, source == "prediction"
    )


def assert_agrees(
    e: Tensor, offsets: Tensor, window: int = 5, source: str = "embedding", present: Tensor | None = None
) -> None:
    """Coherence, counts and gradient are those of the reference, which computes in float64."""
    leaf = e.double().requires_grad_()
    expected = reference.window_coherence(leaf, offsets, window=window, source=source, present=present)
    got, counts = raw(e, offsets, window, source, present)
    tolerance = FORWARD_TOLERANCE[e.dtype]
    torch.testing.assert_close(got.double(), expected.detach(), rtol=0, atol=tolerance, equal_nan=True)
    assert torch.equal(counts == 0, expected.isnan())
    weight = torch.randn(e.shape[1])
    (wanted,) = torch.autograd.grad((expected.nan_to_num() * weight).sum(), leaf)
    gradient = raw_gradient(e, offsets, weight, window, source, present)
    assert gradient.dtype == e.dtype
    assert gradient.is_contiguous()
    rtol, atol = BACKWARD_TOLERANCE[e.dtype]
    torch.testing.assert_close(gradient.double(), wanted, rtol=rtol, atol=atol)


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def embeddings(M: int, T: int, F: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """With a common part, so that no cosine is small by chance."""
    return (torch.randn(M, T, F, dtype=torch.float64) + torch.randn(1, T, F, dtype=torch.float64)).to(dtype)


def offsets_of(*lengths: int) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def hostile(M: int, T: int, F: int, dtype: torch.dtype, source: str) -> tuple[Tensor, Tensor]:
    """Vectors of every kind at every place of a warp, and what hides some of them."""
    e = embeddings(M, T, F, dtype)
    kind = torch.randint(12, (M, T))
    e[kind == 0] = 0
    e[kind == 1] = NAN
    e[..., F - 1][kind == 2] = INF
    e[..., 0][kind == 3] = -INF
    if source == "embedding" and dtype in (torch.float32, torch.float64):
        info = torch.finfo(dtype)
        e[kind == 4] *= info.tiny
        e[kind == 5] *= info.max / 64
        e[kind == 6] = 0
        e[..., F // 2][kind == 6] = info.tiny * info.eps  # the least there is, whose square is 0
    present = torch.rand(M, T) < 0.8
    present[:, ::3] |= ~e[:, ::3].isfinite().all(-1)  # of every third no fault is hidden
    return e, present


# ---- offsets that only the device has seen ----


def malformed(T: int, entries: int) -> list[Tensor]:
    """Offsets that fall, leave the batch, begin late, end early, or are none."""
    steps = torch.randint(0, 2 * T // entries + 2, (entries,)).cumsum(0)
    falling = steps.clone()
    falling[torch.randperm(entries)[: entries // 4 + 1]] = 0
    late_fall = torch.linspace(0, T, entries).long()
    late_fall[-1] = T // 2
    early_peak = torch.linspace(0, T, entries).long()
    early_peak[entries > 1] = T - 3
    return [
        steps + 2,
        falling,
        torch.randint(-T, 2 * T, (entries,)),
        torch.full((entries,), T // 2),
        torch.full((entries,), -(2**62)),
        torch.linspace(T, 0, entries).long(),
        torch.randint(-(2**62), 2**62, (entries,)),
        late_fall,
        early_peak,
    ]


@pytest.mark.parametrize("entries", [1, 2, 5, 33, 255, 256, 257, 513, 1200])
def test_malformed_offsets_are_their_running_maximum(entries: int) -> None:
    T = 300
    e = embeddings(2, T, 3)
    for offsets in malformed(T, entries):
        for window in (5, 99):
            assert_agrees(e, offsets, window)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.uint64])
def test_malformed_offsets_of_other_types(dtype: torch.dtype) -> None:
    e = embeddings(2, 100, 3)
    offsets = torch.tensor([7, 3, 50, 40, 120, 90], dtype=torch.int64).to(dtype)
    assert_agrees(e, offsets)
    strided = torch.stack([offsets, offsets], 1)[:, 0]
    assert same(raw(e, strided)[0], raw(e, offsets)[0])
    if dtype.is_signed:
        assert_agrees(e, torch.tensor([-1, 3, -100, 60], dtype=dtype))


def test_offsets_past_a_sweep_of_the_grid() -> None:
    """More entries than the threads that clean them, with one that falls in the second sweep."""
    T, entries = 40, 1024 * 256 + 300
    offsets = torch.linspace(0, T, entries).long()
    e = embeddings(2, T, 2)
    assert_agrees(e, offsets)
    offsets[1024 * 256 + 7] = 0
    offsets[-1] = 0
    assert_agrees(e, offsets)
    offsets[5] = T - 1
    assert_agrees(e, offsets)


def test_rows_of_no_dialogue_are_nan_and_receive_zero() -> None:
    e = embeddings(3, 20, 8)
    offsets = torch.tensor([4, 9, 15])
    got, counts = raw(e, offsets)
    outside = torch.tensor([t < 4 or t >= 15 for t in range(20)])
    assert torch.equal(got.isnan(), outside)
    assert torch.equal(counts == 0, outside)
    gradient = raw_gradient(e, offsets, torch.ones(20, dtype=torch.float64))
    assert not gradient[:, outside].any()
    assert gradient[:, ~outside].any(-1).all()
    assert raw(e, torch.tensor([0]))[0].isnan().all()
    assert not raw_gradient(e, torch.tensor([0]), torch.ones(20)).any()


# ---- windows ----


@pytest.mark.parametrize("window", [1, 63, 65, 67, 255, 511, 513, 515, 1001, 8191, 8193, 2**62 + 1])
def test_windows_about_every_length_of_the_sums(window: int) -> None:
    """Windows are added up one by one up to 65 utterances, past them in sums of 16, 256 and 4096."""
    lengths = (15, 16, 17, 0, 255, 1, 256, 257, 600, 4700, 4096, 31)
    offsets = offsets_of(*lengths)
    T = int(offsets[-1])
    e = embeddings(2, T, 2)
    e[0, ::7] = 0
    e[1, 100::31] = NAN
    expected = reference.window_coherence(e, offsets, window=window)
    got, counts = raw(e, offsets, window)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13, equal_nan=True)
    defined = torch.ones(T, dtype=torch.int64)
    defined[::7] = defined[100::31] = 0
    before = torch.cat([torch.zeros(1, dtype=torch.int64), defined.cumsum(0)])
    rows, half = torch.arange(T), min(window // 2, T)
    dialogue = torch.searchsorted(offsets, rows, right=True)
    begin = torch.maximum(offsets[dialogue - 1], rows - half)
    end = torch.minimum(offsets[dialogue], rows + half + 1)
    wanted = torch.where(e.isnan().any(-1).any(0), 0, before[end] - before[begin])
    assert torch.equal(counts, wanted)
    for d in (2, 5, 7, 8):  # a dialogue alone, where its sums are at other places
        first, last = int(offsets[d]), int(offsets[d + 1])
        alone = raw(e[:, first:last], torch.tensor([0, last - first]), window)[0]
        assert same(alone, got[first:last])


@pytest.mark.parametrize("window", [65, 67, 301, 3001])
def test_gradients_of_long_windows(window: int) -> None:
    e = embeddings(2, 2000, 2)
    e[0, 50:90] = 0
    assert_agrees(e, offsets_of(16, 3, 700, 1100, 181), window)
    assert_agrees(e.float(), torch.tensor([3, 900, 400, 1990]), window, "prediction")


# ---- paths, and the borders between them ----


@pytest.mark.parametrize("dtype", FORWARD_TOLERANCE, ids=str)
@pytest.mark.parametrize("M", [2, 3, 4, 5, 7])
# Features: a piece of 16 bytes, a step of 8 lanes, the last of 8 lanes, one and two steps of a warp, a float32 sum.
@pytest.mark.parametrize("F", [1, 4, 8, 63, 64, 65, 127, 128, 129, 136, 256, 257, 1032])
def test_every_number_of_modalities_and_features(dtype: torch.dtype, M: int, F: int) -> None:
    assert_agrees(embeddings(M, 11, F, dtype), offsets_of(3, 0, 6, 2))


@pytest.mark.parametrize("dtype", FORWARD_TOLERANCE, ids=str)
@pytest.mark.parametrize("M", [2, 3, 4, 5])
# Classes: even and odd rows of a tile, the last that has one, and none.
@pytest.mark.parametrize("C", [1, 2, 7, 8, 31, 32, 33, 100])
def test_every_number_of_modalities_and_classes(dtype: torch.dtype, M: int, C: int) -> None:
    z = embeddings(M, 133, C, dtype)
    z[0, 3, : C - 1] = -INF  # a probability of 1
    assert_agrees(z, offsets_of(50, 40, 43), source="prediction")


@pytest.mark.parametrize("dtype", FORWARD_TOLERANCE, ids=str)
@pytest.mark.parametrize("F", [5, 32, 40, 130, 264])
@pytest.mark.parametrize("M", [2, 3, 4, 6])
def test_rows_at_any_address_give_the_same_bits(dtype: torch.dtype, F: int, M: int) -> None:
    T, offsets, weight = 9, offsets_of(4, 5), torch.randn(9)
    e = embeddings(M, T, F, dtype)
    for source in SOURCES:
        expected = raw(e.clone(), offsets, 3, source)[0]
        gradient = raw_gradient(e.clone(), offsets, weight, 3, source)
        for shift in (1, 2, 4, 8):
            flat = torch.full((M * T * F + 16,), NAN, dtype=dtype)
            moved = flat[shift : shift + M * T * F].view(M, T, F).copy_(e)
            wide = torch.full((M, T, F + shift), NAN, dtype=dtype)[..., shift:].copy_(e)
            one_apart = [e[0].clone(), *wide[1:]]  # one of them aligned
            spread = torch.full((T, F, M, 2), NAN, dtype=dtype)[..., 1].permute(2, 0, 1).copy_(e)
            for form in (moved, wide, list(wide), one_apart, spread):
                assert same(raw(form, offsets, 3, source)[0], expected)
                assert same(raw_gradient(form, offsets, weight, 3, source), gradient)


@pytest.mark.parametrize("M", [2, 3, 4])
@pytest.mark.parametrize("F", [24, 520, 1048])
def test_halves_and_their_float32_give_the_same_bits(M: int, F: int) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        e = embeddings(M, 9, F, dtype)
        assert same(raw(e, offsets_of(9))[0], raw(e.float(), offsets_of(9))[0])


@pytest.mark.parametrize("dtype", FORWARD_TOLERANCE, ids=str)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("M", "F"), [(2, 6), (3, 20), (4, 12), (3, 150), (4, 136), (5, 6), (2, 40)])
def test_whatever_a_vector_holds(dtype: torch.dtype, source: str, M: int, F: int) -> None:
    e, present = hostile(M, 101, F, dtype, source)
    for mask in (present, None):
        expected = reference.window_coherence(e.double(), offsets_of(60, 41), source=source, present=mask)
        got = raw(e, offsets_of(60, 41), 5, source, mask)[0]
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=FORWARD_TOLERANCE[dtype], equal_nan=True)
        gradient = raw_gradient(e, offsets_of(60, 41), torch.ones(101), 5, source, mask)
        leaf = e.double().requires_grad_()
        again = reference.window_coherence(leaf, offsets_of(60, 41), source=source, present=mask)
        (wanted,) = torch.autograd.grad(again.nan_to_num().sum(), leaf)
        wanted = wanted.to(dtype).double()  # what is past the largest number becomes Inf
        rtol, atol = BACKWARD_TOLERANCE[dtype]
        # The magnitude of a vector is the inverse of that of its gradient.
        size = e.double().nan_to_num().abs().amax(-1, keepdim=True).clamp(max=1)
        finite = wanted.isfinite()
        assert torch.equal(gradient.double()[~finite], wanted[~finite])
        torch.testing.assert_close(
            (gradient.double() * size)[finite], (wanted * size)[finite], rtol=rtol, atol=10 * atol
        )


def test_the_most_modalities_and_the_most_tensors() -> None:
    e = embeddings(256, 5, 3).requires_grad_()
    for source in SOURCES:
        unit = torch.nn.functional.normalize(e if source == "embedding" else e.softmax(-1), dim=-1)
        expected = (unit.sum(0).square().sum(-1) - 256) / (256 * 255)
        torch.testing.assert_close(raw(e.detach(), offsets_of(5), 1, source)[0], expected.detach(), rtol=0, atol=1e-12)
        (wanted,) = torch.autograd.grad(expected.sum(), e)
        gradient = raw_gradient(e.detach(), offsets_of(5), torch.ones(5), 1, source)
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)
    e = embeddings(33, 4, 3)
    assert same(raw(list(e[:32]), offsets_of(4))[0], raw(e[:32], offsets_of(4))[0])
    with pytest.raises(RuntimeError, match=r"embeddings on a GPU must be one tensor or at most 32 \(got 33\)"):
        raw(list(e), offsets_of(4))


def test_an_empty_batch() -> None:
    e = torch.empty(3, 0, 8)
    for offsets in (torch.tensor([0]), torch.tensor([0, 0, 7, -3])):
        got, counts = raw(e, offsets)
        assert got.shape == counts.shape == (0,)
        assert raw_gradient(e, offsets, torch.empty(0)).shape == (3, 0, 8)


# ---- many utterances: those of a warp, one after the other ----


@pytest.mark.parametrize(
    ("T", "F", "source"), [(33_003, 4, "embedding"), (24_581, 129, "embedding"), (401, 7, "prediction")]
)
def test_a_batch_of_many_warps_is_that_of_its_parts(T: int, F: int, source: str) -> None:
    """Of 8192 utterances and more, a warp does several."""
    e = embeddings(2, T, F, torch.float32)
    e[0, ::1009] = 0
    e[1, ::2003] *= 1e30
    borders = [0, 5, 6, 300, T // 2, T - 1, T]
    offsets, weight = torch.tensor(borders), torch.randn(T)
    got, gradient = raw(e, offsets, 5, source)[0], raw_gradient(e, offsets, weight, 5, source)
    expected = reference.window_coherence(e.double(), offsets, source=source)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=5e-7, equal_nan=True)
    for first, last in [*pairwise(borders[:4]), (T - 1, T)]:
        part, rest = e[:, first:last], torch.tensor([0, last - first])
        assert same(raw(part, rest, 5, source)[0], got[first:last])
        assert same(raw_gradient(part, rest, weight[first:last], 5, source), gradient[:, first:last])
