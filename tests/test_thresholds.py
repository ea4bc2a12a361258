"""Schedules of the threshold, and weightings of a user's own."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch

from spcl_fast import SelfPacedScheduler, ops, pacing, weighting
from spcl_fast.testing import random_inputs
from spcl_fast.thresholds import ExponentialThreshold, QuantileThreshold, RunningMeanThreshold, ThresholdSchedule

NAN = math.nan


def batch(seed: int = 0, lengths: tuple[int, ...] = (5, 1, 0, 7, 3)):
    x = random_inputs(lengths, seed=seed, device=torch.get_default_device())
    return x.logits, x.labels, x.offsets


def test_a_number_is_the_published_schedule():
    mine = SelfPacedScheduler(ExponentialThreshold(0.5, growth=1.5, maximum=1.0))
    published = SelfPacedScheduler(0.5, 1.5, 1.0)
    for _ in range(4):
        assert mine.threshold == published.threshold
        assert torch.equal(mine(*batch()).weight, published(*batch()).weight)
        assert mine.end_epoch() == published.end_epoch()
    again = SelfPacedScheduler(0.5, 1.5, 1.0)
    again.load_state_dict(mine.state_dict())


@pytest.mark.parametrize("pace", [0.01, 0.3, 0.5, 1.0])
def test_quantile_over_a_batch_takes_exactly_so_many(pace):
    scheduler = SelfPacedScheduler(QuantileThreshold(pace), difficulty="loss")
    logits, labels, offsets = batch()
    labels[4] = -100
    step = scheduler(logits, labels, offsets)
    plain = ops.self_paced_step(logits, labels, offsets, None, measure="loss")
    assert int(step.totals.selected) == math.ceil(pace * 15)
    assert torch.equal(step.weight > 0, ops.select_easiest(plain.difficulty, pace))
    torch.testing.assert_close(step.difficulty, plain.difficulty, equal_nan=True)
    assert scheduler.threshold == ops.difficulty_quantile(plain.difficulty, pace)
    expected = ops.self_paced_step(logits, labels, offsets, scheduler.threshold, measure="loss")
    torch.testing.assert_close(step.loss, expected.loss)


def test_ties_of_a_batch_are_taken_by_index_and_no_more_than_asked():
    same = torch.zeros(2, 8, 3)
    step = SelfPacedScheduler(QuantileThreshold(0.5), difficulty="loss")(
        same, torch.zeros(8).long(), torch.tensor([0, 8])
    )
    assert step.weight.tolist() == [1.0] * 4 + [0.0] * 4


def test_quantile_follows_its_pace_and_soft_weights_use_it_as_threshold():
    pace = pacing.StepPace(start=0.25, total=3, steps=3)
    scheduler = SelfPacedScheduler(QuantileThreshold(pace), weighting="linear")
    logits, labels, offsets = batch()
    for epoch in range(5):
        step = scheduler(logits, labels, offsets)
        level = ops.difficulty_quantile(step.difficulty, pace(epoch))
        torch.testing.assert_close(step.weight, ops.self_paced_weights(step.difficulty, level, scheme="linear"))
        assert scheduler.end_epoch().threshold == level


@pytest.mark.parametrize("scheme", ["hard", "linear"])
def test_a_batch_without_a_difficulty_leaves_the_quantile_as_it_is(scheme):
    scheduler = SelfPacedScheduler(QuantileThreshold(0.5), difficulty="loss", weighting=scheme)
    logits, labels, offsets = batch()
    ignored = torch.full_like(labels, -100)
    scheduler(logits, ignored, offsets)
    assert scheduler.threshold == math.inf
    scheduler(logits, labels, offsets)
    before = float(scheduler.threshold)
    for nothing in ((logits, ignored, offsets), (logits[:, :0], labels[:0], offsets[:1])):
        assert scheduler(*nothing).loss == 0
        assert scheduler.threshold == before


def test_ties_between_utterances_of_one_id_are_taken_by_index():
    logits, labels = torch.zeros(1, 40, 3), torch.zeros(40).long()
    scheduler = SelfPacedScheduler(QuantileThreshold(0.5), difficulty="loss")
    step = scheduler(logits, labels, torch.tensor([0, 40]), ids=torch.arange(20).flip(0).repeat(2))
    lower = torch.arange(40) % 20 >= 10  # ids 0 to 9, twice
    assert torch.equal(step.weight > 0, lower)
    step = scheduler(logits, labels, torch.tensor([0, 40]), ids=torch.zeros(40).long())
    assert torch.equal(step.weight > 0, torch.arange(40) < 20)


def test_quantile_over_an_epoch_is_that_of_all_its_difficulties():
    pace = pacing.LinearPace(start=0.3, total=4)
    scheduler = SelfPacedScheduler(QuantileThreshold(pace, over="epoch", num_utterances=48), difficulty="loss")
    corpus = [batch(seed) for seed in range(3)]
    ids = torch.randperm(48).view(3, 16)
    for epoch in range(3):
        steps = [scheduler(*b, ids=i) for b, i in zip(corpus, ids, strict=True)]
        stats = scheduler.end_epoch()
        assert (stats.take_rate == 1.0) == (epoch == 0)
        everything = torch.cat([s.difficulty for s in steps])
        assert scheduler.threshold == ops.difficulty_quantile(everything, pace(epoch + 1))
        selected = math.ceil(pace(epoch + 1) * 48)
        assert int((everything <= scheduler.threshold).sum()) == selected
    assert scheduler.end_epoch().scored == 0  # an epoch without a step leaves the threshold where it was
    assert scheduler.threshold == ops.difficulty_quantile(everything, pace(3))


def test_quantile_over_an_epoch_resumes_in_its_middle():
    def fresh() -> SelfPacedScheduler:
        return SelfPacedScheduler(QuantileThreshold(0.5, over="epoch", num_utterances=32), difficulty="loss")

    straight, resumed = fresh(), fresh()
    for epoch in range(3):
        for half in range(2):
            arguments = batch(2 * epoch + half)
            ids = torch.arange(16) + 16 * half
            assert torch.equal(straight(*arguments, ids=ids).weight, resumed(*arguments, ids=ids).weight)
            saved = io.BytesIO()
            torch.save(resumed.state_dict(), saved)
            saved.seek(0)
            resumed = fresh()
            resumed.load_state_dict(torch.load(saved, weights_only=True))
        assert straight.end_epoch() == resumed.end_epoch()
    assert straight.threshold == resumed.threshold


def test_ids_outside_the_corpus_are_refused():
    scheduler = SelfPacedScheduler(QuantileThreshold(0.5, over="epoch", num_utterances=10), difficulty="loss")
    with pytest.raises(ValueError, match="needs ids="):
        scheduler(*batch())
    with pytest.raises(ValueError, match=r"ids must lie in \[0, 10\) \(got 10\)"):
        scheduler(*batch(), ids=torch.arange(16))
    assert scheduler.check().steps == 0


def test_running_mean_moves_before_the_batch_is_weighted():
    schedule = RunningMeanThreshold(math.log(4), momentum=0.75)
    parameters = {"regularization": 0.5}
    scheduler = SelfPacedScheduler(schedule, difficulty="loss", weighting="superloss", weighting_parameters=parameters)
    tau = math.log(4)
    for seed in range(4):
        logits, labels, offsets = batch(seed)
        labels[0] = -100
        step = scheduler(logits, labels, offsets)
        tau = 0.75 * tau + 0.25 * float(step.difficulty.double().nanmean())
        assert float(scheduler.threshold) == pytest.approx(tau, rel=1e-12)
        expected = ops.self_paced_weights(step.difficulty, scheduler.threshold, scheme="superloss", **parameters)
        torch.testing.assert_close(step.weight, expected)
    before = float(scheduler.threshold)
    scheduler(logits, torch.full_like(labels, -100), offsets)
    assert float(scheduler.threshold) == before


def test_superloss_in_the_scheduler_has_the_gradient_of_its_loss():
    logits, labels, offsets = batch()
    z = logits.double().requires_grad_()
    scheduler = SelfPacedScheduler(
        RunningMeanThreshold(math.log(4), momentum=0.9),
        difficulty="loss",
        weighting="superloss",
        weighting_parameters={"regularization": 1.0},
    )
    (got,) = torch.autograd.grad(scheduler(z, labels, offsets).loss, z)
    losses = torch.nn.functional.cross_entropy(z.sum(0), labels, reduction="none")
    value = ops.super_loss(losses, float(scheduler.threshold), regularization=1.0).value.mean()
    (expected,) = torch.autograd.grad(value, z)
    torch.testing.assert_close(got, expected)


def half_as_much(difficulty, threshold, *, scale=1.0):
    return 0.5 * scale * (difficulty <= threshold)


def test_a_weighting_of_ones_own():
    logits, labels, offsets = batch()
    logits.requires_grad_()
    scheduler = SelfPacedScheduler(1.0, weighting=half_as_much, weighting_parameters={"scale": 0.5})
    step = scheduler(logits, labels, offsets)
    hard = ops.self_paced_step(logits, labels, offsets, 1.0)
    torch.testing.assert_close(step.weight, 0.25 * hard.weight)
    torch.testing.assert_close(step.loss, 0.25 * hard.loss)
    torch.testing.assert_close(step.difficulty, hard.difficulty)
    (got,) = torch.autograd.grad(step.loss, logits)
    (expected,) = torch.autograd.grad(hard.loss, logits)
    torch.testing.assert_close(got, 0.25 * expected)
    assert scheduler.check().selected == int(hard.totals.selected)
    with pytest.raises(ValueError, match="weighting_parameters"):
        SelfPacedScheduler(1.0, weighting=half_as_much).load_state_dict(scheduler.state_dict())


def test_a_weighting_of_ones_own_never_takes_what_has_no_difficulty():
    logits, labels, offsets = batch()
    present = torch.ones(3, 16, dtype=torch.bool)
    present[1:, :5] = False  # one modality is left of the first dialogue
    scheduler = SelfPacedScheduler(weighting=lambda rho, threshold: torch.ones_like(rho))
    step = scheduler(logits, labels, offsets, present=present)
    assert step.weight[:5].tolist() == [0.0] * 5
    assert step.weight[5:].tolist() == [1.0] * 11
    assert scheduler.check().undefined == 5


def test_weightings_by_name(monkeypatch):
    monkeypatch.setattr(weighting._registry, "_factories", {})
    weighting.register("half of this test", half_as_much)
    assert "half of this test" in weighting.names()
    step = SelfPacedScheduler(1.0, weighting="half of this test")(*batch())
    assert set(step.weight.tolist()) == {0.0, 0.5}
    for taken in ("half of this test", "hard"):
        with pytest.raises(ValueError, match="which is taken"):
            weighting.register(taken, half_as_much)
    with pytest.raises(TypeError, match="must be callable"):
        weighting.register("number", 1)
    with pytest.raises(TypeError, match="must be text"):
        weighting.register(1, half_as_much)
    with pytest.raises(ValueError, match="weighting must be one of 'hard'"):
        SelfPacedScheduler(weighting="given")


def test_a_schedule_of_ones_own():
    class Additive(ThresholdSchedule):
        initial = 0.25

        def end_epoch(self, threshold, epoch, process_group=None):
            return threshold + 0.25 * (epoch + 1)

    scheduler = SelfPacedScheduler(Additive())
    for expected in (0.25, 0.5, 1.0, 1.75):
        assert scheduler.threshold == expected
        assert scheduler(*batch()).weight.tolist() == ops.self_paced_step(*batch(), expected).weight.tolist()
        scheduler.end_epoch()
    with pytest.raises(ValueError, match="threshold"):
        SelfPacedScheduler().load_state_dict(scheduler.state_dict())
    assert copy.deepcopy(scheduler).end_epoch().threshold == scheduler.threshold


class Gives(ThresholdSchedule):
    """What it is told to give, before each step and after each epoch."""

    initial, looks_at_steps = 0.5, True

    def __init__(self, value):
        super().__init__()
        self.value = value

    def before_step(self, threshold, difficulty, inputs):
        return self.value

    def end_epoch(self, threshold, epoch, process_group=None):
        return self.value


@pytest.mark.parametrize("value", [0.75, 1, torch.tensor(0.75), torch.tensor(0.75, requires_grad=True)])
def test_a_schedule_may_give_a_number_and_leaves_no_gradient(value):
    scheduler, number = SelfPacedScheduler(Gives(value)), float(torch.as_tensor(value).detach())
    expected = ops.self_paced_step(*batch(), number)
    assert torch.equal(scheduler(*batch()).weight, expected.weight)
    scheduler.end_epoch()
    assert scheduler.threshold == number
    assert scheduler.threshold.dtype == torch.float64
    assert not scheduler.threshold.requires_grad


@pytest.mark.parametrize("value", [None, True, torch.ones(1), torch.tensor(1)])
def test_what_is_no_threshold_is_refused_in_the_name_of_the_schedule(value):
    scheduler = SelfPacedScheduler(Gives(value))
    message = "Gives: the threshold must be a number or a 0-dim floating point tensor"
    with pytest.raises(TypeError, match=message):
        scheduler(*batch())
    with pytest.raises(TypeError, match=message):
        scheduler.end_epoch()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda rho, t: 1.0, TypeError, "must be a tensor"),
        (lambda rho, t: None, TypeError, "must be a tensor"),
        (lambda rho, t: torch.ones(1), ValueError, r"must have shape \(16,\) \(got \(1,\)\)"),
        (lambda rho, t: torch.ones(3), ValueError, r"must have shape \(16,\)"),
        (lambda rho, t: torch.ones(16, 1), ValueError, r"must have 1 dimension\(s\)"),
        (lambda rho, t: rho + 1j, TypeError, "must hold real numbers"),
    ],
)
def test_what_are_no_weights_is_refused_in_the_name_of_the_weighting(function, error, message):
    with pytest.raises(error, match=f"weighting '.*<lambda>': the weights {message}"):
        SelfPacedScheduler(weighting=function)(*batch())


@pytest.mark.host_only  # elsewhere they are 0
@pytest.mark.parametrize("bad", [-0.5, math.inf, -math.inf])
def test_weights_that_are_negative_or_infinite_are_refused(bad):
    def function(rho, threshold):
        return torch.where(torch.arange(16) == 3, bad, 1.0)

    with pytest.raises(ValueError, match=rf"must be finite and at least 0 \(got {bad} for utterance 3\)"):
        SelfPacedScheduler(weighting=function)(*batch())
    logits, labels, offsets = batch()
    labels[3] = -100  # not scored: whatever it is weighed
    assert SelfPacedScheduler(weighting=function)(logits, labels, offsets).weight.sum() == 15


def test_parameters_of_a_weighting_may_be_tensors_and_lists():
    parameters = {"scale": torch.tensor([0.5, 1.0]), "steps": (1, 2), "name": "a", "other": None, "is_on": True}

    def function(rho, threshold, *, scale, steps, name, other, is_on):
        return torch.full_like(rho, float(scale[0]) * steps[1])

    scheduler = SelfPacedScheduler(weighting=function, weighting_parameters=parameters)
    assert scheduler(*batch()).weight.tolist() == [1.0] * 16
    saved = io.BytesIO()
    torch.save(scheduler.state_dict(), saved)
    saved.seek(0)
    again = SelfPacedScheduler(weighting=function, weighting_parameters=parameters)
    again.load_state_dict(torch.load(saved, weights_only=True))
    assert again.check() == scheduler.check()
    with pytest.raises(TypeError, match="f of weighting_parameters must be a number, text, a tensor or a list"):
        SelfPacedScheduler(weighting=function, weighting_parameters={"f": print})


def test_a_threshold_without_end_is_outside_the_domain_of_log():
    for schedule in (
        ExponentialThreshold(0.5, maximum=math.inf),
        ExponentialThreshold(math.inf, maximum=0.5),
        QuantileThreshold(0.5, over="epoch", num_utterances=16),  # whose first epoch takes all
    ):
        with pytest.raises(ValueError, match=r"threshold of 'log' must lie in \(0, 1\) \(got inf\)"):
            SelfPacedScheduler(schedule, weighting="log")
    x = random_inputs(device=torch.get_default_device())
    scheduler = SelfPacedScheduler(QuantileThreshold(0.5), weighting="log", difficulty="random")
    assert (scheduler(x.logits, x.labels, x.offsets, ids=x.ids).weight > 0).sum() == 7  # the quantile itself weighs 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ExponentialThreshold(-1), ValueError, "ExponentialThreshold: initial must be at least 0"),
        (lambda: ExponentialThreshold(growth=0.5), ValueError, "growth must be at least 1"),
        (lambda: ExponentialThreshold(maximum=0), ValueError, "maximum must be above 0"),
        (lambda: QuantileThreshold(0.0), ValueError, r"pace must be in \(0, 1\]"),
        (lambda: QuantileThreshold("fast"), TypeError, "pace must be"),
        (lambda: QuantileThreshold(0.5, over="corpus"), ValueError, "over must be one of"),
        (lambda: QuantileThreshold(0.5, over="epoch"), ValueError, "needs num_utterances"),
        (lambda: QuantileThreshold(0.5, num_utterances=3), ValueError, "needs num_utterances, and 'batch' none"),
        (lambda: QuantileThreshold(0.5, over="epoch", num_utterances=0), ValueError, "must be at least 1"),
        (lambda: QuantileThreshold(0.5, over="epoch", num_utterances=2.0), TypeError, "must be an integer"),
        (lambda: RunningMeanThreshold(math.inf), ValueError, "initial must be finite"),
        (lambda: RunningMeanThreshold(1.0, momentum=1.0), ValueError, r"momentum must lie in \[0, 1\)"),
        (lambda: RunningMeanThreshold("log"), TypeError, "initial must be a number"),
    ],
)
def test_settings_out_of_their_domain_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
