"""modality_scores: the best plain PyTorch, `torch.compile` and ours, beside the machine's bandwidth.

Forward, and forward with backward, where gradients of all four scores are given.

Of the forward pass, steady: the outputs lie in memory that an earlier call touched. Fresh: every call allocates them,
page faults included, as the allocator has it; a 48 MB output then costs as much as computing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from spcl_fast import backends, ops, reference
from spcl_fast.ops import ModalityScores

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Outputs, Settings
from .providers import modality_scores as forms
from .providers.compiled import compiled
from .providers.floors import autograd_floor, copy_floor, read_floor

M, C = 3, 7
TOLERANCES = {
    "loss": Tolerance(2e-6, 2e-6),
    "confidence": Tolerance(1e-7, 3e-6),
    "entropy": Tolerance(3e-6),
    "margin": Tolerance(2e-6),
    "gradient": Tolerance(5e-6, 2e-6),
}
COMPILED = {"natural": forms.gather, "one-hot": forms.one_hot, "class-unrolled": forms.unrolled}


class Problem(NamedTuple):
    """Inputs, gradients of the scores, and the outputs of the reference in float64."""

    logits: Tensor
    labels: Tensor
    of: forms.Scores
    expected: Expected


def make_problem(T: int, backward: bool) -> Problem:
    """Random logits, labels and, for the backward pass, gradients of the scores of T utterances."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(M, T, C, generator=generator)
    labels = torch.randint(C, (T,), generator=generator)
    of = {name: torch.randn(M, T, generator=generator) for name in forms.OUTPUTS} if backward else {}
    z = logits.double().requires_grad_(backward)
    scores = reference.modality_scores(z, labels)._asdict()
    outputs = {name: score.detach() for name, score in scores.items()}
    if backward:
        arriving = [of[name].double() for name in scores]
        (outputs["gradient"],) = torch.autograd.grad(list(scores.values()), z, arriving)
    return Problem(logits, labels, of, Expected(outputs, TOLERANCES))


def _eager(z: Tensor, y: Tensor, threads: tuple[int, ...]) -> Iterator[Contender]:
    for form in (forms.gather, forms.topk, forms.one_hot, forms.unrolled):

        def make(form: Callable[[Tensor, Tensor], forms.Scores] = form) -> Call:
            return lambda: form(z, y)

        yield Contender("eager", form.__name__, make, threads=threads, group="fresh")
    yield Contender("eager", "gather", lambda: forms.steady_gather(z, y), threads=threads, group="steady")


def _compiled(z: Tensor, y: Tensor, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    for name in list(COMPILED)[1:2] if settings.quick else COMPILED:

        def fresh(name: str = name) -> Call:
            function = compiled(COMPILED[name])
            return lambda: function(z, y)

        def steady(name: str = name) -> Call:
            function = compiled(forms.steady(COMPILED[name]))
            out = {output: torch.zeros(M, z.shape[1]) for output in forms.OUTPUTS}
            return lambda: function(z, y, out)

        for group, make in (("fresh", fresh), ("steady", steady)):
            yield Contender("compile", name, make, threads=threads, group=group, may_fail=True)


def _ours(z: Tensor, y: Tensor, threads: tuple[int, ...]) -> Iterator[Contender]:
    note = f"backend {backends.choose('modality_scores', None, z.device, needs_grad=False)}"

    def fresh() -> Call:
        return lambda: ops.modality_scores(z, y)._asdict()

    def steady() -> Call:
        out = ModalityScores(*(torch.zeros(M, z.shape[1]) for _ in forms.OUTPUTS))
        return lambda: ops.modality_scores(z, y, out=out)._asdict()

    yield Contender("ours", "allocating", fresh, "ours", threads, "fresh", note=note)
    yield Contender("ours", "out=", steady, "ours", threads, "steady", note=note)


def build_cell(T: int, settings: Settings) -> Cell:
    """One number of utterances, with everybody who competes on it."""
    logits, labels, _, expected = make_problem(T, backward=False)
    threads = (settings.threads,)
    traffic = T * (4 * M * C + 8 + 4 * 4 * M)  # logits and labels are read once, four scores written once
    contenders = [*_eager(logits, labels, threads)]
    if settings.compile:
        contenders += _compiled(logits, labels, threads, settings)
    contenders += _ours(logits, labels, threads)
    contenders += [copy_floor(traffic, threads), *read_floor(traffic, threads)]
    return Cell(f"T=1e{len(str(T)) - 1}", {"T": T, "M": M, "C": C, "dtype": "float32"}, contenders, expected, traffic)


def _backward_call(function: Callable[..., forms.Scores], problem: Problem) -> Call:
    """The scores by `function`, and the gradient of the logits by autograd."""
    leaf = problem.logits.clone().requires_grad_()

    def call() -> Outputs:
        scores = function(leaf, problem.labels)
        (gradient,) = torch.autograd.grad(list(scores.values()), leaf, [problem.of[name] for name in scores])
        return scores | {"gradient": gradient}

    return call


def _closed_form_call(function: Callable[..., forms.Scores], problem: Problem) -> Call:
    return lambda: function(problem.logits, problem.labels, problem.of)


def _backward_rivals(problem: Problem, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    for form in (forms.gather_kept, forms.topk, forms.one_hot, forms.unrolled):
        make = partial(_backward_call, form, problem)
        yield Contender("eager", f"{form.__name__}, autograd", make, threads=threads)
    yield Contender("eager", "closed form", partial(_closed_form_call, forms.closed_form, problem), threads=threads)
    if not settings.compile:
        return
    natural = {"natural": forms.gather_kept, "one-hot": forms.one_hot, "class-unrolled": forms.unrolled}
    for name in list(natural)[1:2] if settings.quick else natural:

        def make_compiled(name: str = name) -> Call:
            return _backward_call(compiled(natural[name]), problem)

        yield Contender("compile", f"{name}, autograd", make_compiled, threads=threads, may_fail=True)
    if not settings.quick:
        make = lambda: _closed_form_call(compiled(forms.closed_form), problem)  # noqa: E731
        yield Contender("compile", "closed form", make, threads=threads, may_fail=True)


def build_backward_cell(T: int, settings: Settings) -> Cell:
    """One number of utterances, forward and backward: every result is new memory, for everybody."""
    problem = make_problem(T, backward=True)
    small = T <= 10_000
    threads = settings.both_threads if small else (settings.threads,)
    device = problem.logits.device
    note = f"backend {backends.choose('modality_scores', None, device, needs_grad=True)}"
    contenders = [*_backward_rivals(problem, threads, settings)]
    ours = partial(_backward_call, lambda z, y: ops.modality_scores(z, y)._asdict(), problem)
    contenders.append(Contender("ours", "autograd", ours, "ours", threads, note=note))
    # As forward; then logits and labels are read again, four gradients read and one written.
    traffic = T * (4 * 3 * M * C + 2 * 8 + 2 * 4 * 4 * M)
    contenders.append(autograd_floor([problem.logits], True, threads[:1]) if small else copy_floor(traffic, threads))
    name = f"T=1e{len(str(T)) - 1}, forward and backward"
    size = {"T": T, "M": M, "C": C, "dtype": "float32"}
    return Cell(name, size, contenders, problem.expected, None if small else traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A corpus, and a large one; with the backward pass also a training batch."""
    forward = (100_000,) if settings.quick else (100_000, 1_000_000)
    backward = (1_000,) if settings.quick else (1_000, *forward)
    return [
        *(partial(build_cell, T, settings) for T in forward),
        *(partial(build_backward_cell, T, settings) for T in backward),
    ]
