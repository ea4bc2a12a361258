"""A step of `SelfPacedScheduler` as a trainer calls it, Python included, on one batch of MELD and one of IEMOCAP.

For several difficulties, thresholds and weightings; the rivals are the same scheduler on `backend="reference"`, which
is plain PyTorch, and that one compiled. The floor is `ops.self_paced_step` by itself: what SPCL's step takes without a
scheduler, so that the rest is the price of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spcl_fast import SelfPacedScheduler, backends, ops
from spcl_fast.difficulty import ExtendedDifficulty, HistoryDifficulty
from spcl_fast.thresholds import QuantileThreshold

from .agreement import Expected, Tolerance
from .bench_self_paced_step import TIE, TOLERANCES, between, make_problem
from .harness import Call, Cell, Contender, Outputs, Settings
from .providers.compiled import compiled
from .sizes import IEMOCAP, MELD

F = 128
COMPILED = ("spcl", "loss, quantile of the batch")  # the others take minutes to compile, for the same answer
FAR = 1e9  # a threshold above every difficulty


class Batch(NamedTuple):
    """A batch with all that a difficulty may look at."""

    logits: list[Tensor]
    labels: Tensor
    offsets: Tensor
    speakers: Tensor
    embeddings: list[Tensor]
    ids: Tensor
    counts: Tensor

    def double(self) -> Batch:
        """The same in float64."""
        return self._replace(logits=[z.double() for z in self.logits], embeddings=[e.double() for e in self.embeddings])


def inverse(difficulty: Tensor, threshold: Tensor) -> Tensor:
    """A weighting of a user's own."""
    return 1 / (1 + difficulty / threshold)


#: what is scheduled -> the settings of the scheduler but its threshold, None where that is the schedule's own
KINDS: dict[str, Callable[[Batch], dict[str, Any]]] = {
    "spcl": lambda batch: {},
    "extended": lambda batch: {
        "difficulty": ExtendedDifficulty(incoherence=1.0, transition=1.0, surprisal=1.0, transition_counts=batch.counts)
    },
    "loss, quantile of the batch": lambda batch: {"difficulty": "loss", "threshold": QuantileThreshold(0.5)},
    "spcl, own weighting": lambda batch: {"weighting": inverse},
    "history": lambda batch: {"difficulty": HistoryDifficulty(len(batch.labels))},
}


def make_batch(lengths: tuple[int, ...], C: int) -> Batch:
    """Logits, labels and offsets of `bench_self_paced_step`, with two speakers a dialogue and embeddings."""
    problem = make_problem(lengths, C, backward=False)
    generator = torch.Generator().manual_seed(1)
    T = len(problem.labels)
    return Batch(
        logits=list(problem.logits.unbind(0)),
        labels=problem.labels,
        offsets=problem.offsets,
        speakers=torch.randint(2, (T,), generator=generator),
        embeddings=[torch.randn(T, F, generator=generator) for _ in problem.logits],
        ids=torch.randperm(T, generator=generator),
        counts=torch.randint(1, 500, (C, C), generator=generator),
    )


def make_scheduler(kind: str, batch: Batch, threshold: float, backend: str | None = None) -> SelfPacedScheduler:
    """The scheduler of a kind."""
    return SelfPacedScheduler(**({"threshold": threshold} | KINDS[kind](batch)), backend=backend)


def make_expected(kind: str, batch: Batch, backward: bool) -> tuple[float, Expected]:
    """A threshold between two difficulties, and the outputs in float64 by the reference."""
    exact = batch.double()
    step = _outputs(make_scheduler(kind, batch, FAR, "reference"), exact, backward=False)
    difficulty = step["difficulty"]
    threshold = between(difficulty)
    scheduler = make_scheduler(kind, batch, threshold, "reference")
    outputs = _outputs(scheduler, exact, backward)
    ties = (difficulty - scheduler.threshold).abs() < TIE  # which a quantile has moved
    names = ("loss", "weight", "difficulty", "utterance_loss", *(["gradient"] if backward else []))
    moved = float(outputs["utterance_loss"][ties].sum()) / len(ties)
    tolerances = TOLERANCES | {
        "loss": Tolerance(2e-6 + moved, 2e-6),
        "gradient": Tolerance(2e-6 / len(ties), at_ties=False),
        "difficulty": Tolerance(3e-5, 1e-5),
        "weight": Tolerance(1e-5 if kind == "spcl, own weighting" else 0.0, at_ties=False),
    }
    return threshold, Expected({name: outputs[name].detach() for name in names}, tolerances, ties)


def _outputs(scheduler: Callable[..., ops.SelfPacedStep], batch: Batch, backward: bool) -> dict[str, Any]:
    """One step, as a trainer makes it."""
    logits = [z.detach().requires_grad_(backward) for z in batch.logits]
    return _call(scheduler, batch._replace(logits=logits), backward)()  # type: ignore[return-value]


def _call(scheduler: Callable[..., ops.SelfPacedStep], batch: Batch, backward: bool) -> Call:
    logits, labels, offsets, speakers, embeddings, ids, _ = batch

    def call() -> Outputs:
        step = scheduler(logits, labels, offsets, speakers, embeddings, ids=ids)
        outputs: dict[str, Any] = step._asdict()
        if backward:
            outputs["gradient"] = torch.autograd.grad(step.loss, logits)[0]
        return outputs

    return call


def build_cell(name: str, lengths: tuple[int, ...], C: int, kind: str, backward: bool, settings: Settings) -> Cell:
    """One batch and one kind of scheduler in one direction."""
    batch = make_batch(lengths, C)
    threshold, expected = make_expected(kind, batch, backward)
    for z in batch.logits:
        z.requires_grad_(backward)

    def make(backend: str | None, is_compiled: bool = False) -> Call:
        scheduler: Callable[..., ops.SelfPacedStep] = make_scheduler(kind, batch, threshold, backend)
        if is_compiled:
            module = scheduler
            scheduler(*batch[:5], ids=batch.ids)  # the counters are sized by the first batch
            scheduler = compiled(lambda *args, **named: module(*args, **named))
        return _call(scheduler, batch, backward)

    def step() -> Call:
        def call() -> Outputs:
            done = ops.self_paced_step(batch.logits, batch.labels, batch.offsets, threshold)
            if backward:
                torch.autograd.grad(done.loss, batch.logits)
            return {}

        return call

    note = f"backend {backends.choose('self_paced_step', None, batch.labels.device, needs_grad=backward)}"
    contenders = [
        Contender("eager", "backend='reference'", partial(make, "reference"), threads=settings.both_threads),
        Contender("ours", "the scheduler", partial(make, None), "ours", note=note),
        Contender("step", "ops.self_paced_step alone", step, "floor"),
    ]
    if settings.compile and kind in COMPILED:
        form = "backend='reference'"
        contenders.append(Contender("compile", form, partial(make, "reference", True), may_fail=True))
    direction = "forward and backward" if backward else "forward"
    size = {"T": len(batch.labels), "D": len(lengths), "M": len(batch.logits), "C": C, "F": F, "dtype": "float32"}
    return Cell(f"{name}, {kind}, {direction}", size, contenders, expected)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """Every kind on both batches, forward, and forward with backward."""
    sizes = [("MELD batch", MELD, 7), ("IEMOCAP batch", IEMOCAP, 6)]
    return [
        partial(build_cell, name, lengths, C, kind, backward, settings)
        for name, lengths, C in (sizes[:1] if settings.quick else sizes)
        for kind in KINDS
        for backward in ((False,) if settings.quick else (False, True))
    ]
