"""The gradient of `ops.window_coherence`: the compiled one against finite differences and the reference's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spcl_fast import backends, ops

NAN, INF = float("nan"), float("inf")
SOURCES = ("embedding", "prediction")
OFFSETS = torch.tensor([0, 7, 8, 8, 20, 24])


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def hostile(F: int, M: int = 3, source: str = "embedding") -> tuple[Tensor, Tensor]:
    """Every fault, and what is hidden from it."""
    e = torch.randn(M, 24, F, dtype=torch.float64)
    present = torch.rand(M, 24) < 0.9
    e[0, 3], e[:, 4], e[1, 9, 0], e[0, 12, F - 1], e[M - 1, 21] = 0, 0, NAN, INF, -INF
    if source == "prediction":
        e[0, 14, 0], e[1, 14, 1:] = -INF, -INF
    return e, present


def gradients(e: Tensor, backend: str, weight: Tensor, **options: Any) -> Tensor:
    leaf = e.clone().requires_grad_()
    got = ops.window_coherence(leaf, OFFSETS, backend=backend, **options)
    (gradient,) = torch.autograd.grad((got.nan_to_num() * weight).sum(), leaf)
    assert gradient.dtype == e.dtype
    assert gradient.isfinite().all()
    return gradient


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("as_list", [False, True])
def test_gradients_are_those_of_finite_differences(backend: str, source: str, as_list: bool) -> None:
    e = torch.randn(3, 6, 5, dtype=torch.float64)
    present = torch.rand(3, 6) < 0.8
    leaves = [x.clone().requires_grad_() for x in e] if as_list else [e.requires_grad_()]

    def coherence(*x: Tensor) -> Tensor:
        options = {"window": 3, "source": source, "present": present, "backend": backend}
        z = x if as_list else x[0]
        return ops.window_coherence(z, torch.tensor([0, 4, 6]), **options).nan_to_num()

    assert torch.autograd.gradcheck(coherence, leaves)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("M", [2, 3, 4, 6])
@pytest.mark.parametrize("F", [2, 16, 33, 64, 70, 1030])
def test_gradients_are_those_of_the_reference(source: str, M: int, F: int) -> None:
    e, present = hostile(F, M, source)
    weight = torch.randn(24, dtype=torch.float64)
    for window in (1, 5, 99):
        options = {"window": window, "source": source, "present": present}
        expected = gradients(e, "reference", weight, **options)
        torch.testing.assert_close(gradients(e, "cpu", weight, **options), expected, rtol=1e-10, atol=1e-12)
        tolerances = ((torch.float32, 2e-5, 1e-6), (torch.bfloat16, 1e-2, 1e-4), (torch.float16, 2e-3, 1e-5))
        for dtype, rtol, atol in tolerances:
            rounded = e.to(dtype)
            exact = gradients(rounded.double(), "reference", weight, **options)
            got = gradients(rounded, "cpu", weight.float(), **options)
            torch.testing.assert_close(got.double(), exact, rtol=rtol, atol=atol)


def test_what_is_undefined_or_at_fault_receives_zero(backend: str) -> None:
    e, present = hostile(8)
    present[:] = True
    present[1, 17] = False
    gradient = gradients(e, backend, torch.ones(24, dtype=torch.float64), present=present, window=3)
    for m, t in ((0, 3), (0, 4), (1, 4), (2, 4), (1, 17)):
        assert not gradient[m, t].any()
    for t in (9, 12, 21):  # at fault as a whole
        assert not gradient[:, t].any()
    assert gradient[1, 3].any()
    assert gradient[0, 17].any()
    nothing = gradients(torch.zeros_like(e), backend, torch.ones(24, dtype=torch.float64))
    assert not nothing.any()


def test_a_clamped_cosine_passes_its_gradient(backend: str) -> None:
    """Equal vectors round to a cosine above 1 in half of the cases: the gradient there is that of the cosine."""
    e = torch.randn(1, 24, 3).expand(2, -1, -1).clone()
    leaf = e.requires_grad_()
    got = ops.window_coherence(leaf, OFFSETS, window=1, backend=backend)
    other = torch.randn_like(leaf)
    (gradient,) = torch.autograd.grad(got.sum(), leaf)
    assert (gradient * other).sum(-1).abs().max() < 1e-5  # a maximum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_magnitude_has_its_gradient(dtype: torch.dtype) -> None:
    e = torch.randn(3, 24, 20, dtype=dtype)
    weight = torch.ones(24, dtype=dtype)
    expected = gradients(e, "cpu", weight)
    for a, b in ((1e20, 1e-18), (1e-30, 1e18)) if dtype == torch.float32 else ((1e170, 1e-170), (1e-290, 1e290)):
        scale = torch.tensor([a, b, 1.0], dtype=dtype).view(3, 1, 1)
        got = gradients(e * scale, "cpu", weight)
        torch.testing.assert_close(got * scale, expected, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_the_result_may_have_any_form() -> None:
    e = torch.randn(3, 24, 8)
    weight = torch.randn(48)[::2]
    leaf = e.clone().requires_grad_()
    got = ops.window_coherence(leaf, OFFSETS)
    (strided,) = torch.autograd.grad(got, leaf, weight, retain_graph=True)
    (contiguous,) = torch.autograd.grad(got, leaf, weight.contiguous(), retain_graph=True)
    assert torch.equal(strided, contiguous)
    (expanded,) = torch.autograd.grad(got.sum(), leaf)  # stride 0
    assert torch.equal(expanded, torch.autograd.grad(ops.window_coherence(leaf, OFFSETS), leaf, torch.ones(24))[0])


def test_a_sequence_of_which_one_needs_a_gradient() -> None:
    parts = list(torch.randn(3, 24, 8))
    parts[1].requires_grad_()
    got = ops.window_coherence(parts, OFFSETS, backend="cpu")
    (gradient,) = torch.autograd.grad(got.sum(), parts[1])
    expected = ops.window_coherence(parts, OFFSETS, backend="reference")
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), parts[1])[0], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert not ops.window_coherence(parts, OFFSETS).requires_grad


def test_double_backward_is_refused_with_the_way_out() -> None:
    e = torch.randn(3, 24, 8, requires_grad=True)
    got = ops.window_coherence(e, OFFSETS, backend="cpu")
    with pytest.raises(RuntimeError, match=r"cannot be differentiated again .*backend='reference' can"):
        torch.autograd.grad(got.sum(), e, create_graph=True)
    (first,) = torch.autograd.grad(ops.window_coherence(e, OFFSETS, backend="reference").sum(), e, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), e)[0].any()


# Dynamo makes an instance of the autograd.Function that it traces, and Inductor calls torch.jit.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_training_step_compiles_whole_and_once(compiler: str, source: str) -> None:
    head = nn.Linear(6, 9)

    def loss_of(x: Tensor, offsets: Tensor) -> Tensor:
        return ops.window_coherence([head(part) for part in x], offsets, source=source).nan_to_num().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend=compiler)
    for T, D in ((40, 4), (53, 5), (1201, 31)):
        x, offsets = torch.randn(3, T, 6), torch.linspace(0, T, D + 1).long()
        expected = loss_of(x, offsets)
        (wanted,) = torch.autograd.grad(expected, head.weight)
        with torch._dynamo.config.patch(error_on_recompile=T > 40):
            got = compiled(x, offsets)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(torch.autograd.grad(got, head.weight)[0], wanted, rtol=2e-5, atol=5e-4)


def test_out_compiles_whole() -> None:
    torch._dynamo.reset()
    e, out = torch.randn(3, 24, 8), torch.zeros(24)

    def double(e: Tensor, out: Tensor) -> Tensor:
        return ops.window_coherence(2 * e, OFFSETS, out=out)

    compiled = torch.compile(double, fullgraph=True, backend="aot_eager")
    expected = ops.window_coherence(2 * e, OFFSETS)
    assert torch.equal(compiled(e, out), expected)
    assert torch.equal(out, expected)
