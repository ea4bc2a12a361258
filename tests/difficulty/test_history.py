"""`HistoryDifficulty` against lists of all that was observed; evaluation, faults, state and the scheduler."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from spcl_fast import RunningScores, SelfPacedScheduler, difficulty
from spcl_fast.difficulty import HistoryDifficulty, StepInputs
from spcl_fast.difficulty.history import SCORES
from spcl_fast.testing import check_measurer
from spcl_fast.testing import random_inputs as inputs_on

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")


def random_inputs(*lengths: tuple[int, ...], **options: Any) -> StepInputs:
    """Where the tests run."""
    return inputs_on(*lengths, device=torch.get_default_device(), **options)


def by_hand(score: str, losses: list[float], confidences: list[float], correct: list[bool], decay: float) -> float:
    """The difficulty that the docstring gives to a list of observations."""

    def moving(values: list[float]) -> float:
        value = values[0]
        for x in values[1:]:
            value = decay * value + (1 - decay) * x
        return value

    if score == "loss":
        return moving(losses)
    if score == "confidence":
        return 1 - moving(confidences)
    if score == "mean_confidence":
        return 1 - np.mean(confidences)
    if score == "variability":
        return np.std(confidences)
    never_right = not any(correct)
    return len(correct) if never_right else sum(a and not b for a, b in pairwise(correct))


def observed(x: StepInputs) -> tuple[list[float], list[float], list[bool]]:
    """Loss, confidence and whether right of the joint logits, in float64."""
    p = torch.as_tensor(x.logits).double().sum(0).softmax(-1)
    own = p[torch.arange(len(x.labels)), x.labels]
    return (-own.log()).tolist(), own.tolist(), (p.argmax(-1) == x.labels).tolist()


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("score", SCORES)
def test_history_is_that_of_all_observations_so_far(score, keyed):
    keys = torch.arange(16) * 7 - 40 if keyed else None
    measurer = HistoryDifficulty(16, score=score, decay=0.7, keys=keys)
    seen: list[tuple[list[float], list[float], list[bool]]] = [([], [], []) for _ in range(16)]
    for step in range(6):
        x = random_inputs(seed=step, num_classes=3, dtype=torch.float64)
        x = x._replace(ids=x.ids if keys is None else keys[x.ids])
        places = (x.ids if keys is None else (x.ids + 40) // 7).tolist()
        for place, *observation in zip(places, *observed(x), strict=True):
            for values, value in zip(seen[place], observation, strict=True):
                values.append(value)
        expected = [by_hand(score, *seen[place], 0.7) for place in places]
        got = measurer(x)
        torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    assert float(got.min()) < float(got.max())


def test_what_was_never_right_is_harder_than_all_that_was_as_often_observed():
    measurer, labels, offsets = HistoryDifficulty(3, score="forgetting"), torch.zeros(3).long(), torch.tensor([0, 3])
    for step in range(9):
        changing = [1.0, -1.0][step % 2]
        logits = torch.tensor([[[1.0, 0.0], [changing, 0.0], [-1.0, 0.0]]])
        got = measurer(StepInputs(logits, labels, offsets, ids=torch.arange(3)))
        assert got.tolist() == [0.0, float((step + 1) // 2), float(step + 1)]


def test_evaluation_reads_and_learns_nothing():
    for score in SCORES:
        measurer = HistoryDifficulty(32, score=score, decay=0.5)
        first, second = (random_inputs(seed=seed) for seed in (1, 2))
        for x in (first, second):
            measurer(x)
        before = measurer.scores.rows.clone()
        again = measurer.eval()(second._replace(logits=torch.zeros_like(second.logits)))
        assert torch.equal(again, measurer(second))  # what is known of them, whatever they show now
        unknown = random_inputs(seed=3)
        unknown = unknown._replace(ids=unknown.ids + 16)
        torch.testing.assert_close(measurer(unknown), HistoryDifficulty(32, score=score)(unknown))
        assert torch.equal(measurer.scores.rows, before)


@pytest.mark.parametrize("score", SCORES)
def test_utterances_that_are_not_scored_are_undefined_and_not_observed(score):
    x = random_inputs()
    measurer = HistoryDifficulty(16, score=score)
    measurer(x)
    before = measurer.scores.rows.clone()
    logits, labels, present = x.logits.clone(), x.labels.clone(), torch.ones(3, 16, dtype=torch.bool)
    labels[0], labels[1] = -100, 99
    logits[1, 2, 0], logits[1, 3, 0], logits[1, 4] = NAN, INF, -INF
    present[:, 5] = False
    for mode in (True, False):
        got = measurer.train(mode)(x._replace(logits=logits, labels=labels, present=present))
        assert got[:6].isnan().all()
        assert got[6:].isfinite().all()
    rows = x.ids[:6]
    assert torch.equal(measurer.scores.rows[rows], before[rows])
    assert measurer.scores.num_observed.sum() == 16 + 10


def test_an_infinite_loss_is_the_hardest_and_not_observed():
    x = random_inputs()
    logits = x.logits.clone()
    logits[0, 3, x.labels[3]] = -INF
    for score in SCORES:
        measurer = HistoryDifficulty(16, score=score)
        for _ in range(2):
            assert measurer(x._replace(logits=logits))[3] == INF
        assert measurer.scores.num_observed[x.ids[3]] == 0
        assert measurer(x)[3].isfinite()


def test_modalities_that_are_absent_may_hold_anything_and_a_joint_head_counts_alone():
    x = random_inputs()
    present = torch.rand(3, 16) > 0.4
    present[0] = True
    logits = torch.where(present[..., None], x.logits, NAN)
    zeros = torch.where(present[..., None], x.logits, 0.0)
    new = lambda: HistoryDifficulty(16)  # noqa: E731
    torch.testing.assert_close(new()(x._replace(logits=logits, present=present)), new()(x._replace(logits=zeros)))
    joint = torch.randn(16, 4)
    one = x._replace(logits=joint[None])
    assert torch.equal(new()(x._replace(joint=joint)), new()(one))  # and M = 1
    named = dict(zip("atv", x.logits, strict=True))
    torch.testing.assert_close(new()(x._replace(logits=named)), new()(x))


def test_a_single_class_is_always_right():
    x = random_inputs(num_classes=1)
    measurer = HistoryDifficulty(16, score="forgetting")
    assert not measurer(x).any()
    assert measurer.scores.is_correct.all()


@pytest.mark.parametrize("score", SCORES)
def test_history_keeps_the_promises_of_a_measurer(score):
    check_measurer(lambda: HistoryDifficulty(16, score=score), device=torch.get_default_device())


def test_the_scheduler_learns_in_training_and_resumes_in_the_middle_of_an_epoch():
    def new() -> SelfPacedScheduler:
        return SelfPacedScheduler(0.9, difficulty=difficulty.make("history", num_utterances=16, decay=0.6))

    def step(scheduler: SelfPacedScheduler, seed: int) -> torch.Tensor:
        x = random_inputs(seed=seed)
        return scheduler(x.logits, x.labels, x.offsets, ids=x.ids).difficulty

    whole, first, second = new(), new(), new()
    for seed in range(3):
        step(whole, seed), step(first, seed)
    whole.eval(), step(whole, 9), whole.train()
    assert whole.difficulty.scores.num_observed.tolist() == [3] * 16
    second.load_state_dict(first.state_dict())
    for seed in range(3, 5):
        assert torch.equal(step(whole, seed), step(second, seed))
    for scheduler in (whole, second):
        scheduler.end_epoch()
    assert torch.equal(whole.difficulty.scores.rows, second.difficulty.scores.rows)
    other = SelfPacedScheduler(0.9, difficulty=HistoryDifficulty(16, decay=0.5))
    with pytest.raises(ValueError, match=r"difficulty\.decay 0\.6 there, 0\.5 here"):
        other.load_state_dict(first.state_dict())
    x = random_inputs()
    with pytest.raises(ValueError, match=r"HistoryDifficulty: needs ids= \(got none\)"):
        whole(x.logits, x.labels, x.offsets)
    assert whole.eval()(x.logits, x.labels, x.offsets).difficulty.isnan().all()


def test_history_refuses_an_unknown_score_and_ids_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^HistoryDifficulty: score must be one of 'loss', .* \(got 'entropy'\)"):
        HistoryDifficulty(4, score="entropy")
    with pytest.raises(ValueError, match=r"num_utterances must be at least 1"):
        HistoryDifficulty(0)
    x = random_inputs()
    with pytest.raises(ValueError, match=r"^HistoryDifficulty: ids must have shape \(16,\) \(got \(3,\)\)"):
        HistoryDifficulty(16)(x._replace(ids=torch.arange(3)))
    with pytest.raises(ValueError, match=r"^HistoryDifficulty: needs ids="):
        HistoryDifficulty(16)(x._replace(ids=None))


def test_history_store_is_a_running_scores():
    measurer = HistoryDifficulty(4, keys=torch.tensor([2, 3, 5, 7]))
    assert isinstance(measurer.scores, RunningScores)
    assert measurer.config["num_utterances"] == 4
    assert math.isclose(measurer.config["decay"], 0.9)


def test_history_compiles_whole_and_once():
    torch.compiler.reset()  # what was compiled for another backend would do
    plain, closed = HistoryDifficulty(16), HistoryDifficulty(16)
    compiled = torch.compile(lambda x: closed(x), fullgraph=True, dynamic=True, backend="aot_eager")
    for k, lengths in enumerate(((5, 1, 7, 3), (4, 4), (1, 6, 2))):
        x = random_inputs(lengths, seed=k)
        with torch._dynamo.config.patch(error_on_recompile=k > 0):
            assert torch.equal(compiled(x), plain(x))
    assert torch.equal(closed.scores.rows, plain.scores.rows)
