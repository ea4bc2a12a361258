"""self_paced_step: the published loops, the best plain PyTorch, `torch.compile` and ours.

One batch of IEMOCAP, one of MELD, and corpora of 1e5 and 1e6 utterances at once; forward alone (no logit requires
a gradient), and forward with backward. The threshold lies near the median difficulty, so about half of the batch is
selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import spcl_fast
from spcl_fast import backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Outputs, Settings
from .providers import self_paced_step as forms
from .providers.compiled import compiled
from .providers.floors import autograd_floor, copy_floor
from .providers.published_step import published_step

M = 3
# Sixteen dialogues of IEMOCAP's range of lengths, 1000 utterances; thirty-two of MELD's, mean 9.6.
IEMOCAP = (24, 96, 48, 71, 30, 63, 108, 52, 37, 88, 56, 81, 43, 76, 60, 67)
MELD = (9, 3, 14, 10, 1, 7, 17, 11, 5, 12, 8, 2, 19, 6, 10, 13, 4, 9, 15, 3, 11, 7, 18, 8, 5, 14, 6, 12, 10, 16, 9, 13)
TOLERANCES = {
    "loss": Tolerance(2e-6, 2e-6),
    "weight": Tolerance(0.0, at_ties=False),
    "difficulty": Tolerance(1e-5, 1e-5),
    "utterance_loss": Tolerance(2e-6, 2e-6),
    "confidence": Tolerance(1e-7, 3e-6),
    "spread": Tolerance(1e-5, 1e-5),
    "gradient": Tolerance(2e-6, at_ties=False),  # over T, as the gradient is
}
TIE = 1e-5  # a difficulty this near to the threshold may be selected or not


class Problem(NamedTuple):
    """Inputs, and the outputs of the reference in float64."""

    logits: Tensor
    labels: Tensor
    offsets: Tensor
    threshold: float
    expected: Expected


def make_problem(lengths: tuple[int, ...], C: int, backward: bool) -> Problem:
    """Logits of a model that is right more often than not, with modalities of different strength."""
    generator = torch.Generator().manual_seed(0)
    offsets = torch.tensor((0, *lengths)).cumsum(0)
    T = int(offsets[-1])
    labels = torch.randint(C, (T,), generator=generator)
    strength = torch.tensor([2.0, 1.0, 0.5]).view(M, 1, 1)
    logits = 1.5 * torch.randn(M, T, C, generator=generator) + strength * torch.nn.functional.one_hot(labels, C)
    z = logits.double()
    difficulty = reference.self_paced_step(z, labels, offsets, None).difficulty
    threshold = _between(difficulty)
    joint = z.sum(0).requires_grad_()
    step = reference.self_paced_step(z, labels, offsets, threshold, joint=joint)
    outputs = {name: getattr(step, name).detach() for name in TOLERANCES if name != "gradient"}
    if backward:
        outputs["gradient"] = torch.autograd.grad(step.loss, joint)[0].expand(M, -1, -1)
    ties = (difficulty - threshold).abs() < TIE
    # What ties may move the mean loss by, and the gradient of the others not at all.
    moved = float(outputs["utterance_loss"][ties].sum()) / T
    tolerances = TOLERANCES | {
        "loss": Tolerance(2e-6 + moved, 2e-6),
        "gradient": replace(TOLERANCES["gradient"], absolute=TOLERANCES["gradient"].absolute / T),
    }
    return Problem(logits, labels, offsets, threshold, Expected(outputs, tolerances, ties))


def _between(difficulty: Tensor) -> float:
    """The middle of the widest gap near the median: as few ties as there can be."""
    T = difficulty.shape[0]
    middle = difficulty.sort().values[int(0.45 * T) : int(0.55 * T) + 2]
    below = int(middle.diff().argmax())
    return float(middle[below : below + 2].mean())


def _call(step: Callable[..., Any], problem: Problem, *, stacked: bool, backward: bool) -> Call:
    """The call to time: one step, and the gradients of all logits."""
    _, labels, offsets, threshold, _ = problem
    logits: Any = problem.logits if stacked else [z.clone() for z in problem.logits]
    leaves = [logits] if stacked else logits
    for leaf in leaves:
        leaf.detach_().requires_grad_(backward)

    def call() -> Outputs:
        outputs = step(logits, labels, offsets, threshold)
        if backward:
            gradients = torch.autograd.grad(outputs["loss"], leaves)
            outputs["gradient"] = gradients[0] if stacked else gradients
        return outputs

    return call


def _ours(logits: Any, labels: Tensor, offsets: Tensor, threshold: float) -> dict[str, Any]:
    return ops.self_paced_step(logits, labels, offsets, threshold)._asdict()


def _scheduler(threshold: float) -> Callable[..., dict[str, Any]]:
    scheduler = spcl_fast.SelfPacedScheduler(threshold=threshold)
    return lambda logits, labels, offsets, _: scheduler(logits, labels, offsets)._asdict()


def _eager(problem: Problem, backward: bool, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    T = problem.labels.shape[0]
    scores = list(forms.SCORES)[:1] if settings.quick else list(forms.SCORES)
    for name in scores:
        for sums in forms.SUMS:
            if sums == "membership" and T > 10_000:
                continue
            step = forms.step_of(forms.SCORES[name], forms.SUMS[sums], forms.repeated)
            make = partial(_call, step, problem, stacked=True, backward=backward)
            yield Contender("eager", f"{name}, {sums}", make, threads=threads)


def _compiled(problem: Problem, backward: bool, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    small = problem.labels.shape[0] <= 10_000
    natural = [(forms.log_softmax, forms.index_add), (forms.unrolled, forms.index_add)]
    if small:
        natural[1] = (forms.one_hot, forms.masked_sum)
    chosen = natural[:1] if settings.quick else natural
    modes: list[tuple[tuple[forms.Scores, forms.Sums], str | None]] = [(form, None) for form in chosen]
    if small and not settings.quick:
        modes.append((natural[1], "max-autotune-no-cudagraphs"))
    for (scores, sums), mode in modes:
        step = forms.step_of(scores, sums, forms.searched)

        def make(step: forms.Step = step, mode: str | None = mode) -> Call:
            return _call(compiled(step, mode), problem, stacked=True, backward=backward)

        form = f"{scores.__name__}, {sums.__name__}{', ' + mode if mode else ''}"
        tried = threads[:1] if settings.quick or mode else threads
        yield Contender("compile", form, make, threads=tried, may_fail=True)


def build_cell(name: str, lengths: tuple[int, ...], C: int, backward: bool, settings: Settings) -> Cell:
    """One size in one direction, with everybody who competes on it."""
    problem = make_problem(lengths, C, backward)
    T, D = problem.labels.shape[0], len(lengths)
    small = T <= 10_000
    threads = settings.both_threads if small else (settings.threads,)
    device = problem.logits.device
    backend = f"backend {backends.choose('self_paced_step', None, device, needs_grad=backward)}"
    contenders = []
    if T <= 1000:
        step = lambda z, *rest: published_step(z.unbind(0), *rest)  # noqa: E731
        published = partial(_call, step, problem, stacked=True, backward=False)
        note = "forward only" if backward else ""
        omits = frozenset({"confidence", "gradient"})
        contenders.append(Contender("published", "loops, O(T^2)", published, threads=threads, omits=omits, note=note))
    contenders += _eager(problem, backward, threads, settings)
    if settings.compile:
        contenders += _compiled(problem, backward, threads, settings)
    for form, stacked in (("M tensors", False), ("stacked", True)):
        make = partial(_call, _ours, problem, stacked=stacked, backward=backward)
        contenders.append(Contender("ours", form, make, "ours", threads, note=backend))
    make = partial(_call, _scheduler(problem.threshold), problem, stacked=False, backward=backward)
    contenders.append(Contender("scheduler", "M tensors", make, "wrapper", threads))
    if small:
        contenders.append(autograd_floor(problem.logits.unbind(0), backward, threads[:1]))
    # Logits and labels are read once; M + 3 numbers an utterance, and one gradient row, are written once.
    traffic = T * (4 * M * C + 8 + 4 * (M + 3) + (4 * C if backward else 0))
    if not small:
        contenders.append(copy_floor(traffic, threads))
    size = {"T": T, "D": D, "M": M, "C": C, "dtype": "float32"}
    return Cell(name, size, contenders, problem.expected, None if small else traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """Every size forward, and forward with backward."""
    sizes = [("IEMOCAP batch", IEMOCAP, 6), ("MELD batch", MELD, 7), ("T=1e5", 100 * IEMOCAP, 6)]
    if not settings.quick:
        sizes.append(("T=1e6", 1000 * IEMOCAP, 6))
    return [
        partial(build_cell, f"{name}, {direction}", lengths, C, backward, settings)
        for name, lengths, C in sizes
        for direction, backward in (("forward", False), ("forward and backward", True))
    ]
