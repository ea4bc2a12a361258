"""modality_scores forward and backward, where gradients of all four scores are given: eager, compiled, ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from spcl_fast import backends, ops, reference

from .agreement import Expected, Tolerance
from .bench_modality_scores import TOLERANCES, C, M
from .harness import Call, Cell, Contender, Outputs, Settings
from .providers import modality_scores as forms
from .providers.compiled import compiled
from .providers.floors import autograd_floor, copy_floor
from .sizes import IEMOCAP, name_of


class Problem(NamedTuple):
    """Inputs, gradients of the scores, and the outputs of the reference in float64."""

    logits: Tensor
    labels: Tensor
    of: forms.Scores
    expected: Expected


def make_problem(T: int, device: str = "cpu") -> Problem:
    """Random logits, labels and gradients of the scores of T utterances."""
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(M, T, C, generator=generator, device=device)
    labels = torch.randint(C, (T,), generator=generator, device=device)
    of = {name: torch.randn(M, T, generator=generator, device=device) for name in forms.OUTPUTS}
    z = logits.double().requires_grad_()
    scores = reference.modality_scores(z, labels)._asdict()
    outputs = {name: score.detach() for name, score in scores.items()}
    (outputs["gradient"],) = torch.autograd.grad(list(scores.values()), z, [of[name].double() for name in scores])
    return Problem(logits, labels, of, Expected(outputs, TOLERANCES | {"gradient": Tolerance(5e-6, 2e-6)}))


def by_autograd(function: Callable[..., forms.Scores], problem: Problem) -> Call:
    """The scores by `function`, and the gradient of the logits by autograd."""
    leaf = problem.logits.clone().requires_grad_()

    def call() -> Outputs:
        scores = function(leaf, problem.labels)
        (gradient,) = torch.autograd.grad(list(scores.values()), leaf, [problem.of[name] for name in scores])
        return scores | {"gradient": gradient}

    return call


def _closed_form(function: Callable[..., forms.Scores], problem: Problem) -> Call:
    return lambda: function(problem.logits, problem.labels, problem.of)


def _rivals(problem: Problem, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    for form in (forms.gather_kept, forms.topk, forms.one_hot, forms.unrolled):
        yield Contender("eager", f"{form.__name__}, autograd", partial(by_autograd, form, problem), threads=threads)
    yield Contender("eager", "closed form", partial(_closed_form, forms.closed_form, problem), threads=threads)
    if not settings.compile:
        return
    natural = {"natural": forms.gather_kept, "one-hot": forms.one_hot, "class-unrolled": forms.unrolled}
    for name in list(natural)[1:2] if settings.quick else natural:

        def make(name: str = name) -> Call:
            return by_autograd(compiled(natural[name]), problem)

        yield Contender("compile", f"{name}, autograd", make, threads=threads, may_fail=True)
    if not settings.quick:

        def make_closed() -> Call:
            return _closed_form(compiled(forms.closed_form), problem)

        yield Contender("compile", "closed form", make_closed, threads=threads, may_fail=True)


def traffic_of(T: int) -> int:
    """As forward; then logits and labels are read again, four gradients read and one written."""
    return T * (4 * 3 * M * C + 2 * 8 + 2 * 4 * 4 * M)


def build_cell(name: str, T: int, settings: Settings) -> Cell:
    """One number of utterances: every result is new memory, for everybody."""
    problem = make_problem(T)
    small = T <= 10_000
    threads = settings.both_threads if small else (settings.threads,)
    note = f"backend {backends.choose('modality_scores', None, problem.logits.device, needs_grad=True)}"
    ours = partial(by_autograd, lambda z, y: ops.modality_scores(z, y)._asdict(), problem)
    traffic = traffic_of(T)
    contenders = [*_rivals(problem, threads, settings)]
    contenders.append(Contender("ours", "autograd", ours, "ours", threads, note=note))
    contenders.append(autograd_floor([problem.logits], True, threads[:1]) if small else copy_floor(traffic, threads))
    size = {"T": T, "M": M, "C": C, "dtype": "float32"}
    return Cell(f"{name}, forward and backward", size, contenders, problem.expected, None if small else traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A training batch, a corpus, and a large one."""
    sizes = [("IEMOCAP batch", sum(IEMOCAP))]
    if not settings.quick:
        sizes += [(name_of(T), T) for T in (100_000, 1_000_000)]
    return [partial(build_cell, *size, settings) for size in sizes]
