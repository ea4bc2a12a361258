"""What Python does around an engine of a device, shown with one that keeps its contract on the CPU."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

import spcl_fast
from spcl_fast import _native, backends, ops
from spcl_fast.ops._engines import MOST_TENSORS

pytestmark = pytest.mark.host_only

calls: list[str] = []


def undivided(gradient: Tensor, counts: Tensor, sums: Tensor, divides_by_weight: bool) -> Tensor:
    norm = sums[-1] if divides_by_weight else counts[1].double()
    return gradient * torch.where(norm > 0, norm, 1.0).to(gradient.dtype)


def self_paced_step(*arguments):
    calls.append("self_paced_step")
    assert len(arguments[0]) <= MOST_TENSORS
    *others, gradient, counts, sums = torch.ops.spcl_fast.self_paced_step(*arguments)
    return *others, undivided(gradient, counts, sums, arguments[13]), counts, sums


def self_paced_step_backward(gradient, grad_loss, counts, sums, divides_by_weight, dtype):
    calls.append("self_paced_step_backward")
    norm = sums[-1] if divides_by_weight else counts[1].double()
    return (gradient * grad_loss / torch.where(norm > 0, norm, 1.0).to(gradient.dtype)).to(dtype)


def forwarded(name: str):
    def call(*arguments):
        calls.append(name)
        tensors = arguments[2] if name == "window_coherence_backward" else arguments[0]
        assert len(tensors) <= MOST_TENSORS
        return getattr(torch.ops.spcl_fast, name)(*arguments)

    return call


FORWARDED = [f"{op}{form}" for op in ("modality_scores", "window_coherence") for form in ("", "_out", "_backward")]


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`backend="triton"` on the CPU, computed by the functions above."""
    assert backends.why_not("cpu") is None
    module = ModuleType("spcl_fast.kernels")
    vars(module).update({name: forwarded(name) for name in FORWARDED})
    vars(module).update(self_paced_step=self_paced_step, self_paced_step_backward=self_paced_step_backward)
    monkeypatch.setitem(sys.modules, "spcl_fast.kernels", module)
    monkeypatch.setattr(spcl_fast, "kernels", module, raising=False)
    altered = backends._BACKENDS["triton"]._replace(devices=frozenset({"cpu"}), why_not=lambda: None)
    monkeypatch.setitem(backends._BACKENDS, "triton", altered)
    monkeypatch.setattr(backends, "_chosen", {})
    calls.clear()


def gradients(run, leaves: list[Tensor], backend: str) -> tuple[Tensor, ...]:
    return torch.autograd.grad(run(backend), leaves)


@pytest.mark.parametrize("normalizer", ["all", "selected"])
@pytest.mark.parametrize("form", ["stacked", "separate", "joint", "present", "separate and present"])
@pytest.mark.parametrize("threshold", [0.8, -1.0, None])
def test_the_step_divides_its_gradient_in_the_backward_pass(make_problem, normalizer, form, threshold) -> None:
    logits, labels, offsets = make_problem()
    labels[3] = -100
    leaves = [z.clone().requires_grad_() for z in logits] if "separate" in form else [logits.requires_grad_()]
    given = leaves if "separate" in form else logits
    options = {"normalizer": normalizer}
    if form == "joint":
        options["joint"] = torch.randn(24, 6, dtype=torch.float64, requires_grad=True)
        leaves = [options["joint"]]
    if "present" in form:
        options["present"] = torch.rand(3, 24) < 0.8
    found = {}
    for backend in ("cpu", "triton"):
        step = ops.self_paced_step(given, labels, offsets, threshold, backend=backend, **options)
        found[backend] = [step.loss, *torch.autograd.grad(3 * step.loss, leaves), *step.totals]
    torch.testing.assert_close(found["triton"], found["cpu"], rtol=1e-12, atol=1e-14)
    assert calls == ["self_paced_step", "self_paced_step_backward"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_gradient_arrives_in_the_dtype_of_the_logits(make_problem, dtype) -> None:
    logits, labels, offsets = make_problem(dtype=dtype)
    logits.requires_grad_()
    run = lambda backend: ops.self_paced_step(logits, labels, offsets, 0.8, backend=backend).loss  # noqa: E731
    (got,), (expected,) = gradients(run, [logits], "triton"), gradients(run, [logits], "cpu")
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected)


def test_more_tensors_than_a_kernel_takes_are_stacked(make_problem) -> None:
    logits, labels, offsets = make_problem(M=MOST_TENSORS + 1)
    leaves = [z.clone().requires_grad_() for z in logits]
    runs = {
        "step": lambda backend: ops.self_paced_step(leaves, labels, offsets, 0.8, backend=backend).loss,
        "scores": lambda backend: ops.modality_scores(leaves, labels, backend=backend).entropy.nansum(),
        "coherence": lambda backend: ops.window_coherence(leaves, offsets, backend=backend).square().nansum(),
    }
    for name, run in runs.items():
        got, expected = gradients(run, leaves, "triton"), gradients(run, leaves, "cpu")
        assert len(got) == len(leaves)
        torch.testing.assert_close(got, expected, msg=name)
    with torch.no_grad():
        expected_scores = ops.modality_scores(leaves, labels, backend="cpu")
        out = ops.ModalityScores(*(torch.empty_like(x) for x in expected_scores))
        assert ops.modality_scores(leaves, labels, out=out, backend="triton") is out
        torch.testing.assert_close(out, expected_scores, equal_nan=True)
        coherence = torch.empty(24, dtype=torch.float64)
        ops.window_coherence(leaves, offsets, out=coherence, backend="triton")
        torch.testing.assert_close(coherence, ops.window_coherence(leaves, offsets, backend="cpu"), equal_nan=True)


def test_shapes_that_cannot_be_stacked_are_named(make_problem) -> None:
    logits, labels, offsets = make_problem(M=MOST_TENSORS + 1)
    parts = [*logits[:-1], logits[-1, :, :5]]
    with pytest.raises(ValueError, match=rf"logits\[{MOST_TENSORS}\] must have shape \(24, 6\)"):
        ops.self_paced_step(parts, labels, offsets, 0.8, backend="triton")


def test_what_is_wrong_is_found_before_the_engine_is_called(make_problem) -> None:
    """The Triton kernels check nothing."""
    logits, labels, offsets = make_problem()
    for wrong in ((labels[1:], offsets), (labels.float(), offsets), (labels, offsets[:0])):
        with pytest.raises((TypeError, ValueError), match="self_paced_step"):
            ops.self_paced_step(logits, *wrong, 0.8, backend="triton")
    assert calls == []


def test_every_pass_is_the_engines_own(make_problem) -> None:
    logits, labels, offsets = make_problem()
    logits.requires_grad_()
    ops.modality_scores(logits, labels, backend="triton").loss.sum().backward()
    ops.window_coherence(logits, offsets, backend="triton").nansum().backward()
    plain = logits.detach()
    scores = ops.modality_scores(plain, labels, backend="triton")
    ops.modality_scores(plain, labels, out=scores, backend="triton")
    ops.window_coherence(plain, offsets, out=scores.loss[0].contiguous(), backend="triton")
    assert set(calls) == set(FORWARDED)


def test_a_backward_pass_may_be_repeated_but_not_differentiated(make_problem) -> None:
    logits, labels, offsets = make_problem()
    logits.requires_grad_()
    step = ops.self_paced_step(logits, labels, offsets, 0.8, backend="triton")
    (first,) = torch.autograd.grad(step.loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(step.loss, logits, retain_graph=True)
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(step.loss, logits, create_graph=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_engine_compiles_whole(make_problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """With functions that a trace can see through: those of the CPU, and the backward pass above."""
    kernels = sys.modules["spcl_fast.kernels"]
    for name in (*FORWARDED, "self_paced_step"):
        monkeypatch.setattr(kernels, name, getattr(torch.ops.spcl_fast, name))
    monkeypatch.setattr(kernels, "self_paced_step_backward", lambda g, grad, *_: g * grad)
    logits, labels, offsets = make_problem()
    logits.requires_grad_()

    def loss(z: Tensor, backend: str) -> Tensor:
        step = ops.self_paced_step(z, labels, offsets, 0.8, backend=backend)
        scores = ops.modality_scores(z, labels, backend=backend)
        return step.loss + scores.entropy.sum() + ops.window_coherence(z, offsets, backend=backend).nansum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (got,) = torch.autograd.grad(compiled(logits, "triton"), logits)
    (expected,) = torch.autograd.grad(loss(logits, "cpu"), logits)
    torch.testing.assert_close(got, expected)


def test_a_library_with_the_kernels_of_cuda_for_the_cpu_is_held_to_their_contract(make_problem, monkeypatch) -> None:
    monkeypatch.setattr(_native, "acts_as_device", False)
    assert _native._load() == ""
    assert not _native.acts_as_device
    monkeypatch.setattr(_native, "instruction_set", lambda: _native.CUDA_ON_CPU)
    assert _native._load() == ""
    assert _native.acts_as_device
    with torch.library._scoped_library("spcl_fast", "IMPL") as library:
        library.impl("self_paced_step_backward", self_paced_step_backward, "CPU")
        logits, labels, offsets = make_problem()
        logits.requires_grad_()
        ops.self_paced_step(logits, labels, offsets, 0.8, backend="cpu").loss.backward()
        assert calls == ["self_paced_step_backward"]
