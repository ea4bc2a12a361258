"""The scheduler: threshold, counters, faults, padded input, state."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F

from spcl_fast import DialogueBatch, FaultyDataError, SelfPacedScheduler, balance, ops

pytestmark = pytest.mark.usefixtures("backend")


def test_scheduler_grows_by_repeated_multiplication_up_to_the_cap():
    scheduler = SelfPacedScheduler(threshold=0.7, growth=1.25)
    threshold = 0.7
    for epoch in range(25):
        stats = scheduler.end_epoch()
        assert stats.epoch == epoch
        assert stats.threshold == threshold
        threshold = min(1.25 * threshold, 60.0)
    assert threshold == 60.0
    assert scheduler.threshold.item() == 60.0


def test_scheduler_does_not_cap_the_first_threshold():
    scheduler = SelfPacedScheduler(threshold=100.0)
    assert scheduler.end_epoch().threshold == 100.0
    assert scheduler.end_epoch().threshold == 60.0


def test_scheduler_step_is_the_op_at_its_threshold(make_problem):
    problem = make_problem()
    scheduler = SelfPacedScheduler(threshold=0.6, growth=1.5)
    for threshold in (0.6, 0.6 * 1.5):
        step, expected = scheduler(*problem), ops.self_paced_step(*problem, threshold)
        assert torch.equal(step.loss, expected.loss)
        assert torch.equal(step.weight, expected.weight)
        scheduler.end_epoch()


def test_scheduler_in_eval_mode_is_the_plain_mean_and_counts_nothing(make_problem):
    logits, labels, offsets = make_problem()
    labels[2] = -100
    scheduler = SelfPacedScheduler(threshold=0.0, normalizer="selected").eval()
    step = scheduler(logits, labels, offsets)
    torch.testing.assert_close(step.loss, F.cross_entropy(logits.sum(0), labels))
    assert torch.equal(step.weight, (labels != -100).double())
    assert scheduler.check().steps == 0


def test_scheduler_epoch_stats_add_up_over_steps(make_problem):
    scheduler = SelfPacedScheduler(threshold=0.8)
    steps = [scheduler(*make_problem(seed=seed)) for seed in range(3)]
    stats = scheduler.end_epoch()
    selected, total = sum(int(s.totals.selected) for s in steps), 3 * 24
    assert (stats.steps, stats.scored, stats.selected) == (3, total, selected)
    assert stats.take_rate == selected / total
    assert stats.loss == pytest.approx(float(torch.cat([s.utterance_loss for s in steps]).mean()))
    both = torch.cat([s.confidence for s in steps], 1), torch.cat([s.weight for s in steps])
    for got, sums in (
        (stats.modality_ratio, (both[0] * both[1]).sum(1)),
        (stats.modality_ratio_all, both[0].sum(1)),
    ):
        assert got == pytest.approx(balance.modality_ratio(sums).tolist())
        assert min(got) == 1.0
    assert stats.confidence == pytest.approx(both[0].mean(1).tolist())
    again = scheduler.end_epoch()
    assert (again.epoch, again.steps, again.scored) == (1, 0, 0)
    assert math.isnan(again.take_rate)
    assert again.modality_ratio == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("form", ["tensor", "list", "dict"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_scheduler_takes_padded_logits(make_problem, form, batch_first):
    logits, labels, offsets = make_problem(lengths=(4, 2, 5), dtype=torch.float32)
    lengths = offsets.diff()
    L = int(lengths.max())
    padded_labels = torch.full((3, L), 99)
    padded = torch.full((3, 3, L, 6), float("nan"))
    for d in range(3):
        own, n = slice(int(offsets[d]), int(offsets[d + 1])), int(lengths[d])
        padded_labels[d, :n], padded[:, d, :n] = labels[own], logits[:, own]
    present = torch.ones(3, 3, L, dtype=torch.bool)
    present[0, 1, 0] = False
    flat_present = torch.ones(3, 11, dtype=torch.bool)
    flat_present[0, 4] = False
    if not batch_first:
        padded, padded_labels, present = padded.transpose(1, 2), padded_labels.T, present.transpose(1, 2)
    batch = DialogueBatch.from_padded(padded_labels, lengths=lengths, batch_first=batch_first)
    padded = padded.clone().requires_grad_()
    given = {"tensor": padded, "list": list(padded), "dict": dict(zip("atv", padded, strict=True))}[form]
    scheduler = SelfPacedScheduler(threshold=0.8)
    step = scheduler(given, batch, present=present)
    expected = ops.self_paced_step(logits, labels, offsets, 0.8, present=flat_present)
    assert torch.equal(step.difficulty, expected.difficulty)
    assert torch.equal(step.loss, expected.loss)
    step.loss.backward()
    assert padded.grad.isfinite().all()
    flat = scheduler(logits, DialogueBatch.from_arrays(labels, offsets), present=flat_present)
    assert torch.equal(flat.loss, step.loss)


def test_scheduler_accumulating_gradients_over_dialogues_equals_one_call(make_problem):
    logits, labels, offsets = make_problem()
    labels[9] = -100
    logits.requires_grad_()
    scheduler = SelfPacedScheduler(threshold=0.8)
    (whole,) = torch.autograd.grad(scheduler(logits, labels, offsets).loss, logits)
    total = (labels != -100).sum()
    for first, last in ((0, 2), (2, 5)):
        own = slice(int(offsets[first]), int(offsets[last]))
        step = scheduler(logits[:, own], labels[own], offsets[first : last + 1] - offsets[first])
        (step.loss * step.totals.scored / total).backward()
    torch.testing.assert_close(logits.grad, whole)


def faulty(make_problem):
    logits, labels, offsets = make_problem()
    logits[0, 1, 1] = float("nan")
    labels[[3, 4]] = 77
    return logits, labels, offsets


def test_scheduler_raises_for_faults_at_the_end_of_the_epoch_and_goes_on(make_problem):
    scheduler = SelfPacedScheduler(threshold=0.8, growth=2.0)
    assert scheduler(*faulty(make_problem)).loss.isfinite()
    message = r"epoch 0 left out 1 utterance\(s\) with a non-finite logit or loss, 2 label\(s\) outside the classes"
    for _ in range(2):
        with pytest.raises(FaultyDataError, match=message):
            scheduler.check()
    with pytest.raises(FaultyDataError, match=message) as caught:
        scheduler.end_epoch()
    assert (caught.value.stats.nonfinite, caught.value.stats.bad_label, caught.value.stats.scored) == (
        1,
        2,
        21,
    )
    assert scheduler.epoch == 1
    assert scheduler.threshold == 1.6
    assert scheduler.end_epoch().nonfinite == 0


def test_scheduler_can_be_told_to_count_nonfinite_logits_only(make_problem):
    logits, labels, offsets = make_problem()
    logits[0, 1, 1] = float("nan")
    scheduler = SelfPacedScheduler(nonfinite="exclude")
    scheduler(logits, labels, offsets)
    assert scheduler.end_epoch().nonfinite == 1


def test_scheduler_warns_once_when_nothing_had_a_label(make_problem):
    logits, labels, offsets = make_problem()
    scheduler = SelfPacedScheduler()
    scheduler(logits, torch.full_like(labels, -100), offsets)
    with pytest.warns(RuntimeWarning, match="no utterance of epoch 0 could be scored"):
        stats = scheduler.end_epoch()
    assert math.isnan(stats.loss)
    assert stats.modality_ratio == (1.0, 1.0, 1.0)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_scheduler_resumes_in_the_middle_of_an_epoch_repeatedly(make_problem):
    def fresh():
        return SelfPacedScheduler(threshold=0.5, growth=1.3, class_weight=torch.ones(6))

    straight, resumed = fresh(), fresh()
    for seed in range(7):
        problem = make_problem(seed=seed)
        assert torch.equal(straight(*problem).weight, resumed(*problem).weight)
        if seed % 2:
            assert straight.end_epoch() == resumed.end_epoch()
        state = through_a_file(resumed.state_dict())
        resumed = fresh()
        resumed.load_state_dict(state)
    assert straight.check() == resumed.check()
    assert straight.epoch == 3


def test_scheduler_lists_the_settings_that_differ_from_the_saved_ones(make_problem):
    saved = SelfPacedScheduler(growth=1.25)
    saved(*make_problem())
    saved.end_epoch()
    other = SelfPacedScheduler(growth=1.5, normalizer="selected")
    message = r"\(normalizer 'all' there, 'selected' here; threshold\.growth 1\.25 there, 1\.5 here\)"
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(saved.state_dict())
    assert other.threshold == 0.7
    state = saved.state_dict()
    state["_extra_state"] = {**state["_extra_state"], "version": 99}
    with pytest.raises(ValueError, match=r"version 3 \(got 99\)"):
        SelfPacedScheduler().load_state_dict(state)


def test_scheduler_refuses_a_state_whose_sums_lack_that_of_the_weights(make_problem):
    """Version 1 had float64[1 + 2 M] of them: continued unawares, every later sum would have stood one place off."""
    saved = SelfPacedScheduler()
    saved(*make_problem())
    state = saved.state_dict()
    assert state["sums"].shape == (8,)
    state["sums"] = state["sums"][:-1]
    state["_extra_state"] = {**state["_extra_state"], "version": 1}
    fresh = SelfPacedScheduler()
    with pytest.raises(ValueError, match=r"version 3 \(got 1\)"):
        fresh.load_state_dict(state)
    assert fresh.sums.shape == (0,)
    fresh(*make_problem())


def test_scheduler_sums_the_weights(make_problem):
    scheduler = SelfPacedScheduler(threshold=1.5, weighting="linear")
    steps = [scheduler(*make_problem(seed=seed)) for seed in range(3)]
    total = sum(float(s.weight.sum()) for s in steps)
    assert 0 < total < int(scheduler.counts[2])
    assert float(scheduler.sums[-1]) == pytest.approx(total)


def test_scheduler_state_inside_a_model_and_copies(make_problem):
    model = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2), "curriculum": SelfPacedScheduler()})
    model["curriculum"](*make_problem())
    model["curriculum"].end_epoch()
    again = torch.nn.ModuleDict({"head": torch.nn.Linear(2, 2), "curriculum": SelfPacedScheduler()})
    again.load_state_dict(through_a_file(model.state_dict()))
    assert again["curriculum"].epoch == 1
    assert again["curriculum"].threshold == model["curriculum"].threshold
    model["curriculum"](*make_problem())
    assert copy.deepcopy(model)["curriculum"].end_epoch() == model["curriculum"].end_epoch()


def test_scheduler_keeps_its_precision_when_the_model_is_cast():
    scheduler = SelfPacedScheduler(threshold=0.7)
    for cast in (scheduler.half, scheduler.float, scheduler.bfloat16):
        cast()
        assert scheduler.threshold.dtype == torch.float64
        assert scheduler.threshold.item() == 0.7
    assert scheduler.to("meta").threshold.is_meta


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -0.1}, "threshold must be at least 0"),
        ({"threshold": float("nan")}, "threshold must be at least 0"),
        ({"growth": 0.9}, "growth must be at least 1 and finite"),
        ({"growth": float("inf")}, "growth must be at least 1 and finite"),
        ({"max_threshold": 0.0}, "max_threshold must be above 0"),
        ({"difficulty": "hardest"}, "difficulty must be one of 'spcl'"),
        ({"weighting": "soft"}, "weighting must be one of 'hard'"),
        ({"normalizer": "none"}, "normalizer must be one of"),
        ({"aggregate": "max"}, "aggregate must be one of"),
        ({"nonfinite": "ignore"}, "nonfinite must be one of"),
        ({"validate": "never"}, "validate must be one of"),
        ({"label_smoothing": 2.0}, "label_smoothing must lie in"),
    ],
)
def test_scheduler_refuses_settings_out_of_their_domain(options, message):
    with pytest.raises(ValueError, match=message):
        SelfPacedScheduler(**options)


def test_scheduler_refuses_calls_it_cannot_read(make_problem):
    logits, labels, offsets = make_problem()
    scheduler = SelfPacedScheduler()
    with pytest.raises(ValueError, match="labels need offsets"):
        scheduler(logits, labels)
    with pytest.raises(ValueError, match="give a batch or labels and offsets"):
        scheduler(logits, DialogueBatch.from_arrays(labels, offsets), offsets)
    with pytest.raises(ValueError, match="must start with the padded shape"):
        scheduler(logits[:, None], DialogueBatch.from_arrays(labels, offsets))


def test_scheduler_prints_its_settings():
    assert "growth=1.25" in repr(SelfPacedScheduler())


def test_ratio_is_of_the_modalities_that_were_there():
    """A modality that nobody had made the ratio of all others infinite."""
    scheduler = SelfPacedScheduler(threshold=60.0)
    logits = torch.tensor([[[2.0, 0.0]] * 2, [[0.0, 0.0]] * 2, [[7.0, 0.0]] * 2])
    present = torch.tensor([[True, True], [True, True], [False, False]])
    scheduler(logits, torch.tensor([0, 0]), torch.tensor([0, 2]), present=present)
    stats = scheduler.end_epoch()
    for ratio in (stats.modality_ratio, stats.modality_ratio_all):
        assert ratio[:2] == pytest.approx((torch.sigmoid(torch.tensor(2.0)).item() / 0.5, 1.0))
        assert math.isnan(ratio[2])
