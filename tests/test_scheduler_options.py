"""Every setting and argument of the scheduler arrives at the op, and the faults around them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from spcl_fast import DialogueBatch, FaultyDataError, SelfPacedScheduler, ops
from spcl_fast.difficulty import CombinedDifficulty, LossDifficulty
from spcl_fast.thresholds import QuantileThreshold, ThresholdSchedule

NAN, INF = float("nan"), float("inf")
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0, 0.7])


@pytest.mark.parametrize(
    ("setting", "of_the_op"),
    [
        ({"weighting": "linear"}, {"scheme": "linear"}),
        ({"weighting": "log", "max_threshold": 0.9}, {"scheme": "log"}),
        *(
            ({"weighting": scheme, "weighting_parameters": numbers}, {"scheme": scheme, "scheme_parameters": numbers})
            for scheme, numbers in (
                ("mixture", {"lower": 0.3}),
                ("polynomial", {"degree": 3}),
                ("spld", {"gamma": 3.0}),
                ("spld", {"gamma": 3.0, "groups": "dialogue"}),
            )
        ),
        ({"normalizer": "selected"}, {"normalizer": "selected"}),
        ({"aggregate": "mean"}, {"aggregate": "mean"}),
        ({"class_weight": WEIGHT}, {"class_weight": WEIGHT}),
        ({"label_smoothing": 0.3}, {"label_smoothing": 0.3}),
        ({"ignore_index": 2}, {"ignore_index": 2}),
        ({"validate": "off"}, {"validate": "off"}),
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_setting_arrives_at_the_op(make_problem, setting, of_the_op):
    problem = make_problem()
    problem.logits[0, 3, 1] = NAN  # so that validate="off" shows
    got = SelfPacedScheduler(threshold=0.8, **setting)(*problem)
    expected = ops.self_paced_step(*problem, 0.8, **of_the_op)
    plain = ops.self_paced_step(*problem, 0.8)
    assert torch.equal(got.loss, expected.loss)
    assert torch.equal(got.totals.counts, expected.totals.counts)
    assert not (torch.equal(got.loss, plain.loss) and torch.equal(got.totals.counts, plain.totals.counts))


def test_validate_full_and_backend_arrive_at_the_op(make_problem):
    logits, labels, offsets = make_problem()
    scheduler = SelfPacedScheduler(backend="reference")
    logits.requires_grad_()
    (first,) = torch.autograd.grad(scheduler(logits, labels, offsets).loss, logits, create_graph=True)
    assert first.requires_grad  # which the compiled op refuses
    labels[4] = 9
    with pytest.raises(ValueError, match="got 9 at position 4"):
        SelfPacedScheduler(validate="full")(logits, labels, offsets)
    with pytest.raises(ValueError, match="abacus"):
        SelfPacedScheduler(backend="abacus")


def test_every_argument_arrives_at_the_op_flat_and_padded(make_problem):
    logits, labels, offsets = make_problem(lengths=(4, 2, 5))
    arguments = {
        "joint": torch.randn(11, 6, dtype=torch.float64),
        "present": torch.rand(3, 11) < 0.8,
        "extra_difficulty": torch.rand(11, dtype=torch.float64),
    }
    batch = DialogueBatch.from_arrays(labels, offsets)
    scheduler = SelfPacedScheduler(threshold=0.8)
    plain = scheduler(logits, labels, offsets)
    for name, value in arguments.items():
        expected = ops.self_paced_step(logits, labels, offsets, 0.8, **{name: value})
        padded = torch.stack([batch.pad(x) for x in value]) if name == "present" else batch.pad(value)
        padded_logits = torch.stack([batch.pad(z, NAN) for z in logits])
        for step in (
            scheduler(logits, labels, offsets, **{name: value}),
            scheduler(logits, batch, **{name: value}),
            scheduler(padded_logits, batch, **{name: padded}),
        ):
            torch.testing.assert_close(step.difficulty, expected.difficulty, equal_nan=True)
            assert torch.equal(step.loss, expected.loss)
        assert not torch.equal(step.difficulty, plain.difficulty), name


def test_speakers_and_embeddings_do_not_change_spcl(make_problem):
    logits, labels, offsets = make_problem()
    got = SelfPacedScheduler()(logits, labels, offsets, torch.zeros_like(labels), [torch.rand(24, 5)])
    expected = SelfPacedScheduler()(logits, labels, offsets)
    assert torch.equal(got.difficulty, expected.difficulty)
    assert torch.equal(got.loss, expected.loss)


def test_bad_offsets_of_a_device_are_raised_by_name():
    scheduler = SelfPacedScheduler()
    scheduler.counts[5] = 3
    with pytest.raises(FaultyDataError, match=r"left out 3 offset\(s\) out of order or range"):
        scheduler.check()


@pytest.mark.parametrize("bad", [NAN, INF, -1.0])
def test_a_class_weight_that_is_no_weight_is_refused(bad):
    weight = WEIGHT.clone()
    weight[1] = bad
    message = rf"class_weight must be finite and at least 0 \(got {bad} for class 1\)"
    with pytest.raises(ValueError, match=message):
        SelfPacedScheduler(class_weight=weight)


@pytest.mark.host_only
@pytest.mark.parametrize("bad", [NAN, INF, -1.0])
def test_a_class_weight_that_is_no_weight_is_refused_by_the_op(make_problem, backend_name, bad):
    weight = WEIGHT.clone()
    weight[1] = bad
    with pytest.raises(ValueError, match=rf"class_weight must be finite and at least 0 \(got {bad} for class 1\)"):
        ops.self_paced_step(*make_problem(), 0.8, class_weight=weight, backend=backend_name)


@pytest.mark.parametrize("weight", [torch.ones(6, dtype=torch.int64), torch.ones(2, 3), [1.0] * 6])
def test_a_class_weight_of_another_type_is_refused(weight):
    with pytest.raises(TypeError, match=r"class_weight must be a floating point tensor \[C\]"):
        SelfPacedScheduler(class_weight=weight)


def test_the_class_weight_is_the_schedulers_own_and_part_of_its_state(make_problem):
    mine = WEIGHT.clone()
    scheduler = SelfPacedScheduler(class_weight=mine)
    before = scheduler(*make_problem()).loss
    mine.zero_()
    assert torch.equal(scheduler(*make_problem()).loss, before)
    scheduler.half()
    assert torch.equal(scheduler.class_weight, WEIGHT)
    for other in (None, WEIGHT + 1):
        with pytest.raises(ValueError, match="class_weight"):
            SelfPacedScheduler(class_weight=other).load_state_dict(scheduler.state_dict())
    again = SelfPacedScheduler(class_weight=WEIGHT)
    again.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    assert torch.equal(again(*make_problem()).loss, before)


@pytest.mark.parametrize("extra", [None, [], {"version": 1}, {"version": 1, "config": 3}])
def test_a_state_of_something_else_is_refused(extra):
    state = SelfPacedScheduler().state_dict()
    state["_extra_state"] = extra
    with pytest.raises(ValueError, match="the state must be that of"):
        SelfPacedScheduler().load_state_dict(state)


def test_another_number_of_modalities_is_refused_and_leaves_the_counters_alone(make_problem):
    scheduler = SelfPacedScheduler()
    scheduler(*make_problem(M=3))
    before = scheduler.check()
    with pytest.raises(ValueError, match=r"every step must have the same modalities \(3 before, got 2\)"):
        scheduler(*make_problem(M=2))
    assert scheduler.check() == before


def test_a_first_step_under_inference_mode_does_not_stop_the_next(make_problem):
    scheduler = SelfPacedScheduler()
    with torch.inference_mode():
        scheduler(*make_problem())
    scheduler(*make_problem())
    assert scheduler.check().steps == 2


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"weighting": "log"}, ValueError, r"threshold of 'log' must lie in \(0, 1\) \(got 60.0\)"),
        ({"weighting": "log", "threshold": 1.0, "max_threshold": 0.9}, ValueError, r"\(got 1.0\)"),
        ({"weighting": "mixture", "weighting_parameters": {"lower": 0.7}}, ValueError, "must be above lower, 0.7"),
        ({"weighting": "mixture"}, TypeError, r"has the parameter\(s\) lower"),
        ({"weighting_parameters": {"lower": 0.7}}, TypeError, "scheme 'hard' has no parameters"),
        ({"weighting": "spld", "weighting_parameters": {"gamma": -1}}, ValueError, "gamma of 'spld' must be finite"),
        ({"weighting": "spld", "weighting_parameters": {"gamma": 1, "groups": "speaker"}}, ValueError, "'speaker'"),
    ],
)
def test_a_weighting_out_of_its_domain_is_refused_at_construction(setting, error, message):
    with pytest.raises(error, match=message):
        SelfPacedScheduler(**setting)


def test_the_parameters_of_the_weighting_are_part_of_the_state(make_problem, tmp_path):
    def made(lower):
        return SelfPacedScheduler(weighting="mixture", weighting_parameters={"lower": lower})

    scheduler = made(torch.tensor(0.25, device="cpu").numpy()[()])  # a float32 that is no Python number
    scheduler(*make_problem())
    torch.save(scheduler.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = made(0.25)
    again.load_state_dict(state)
    assert again.check() == scheduler.check()
    for other in (made(0.3), SelfPacedScheduler()):
        with pytest.raises(ValueError, match="weighting_parameters"):
            other.load_state_dict(state)


def test_a_state_from_before_there_were_parameters_is_continued(make_problem):
    scheduler = SelfPacedScheduler()
    scheduler(*make_problem())
    state = scheduler.state_dict()
    state["_extra_state"]["config"].pop("weighting_parameters")
    again = SelfPacedScheduler()
    again.load_state_dict(state)
    assert again.check() == scheduler.check()


@pytest.mark.parametrize("setting", ["threshold", "growth", "max_threshold"])
@pytest.mark.parametrize("value", [None, "1", True])
def test_settings_that_are_no_numbers_are_refused(setting, value):
    with pytest.raises(TypeError, match=f"{setting} must be a number"):
        SelfPacedScheduler(**{setting: value})


WRONG_IDS = {
    "too few": (lambda ids: ids[:1], ValueError, r"ids must have shape \(24,\) \(got \(1,\)\)"),
    "too many": (lambda ids: ids.repeat(2), ValueError, r"ids must have shape \(24,\) \(got \(48,\)\)"),
    "no integers": (lambda ids: ids.double(), TypeError, "ids must hold integers"),
    "padded": (lambda ids: ids.view(2, 12), ValueError, r"ids must have 1 dimension\(s\)"),
    "no tensor": (lambda ids: ids.tolist(), TypeError, r"ids must be a tensor \(got list\)"),
}


@pytest.mark.parametrize("what", WRONG_IDS)
@pytest.mark.parametrize("looks_at_them", ["quantile", "quantile over an epoch", "random"])
def test_ids_that_do_not_fit_are_refused_by_name(make_problem, what, looks_at_them):
    wrong, error, message = WRONG_IDS[what]
    logits, labels, offsets = make_problem()
    ids = torch.arange(24)
    scheduler = {
        "quantile": lambda: SelfPacedScheduler(QuantileThreshold(0.5)),
        "quantile over an epoch": lambda: SelfPacedScheduler(QuantileThreshold(0.5, over="epoch", num_utterances=24)),
        "random": lambda: SelfPacedScheduler(difficulty="random"),
    }[looks_at_them]()
    scheduler(logits, labels, offsets, ids=ids.int())
    with pytest.raises(error, match=f"SelfPacedScheduler: {message}"):
        scheduler(logits, labels, offsets, ids=wrong(ids))
    with pytest.raises(TypeError, match="SelfPacedScheduler: ids must be a tensor"):
        scheduler(logits, DialogueBatch.from_arrays(labels, offsets), ids=ids.tolist())


@pytest.mark.parametrize("labels", [[0] * 24, None, torch.tensor(0, device="cpu")])
def test_labels_that_are_none_are_refused_by_name(make_problem, labels):
    with pytest.raises((TypeError, ValueError), match="SelfPacedScheduler: labels must"):
        SelfPacedScheduler(difficulty="loss")(make_problem().logits, labels)


@pytest.mark.parametrize("value", [torch.ones(2), np.float64(0.5), {1: "a"}, print])
def test_a_config_that_no_state_can_hold_is_refused(value):
    class Own(LossDifficulty):
        @property
        def config(self):
            return {"value": [value]}

    for difficulty in (Own(), CombinedDifficulty([(Own(), 1.0)])):
        with pytest.raises(TypeError, match="Own: config must hold plain Python"):
            SelfPacedScheduler(difficulty=difficulty)


@pytest.mark.parametrize(("value", "error"), [(NAN, ValueError), ("0.5", TypeError), (torch.tensor(0.5), TypeError)])
def test_a_schedule_begins_with_a_number(value, error):
    class Own(ThresholdSchedule):
        initial = value

    with pytest.raises(error, match="Own: initial must"):
        SelfPacedScheduler(Own())


def test_a_state_loaded_under_inference_mode_does_not_stop_the_next_step(make_problem):
    scheduler = SelfPacedScheduler()
    scheduler(*make_problem())
    again = SelfPacedScheduler()
    with torch.inference_mode():
        again.load_state_dict(scheduler.state_dict())
    again(*make_problem())
    assert again.end_epoch().steps == 2
