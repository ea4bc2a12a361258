"""The compiled `window_coherence` against the float64 reference: accuracy, memory order, threads, hostile calls."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from spcl_fast import backends, ops, reference

NAN, INF = float("nan"), float("inf")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SOURCES = ("embedding", "prediction")
INTEGERS = [getattr(torch, f"{u}int{bits}") for u in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cpu")
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def raw(e: Tensor | list[Tensor], offsets: Tensor, present: Tensor | None = None, **options: Any) -> Tensor:
    tensors = [e] if isinstance(e, Tensor) else e
    window, source = options.get("window", 5), options.get("source", "embedding")
    return torch.ops.spcl_fast.window_coherence(tensors, offsets, present, window, source == "prediction", False)[0]


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def problem(T: int, F: int, M: int = 3, hostile: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings with a common part, ragged dialogues, and what can be wrong; `present` hides some of it."""
    e = torch.randn(M, T, F, dtype=torch.float64) + torch.randn(1, T, F, dtype=torch.float64)
    present = torch.rand(M, T) < 0.9
    if hostile:
        chance = torch.rand(M, T)
        for k, value in enumerate((0.0, NAN, INF, -INF)):
            e[(chance > 0.03 * k) & (chance < 0.03 * k + 0.02)] = value
    lengths = torch.randint(0, 60, (T,))
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).clamp(max=T)
    return e, torch.cat([offsets, torch.tensor([T])]), present


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("source", SOURCES)
# Features: both sides of the 16 lanes, of a tile of 64 classes and of the 1024 elements summed in float32.
@pytest.mark.parametrize("F", [1, 15, 16, 17, 64, 65, 300, 1024, 1025, 2100])
def test_window_coherence_is_that_of_the_reference(dtype: torch.dtype, source: str, F: int) -> None:
    e, offsets, present = problem(300, F)
    e = e.to(dtype)
    for M in (2, 3):
        for window in (1, 5, 17):
            expected = reference.window_coherence(
                e[:M].double(), offsets, window=window, source=source, present=present[:M]
            )
            got = raw(e[:M], offsets, present[:M], window=window, source=source)
            tol = 1e-12 if dtype == torch.float64 else 1.5e-7 if source == "embedding" else 5e-7
            torch.testing.assert_close(got.double(), expected, rtol=0, atol=tol, equal_nan=True)


@pytest.mark.parametrize("M", [4, 5, 8, 31])
@pytest.mark.parametrize("source", SOURCES)
def test_many_modalities(M: int, source: str) -> None:
    e, offsets, present = problem(150, 40, M)
    expected = reference.window_coherence(e, offsets, source=source, present=present)
    torch.testing.assert_close(raw(e, offsets, present, source=source), expected, rtol=0, atol=1e-12, equal_nan=True)
    e, offsets, present = problem(150, 40, M, hostile=False)
    one = raw(e.float(), offsets, source=source, window=1)
    pairs = [raw(e[[m, n]].float(), offsets, source=source, window=1) for m in range(M) for n in range(m + 1, M)]
    torch.testing.assert_close(one.double(), torch.stack(pairs).double().mean(0), rtol=0, atol=1e-7)


def test_the_published_bound_of_the_cosine() -> None:
    """Of embeddings as they come, float32 is right to a rounding of the result."""
    e, offsets, _ = problem(5000, 256, hostile=False)
    for window in (1, 5):
        error = raw(e.float(), offsets, window=window).double() - reference.window_coherence(
            e.float().double(), offsets, window=window
        )
        assert error.abs().max() < 6e-8
        assert error.square().mean().sqrt() < 2.5e-8


def test_a_window_of_many_utterances_loses_no_digits() -> None:
    """Differences of running sums would: the first utterances here weigh 1, the others 1e-9 beside them."""
    T = 40_000
    e = torch.zeros(2, T, 2, dtype=torch.float64)
    e[0, :, 0], e[1, :, 1] = 1, 1
    e[1, :, 0] = 1e-9 * (1 + torch.arange(T) % 7)
    e[1, :100, 0] = 1e9
    offsets = torch.tensor([0, T])
    for window in (1001, 12_345):
        got = raw(e, offsets, window=window)
        expected = reference.window_coherence(e, offsets, window=window)
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("source", SOURCES)
def test_halves_are_widened_exactly(dtype: torch.dtype, source: str) -> None:
    e, offsets, present = problem(200, 45)
    for scale in (1.0, 1e-6, 2e4 if dtype == torch.float16 else 1e37):
        half = (e * scale).to(dtype)
        for F in (45, 16, 7):
            got = raw(half[..., :F], offsets, present, source=source)
            assert same(got, raw(half[..., :F].float(), offsets, present, source=source))
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)[:, None].repeat(1, 18)
    every[:, 1] = 1
    alone = torch.arange(2**16 + 1)
    other = torch.ones_like(every)
    assert same(raw([every, other], alone, source=source), raw([every.float(), other.float()], alone, source=source))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("F", [5, 70])
def test_every_memory_order_gives_the_same_bits(source: str, dtype: torch.dtype, F: int) -> None:
    e, offsets, present = problem(200, F)
    e = e.to(dtype)
    expected = raw(e, offsets, present, source=source)
    spaced = torch.full((3, 401, 2 * F + 1), NAN, dtype=dtype)[:, 1::2, 1::2]
    spaced.copy_(e)
    forms = (list(e), spaced, list(spaced), e.permute(2, 0, 1).contiguous().permute(1, 2, 0))
    for form in forms:
        assert same(raw(form, offsets, present.T.contiguous().T, source=source), expected)
    wide = torch.full((3, 200, F + 3), NAN, dtype=dtype)
    wide[..., 1 : F + 1] = e
    assert same(raw(wide[..., 1 : F + 1], offsets, present, source=source), expected)
    constant = e[:, :, :1].expand(-1, -1, F)
    assert same(raw(constant, offsets, source=source), raw(constant.contiguous(), offsets, source=source))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_offsets_of_every_integer_type(dtype: torch.dtype) -> None:
    e, _, _ = problem(100, 8)
    offsets = torch.tensor([0, 30, 30, 100])
    assert same(raw(e, torch.stack([offsets, offsets], 1).to(dtype)[:, 0]), raw(e, offsets))


@pytest.mark.host_only
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("window", [1, 5, 301, 2001, 9001])
def test_neither_threads_nor_the_batch_change_a_bit(source: str, window: int) -> None:
    e, _, present = problem(7000, 20)
    e = e.float()
    offsets = torch.tensor([0, 3, 1024, 1024, 5500, 5501, 7000])
    before = torch.get_num_threads()
    alone = torch.cat(
        [
            raw(e[:, a:b], torch.tensor([0, b - a]), present[:, a:b], source=source, window=window)
            for a, b in pairwise(offsets.tolist())
        ]
    )
    leaf = e.clone().requires_grad_()
    gradients = []
    try:
        for threads in (1, 2, 3, 4, 7):
            torch.set_num_threads(threads)
            assert same(raw(e, offsets, present, source=source, window=window), alone)
            got = ops.window_coherence(leaf, offsets, window=window, source=source, present=present)
            gradients += torch.autograd.grad(got.nansum(), leaf)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
    assert gradients[0].isfinite().all()


def test_out_is_the_only_thing_written() -> None:
    e, offsets, present = problem(100, 8)
    memory = torch.full((120,), 7.0, dtype=torch.float64)
    kept = e.clone(), offsets.clone(), present.clone()
    torch.ops.spcl_fast.window_coherence_out([e], offsets, present, 5, False, memory[10:110])
    assert same(memory[10:110], raw(e, offsets, present))
    assert (memory[:10] == 7).all()
    assert (memory[110:] == 7).all()
    assert same(e, kept[0])
    assert torch.equal(offsets, kept[1])
    assert torch.equal(present, kept[2])


@pytest.mark.parametrize("form", ["stacked", "list"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_raw_ops_pass_opcheck(form: str, dtype: torch.dtype) -> None:
    e, offsets, _ = problem(50, 8, hostile=False)  # opcheck knows no equal NaN
    e = e.to(dtype)
    tensors = [e] if form == "stacked" else list(e)
    result = torch.float64 if dtype == torch.float64 else torch.float32
    everywhere = torch.ones(3, 50, dtype=torch.bool)
    namespace = torch.ops.spcl_fast
    for present, of_predictions in ((None, False), (everywhere, True)):
        for needs_counts in (False, True):
            opcheck(namespace.window_coherence.default, (tensors, offsets, present, 5, of_predictions, needs_counts))
        out = torch.zeros(50, dtype=result)
        opcheck(namespace.window_coherence_out.default, (tensors, offsets, present, 5, of_predictions, out))
        counts, grad = torch.full((50,), 3), torch.randn(50, dtype=result)
        arguments = (grad, counts, tensors, offsets, present, 5, of_predictions)
        opcheck(namespace.window_coherence_backward.default, arguments)


def too_small(tensor: Tensor) -> Tensor:
    """A tensor whose storage was cut under it."""
    copy = tensor.clone()
    copy.untyped_storage().resize_(tensor.untyped_storage().nbytes() // 2)
    return copy


def backward(e: Tensor, o: Tensor, grad: Tensor, counts: Tensor) -> Tensor:
    return torch.ops.spcl_fast.window_coherence_backward(grad, counts, [e], o, None, 5, False)


def into(e: Tensor, o: Tensor, out: Tensor) -> None:
    torch.ops.spcl_fast.window_coherence_out([e], o, None, 5, False, out)


T = 40
Change = Callable[[Tensor, Tensor], Any]
HOSTILE: list[tuple[Change, str]] = [
    (lambda e, o: raw([], o), "no tensor"),
    (lambda e, o: raw([e[0]], o), r"at least 2 of them, and at most 256 \(got 1\)"),
    (lambda e, o: raw(e[:1].expand(257, -1, -1), o), r"at most 256 \(got 257\)"),
    (lambda e, o: raw([e[0], e[1, :5]], o), "one shape"),
    (lambda e, o: raw([e[0], e[1].float()], o), "one dtype"),
    (lambda e, o: raw(e.long(), o), "must be float16"),
    (lambda e, o: raw(e[..., :0], o), "at least one feature"),
    (lambda e, o: raw(e, o, window=0), r"window must be odd and at least 1 \(got 0\)"),
    (lambda e, o: raw(e, o, window=6), "window must be odd"),
    (lambda e, o: raw(e, o, window=-5), "window must be odd"),
    (lambda e, o: raw(too_small(e), o), "inside its storage"),
    (lambda e, o: raw(e, too_small(o)), "inside its storage"),
    (lambda e, o: raw(e, o.float()), "offsets must be integers"),
    (lambda e, o: raw(e, o[None]), r"offsets must be \[D \+ 1\]"),
    (lambda e, o: raw(e, o + 1), r"must start at 0 \(got 1 at position 0\)"),
    (lambda e, o: raw(e, o * 3), "must end at the number of utterances, 40"),
    (lambda e, o: raw(e, torch.tensor([0, 2**62, -(2**62), T])), "must never fall"),
    (lambda e, o: raw(e, o, torch.ones(3, 5, dtype=torch.bool)), r"present must be \[M, T\]"),
    (lambda e, o: raw(e, o, torch.ones(3, T)), "present must be bool"),
    (lambda e, o: raw(e.to_sparse(), o), "Sparse|strided"),
    (lambda e, o: raw(e.to("meta"), o), "one device"),
    (lambda e, o: into(e, o, torch.empty(T)), "dtype of the coherence"),
    (lambda e, o: into(e, o, torch.empty(T + 1).double()), r"out must be \[T\]"),
    (lambda e, o: into(e, o, torch.empty(2 * T).double()[::2]), "out must be contiguous"),
    (lambda e, o: into(e, o, e.view(-1)[:T]), "out must not overlap an input"),
    (lambda e, o: into(e, o, too_small(torch.empty(T).double())), "inside its storage"),
    (lambda e, o: backward(e, o, torch.ones(5), torch.ones(T).long()), "grad must have the shape"),
    (lambda e, o: backward(e, o, torch.ones(T), torch.ones(5).long()), "counts must be those of the forward"),
    (lambda e, o: backward(e, o, torch.ones(T), torch.ones(T)), "counts must be those of the forward"),
    (lambda e, o: backward(e, o, torch.ones(T), too_small(torch.ones(T).long())), "inside its storage"),
]


# What is refused for what a tensor holds, which only the host looks at.
OF_THE_HOST = ("must start at 0", "must never fall", "must end")
CASES = [
    pytest.param(k, marks=pytest.mark.host_only) if any(words in message for words in OF_THE_HOST) else k
    for k, (_, message) in enumerate(HOSTILE)
]


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_call_raises(case: int) -> None:
    change, message = HOSTILE[case]
    with pytest.raises((RuntimeError, NotImplementedError), match=message):
        change(torch.randn(3, T, 8, dtype=torch.float64), torch.tensor([0, 10, T]))


def test_counts_of_another_call_lead_nowhere() -> None:
    """They are read as data: nothing but the gradient can be wrong."""
    e = torch.randn(3, T, 8, dtype=torch.float64)
    for counts in (torch.full((T,), -1), torch.full((T,), 2**62), torch.zeros(T).long()):
        got = backward(e, torch.tensor([0, T]), torch.ones(T), counts)
        assert got.isfinite().all()
