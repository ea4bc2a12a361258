"""`kernels.window_coherence` and its gradient against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import kernels, reference
from spcl_fast.kernels import _sources

NAN, INF = float("nan"), float("inf")
SOURCES = ("embedding", "prediction")
#: of the coherence, and relative and absolute of the gradient, beside the rounding to the dtype
TOLERANCE = {torch.float64: (1e-12, 1e-10, 1e-12)} | dict.fromkeys(
    (torch.float32, torch.float16, torch.bfloat16), (5e-7, 2e-5, 1e-6)
)
T = 48


def rounding(dtype: torch.dtype) -> float:
    """Of a number to a half: half a step, on a GPU; the interpreter cuts off what bfloat16 does not hold."""
    if dtype not in (torch.float16, torch.bfloat16):
        return 0.0
    cuts = dtype == torch.bfloat16 and kernels.is_interpreted()
    return torch.finfo(dtype).eps * (1 if cuts else 0.5)


def problem(F: int, M: int = 3, rows: int = T) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings with a common part, ragged dialogues, and what can be wrong; `present` hides some of it."""
    e = torch.randn(M, rows, F, dtype=torch.float64) + torch.randn(1, rows, F, dtype=torch.float64)
    chance = torch.rand(M, rows)
    for k, value in enumerate((0.0, NAN, INF, -INF)):
        e[(chance > 0.03 * k) & (chance < 0.03 * k + 0.02)] = value
    return e, torch.tensor([0, 7, 8, 8, 25, rows]).clamp(max=rows), torch.rand(M, rows) < 0.9


def check(device, form, e, offsets, *, present=None, window=5, source="embedding") -> tuple[Tensor, Tensor]:
    has = None if present is None else present.to(device)
    of_predictions = source == "prediction"
    got, counts = kernels.window_coherence(form, offsets.to(device), has, window, of_predictions, True)
    leaf = e.double().requires_grad_()
    expected = reference.window_coherence(leaf, offsets, window=window, source=source, present=present)
    tolerance, rtol, atol = TOLERANCE[e.dtype]
    torch.testing.assert_close(got.cpu().double(), expected.detach(), rtol=0, atol=tolerance, equal_nan=True)
    assert torch.equal(counts.cpu() == 0, expected.isnan())
    grad = torch.randn(e.shape[1], dtype=got.dtype)
    gradient = kernels.window_coherence_backward(
        grad.to(device), counts, form, offsets.to(device), has, window, of_predictions
    )
    assert gradient.dtype == e.dtype
    (wanted,) = torch.autograd.grad((expected.nan_to_num() * grad.double()).sum(), leaf)
    rtol += rounding(e.dtype)
    torch.testing.assert_close(gradient.cpu().double(), wanted, rtol=rtol, atol=atol)
    return got, gradient


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("M", "F"), [(3, 7), (4, 70)])
def test_coherence_and_gradient_are_those_of_the_reference(device, dtype, source, M, F) -> None:
    e, offsets, present = problem(F, M)
    e = e.to(dtype)
    check(device, [e.to(device)], e, offsets, present=present, source=source)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("M", "F"), [(5, 7), (2, 1100), (2, 600)])
def test_many_modalities_and_features_go_pair_by_pair(device, source, M, F) -> None:
    e, offsets, present = problem(F, M, rows=20 if F < 100 else 3)
    if source == "embedding":
        check(device, [e.to(device)], e, offsets, present=present)
    else:
        check(device, list(e.float().to(device)), e.float(), offsets, present=present, source=source)


def test_more_sources_than_a_kernel_takes_are_stacked(device, monkeypatch) -> None:
    monkeypatch.setattr(_sources, "MOST_SOURCES", 4)
    e, offsets, present = problem(2, 5, rows=4)
    check(device, list(e.to(device)), e, offsets, present=present, window=1)


@pytest.mark.parametrize("window", [1, 65, 67, 2**70 + 1])
def test_windows_stay_in_their_dialogue(device, window) -> None:
    e, _, present = problem(4, rows=100)
    offsets = torch.tensor([0, 3, 3, 90, 100])
    check(device, [e.to(device)], e, offsets, present=present, window=min(window, 2**62 + 1))


@pytest.mark.parametrize("window", [5, 71])
@pytest.mark.parametrize("offsets", [[3, 5, 2, 40, 99], [-2, 5, 20], [0], [10, 5, 0], [0, 0, T, T]])
def test_malformed_offsets_are_read_as_their_running_maximum(device, offsets, window) -> None:
    e, _, present = problem(4)
    offsets = torch.tensor(offsets)
    dtype = torch.int32 if window == 5 else torch.int64
    check(device, [e.to(device)], e, offsets.to(dtype), present=present, window=window)


@pytest.mark.parametrize(("dtype", "F"), [(torch.float32, 5), (torch.float64, 5), (torch.float32, 1100)])
def test_any_magnitude(device, dtype, F) -> None:
    """Squares of these leave the range of their dtype."""
    rows = 2
    e = torch.randn(3, rows, F, dtype=dtype)
    offsets = torch.tensor([0, rows])
    expected, _ = check(device, [e.to(device)], e, offsets)
    far = ((1e20, 1e-18), (1e-30, 1e18), (1e-38, 5e37))
    for a, b in far if dtype == torch.float32 else ((1e170, 1e-170), (1e-290, 1e290), (1e-307, 1e307)):
        scale = torch.tensor([a, b, 1.0], dtype=dtype).view(3, 1, 1).to(device)
        got, counts = kernels.window_coherence([e.to(device) * scale], offsets.to(device), None, 5, False, True)
        torch.testing.assert_close(got, expected, rtol=0, atol=3e-7)
        if a > 1e-38:  # where the gradient itself is in range
            grad = torch.ones(rows, dtype=dtype, device=device)
            options = (offsets.to(device), None, 5, False)
            plain = kernels.window_coherence_backward(grad, counts, [e.to(device)], *options)
            scaled = kernels.window_coherence_backward(grad, counts, [e.to(device) * scale], *options)
            torch.testing.assert_close(scaled * scale, plain, rtol=1e-5, atol=1e-6)
    tiny = torch.tensor([[[1e-45, 0.0]], [[1e-45, 1e-45]]], device=device)
    got, _ = kernels.window_coherence([tiny], torch.tensor([0, 1], device=device), None, 1, False, False)
    torch.testing.assert_close(got.item(), 0.5**0.5, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("M", "source"), [(3, "embedding"), (3, "prediction"), (5, "embedding")])
def test_any_strides_and_sequences_are_read_in_place(device, source, M) -> None:
    e, offsets, present = problem(5, M, rows=12)
    e = e.float()
    on = e.to(device)
    spaced = torch.full((M, 25, 11), NAN, device=device)[:, 1::2, 1::2]
    spaced.copy_(on)
    feature_first = on.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    expected, _ = check(device, [on], e, offsets, present=present, source=source)
    for form in ([spaced], [feature_first], [*spaced[:1], *feature_first[1:2], *on[2:]]):
        got, _ = check(device, form, e, offsets.repeat_interleave(2)[::2], present=present, source=source)
        torch.testing.assert_close(got, expected, rtol=0, atol=3e-7, equal_nan=True)


def test_out_is_the_only_thing_written(device) -> None:
    e, offsets, present = problem(8)
    memory = torch.full((T + 20,), 7.0, dtype=torch.float64, device=device)
    arguments = [e.to(device)], offsets.to(device), present.to(device), 5, False
    kernels.window_coherence_out(*arguments, memory[10 : T + 10])
    expected, counts = kernels.window_coherence(*arguments, False)
    assert torch.equal(memory[10 : T + 10].nan_to_num(9), expected.nan_to_num(9))
    assert (memory[:10] == 7).all()
    assert (memory[T + 10 :] == 7).all()
    assert counts.shape == (0,)
    nothing = kernels.window_coherence([e[:, :0].to(device)], offsets.to(device) * 0, None, 5, False, True)
    assert nothing[0].shape == nothing[1].shape == (0,)


def test_counts_of_another_call_lead_nowhere(device) -> None:
    e = torch.randn(3, T, 8, device=device)
    offsets = torch.tensor([0, T], device=device)
    for counts in (torch.full((T,), -1), torch.full((T,), 2**62), torch.zeros(T).long()):
        grad = torch.ones(T, device=device)
        got = kernels.window_coherence_backward(grad, counts.to(device), [e], offsets, None, 5, False)
        assert got.isfinite().all()


@pytest.mark.parametrize("window", [5, 99])
def test_a_value_depends_on_its_dialogue_alone_and_repeats_bitwise(device, window) -> None:
    e, _, present = problem(6, rows=100)
    offsets = torch.tensor([0, 3, 3, 90, 100])
    e, present = e.float().to(device), present.to(device)
    whole, _ = kernels.window_coherence([e], offsets.to(device), present, window, False, False)
    again, _ = kernels.window_coherence([e], offsets.to(device), present, window, False, False)
    assert torch.equal(whole.nan_to_num(9), again.nan_to_num(9))
    for begin, end in ((0, 3), (3, 90), (90, 100)):
        own = torch.tensor([0, end - begin], device=device)
        part, _ = kernels.window_coherence([e[:, begin:end]], own, present[:, begin:end], window, False, False)
        assert torch.equal(part.nan_to_num(9), whole[begin:end].nan_to_num(9))
