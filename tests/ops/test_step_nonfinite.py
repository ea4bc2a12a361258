"""Losses that are not finite although every logit is: never trained on, always counted, named by validate="full"."""

from __future__ import annotations

import pytest
import torch

from spcl_fast import ops
from spcl_fast.reference.self_paced_step import harmonic_mean

NAN, INF = float("nan"), float("inf")
HERE = torch.zeros(()).device


@pytest.fixture
def step(backend_name):
    def call(*arguments, **options):
        return ops.self_paced_step(*arguments, backend=backend_name, **options)

    return call


def test_step_leaves_out_an_infinite_loss_of_a_class_without_weight(make_problem, step):
    logits, labels, offsets = make_problem()
    weight = torch.ones(6)
    weight[labels[3]] = 0.0
    ignored = labels.clone()
    ignored[3] = -100
    expected = step(logits, ignored, offsets, 0.8, class_weight=weight)
    logits[0, 3, labels[3]] = -INF
    for threshold in (0.8, INF, None):
        got = step(logits, labels, offsets, threshold, class_weight=weight)
        assert got.totals.nonfinite == 1
        assert got.totals.scored == 23
        assert got.loss.isfinite()
        assert got.totals.loss_sum.isfinite()
        assert got.utterance_loss[3].isnan()
        assert got.confidence[:, 3].isnan().all()
        assert torch.equal(got.spread.nan_to_num(-1), expected.spread.nan_to_num(-1))
    with pytest.raises(ValueError, match=r"the loss of every utterance must be finite \(got nan for utterance 3\)"):
        step(logits, labels, offsets, 0.8, class_weight=weight, validate="full")


@pytest.mark.parametrize("value", [NAN, INF])
def test_step_leaves_out_an_utterance_with_a_nonfinite_joint(make_problem, step, value):
    logits, labels, offsets = make_problem()
    joint = torch.randn(24, 6, dtype=torch.float64)
    joint[3, 1] = value
    joint.requires_grad_()
    got = step(logits, labels, offsets, None, joint=joint)
    assert (got.totals.nonfinite, got.totals.scored, got.weight[3]) == (1, 23, 0)
    got.loss.backward()
    assert joint.grad.isfinite().all()
    assert not joint.grad[3].any()
    with pytest.raises(ValueError, match=rf"got {value} at joint, utterance 3, class 1"):
        step(logits, labels, offsets, 0.8, joint=joint, validate="full")


def test_step_leaves_out_a_sum_that_overflows(step):
    logits = torch.full((2, 3, 2), 3e38)
    logits[:, 1] = 1.0
    got = step(logits, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3]), None)
    assert (got.totals.nonfinite, got.totals.scored) == (2, 1)
    assert got.loss.isfinite()
    with pytest.raises(ValueError, match="the loss of every utterance must be finite"):
        step(logits, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3]), None, validate="full")


def test_step_leaves_out_a_row_that_is_minus_infinity_everywhere(make_problem, step):
    logits, labels, offsets = make_problem()
    logits[1, 3] = -INF
    logits.requires_grad_()
    got = step(logits, labels, offsets, None)
    assert (got.totals.nonfinite, got.totals.scored) == (1, 23)
    got.loss.backward()
    assert logits.grad.isfinite().all()
    with pytest.raises(ValueError, match="-inf everywhere at modality 1, utterance 3"):
        step(logits, labels, offsets, 0.8, validate="full")


def test_step_in_full_names_an_infinite_loss(make_problem, step):
    logits, labels, offsets = make_problem()
    logits[0, 3, labels[3]] = -INF
    with pytest.raises(ValueError, match=r"\(got inf for utterance 3\)"):
        step(logits, labels, offsets, 0.8, validate="full")


def test_reference_on_a_device_does_not_score_classes_without_a_proper_weight(make_problem):
    from spcl_fast import reference

    logits, labels, offsets = make_problem()
    logits.requires_grad_()
    for bad in (NAN, INF, -1.0):
        weight = torch.ones(6)
        weight[2] = bad
        got = reference.self_paced_step(logits, labels, offsets, None, class_weight=weight)
        assert got.totals.nonfinite == (labels == 2).sum()
        assert not got.weight[labels == 2].any()
        assert torch.autograd.grad(got.loss, logits)[0].isfinite().all()


def test_step_takes_any_number_as_threshold_and_ignores_its_gradient(make_problem, step):
    import numpy as np

    problem = make_problem()
    expected = step(*problem, 1.0).weight
    for threshold in (1, np.float32(1), np.int64(1), np.float64(1), torch.tensor(1.0, requires_grad=True)):
        assert torch.equal(step(*problem, threshold).weight, expected)
    with pytest.raises(ValueError, match=f"data on {HERE}, threshold on meta"):
        step(*problem, torch.tensor(1.0, device="meta"))
    with pytest.raises(TypeError, match="threshold must be a number"):
        step(*problem, True)


def test_step_gives_the_same_difficulties_whatever_the_strides(make_problem, step):
    logits, labels, offsets = make_problem(M=9, dtype=torch.float32)
    strided = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(step(strided, labels, offsets, 0.8).difficulty, step(logits, labels, offsets, 0.8).difficulty)


def test_spread_of_a_long_dialogue_does_not_drift(backend):
    T = 300_000
    p = torch.stack([torch.full((T,), 0.3), torch.full((T,), 0.3) + 1e-4 * torch.rand(T)])
    offsets = torch.tensor([0, T])
    exact = ops.modality_spread(p.double(), offsets, backend="reference")
    torch.testing.assert_close(ops.modality_spread(p, offsets).double(), exact, rtol=1e-5, atol=0)


def test_harmonic_mean_does_not_overflow():
    large = torch.tensor(3e38)
    assert harmonic_mean(large, large) == large
    torch.testing.assert_close(harmonic_mean(torch.tensor(1e-30), large), torch.tensor(2e-30))
