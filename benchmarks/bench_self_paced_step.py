"""self_paced_step: the published loops, the best plain PyTorch, `torch.compile` and ours.

One batch of IEMOCAP, one of MELD, and corpora of 1e5 to 1e7 utterances at once; forward alone (no logit requires
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
from .harness import Call, Cell, Contender, Outputs, Settings, left_out
from .providers import self_paced_step as forms
from .providers.compiled import compiled
from .providers.floors import autograd_floor, copy_floor
from .providers.published_step import published_step
from .sizes import BEST_ALONE, DTYPES, IEMOCAP, LARGEST, MELD, name_of_dtype, repeated, require_memory

M = 3
BEST_EAGER = ("logsumexp", "cumsum")  # the plain form that is the fastest at T=1e6
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


def make_problem(
    lengths: tuple[int, ...],
    C: int,
    backward: bool,
    dtype: torch.dtype = torch.float32,
    copies: int = 1,
    device: str = "cpu",
) -> Problem:
    """Logits of a model that is right more often than not, with modalities of different strength.

    `copies` of all dialogues one after the other have the same difficulties and the same mean loss.
    """
    generator = torch.Generator(device).manual_seed(0)
    offsets = torch.tensor((0, *lengths), device=device).cumsum(0)
    T = int(offsets[-1])
    labels = torch.randint(C, (T,), generator=generator, device=device)
    strength = torch.tensor([2.0, 1.0, 0.5], device=device).view(M, 1, 1)
    logits = 1.5 * torch.randn(M, T, C, generator=generator, device=device) + strength * torch.nn.functional.one_hot(
        labels, C
    )
    logits = logits.to(dtype)
    z = logits.double()
    difficulty = reference.self_paced_step(z, labels, offsets, None).difficulty
    threshold = between(difficulty)
    joint = z.sum(0).requires_grad_()
    step = reference.self_paced_step(z, labels, offsets, threshold, joint=joint)
    outputs = {name: getattr(step, name).detach() for name in TOLERANCES if name != "gradient"}
    if backward:
        outputs["gradient"] = torch.autograd.grad(step.loss, joint)[0].div_(copies)
    ties = (difficulty - threshold).abs() < TIE
    # What ties may move the mean loss by, and the gradient of the others not at all.
    moved = float(outputs["utterance_loss"][ties].sum()) / T
    of_gradient = replace(TOLERANCES["gradient"], absolute=TOLERANCES["gradient"].absolute / (T * copies))
    if dtype.itemsize == 2:  # it is rounded to the dtype of its logits, and may be smaller than that holds well
        finfo = torch.finfo(dtype)
        spacing = finfo.smallest_normal * finfo.eps
        of_gradient = replace(of_gradient, absolute=of_gradient.absolute + spacing, relative=finfo.eps)
    tolerances = TOLERANCES | {"loss": Tolerance(2e-6 + moved, 2e-6), "gradient": of_gradient}
    outputs = {
        name: x if name == "loss" else repeated(x, copies, -2 if name == "gradient" else -1)
        for name, x in outputs.items()
    }
    if backward:
        outputs["gradient"] = outputs["gradient"].expand(M, -1, -1)
    logits, labels = repeated(logits, copies, 1), repeated(labels, copies, 0)
    offsets = torch.cat([offsets[:1], *(offsets[1:] + k * T for k in range(copies))])
    return Problem(logits, labels, offsets, threshold, Expected(outputs, tolerances, repeated(ties, copies, 0)))


def between(difficulty: Tensor) -> float:
    """The middle of the widest gap near the median: as few ties as there can be."""
    T = difficulty.shape[0]
    middle = difficulty.sort().values[int(0.45 * T) : int(0.55 * T) + 2]
    below = int(middle.diff().argmax())
    return float(middle[below : below + 2].mean())


def step_call(step: Callable[..., Any], problem: Problem, *, stacked: bool, backward: bool) -> Call:
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


def ours(
    logits: Any, labels: Tensor, offsets: Tensor, threshold: float, *, backend: str | None = None
) -> dict[str, Any]:
    """The op."""
    return ops.self_paced_step(logits, labels, offsets, threshold, backend=backend)._asdict()


def _scheduler(threshold: float) -> Callable[..., dict[str, Any]]:
    scheduler = spcl_fast.SelfPacedScheduler(threshold=threshold)
    return lambda logits, labels, offsets, _: scheduler(logits, labels, offsets)._asdict()


def _eager(problem: Problem, backward: bool, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    T = problem.labels.shape[0]
    pairs = [(scores, sums) for scores in forms.SCORES for sums in forms.SUMS]
    if T >= LARGEST:  # which form is the fastest depends on the dtype, so each has all of them
        pairs = [BEST_EAGER]
        yield left_out("eager", "all other forms", BEST_ALONE)
    elif settings.quick:
        pairs = pairs[: len(forms.SUMS)]
    for scores, sums in pairs:
        step = forms.exact(forms.step_of(forms.SCORES[scores], forms.SUMS[sums], forms.repeated))
        make = partial(step_call, step, problem, stacked=True, backward=backward)
        skip = "a matrix of utterances by dialogues does not fit" if sums == "membership" and T > 10_000 else ""
        yield Contender("eager", f"{scores}, {sums}", make, threads=threads, skip=skip)


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
            return step_call(compiled(step, mode), problem, stacked=True, backward=backward)

        form = f"{scores.__name__}, {sums.__name__}{', ' + mode if mode else ''}"
        tried = threads[:1] if settings.quick or mode else threads
        yield Contender("compile", form, make, threads=tried, may_fail=True)


def _published(problem: Problem, backward: bool, threads: tuple[int, ...]) -> Contender:
    if problem.labels.shape[0] > 1000:
        return left_out("published", "loops, O(T^2)", "quadratic: at T=1e5 some 50 minutes a call")
    if problem.logits.dtype.itemsize == 2:
        return left_out("published", "loops, O(T^2)", "half precision, which it keeps to, is far from the reference")
    step = lambda z, *rest: published_step(z.unbind(0), *rest)  # noqa: E731
    make = partial(step_call, step, problem, stacked=True, backward=False)
    omits, note = frozenset({"confidence", "gradient"}), "forward only" if backward else ""
    return Contender("published", "loops, O(T^2)", make, threads=threads, omits=omits, note=note)


def traffic_of(problem: Problem, C: int, backward: bool) -> int:
    """Logits and labels are read once; M + 3 numbers an utterance, and one gradient row, are written once."""
    z = problem.logits
    written = max(4, z.element_size())
    of_gradient = z.element_size() * C if backward else 0
    return z.shape[1] * (z.element_size() * M * C + 8 + written * (M + 3) + of_gradient)


def build_cell(
    name: str,
    lengths: tuple[int, ...],
    C: int,
    backward: bool,
    settings: Settings,
    dtype: torch.dtype = torch.float32,
    copies: int = 1,
) -> Cell:
    """One size in one direction, with everybody who competes on it."""
    largest = copies * sum(lengths) >= LARGEST
    if largest:
        require_memory(14_000_000_000)
    problem = make_problem(lengths, C, backward, dtype, copies)
    T, D = problem.labels.shape[0], problem.offsets.shape[0] - 1
    small = T <= 10_000
    plain = dtype == torch.float32 and not largest
    threads = settings.both_threads if small else (settings.threads,)
    device = problem.logits.device
    backend = f"backend {backends.choose('self_paced_step', None, device, needs_grad=backward)}"
    contenders = [_published(problem, backward, threads), *_eager(problem, backward, threads, settings)]
    if settings.compile and plain:
        contenders += _compiled(problem, backward, threads, settings)
    for form, stacked in (("M tensors", False), ("stacked", True)):
        make = partial(step_call, ours, problem, stacked=stacked, backward=backward)
        contenders.append(Contender("ours", form, make, "ours", threads, note=backend))
    make = partial(step_call, _scheduler(problem.threshold), problem, stacked=False, backward=backward)
    contenders.append(Contender("scheduler", "M tensors", make, "wrapper", threads))
    traffic = traffic_of(problem, C, backward)
    if small:
        contenders.append(autograd_floor(problem.logits.unbind(0), backward, threads[:1]))
    else:
        contenders.append(copy_floor(traffic, threads))
    size = {"T": T, "D": D, "M": M, "C": C, "dtype": name_of_dtype(dtype)}
    return Cell(
        name, size, contenders, problem.expected, None if small else traffic, None if plain or T >= LARGEST else 2.0
    )


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """Every size forward, and forward with backward; other dtypes and the largest with backward alone."""
    sizes = [("IEMOCAP batch", IEMOCAP, 6), ("T=1e5", 100 * IEMOCAP, 6)]
    if not settings.quick:
        sizes[1:1] = [("MELD batch", MELD, 7)]
        sizes.append(("T=1e6", 1000 * IEMOCAP, 6))
    both = (("forward", False), ("forward and backward", True))
    plain = [
        partial(build_cell, f"{name}, {direction}", lengths, C, backward, settings)
        for name, lengths, C in sizes
        for direction, backward in (both[1:] if settings.quick else both)
    ]
    if settings.quick:
        return plain
    trained = [
        partial(build_cell, f"T=1e5, forward and backward, {name_of_dtype(t)}", 100 * IEMOCAP, 6, True, settings, t)
        for t in DTYPES
    ]
    largest = partial(
        build_cell, "T=1e7, forward and backward", 1000 * IEMOCAP, 6, True, settings, copies=LARGEST // 1_000_000
    )
    return [*plain, *trained, largest]


def scaling(T: int) -> tuple[Call, int]:
    """A step with its backward pass, and the bytes both read and write; T is a multiple of a batch of IEMOCAP."""
    C, generator = 6, torch.Generator().manual_seed(0)
    copies = T // sum(IEMOCAP)
    logits = repeated(torch.randn(M, sum(IEMOCAP), C, generator=generator), copies, 1)
    labels = repeated(torch.randint(C, (sum(IEMOCAP),), generator=generator), copies, 0)
    offsets = torch.tensor((0, *IEMOCAP * copies)).cumsum(0)
    problem = Problem(logits, labels, offsets, 1.0, Expected({}, {}))
    return step_call(ours, problem, stacked=True, backward=True), traffic_of(problem, C, True)
