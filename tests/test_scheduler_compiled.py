"""The scheduler inside other machinery: `torch.compile`, autocast, deterministic algorithms."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch._dynamo.utils import counters

from spcl_fast import SelfPacedScheduler, pacing
from spcl_fast.difficulty import BssDifficulty, CombinedDifficulty
from spcl_fast.selections import MatchedSelection, StochasticSelection
from spcl_fast.testing import random_inputs
from spcl_fast.thresholds import ExponentialThreshold, QuantileThreshold, RunningMeanThreshold

pytestmark = pytest.mark.host_only

SUPERLOSS = {"weighting": "superloss", "weighting_parameters": {"regularization": 1.0}}


def _mine(difficulty: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    return torch.exp(-difficulty.clamp(min=0) / threshold)


def _combined() -> SelfPacedScheduler:
    terms = CombinedDifficulty([("loss", 1.0), (BssDifficulty(), 0.5), ("random", 0.5)], normalize="minmax")
    return SelfPacedScheduler(0.5, difficulty=terms)


def _quantile(over: str) -> SelfPacedScheduler:
    pace, num_utterances = pacing.LinearPace(start=0.4, total=3), 100 if over == "epoch" else None
    return SelfPacedScheduler(QuantileThreshold(pace, over=over, num_utterances=num_utterances))


def _matched(take: str) -> SelfPacedScheduler:
    return SelfPacedScheduler(MatchedSelection(ExponentialThreshold(0.9, growth=1.5), take=take))


SCHEDULERS: dict[str, Callable[[], SelfPacedScheduler]] = {
    "spcl": SelfPacedScheduler,
    "extended": lambda: SelfPacedScheduler(difficulty="extended", normalizer="selected"),
    "quantile of a batch": lambda: _quantile("batch"),
    "quantile of an epoch": lambda: _quantile("epoch"),
    "superloss": lambda: SelfPacedScheduler(RunningMeanThreshold(math.log(4)), difficulty="loss", **SUPERLOSS),
    "a weighting of one's own": lambda: SelfPacedScheduler(1.0, weighting=_mine),
    "combined": _combined,
    "as many by lot": lambda: _matched("utterances"),
    "as many by dialogue": lambda: _matched("dialogues"),
    "stochastic": lambda: SelfPacedScheduler(StochasticSelection(0.5, tilt=1.0, last_tilt=-1.0, epochs=2)),
}


def run(scheduler: SelfPacedScheduler, call: Callable, seed: int, lengths: tuple[int, ...]) -> list[torch.Tensor]:
    x = random_inputs(lengths, seed=seed)
    z = x.logits.clone().requires_grad_()
    step = call(z, x.labels, x.offsets, x.speakers, x.embeddings, ids=x.ids)
    (gradient,) = torch.autograd.grad(step.loss, z)
    return [step.loss.detach(), step.weight, step.difficulty, gradient, scheduler.threshold.clone()]


# Dynamo makes an instance of the autograd.Function that it traces.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_compiled_step_is_one_graph_for_all_batches_and_epochs(name: str) -> None:
    eager = SCHEDULERS[name]()
    run(eager, eager, 9, (3, 2))  # the first batch tells the number of modalities
    compiled = copy.deepcopy(eager)
    torch._dynamo.reset()
    counters.clear()
    call = torch.compile(compiled, backend="aot_eager", fullgraph=True, dynamic=True)
    for seed, lengths in enumerate([(5, 1, 0, 7, 3), (4, 4), (9, 2, 3, 30), (2, 2, 2, 2, 2, 2)]):
        for got, expected in zip(run(compiled, call, seed, lengths), run(eager, eager, seed, lengths), strict=True):
            torch.testing.assert_close(got, expected, equal_nan=True)
        if seed % 2:
            assert compiled.end_epoch() == eager.end_epoch()
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["spcl", "extended", "superloss"])
def test_autocast_changes_the_logits_and_nothing_after_them(name: str, dtype: torch.dtype) -> None:
    x = random_inputs((5, 1, 0, 7, 3))
    head = torch.nn.Linear(8, 4)
    inside, outside = SCHEDULERS[name](), SCHEDULERS[name]()
    with torch.autocast("cpu", dtype):
        logits = head(x.embeddings)
        assert logits.dtype == dtype
        step = inside(logits, x.labels, x.offsets, x.speakers, x.embeddings, ids=x.ids)
    assert step.loss.dtype == torch.float32
    expected = outside(logits.detach(), x.labels, x.offsets, x.speakers, x.embeddings, ids=x.ids)
    assert torch.equal(step.loss.detach(), expected.loss)
    assert torch.equal(step.weight, expected.weight)
    step.loss.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32
    assert bool(head.weight.grad.isfinite().all())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_step_is_deterministic_and_says_nothing_else(name: str) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (run(s, s, 3, (5, 1, 0, 7, 3)) for s in (SCHEDULERS[name](), SCHEDULERS[name]()))
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.nan_to_num(nan=-7.0), b.nan_to_num(nan=-7.0))
