"""`ops.self_paced_step` on the compiled library under autograd, autocast and `torch.compile`; hostile calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

from spcl_fast import SelfPacedScheduler, backends, ops, reference

T, M, C = 40, 3, 6
NUMBERS = (0, 0, 0.0, False, False, False, 0.0, -100, True)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cpu")
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def problem(num_utterances: int = T, num_dialogues: int = 4, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    z = torch.randn(M, num_utterances, C, dtype=torch.float64).to(dtype)
    labels = torch.randint(C, (num_utterances,))
    return [z, labels, torch.linspace(0, num_utterances, num_dialogues + 1).long()]


def raw(*tensors: Any, threshold: Any = 0.8, numbers: tuple[Any, ...] = NUMBERS, others: tuple[Any, ...] = ()) -> Any:
    others = others or (None,) * 4
    level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
    return torch.ops.spcl_fast.self_paced_step(*tensors, level, number, *others, *numbers, True)


def weights(difficulty: Tensor, threshold: float | None = 0.5, scheme: int = 0, groups: Tensor | None = None) -> Tensor:
    return torch.ops.spcl_fast.self_paced_weights(difficulty, None, threshold, scheme, 0.3, groups)


@pytest.mark.parametrize("form", ["stacked", "list"])
@pytest.mark.parametrize("scheme", [0, pytest.param(6, marks=pytest.mark.host_only)])
@pytest.mark.parametrize("options", [{}, {"present": True, "label_smoothing": 0.1}, {"joint": True}])
def test_raw_op_passes_opcheck(form: str, options: dict[str, Any], scheme: int) -> None:
    z, y, o = problem()
    joint = torch.randn(T, C) if "joint" in options else None
    present = torch.ones(M, T, dtype=torch.bool) if "present" in options else None  # opcheck knows no equal NaN
    numbers = (0, 0, 0.0, False, True, False, options.get("label_smoothing", 0.0), -100, True)
    logits = [z] if form == "stacked" else list(z)
    for threshold in (torch.tensor(0.8), None):
        options_of_op = (0, scheme, 0.3, True, *numbers[4:], True)
        arguments = (logits, y, o, threshold, None, joint, None, None, present, *options_of_op)
        opcheck(torch.ops.spcl_fast.self_paced_step.default, arguments)


def test_other_raw_ops_pass_opcheck() -> None:
    _, _, o = problem()
    opcheck(torch.ops.spcl_fast.modality_spread.default, (torch.rand(M, T), o, torch.rand(M, T) < 0.9, True))
    opcheck(torch.ops.spcl_fast.self_paced_weights.default, (torch.rand(4, 5), torch.tensor(0.5), None, 2, 0.0, None))
    opcheck(torch.ops.spcl_fast.self_paced_weights.default, (torch.rand(4, 5), torch.tensor(0.5), None, 7, 0.3, None))
    for threshold in ((torch.tensor(0.5), None), (None, 0.5)):
        opcheck(torch.ops.spcl_fast.super_loss.default, (torch.rand(4, 5), *threshold, 0.7))


@pytest.mark.host_only
def test_ranked_weights_pass_opcheck() -> None:
    groups = torch.randint(3, (4, 5))
    opcheck(torch.ops.spcl_fast.self_paced_weights.default, (torch.rand(4, 5), None, 0.5, 6, 0.3, groups))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalizer": "selected"},
        {"label_smoothing": 0.1, "class_weight": torch.linspace(0.5, 2, 4)},
        {"present": torch.tensor([[1, 1, 0, 1, 1], [1, 0, 1, 1, 1]], dtype=torch.bool)},
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_gradients_are_those_of_finite_differences(options: dict[str, Any], as_list: bool) -> None:
    z = torch.randn(2, 5, 4, dtype=torch.float64)
    y, o = torch.randint(4, (5,)), torch.tensor([0, 3, 5])
    leaves = [x.clone().requires_grad_() for x in z] if as_list else [z.requires_grad_()]

    def loss(*logits: Tensor) -> Tensor:
        return 3 * ops.self_paced_step(logits if as_list else logits[0], y, o, 0.8, **options).loss

    assert torch.autograd.gradcheck(loss, leaves)


def test_gradients_of_a_given_joint_leave_the_logits_alone() -> None:
    z, y, o = problem(dtype=torch.float64)
    joint = torch.randn(T, C, dtype=torch.float64, requires_grad=True)
    z.requires_grad_()
    step = ops.self_paced_step(z, y, o, 0.8, joint=joint)
    got = torch.autograd.grad(step.loss, (z, joint), allow_unused=True)
    assert got[0] is None
    expected = reference.self_paced_step(z, y, o, 0.8, joint=joint).loss
    torch.testing.assert_close(got[1], torch.autograd.grad(expected, joint)[0], rtol=1e-12, atol=1e-12)
    assert not ops.self_paced_step(z, y, o, 0.8, joint=joint.detach()).loss.requires_grad


def test_the_gradient_may_be_asked_for_twice_and_changed_in_between() -> None:
    z, y, o = problem()
    parts = [x.clone().requires_grad_() for x in z]
    loss = ops.self_paced_step(parts, y, o, 0.8).loss
    loss.backward(retain_graph=True)
    first = [part.grad.clone() for part in parts]
    for part in parts:
        part.grad.zero_()
    loss.backward()
    assert all(torch.equal(part.grad, grad) for part, grad in zip(parts, first, strict=True))


def test_parameters_among_the_other_tensors_get_no_gradient() -> None:
    z, y, o = problem()
    z.requires_grad_()
    others = {
        "class_weight": torch.ones(C, requires_grad=True),
        "extra_difficulty": torch.zeros(T, requires_grad=True),
    }
    threshold = torch.tensor(0.8, requires_grad=True)
    for logits in (z, z.detach()):
        step = ops.self_paced_step(logits, y, o, threshold, **others)
        assert not any(x.requires_grad for x in (*step[1:6], *step.totals))
        assert step.loss.requires_grad == logits.requires_grad


def test_double_backward_is_refused_with_the_way_out() -> None:
    z, y, o = problem()
    z.requires_grad_()
    loss = ops.self_paced_step(z, y, o, 0.8).loss
    with pytest.raises(RuntimeError, match=r"cannot be differentiated again .*backend='reference' can"):
        torch.autograd.grad(loss, z, create_graph=True)
    (first,) = torch.autograd.grad(ops.self_paced_step(z, y, o, 0.8, backend="reference").loss, z, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), z)[0].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_under_autocast_is_trained(dtype: torch.dtype) -> None:
    z, y, o = problem()
    head = nn.Linear(C, C)
    with torch.autocast("cpu", dtype):
        logits = [head(x) for x in z]
        step = ops.self_paced_step(logits, y, o, 0.8)
    assert logits[0].dtype == dtype
    assert step.loss.dtype == torch.float32
    (1024 * step.loss).backward()
    exact = reference.self_paced_step([x.detach().double().requires_grad_() for x in logits], y, o, 0.8)
    torch.testing.assert_close(step.loss.double(), exact.loss.detach(), rtol=2e-6, atol=2e-6)
    assert head.weight.grad.isfinite().all()
    assert head.weight.grad.any()


# Dynamo makes an instance of the autograd.Function that it traces, and Inductor calls torch.jit.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_a_training_step_compiles_whole_and_once(compiler: str) -> None:
    head = nn.Linear(C, C)

    def loss_of(z: Tensor, y: Tensor, o: Tensor, threshold: Tensor) -> tuple[Tensor, ...]:
        step = ops.self_paced_step([head(x) for x in z], y, o, threshold)
        return step.loss, step.weight, step.totals.selected

    torch._dynamo.reset()
    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend=compiler)
    threshold = torch.tensor(0.8, dtype=torch.float64)
    for size, dialogues in ((40, 4), (53, 5), (1201, 31)):
        arguments = (*problem(size, dialogues), threshold)
        expected = loss_of(*arguments)
        (wanted,) = torch.autograd.grad(expected[0], head.weight)
        with torch._dynamo.config.patch(error_on_recompile=size > 40):
            got = compiled(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
        torch.testing.assert_close(torch.autograd.grad(got[0], head.weight)[0], wanted)


def test_the_scheduler_compiles_whole() -> None:
    torch._dynamo.reset()
    scheduler = SelfPacedScheduler()
    compiled = torch.compile(lambda *x: scheduler(*x).loss, fullgraph=True, backend="aot_eager")
    arguments = problem()
    for _ in range(3):
        compiled(*arguments)
    assert scheduler.check().steps == 3


def too_small(tensor: Tensor) -> Tensor:
    """A tensor whose storage was cut under it."""
    copy = tensor.clone()
    copy.untyped_storage().resize_(tensor.untyped_storage().nbytes() // 2)
    return copy


Change = Callable[[Tensor, Tensor, Tensor], Any]
HOSTILE: list[tuple[Change, str]] = [
    (lambda z, y, o: raw([], y, o), "no tensor"),
    (lambda z, y, o: raw([z[0]], y, o), "needs|at least 2"),
    (lambda z, y, o: raw([z[:1]], y, o), "at least 2"),
    (lambda z, y, o: raw([z[0], z[1, :5]], y, o), "one shape"),
    (lambda z, y, o: raw([z[0], z[1].double()], y, o), "one dtype"),
    (lambda z, y, o: raw([z.long()], y, o), "must be float16"),
    (lambda z, y, o: raw([z[..., :0]], y, o), "at least one class"),
    (lambda z, y, o: raw([too_small(z)], y, o), "inside its storage"),
    (lambda z, y, o: raw([z], too_small(y), o), "inside its storage"),
    (lambda z, y, o: raw([z], y, too_small(o)), "inside its storage"),
    (lambda z, y, o: raw([z], y[:5], o), r"labels must be \[T\]"),
    (lambda z, y, o: raw([z], y.float(), o), "labels must be integers"),
    (lambda z, y, o: raw([z], y, o.float()), "offsets must be integers"),
    (lambda z, y, o: raw([z], y, o[None]), r"offsets must be \[D \+ 1\]"),
    (lambda z, y, o: raw([z], y, o[:0]), "at least one entry"),
    (lambda z, y, o: raw([z], y, o + 1), r"must start at 0 \(got 1 at position 0\)"),
    (lambda z, y, o: raw([z], y, o * 3), r"must never fall and stay within \[0, 40\] \(got 60 at position 2"),
    (lambda z, y, o: raw([z], y, o // 2), r"must end at the number of utterances, 40 \(got 20 at position 4"),
    (lambda z, y, o: raw([z], y, torch.tensor([0, 2**62, -(2**62), T])), "must never fall"),
    (lambda z, y, o: raw([z], y, o, threshold=float("nan")), "threshold must not be NaN"),
    (lambda z, y, o: raw([z], y, o, threshold=torch.zeros(2)), "0-dim"),
    (lambda z, y, o: raw([z], y, o, threshold=torch.tensor(1)), "threshold must be float16"),
    (lambda z, y, o: raw([z], y, o, numbers=(0, 10, *NUMBERS[2:])), "scheme must be"),
    (lambda z, y, o: raw([z], y, o, numbers=(0, -1, *NUMBERS[2:])), "scheme must be"),
    (
        lambda z, y, o: raw([z], y, o, numbers=(0, 3, *NUMBERS[2:]), threshold=1.0),
        r"threshold of log must lie in \(0, 1\)",
    ),
    (
        lambda z, y, o: raw([z], y, o, numbers=(0, 4, 0.8, *NUMBERS[3:])),
        "threshold of mixture must be above lower, 0.8",
    ),
    (lambda z, y, o: raw([z], y, o, numbers=(0, 4, 0.0, *NUMBERS[3:])), "lower of mixture must be finite and above 0"),
    (
        lambda z, y, o: raw([z], y, o, numbers=(0, 5, 1.0, *NUMBERS[3:])),
        "degree of polynomial must be finite and above",
    ),
    (lambda z, y, o: raw([z], y, o, numbers=(0, 6, -0.1, *NUMBERS[3:])), "gamma of spld must be finite and at least 0"),
    (lambda z, y, o: raw([z], y, o, numbers=(0, 6, float("inf"), *NUMBERS[3:])), "gamma of spld must be finite"),
    (
        lambda z, y, o: raw([z], y, o, numbers=(0, 7, 0.0, *NUMBERS[3:])),
        "regularization of superloss must be finite and above 0",
    ),
    (
        lambda z, y, o: raw([z], y, o, numbers=(0, 9, 1.0, *NUMBERS[3:])),
        "degree of polynomial must be finite and above",
    ),
    (lambda z, y, o: raw([z], y, o, numbers=(4, *NUMBERS[1:])), r"measure must be 0 \(spcl\), .* \(got 4\)"),
    (lambda z, y, o: raw([z], y, o, numbers=(-1, *NUMBERS[1:])), "measure must be"),
    (lambda z, y, o: raw([z], y, o, numbers=(3, *NUMBERS[1:])), r"measure 3 \(none\) needs extra_difficulty"),
    (lambda z, y, o: raw([z[:0]], y, o, numbers=(1, *NUMBERS[1:])), "at least one modality"),
    (lambda z, y, o: raw([z], y, o, numbers=(*NUMBERS[:6], 1.5, -100, True)), "label_smoothing"),
    (lambda z, y, o: raw([z], y, o, numbers=(*NUMBERS[:6], float("nan"), -100, True)), "label_smoothing"),
    (lambda z, y, o: raw([z], y, o, others=(z[0, :5], None, None, None)), "joint must have the shape"),
    (lambda z, y, o: raw([z], y, o, others=(y, None, None, None)), "joint must be float16"),
    (lambda z, y, o: raw([z], y, o, others=(None, z[0, :5, 0], None, None)), "extra_difficulty must have the shape"),
    (lambda z, y, o: raw([z], y, o, others=(None, None, torch.ones(5), None)), "class_weight must have the shape"),
    (lambda z, y, o: raw([z], y, o, others=(None, None, None, torch.ones(M, 5, dtype=torch.bool))), r"\[M, T\]"),
    (lambda z, y, o: raw([z], y, o, others=(None, None, None, torch.ones(M, T))), "present must be bool"),
    (lambda z, y, o: raw([z.to_sparse()], y, o), "Sparse|strided"),
    (lambda z, y, o: raw([z], y.to("meta"), o), "one device"),
    (lambda z, y, o: torch.ops.spcl_fast.super_loss(z.half(), None, 0.5, 1.0), "loss must be float32 or float64"),
    (lambda z, y, o: torch.ops.spcl_fast.super_loss(z.mT, None, 0.5, 1.0), "loss must be contiguous"),
    (lambda z, y, o: torch.ops.spcl_fast.super_loss(too_small(z), None, 0.5, 1.0), "inside its storage"),
    (lambda z, y, o: torch.ops.spcl_fast.super_loss(z, None, None, 1.0), "threshold must be a number or a tensor"),
    (lambda z, y, o: torch.ops.spcl_fast.super_loss(z, None, float("nan"), 1.0), "threshold must not be NaN"),
    (lambda z, y, o: torch.ops.spcl_fast.super_loss(z, None, 0.5, 0.0), "regularization of superloss must be finite"),
    (lambda z, y, o: torch.ops.spcl_fast.modality_spread(z[0], o, None, False), "must never fall|must end"),
    (lambda z, y, o: torch.ops.spcl_fast.modality_spread(z[:1, :, 0], o, None, False), "at least 2"),
    (lambda z, y, o: weights(z[:, ::2]), "contiguous"),
    (lambda z, y, o: weights(z, threshold=None), "threshold must be"),
    (lambda z, y, o: weights(too_small(z)), "inside its storage"),
    (lambda z, y, o: weights(z, scheme=10), "scheme must be"),
    (lambda z, y, o: weights(z, scheme=3, threshold=float("inf")), r"threshold of log must lie in \(0, 1\)"),
    (lambda z, y, o: weights(z, scheme=6), "groups of spld must be integers"),
    (lambda z, y, o: weights(z[0, :, 0].contiguous(), scheme=6, groups=y.float()), "groups must be integers"),
    (lambda z, y, o: weights(z[0, :, 0].contiguous(), scheme=6, groups=y[:5]), "groups must have the shape"),
    (lambda z, y, o: weights(z[0, :, 0].contiguous(), scheme=6, groups=too_small(y)), "groups must lie inside"),
    (lambda z, y, o: weights(z[0, :, 0].contiguous(), scheme=6, groups=y.repeat(2)[::2]), "groups must be contiguous"),
]


# What is refused for what a tensor holds, which only the host looks at, and for groups, since a device has no ranks.
OF_THE_HOST = ("must start at 0", "must never fall", "must end", "groups")
CASES = [
    pytest.param(k, marks=pytest.mark.host_only) if any(words in message for words in OF_THE_HOST) else k
    for k, (_, message) in enumerate(HOSTILE)
]


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_call_raises(case: int) -> None:
    change, message = HOSTILE[case]
    with pytest.raises((RuntimeError, NotImplementedError), match=message):
        change(*problem())


def test_what_the_library_refuses_is_named_as_the_reference_names_it() -> None:
    z, y, o = problem()
    for backend in ("cpu", "reference"):
        with pytest.raises(ValueError, match=r"^self_paced_step: offsets must start at 0 \(got 1 at position 0\)$"):
            ops.self_paced_step(z, y, o + 1, 0.8, backend=backend)
        with pytest.raises(TypeError, match="labels must hold integers"):
            ops.self_paced_step(z, y.float(), o, 0.8, backend=backend)
        with pytest.raises(ValueError, match="logits on cpu, labels on meta"):
            ops.self_paced_step(z, y.to("meta"), o, 0.8, backend=backend)
        with pytest.raises(TypeError, match="logits"):
            ops.self_paced_step([[0.0]], y, o, 0.8, backend=backend)  # type: ignore[list-item]


def test_a_fault_of_the_library_itself_is_not_hidden() -> None:
    z, y, o = problem()
    with pytest.raises(RuntimeError, match="inside its storage"):
        ops.self_paced_step(too_small(z), y, o, 0.8)
