"""Selections that a threshold does not make: as many as a curriculum takes, by lot or by hardness, and by chance."""

from __future__ import annotations

import math

import pytest
import torch

from spcl_fast import SelfPacedScheduler, pacing
from spcl_fast.selections import MatchedSelection, StochasticSelection
from spcl_fast.testing import random_inputs
from spcl_fast.thresholds import ExponentialThreshold, QuantileThreshold, RunningMeanThreshold

LENGTHS = (9, 3, 0, 12, 1, 7, 8, 3, 20, 11)
T = sum(LENGTHS)


def call(scheduler, inputs):
    return scheduler(inputs.logits, inputs.labels, inputs.offsets, ids=inputs.ids)


def pair(take, *, threshold=0.9, seed=0, **options):
    """The steps of SPCL and of its control on the same logits."""
    inputs = random_inputs(LENGTHS, num_modalities=2)
    curriculum = SelfPacedScheduler(threshold, **options)
    control = SelfPacedScheduler(MatchedSelection(ExponentialThreshold(threshold), take=take, seed=seed), **options)
    return inputs, call(curriculum, inputs), call(control, inputs)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 1.5, math.inf])
@pytest.mark.parametrize("take", ["utterances", "dialogues", "hardest"])
def test_matched_selection_takes_as_many_as_the_curriculum(take, threshold):
    _, curriculum, control = pair(take, threshold=threshold)
    assert control.weight.sum() == curriculum.weight.sum()
    torch.testing.assert_close(control.difficulty, curriculum.difficulty, equal_nan=True)
    assert set(control.weight.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExponentialThreshold(0.9, growth=1.5),
        lambda: QuantileThreshold(pacing.LinearPace(start=0.3, total=3)),
        lambda: QuantileThreshold(pacing.LinearPace(start=0.3, total=3), over="epoch", num_utterances=T),
        lambda: RunningMeanThreshold(2.0, momentum=0.5),
    ],
)
def test_matched_selection_goes_through_the_epochs_with_its_schedule(make):
    inputs = random_inputs(LENGTHS, num_modalities=2)
    curriculum, control = SelfPacedScheduler(make()), SelfPacedScheduler(MatchedSelection(make(), take="hardest"))
    counts = []
    for epoch in range(4):
        logits = inputs.logits * (1 + epoch)  # what is learned, or is not
        steps = [call(scheduler, inputs._replace(logits=logits)) for scheduler in (curriculum, control)]
        assert steps[0].weight.sum() == steps[1].weight.sum()
        counts.append(float(steps[0].weight.sum()))
        assert curriculum.end_epoch().threshold == control.end_epoch().threshold
    assert len(set(counts)) > 1


@pytest.mark.parametrize("take", ["utterances", "dialogues"])
def test_matched_selection_takes_others(take):
    _, curriculum, control = pair(take)
    assert not torch.equal(control.weight, curriculum.weight)
    _, _, again = pair(take)
    assert torch.equal(again.weight, control.weight)
    _, _, other = pair(take, seed=1)
    assert not torch.equal(other.weight, control.weight)


def test_matched_selection_from_the_hard_end():
    _, curriculum, control = pair("hardest")
    k = int(curriculum.weight.sum())
    assert 0 < k < T
    assert control.difficulty[control.weight == 1].min() >= control.difficulty[control.weight == 0].max()


def test_matched_selection_of_utterances_is_a_fair_lot():
    inputs = random_inputs((500,), num_modalities=1)
    taken = torch.zeros(500)
    schedule = MatchedSelection(QuantileThreshold(0.4), take="utterances", seed=3)
    scheduler = SelfPacedScheduler(schedule, difficulty="loss")
    for _ in range(200):
        taken += scheduler(inputs.logits, inputs.labels, inputs.offsets, ids=inputs.ids).weight
        scheduler.end_epoch()
    rate = taken / 200
    assert abs(float(rate.mean()) - 0.4) < 1e-6
    deviation = math.sqrt(0.4 * 0.6 / 200)
    assert 0.8 * deviation < float(rate.std()) < 1.2 * deviation  # as of independent lots
    loss = torch.nn.functional.cross_entropy(inputs.logits[0], inputs.labels, reduction="none")
    assert abs(float(torch.corrcoef(torch.stack([rate, loss]))[0, 1])) < 0.15


def test_matched_selection_of_dialogues_deals_shares_among_like_lengths():
    lengths = (10,) * 4 + (40,) * 4
    inputs = random_inputs(lengths, num_modalities=2)
    dialogue = torch.repeat_interleave(torch.tensor(lengths))
    # The curriculum takes all of the first of the short ones, and of one long one, and nothing else.
    wanted = torch.where((dialogue == 0) | (dialogue == 6), 0.0, 2.0)

    class Given(ExponentialThreshold):
        def select(self, threshold, difficulty, inputs):
            return wanted <= 1.0

    given = set()
    for seed in range(30):
        scheduler = SelfPacedScheduler(MatchedSelection(Given(1.0), take="dialogues", seed=seed))
        weight = call(scheduler, inputs).weight
        of_dialogue = torch.zeros(8).index_add_(0, dialogue, weight)
        assert sorted(of_dialogue.tolist()) == [0, 0, 0, 0, 0, 0, 10, 40]  # whole dialogues, a short one and a long one
        given.add(tuple(of_dialogue.nonzero().flatten().tolist()))
    assert len(given) > 8
    assert {short for short, _ in given} == {0, 1, 2, 3}
    assert {long for _, long in given} == {4, 5, 6, 7}


def test_matched_selection_of_dialogues_deals_shares_of_what_has_a_difficulty():
    inputs = random_inputs((8, 8), num_modalities=2)
    labels = inputs.labels.clone()
    labels[:8:2] = -100  # the first has four, of which all are taken; of the second half
    wanted = torch.where((torch.arange(16) < 8) | (torch.arange(16) % 2 == 0), 0.0, 2.0)

    class Given(ExponentialThreshold):
        def select(self, threshold, difficulty, inputs):
            return (wanted <= 1.0) & ~difficulty.isnan()

    given = set()
    for seed in range(20):
        scheduler = SelfPacedScheduler(MatchedSelection(Given(1.0), take="dialogues", seed=seed))
        weight = call(scheduler, inputs._replace(labels=labels)).weight
        given.add((float(weight[:8].sum()), float(weight[8:].sum())))
    # As it was; or the other way round, where the second gives what the first can not.
    assert given == {(4.0, 4.0), (1.0, 7.0)}


def test_matched_selection_exchanges_what_its_schedule_remembers():
    met = []

    class Remembering(ExponentialThreshold):
        def synchronize(self, process_group):
            met.append(process_group)

    MatchedSelection(Remembering(1.0)).synchronize("the group")
    assert met == ["the group"]


@pytest.mark.parametrize("take", ["utterances", "dialogues", "hardest"])
def test_matched_selection_leaves_out_what_has_no_difficulty(take):
    inputs = random_inputs(LENGTHS, num_modalities=2)
    labels = inputs.labels.clone()
    labels[::3] = -100
    schedule = MatchedSelection(QuantileThreshold(1.0), take=take)
    step = call(SelfPacedScheduler(schedule), inputs._replace(labels=labels))
    assert torch.equal(step.weight == 1, (labels != -100) & ~step.difficulty.isnan())


@pytest.mark.parametrize("take", ["utterances", "dialogues", "hardest"])
def test_matched_selection_of_an_empty_batch(take):
    inputs = random_inputs((0, 0), num_modalities=2)
    step = call(SelfPacedScheduler(MatchedSelection(ExponentialThreshold(1.0), take=take)), inputs)
    assert step.weight.shape == (0,)


@pytest.mark.parametrize("make", [lambda: MatchedSelection(QuantileThreshold(0.5)), lambda: StochasticSelection(0.5)])
def test_selection_continues_from_a_saved_state(make):
    inputs = random_inputs(LENGTHS, num_modalities=2)
    first, second = SelfPacedScheduler(make()), SelfPacedScheduler(make())
    call(first, inputs)
    first.end_epoch()
    second.load_state_dict(first.state_dict())
    assert torch.equal(call(first, inputs).weight, call(second, inputs).weight)


@pytest.mark.parametrize("make", [lambda: MatchedSelection(QuantileThreshold(0.5)), lambda: StochasticSelection(0.5)])
def test_selection_draws_anew_in_every_epoch(make):
    inputs = random_inputs(LENGTHS, num_modalities=2)
    scheduler = SelfPacedScheduler(make())
    before = call(scheduler, inputs).weight
    assert torch.equal(call(scheduler, inputs).weight, before)  # not in every step
    scheduler.end_epoch()
    assert not torch.equal(call(scheduler, inputs).weight, before)


@pytest.mark.parametrize(
    "make", [lambda: MatchedSelection(ExponentialThreshold(0.5)), lambda: StochasticSelection(0.5)]
)
def test_selection_by_lot_needs_ids(make):
    inputs = random_inputs(LENGTHS, num_modalities=2)
    with pytest.raises(ValueError, match="needs ids="):
        call(SelfPacedScheduler(make()), inputs._replace(ids=None))


@pytest.mark.parametrize(
    "make", [lambda: MatchedSelection(ExponentialThreshold(0.5)), lambda: StochasticSelection(0.5)]
)
@pytest.mark.parametrize("weighting", ["linear", lambda difficulty, threshold: difficulty])
def test_selection_is_refused_where_nothing_would_be_selected(make, weighting):
    with pytest.raises(ValueError, match=r"weighting must be 'hard' with (Matched|Stochastic)Selection \(got '"):
        SelfPacedScheduler(make(), difficulty="loss", weighting=weighting)


@pytest.mark.parametrize("tilt", [-1.0, -0.5, 0.0, 1.0])
@pytest.mark.parametrize("pace", [0.3, 0.5, 0.85, 1.0])
def test_stochastic_selection_keeps_by_its_odds(pace, tilt):
    n, trials = 20, 400
    inputs = random_inputs((n,), num_modalities=1)
    scheduler = SelfPacedScheduler(StochasticSelection(pace, tilt=tilt, seed=5), difficulty="loss")
    kept = torch.zeros(n, dtype=torch.float64)
    for _ in range(trials):
        step = scheduler(inputs.logits, inputs.labels, inputs.offsets, ids=inputs.ids)
        kept += step.weight
        scheduler.end_epoch()
    for t in range(n):
        place = sorted(step.difficulty.tolist()).index(step.difficulty[t].item())
        odds = pace + tilt * min(pace, 1 - pace) * (1 - 2 * (place + 0.5) / n)
        assert abs(kept[t].item() / trials - odds) <= 4.5 * math.sqrt(odds * (1 - odds) / trials) + 1e-12


def test_stochastic_selection_turns_from_easy_to_hard():
    inputs = random_inputs((4000,), num_modalities=1)
    schedule = StochasticSelection(0.5, tilt=1.0, last_tilt=-1.0, epochs=4)
    scheduler = SelfPacedScheduler(schedule, difficulty="loss")
    gaps = []
    for _ in range(6):
        step = scheduler(inputs.logits, inputs.labels, inputs.offsets, ids=inputs.ids)
        gaps.append(float(step.difficulty[step.weight == 1].mean() - step.difficulty[step.weight == 0].mean()))
        scheduler.end_epoch()
    assert gaps[0] < gaps[1] < -0.1 < abs(gaps[2]) + 0.1 < gaps[3] + 0.2 < gaps[4] + 0.2
    assert gaps[5] == pytest.approx(gaps[4], rel=0.2)


def test_stochastic_selection_follows_its_pace():
    inputs = random_inputs((2000,), num_modalities=1)
    scheduler = SelfPacedScheduler(StochasticSelection(pacing.LinearPace(start=0.5, total=2)), difficulty="loss")
    rates = []
    for _ in range(3):
        scheduler(inputs.logits, inputs.labels, inputs.offsets, ids=inputs.ids)
        rates.append(scheduler.end_epoch().take_rate)
    assert rates == [pytest.approx(0.5, abs=0.04), pytest.approx(0.75, abs=0.04), 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatchedSelection(0.5), "schedule must be a ThresholdSchedule"),
        (lambda: MatchedSelection(ExponentialThreshold(0.5), take="some"), "take must be one of"),
        (lambda: MatchedSelection(ExponentialThreshold(0.5), seed=-1), "seed must be at least 0"),
        (lambda: MatchedSelection(ExponentialThreshold(0.5), seed=2**63), "seed must be at most 9223372036854775807"),
        (lambda: MatchedSelection(ExponentialThreshold(0.5), seed=True), "seed must be an integer"),
        (lambda: StochasticSelection(0.0), "pace"),
        (lambda: StochasticSelection(0.5, tilt=1.5), r"tilt must lie in \[-1, 1\]"),
        (lambda: StochasticSelection(0.5, last_tilt=math.nan), r"last_tilt must lie in \[-1, 1\]"),
        (lambda: StochasticSelection(0.5, epochs=0), "epochs must be at least 1"),
        (lambda: StochasticSelection(0.5, epochs=1.0), "epochs must be an integer"),
    ],
)
def test_selection_refuses_by_name(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
