"""The CUDA kernels of `modality_scores` and of its gradient: every path and border of theirs, against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import backends, reference

NAN, INF = float("nan"), float("inf")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
Logits = Tensor | list[Tensor]


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def scores(logits: Logits, labels: Tensor, present: Tensor | None = None, ignore_index: int = -100) -> Tensor:
    logits = [logits] if isinstance(logits, Tensor) else logits
    return torch.ops.spcl_fast.modality_scores(logits, labels, present, ignore_index)


def backward(logits: Logits, labels: Tensor, gradients: list[Tensor | None], present: Tensor | None = None) -> Tensor:
    logits = [logits] if isinstance(logits, Tensor) else logits
    return torch.ops.spcl_fast.modality_scores_backward(logits, labels, present, -100, *gradients)


def problem(M: int, T: int, C: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    logits = (3 * torch.randn(M, T, C, dtype=torch.float64)).clamp(-16, 16).to(dtype)
    result = torch.float64 if dtype == torch.float64 else torch.float32
    return logits, torch.randint(C, (T,)), [torch.randn(M, T, dtype=result) for _ in range(4)]


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def at_offset(tensor: Tensor, elements: int) -> Tensor:
    """A contiguous copy that starts so many elements into a storage of NaN."""
    storage = torch.full((tensor.numel() + elements + 16,), NAN, dtype=tensor.dtype)
    copy = storage[elements : elements + tensor.numel()].view(tensor.shape)
    return copy.copy_(tensor)


def assert_exact(logits: Tensor, labels: Tensor, gradients: list[Tensor | None], present: Tensor | None = None) -> None:
    """Scores and gradients against the reference in float64; the bounds are those of logits within +-16."""
    z = logits.double().requires_grad_()
    expected = reference.modality_scores(z, labels, present=present)
    (sent,) = torch.autograd.grad(list(expected), z, [g.double() for g in gradients])
    exact = logits.dtype == torch.float64
    got = scores(logits, labels, present)
    loss, confidence, entropy, margin = (got.double() - torch.stack(list(expected)).detach()).abs().nan_to_num()
    assert torch.equal(got.isnan(), torch.stack(list(expected)).isnan())
    assert loss.max() <= (1e-12 if exact else 2.5e-6)
    assert (confidence / expected.confidence.detach()).nan_to_num().max() <= (1e-12 if exact else 2.5e-6)
    assert entropy.max() <= (1e-12 if exact else 1.5e-6)
    assert margin.max() <= (1e-12 if exact else 1.5e-6)

    got = backward(logits, labels, gradients, present)
    assert got.is_contiguous()
    size = sum(g.double().abs() for g in gradients)[..., None]
    rounding = torch.finfo(logits.dtype).eps / 2 if logits.dtype.itemsize == 2 else 0.0
    smallest = torch.finfo(logits.dtype).smallest_normal * torch.finfo(logits.dtype).eps
    bound = (1e-13 if exact else 1.5e-6) * size + rounding * sent.abs() + smallest
    assert ((got.double() - sent).abs() <= bound).all()


# Rows: one, and both sides of a block of 256 and of its double; with 7 classes a tile then ends at every place.
@pytest.mark.parametrize("T", [1, 255, 256, 257, 513])
@pytest.mark.parametrize("C", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_a_few_classes(T: int, C: int, dtype: torch.dtype) -> None:
    assert_exact(*problem(3, T, C, dtype))


# Classes: both sides of 8 in a thread, of 32 and 128 and 512 for 2, 8 and 32 lanes, and of the 4096 of one step
# (2048 in float64) of a block; 50257 has rows at every place among 16 bytes, and a last step that is not whole.
@pytest.mark.parametrize("C", [1, 8, 9, 16, 31, 32, 33, 64, 127, 128, 129, 511, 512, 513, 2049, 4096, 4097, 50257])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_any_number_of_classes(C: int, dtype: torch.dtype) -> None:
    assert_exact(*problem(2, 3 if C > 512 else 19, C, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [2, 3, 4, 7, 8])
def test_tiles_begin_at_any_place_in_memory(C: int, dtype: torch.dtype) -> None:
    logits, labels, gradients = problem(2, 259, C, dtype)
    expected, sent = scores(logits, labels), backward(logits, labels, gradients)
    for elements in range(16 // dtype.itemsize + 1):
        moved = at_offset(logits, elements)
        assert same(scores(moved, labels), expected)
        assert same(backward(moved, labels, gradients), sent)
        apart = [at_offset(logits[0], elements), at_offset(logits[1], 1)]
        assert same(scores(apart, labels), expected)
        assert same(backward(apart, labels, gradients), sent)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [7, 12, 40, 136, 528, 4104])
def test_how_rows_lie_changes_no_bit(C: int, dtype: torch.dtype) -> None:
    """Pieces of 16 bytes, single numbers of misaligned rows, and classes far apart."""
    logits, labels, gradients = problem(2, 5, C, dtype)
    expected, sent = scores(logits, labels), backward(logits, labels, gradients)
    class_first = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    spaced = torch.full((2, 13, 2 * C + 1), NAN, dtype=dtype)[:, 3::2, 1::2]
    spaced.copy_(logits)
    for view in (at_offset(logits, 1), class_first, spaced, [logits[0], class_first[1]]):
        assert same(scores(view, labels), expected)
        assert same(backward(view, labels, gradients), sent)


@pytest.mark.parametrize("C", [7, 20, 600])
@pytest.mark.parametrize("M", [4, 7, 32, 33, 50])
def test_many_modalities_are_scored_one_by_one(M: int, C: int) -> None:
    """More than a block takes at once, than a list may have, and than blocks are side by side."""
    logits, labels, gradients = problem(M, 6, C)
    present = torch.rand(M, 6) < 0.7
    alone = [scores(logits[m : m + 1], labels, present[m : m + 1]) for m in range(M)]
    assert same(scores(logits, labels, present), torch.cat(alone, 1))
    sent = [
        backward(logits[m : m + 1], labels, [g[m : m + 1] for g in gradients], present[m : m + 1]) for m in range(M)
    ]
    assert same(backward(logits, labels, gradients, present), torch.cat(sent))
    if M <= 32:
        assert same(scores(list(logits), labels, present), torch.cat(alone, 1))
        assert same(backward(list(logits), labels, gradients, present), torch.cat(sent))
    else:
        for call in (lambda: scores(list(logits), labels), lambda: backward(list(logits), labels, gradients)):
            with pytest.raises(RuntimeError, match="logits on a GPU must be one tensor or at most 32"):
                call()


@pytest.mark.parametrize("C", [5, 24, 100, 300, 520])
def test_a_row_depends_on_itself_alone(C: int) -> None:
    logits, labels, gradients = problem(3, 270, C)
    logits, labels, gradients = (
        (logits[:, :40], labels[:40], [g[:, :40] for g in gradients]) if C > 8 else (logits, labels, gradients)
    )
    expected, sent = scores(logits, labels), backward(logits, labels, gradients)
    for part in (slice(1, 2), slice(3, 30), slice(17, None)):
        assert same(scores(logits[:, part], labels[part]), expected[..., part])
        assert same(backward(logits[:, part], labels[part], [g[:, part] for g in gradients]), sent[:, part])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("C", [2, 7, 9, 33, 130, 520, 4100])
def test_faults_in_any_lane_touch_their_row_alone(C: int, dtype: torch.dtype) -> None:
    T = 60
    logits, labels, gradients = problem(2, T, C, dtype)
    for t, fault in enumerate((NAN, INF, -INF) * 4):
        logits[0, t, (t * 97) % C] = fault
        logits[1, t, labels[t]] = fault
    logits[0, 13] = -INF
    logits[0, 14] = -INF
    logits[0, 14, C - 1] = 1.0
    logits[0, 15, :-1] = -INF
    labels[15] = C - 1
    labels[16:24] = torch.tensor([-100, -1, C, 2**31, 2**32, 2**32 + 1, -(2**63), 2**63 - 1])
    present = torch.rand(2, T) < 0.8
    expected = reference.modality_scores(logits.double(), labels, present=present)
    got = scores(logits, labels, present)
    tolerance = 1e-11 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(
        got.double(), torch.stack(list(expected)), rtol=tolerance, atol=tolerance, equal_nan=True
    )
    z = logits.double().requires_grad_()
    arriving = [g.double() for g in gradients]
    arriving[0][0, 16:24] = NAN  # what arrives at rows that are not scored is not looked at
    (sent,) = torch.autograd.grad(list(reference.modality_scores(z, labels, present=present)), z, arriving)
    gradients[0][0, 16:24] = NAN
    got = backward(logits, labels, gradients, present)
    torch.testing.assert_close(got.double(), sent, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("C", [2, 7, 8, 20, 100, 300, 600, 5000])
def test_rivals_that_tie_share_evenly(C: int) -> None:
    logits = torch.zeros(1, 4, C)
    logits[0, 1, :: max(C // 3, 1)] = 2.0
    logits[0, 2, C // 2] = 5.0
    logits[0, 3] = -INF
    logits[0, 3, 0] = 0.0
    labels = torch.tensor([0, 0, C // 2, 0])
    z = logits.double().requires_grad_()
    (expected,) = torch.autograd.grad(reference.modality_scores(z, labels).margin.sum(), z)
    got = backward(logits, labels, [None, None, None, torch.ones(1, 4)])
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("given", range(16))
@pytest.mark.parametrize("C", [7, 12])
def test_gradients_that_do_not_arrive_are_not_read(given: int, C: int) -> None:
    logits, labels, gradients = problem(2, 30, C)
    some = [g if given >> k & 1 else None for k, g in enumerate(gradients)]
    zeros = [g if given >> k & 1 else torch.zeros_like(g) for k, g in enumerate(gradients)]
    assert same(backward(logits, labels, some), backward(logits, labels, zeros))


@pytest.mark.parametrize("C", [7, 12, 600])
def test_gradients_and_presence_of_any_stride(C: int) -> None:
    logits, labels, gradients = problem(3, 9, C)
    present = torch.rand(3, 9) < 0.6
    expected, sent = scores(logits, labels, present), backward(logits, labels, gradients, present)
    strided: list[Tensor | None] = [g.T.contiguous().T for g in gradients[:2]]
    strided += [g.repeat_interleave(2, 1)[:, ::2] for g in gradients[2:]]
    far = present.T.contiguous().T
    padded = torch.stack([labels, labels], 1).short()[:, 1]
    assert same(scores(logits, padded, far), expected)
    assert same(backward(logits, padded, strided, far), sent)
    row = torch.ones(1, 1).expand(3, 9)
    everywhere = torch.ones(1, 1, dtype=torch.bool).expand(3, 9)
    assert same(backward(logits, labels, [row] * 4, everywhere), backward(logits, labels, [row.contiguous()] * 4))


@pytest.mark.parametrize("C", [7, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_outputs_may_lie_apart(C: int, dtype: torch.dtype) -> None:
    M, T = 4, 260
    logits, labels, _ = problem(M, T if C == 7 else 10, C, dtype)
    T = logits.shape[1]
    expected = scores(logits, labels)
    spaced = [torch.full((M, T + 3), NAN, dtype=expected.dtype) for _ in range(4)]
    unlike = [torch.full((M, T + k), NAN, dtype=expected.dtype) for k in range(4)]
    for buffers in (spaced, unlike):
        views = [b[:, :T] for b in buffers]
        torch.ops.spcl_fast.modality_scores_out([logits], labels, None, -100, *views)
        assert same(torch.stack(views), expected)
        assert all(b[:, T:].isnan().all() for b in buffers)


def test_scores_of_certain_rows_keep_their_digits() -> None:
    """The logarithm of a total near 1, exponentials near the smallest numbers, and a total of 8."""
    logits = torch.zeros(1, 600, 8)
    logits[0, :, 1:] = -torch.linspace(0, 104, 600)[:, None]
    labels = torch.arange(600) % 2
    got = scores(logits, labels)[:, 0].double()
    expected = torch.stack(list(reference.modality_scores(logits.double(), labels)))[:, 0]
    assert ((got[0] - expected[0]).abs() <= 5e-7 + 6e-8 * expected[0]).all()
    assert ((got[1] - expected[1]).abs() <= 8e-7 * expected[1] + 1.5e-45).all()
    assert ((got[2] - expected[2]).abs() <= 6e-7).all()
