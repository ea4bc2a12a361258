"""The table of faults for the step, the spread and the weights: one test a row."""

from __future__ import annotations

import math

import pytest
import torch

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
MODES = ["cheap", "off"]
HERE = torch.zeros(()).device


def without(problem, t):
    """The same batch with utterance t ignored: what a fault there must come to."""
    labels = problem.labels.clone()
    labels[t] = -100
    return problem._replace(labels=labels)


def assert_same_but_for_faults(step, expected):
    for name in ("loss", "weight", "difficulty", "utterance_loss", "confidence", "spread"):
        a, b = getattr(step, name), getattr(expected, name)
        assert torch.equal(a.nan_to_num(nan=-1), b.nan_to_num(nan=-1)), name
    assert step.totals.scored == expected.totals.scored
    assert step.totals.selected == expected.totals.selected
    assert torch.equal(step.totals.confidence_sum, expected.totals.confidence_sum)


@pytest.mark.parametrize("validate", MODES)
@pytest.mark.parametrize("value", [NAN, INF])
def test_step_leaves_out_an_utterance_with_a_nonfinite_logit(make_problem, value, validate):
    problem = make_problem()
    expected = ops.self_paced_step(*without(problem, 3), 0.8)
    problem.logits[1, 3, 2] = value
    problem.logits.requires_grad_()
    step = ops.self_paced_step(*problem, 0.8, validate=validate)
    assert_same_but_for_faults(step, expected)
    assert step.weight[3] == 0
    assert step.difficulty[3].isnan()
    assert step.totals.nonfinite == (validate == "cheap")
    step.loss.backward()
    assert problem.logits.grad.isfinite().all()
    assert not problem.logits.grad[:, 3].any()


@pytest.mark.parametrize("validate", MODES)
@pytest.mark.parametrize("label", [-1, 6, 2**40, -(2**63)])
def test_step_leaves_out_a_bad_label(make_problem, label, validate):
    problem = make_problem()
    expected = ops.self_paced_step(*without(problem, 3), 0.8)
    problem.labels[3] = label
    step = ops.self_paced_step(*problem, 0.8, validate=validate)
    assert_same_but_for_faults(step, expected)
    assert step.totals.bad_label == (validate == "cheap")


def test_step_in_full_names_the_first_fault(make_problem):
    logits, labels, offsets = make_problem()
    ops.self_paced_step(logits, labels, offsets, 0.8, validate="full")
    bad = labels.clone()
    bad[4] = 9
    with pytest.raises(ValueError, match=r"got 9 at position 4"):
        ops.self_paced_step(logits, bad, offsets, 0.8, validate="full")
    logits[2, 5, 1] = INF
    with pytest.raises(ValueError, match=r"got inf at modality 2, utterance 5, class 1"):
        ops.self_paced_step(logits, labels, offsets, 0.8, validate="full")
    labels[5] = -100  # what is not scored may hold anything
    ops.self_paced_step(logits, labels, offsets, 0.8, validate="full")


def test_step_does_not_count_ignored_labels_inside_dialogues(make_problem):
    logits, labels, offsets = make_problem(lengths=(6, 4))
    labels[[1, 4, 7]] = -100
    keep = labels != -100
    step = ops.self_paced_step(logits, labels, offsets, 0.8)
    alone = ops.self_paced_step(logits[:, keep], labels[keep], torch.tensor([0, 4, 7]), 0.8)
    assert torch.equal(step.difficulty[keep], alone.difficulty)
    assert torch.equal(step.spread, alone.spread)
    torch.testing.assert_close(step.loss, alone.loss)
    assert step.difficulty[~keep].isnan().all()
    assert not step.weight[~keep].any()
    assert step.totals.scored == 7


def test_step_with_all_labels_ignored_is_zero_with_a_zero_gradient(make_problem):
    logits, labels, offsets = make_problem()
    logits.requires_grad_()
    step = ops.self_paced_step(logits, torch.full_like(labels, -100), offsets, 0.8)
    assert step.loss == 0
    assert step.totals.scored == 0
    assert step.totals.loss_sum == 0
    assert step.spread.isnan().all()
    step.loss.backward()
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_step_refuses_labels_and_offsets_that_are_not_integers(make_problem, dtype):
    logits, labels, offsets = make_problem()
    with pytest.raises(TypeError, match="labels must hold integers"):
        ops.self_paced_step(logits, labels.to(dtype), offsets, 0.8)
    with pytest.raises(TypeError, match="offsets must hold integers"):
        ops.self_paced_step(logits, labels, offsets.to(dtype), 0.8)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_step_takes_any_integers(make_problem, dtype):
    logits, labels, offsets = make_problem()
    expected = ops.self_paced_step(logits, labels, offsets, 0.8)
    assert_same_but_for_faults(ops.self_paced_step(logits, labels.to(dtype), offsets.to(dtype), 0.8), expected)


def test_step_with_unsigned_labels_does_not_wrap_the_ignore_index(make_problem):
    logits, labels, offsets = make_problem()
    labels[3] = 156  # -100 in eight bits
    step = ops.self_paced_step(logits, labels.to(torch.uint8), offsets, 0.8)
    assert step.totals.bad_label == 1


def test_step_with_an_empty_dialogue_leaves_its_neighbours_alone(make_problem):
    logits, labels, _ = make_problem(lengths=(5, 3))
    with_empty = ops.self_paced_step(logits, labels, torch.tensor([0, 0, 5, 5, 8, 8]), 0.8)
    plain = ops.self_paced_step(logits, labels, torch.tensor([0, 5, 8]), 0.8)
    assert torch.equal(with_empty.spread.isnan(), torch.tensor([True, False, True, False, True]))
    assert torch.equal(with_empty.spread[[1, 3]], plain.spread)
    assert torch.equal(with_empty.difficulty, plain.difficulty)


@pytest.mark.parametrize("num_dialogues", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_step_without_utterances_is_empty_with_loss_zero(num_dialogues, dtype):
    logits = torch.zeros(3, 0, 5, dtype=dtype, requires_grad=True)
    offsets = torch.zeros(num_dialogues + 1, dtype=torch.int64)
    step = ops.self_paced_step(logits, torch.zeros(0, dtype=torch.int64), offsets, 0.8)
    out = torch.float64 if dtype == torch.float64 else torch.float32
    assert step.loss == 0
    assert step.weight.shape == step.difficulty.shape == step.utterance_loss.shape == (0,)
    assert step.confidence.shape == (3, 0)
    assert step.spread.shape == (num_dialogues,)
    assert all(x.dtype == out for x in step[:6])
    step.loss.backward()
    assert logits.grad.shape == logits.shape


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([1, 8], r"must start at 0 \(got 1 at position 0\)"),
        ([-1, 8], r"must start at 0 \(got -1 at position 0\)"),
        ([0, 5, 3, 8], r"must never fall and stay within \[0, 8\] \(got 3 at position 2, after 5\)"),
        ([0, 9, 8], r"must never fall and stay within \[0, 8\] \(got 9 at position 1, after 0\)"),
        ([0, 7], r"must end at the number of utterances, 8 \(got 7 at position 1, after 0\)"),
        ([0, 9], r"must end at the number of utterances, 8"),
        ([], "at least one entry"),
        ([0], r"offsets must .* \(got 0 at position 0\)"),
    ],
)
@pytest.mark.parametrize("validate", ["cheap", "full", "off"])
def test_step_refuses_bad_offsets_on_the_host(make_problem, offsets, message, validate):
    logits, labels, _ = make_problem(lengths=(8,))
    with pytest.raises(ValueError, match=message):
        ops.self_paced_step(logits, labels, torch.tensor(offsets, dtype=torch.int64), 0.8, validate=validate)


def test_reference_reads_bad_offsets_of_a_device_as_their_running_maximum(make_problem):
    from spcl_fast import reference

    logits, labels, _ = make_problem(lengths=(8,))
    bad = reference.self_paced_step(logits, labels, torch.tensor([1, 5, -3, 99]), 0.8)
    assert bad.totals.bad_offset == 3
    assert torch.equal(bad.spread.isnan(), torch.tensor([False, True, False]))
    assert torch.equal(bad.difficulty.isnan(), torch.arange(8) == 0)
    good = reference.self_paced_step(logits, labels, torch.tensor([0, 1, 5, 5, 8]), 0.8)
    assert torch.equal(bad.difficulty[1:], good.difficulty[1:])
    assert good.totals.bad_offset == 0


def test_step_refuses_tensors_on_two_devices(make_problem):
    logits, labels, offsets = make_problem()
    with pytest.raises(ValueError, match=f"logits on {HERE}, labels on meta"):
        ops.self_paced_step(logits, labels.to("meta"), offsets, 0.8)
    with pytest.raises(ValueError, match=f"data on {HERE}, offsets on meta"):
        ops.self_paced_step(logits, labels, offsets.to("meta"), 0.8)


def test_step_gives_minus_infinity_on_the_true_class_the_largest_difficulty(make_problem):
    problem = make_problem()
    expected = ops.self_paced_step(*problem, 0.8)
    problem.logits[0, 3, problem.labels[3]] = -INF
    problem.logits.requires_grad_()
    step = ops.self_paced_step(*problem, 60.0)
    assert step.utterance_loss[3] == INF
    assert step.difficulty[3] == INF
    assert step.weight[3] == 0
    assert step.totals.nonfinite == 1
    assert step.totals.scored == 24
    assert step.loss.isfinite()
    step.loss.backward()
    assert problem.logits.grad.isfinite().all()
    assert torch.equal(step.difficulty[7:], expected.difficulty[7:])
    assert ops.self_paced_step(*problem, INF).loss == INF  # as the plain mean is


def test_step_takes_a_masked_class(make_problem):
    logits, labels, offsets = make_problem()
    labels[labels == 5] = 0
    logits[:, :, 5] = -INF
    step = ops.self_paced_step(logits, labels, offsets, 0.8)
    fewer = ops.self_paced_step(logits[..., :5], labels, offsets, 0.8)
    torch.testing.assert_close(step.difficulty, fewer.difficulty)
    assert step.totals.nonfinite == 0


def test_step_of_huge_logits_does_not_overflow():
    logits = torch.tensor([[[1e38, 0.0]], [[-1e38, 0.0]], [[0.0, 0.0]]])
    step = ops.self_paced_step(logits, torch.tensor([0]), torch.tensor([0, 1]), 0.8)
    torch.testing.assert_close(step.utterance_loss, torch.tensor([math.log(2)]))
    torch.testing.assert_close(step.spread, torch.tensor([0.5]))
    too_large = ops.self_paced_step(logits + 3e38, torch.tensor([0]), torch.tensor([0, 1]), 0.8)
    assert too_large.totals.nonfinite == 1
    assert too_large.loss == 0


def test_step_with_a_modality_missing_now_and_then(make_problem):
    logits, labels, offsets = make_problem(lengths=(4,))
    present = torch.ones(3, 4, dtype=torch.bool)
    present[1, 2:] = False
    logits[1, 2:] = NAN
    step = ops.self_paced_step(logits, labels, offsets, 0.8, present=present)
    p = step.confidence
    S = torch.stack([p[0].sum(), 4 * p[1, :2].mean(), p[2].sum()])
    torch.testing.assert_close(step.spread[0], S.std())
    J = logits.nan_to_num(0).sum(0)
    torch.testing.assert_close(step.utterance_loss, torch.nn.functional.cross_entropy(J, labels, reduction="none"))
    assert step.totals.scored == 4
    assert step.totals.nonfinite == 0
    torch.testing.assert_close(step.totals.confidence_sum[1], p[1, :2].sum())


def test_step_with_all_modalities_of_an_utterance_missing_is_never_easy(make_problem):
    problem = make_problem()
    expected = ops.self_paced_step(*without(problem, 3), INF)
    present = torch.ones(3, 24, dtype=torch.bool)
    present[:, 3] = False
    step = ops.self_paced_step(*problem, INF, present=present)
    assert_same_but_for_faults(step, expected)
    assert step.weight[3] == 0


def test_step_with_one_modality_in_a_dialogue_is_scored_but_not_selected(make_problem):
    logits, labels, offsets = make_problem(lengths=(4, 5))
    present = torch.ones(3, 9, dtype=torch.bool)
    present[1:, :4] = False
    step = ops.self_paced_step(logits, labels, offsets, INF, present=present)
    assert torch.equal(step.spread.isnan(), torch.tensor([True, False]))
    assert step.utterance_loss.isfinite().all()
    assert torch.equal(step.weight == 0, torch.arange(9) < 4)
    assert step.totals.undefined == 4
    assert step.totals.scored == 9
    everything = ops.self_paced_step(logits, labels, offsets, None, present=present)
    assert everything.weight.all()


def test_step_and_spread_refuse_one_modality(make_problem):
    logits, labels, offsets = make_problem(M=1)
    with pytest.raises(ValueError, match="needs at least 2 of them"):
        ops.self_paced_step(logits, labels, offsets, 0.8)
    with pytest.raises(ValueError, match="needs at least 2 of them"):
        ops.modality_spread(torch.rand(1, 24), offsets)


def test_step_of_one_class_has_loss_zero():
    step = ops.self_paced_step(torch.randn(2, 3, 1), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3]), 0.0)
    assert step.loss == 0
    assert not step.utterance_loss.any()
    assert step.weight.all()


@pytest.mark.parametrize(("threshold", "selected"), [(0.0, 2), (INF, 5), (-1.0, 0), (0.5, 4)])
def test_weights_keep_every_tie_and_drop_nan(threshold, selected):
    difficulty = torch.tensor([0.0, 0.0, 0.5, 0.5, 0.7, NAN])
    weight = ops.self_paced_weights(difficulty, threshold)
    assert weight.sum() == selected
    assert weight[-1] == 0
    assert weight.dtype == difficulty.dtype


@pytest.mark.parametrize("form", [float, pytest.param(torch.tensor, marks=pytest.mark.host_only)])
def test_thresholds_that_are_not_numbers_are_refused(make_problem, form):
    with pytest.raises(ValueError, match="threshold must not be NaN"):
        ops.self_paced_weights(torch.zeros(2), form(NAN))
    with pytest.raises(ValueError, match="threshold must not be NaN"):
        ops.self_paced_step(*make_problem(), form(NAN))
    with pytest.raises(TypeError, match="threshold must be a number"):
        ops.self_paced_weights(torch.zeros(2), "0.5")
    with pytest.raises(ValueError, match="0-dim"):
        ops.self_paced_weights(torch.zeros(2), torch.zeros(1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scheme": "soft"}, ValueError, "scheme must be one of 'hard'"),
        ({"scheme": "mixture"}, TypeError, r"scheme 'mixture' has the parameter\(s\) lower"),
        ({"scheme_parameters": {"lower": 0.1}}, TypeError, "scheme 'hard' has no parameters"),
        ({"scheme": "spld", "scheme_parameters": {"gamma": 1, "groups": "speaker"}}, ValueError, "'class', 'dialogue'"),
        ({"scheme": "mixture", "scheme_parameters": {"lower": 0.8}}, ValueError, "must be above lower, 0.8"),
        ({"normalizer": "none"}, ValueError, "normalizer must be one of 'all', 'selected'"),
        ({"aggregate": "max"}, ValueError, "aggregate must be one of 'sum', 'mean'"),
        ({"validate": "fast"}, ValueError, "validate must be one of"),
        ({"label_smoothing": 1.5}, ValueError, r"label_smoothing must lie in \[0, 1\]"),
        ({"label_smoothing": NAN}, ValueError, r"label_smoothing must lie in \[0, 1\]"),
        ({"class_weight": torch.ones(5)}, ValueError, r"class_weight must have shape \(6,\)"),
        ({"joint": torch.ones(24, 5)}, ValueError, r"joint must have shape \(24, 6\)"),
        ({"extra_difficulty": torch.ones(3)}, ValueError, r"extra_difficulty must have shape \(24,\)"),
        (
            {"extra_difficulty": torch.ones(24, dtype=torch.int64)},
            TypeError,
            "extra_difficulty must hold floating",
        ),
        ({"present": torch.ones(3, 24)}, TypeError, "present must hold booleans"),
        ({"present": torch.ones(24, dtype=torch.bool)}, ValueError, r"present must have 2 dimension\(s\)"),
        ({"backend": "gpu"}, ValueError, "gpu"),
    ],
)
def test_step_refuses_options_out_of_their_domain(make_problem, options, error, message):
    with pytest.raises(error, match=message):
        ops.self_paced_step(*make_problem(), 0.8, **options)


def test_weights_refuse_parameters_the_scheme_does_not_have():
    with pytest.raises(TypeError, match=r"scheme 'hard' has no parameters \(got gamma\)"):
        ops.self_paced_weights(torch.zeros(2), 0.5, gamma=1.0)
    with pytest.raises(TypeError, match="difficulty must be a floating point tensor"):
        ops.self_paced_weights(torch.zeros(2, dtype=torch.int64), 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_spread_dtype_and_nan_rows(make_problem, dtype):
    offsets = torch.tensor([0, 3, 5])
    p = torch.rand(3, 5, dtype=torch.float64).to(dtype)
    p[1, 1] = NAN
    spread = ops.modality_spread(p, offsets)
    assert spread.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    x = p.to(spread.dtype)
    torch.testing.assert_close(spread, torch.stack([x[:, [0, 2]].sum(1).std(), x[:, 3:].sum(1).std()]))
    with pytest.raises(TypeError, match="confidence must hold floating"):
        ops.modality_spread(torch.ones(3, 5, dtype=torch.int64), offsets)
