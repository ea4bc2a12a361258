"""`measure` of `ops.self_paced_step`: what the difficulty is, and what each needs; on every backend."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spcl_fast import ops
from spcl_fast._options import MEASURES

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_measure_is_the_difficulty_and_changes_nothing_else(make_problem, measure, dtype) -> None:
    logits, labels, offsets = make_problem(lengths=(7, 1, 0, 12, 40), dtype=dtype)
    labels[3], logits[0, 5, 1] = -100, NAN
    extra = torch.rand(60, dtype=dtype)
    step = ops.self_paced_step(logits, labels, offsets, 0.8, measure=measure, extra_difficulty=extra)
    usual = ops.self_paced_step(logits, labels, offsets, 0.8, extra_difficulty=extra)
    for name in ("utterance_loss", "confidence", "spread"):
        torch.testing.assert_close(getattr(step, name), getattr(usual, name), rtol=0, atol=0, equal_nan=True)
    l, s = step.utterance_loss, step.spread.repeat_interleave(offsets.diff())
    measured = {"spcl": 2 * s * l / (s + l), "loss": l, "spread": s, "none": 0 * l}[measure]
    expected = torch.where(l.isnan(), NAN, measured + extra)
    torch.testing.assert_close(step.difficulty, expected, equal_nan=True, rtol=1e-6, atol=1e-6)
    assert torch.equal(step.weight, (step.difficulty <= 0.8).to(dtype))
    assert 0 < step.weight.sum() < 58
    assert step.totals.selected == step.weight.sum()
    assert step.totals.counts[[0, 1, 3, 4, 5, 6]].tolist() == usual.totals.counts[[0, 1, 3, 4, 5, 6]].tolist()


@pytest.mark.parametrize("validate", ["cheap", "full", "off"])
def test_one_modality_is_self_paced_learning_of_any_classifier(make_problem, validate) -> None:
    logits, labels, offsets = make_problem(M=1, dtype=torch.float32)
    loss = F.cross_entropy(logits[0], labels, reduction="none")
    leaf = logits.clone().requires_grad_()
    options = {"scheme": "linear", "validate": validate}
    step = ops.self_paced_step(leaf, labels, offsets, 2.0, measure="loss", **options)
    weight = (1 - loss / 2).clamp(0, 1)
    torch.testing.assert_close(step.difficulty, loss)
    torch.testing.assert_close(step.weight, weight)
    torch.testing.assert_close(step.loss, (weight * loss).mean())
    assert step.spread.isnan().all()
    assert step.confidence.shape == (1, 24)
    assert step.totals.undefined == 0
    assert step.totals.sums.shape == (4,)
    (gradient,) = torch.autograd.grad(step.loss, leaf)
    expected = (torch.softmax(logits[0], -1) - F.one_hot(labels, 6)) * weight[:, None] / 24
    torch.testing.assert_close(gradient[0], expected)
    for form in ([leaf[0]], {"text": leaf[0]}):
        assert torch.equal(ops.self_paced_step(form, labels, offsets, 2.0, measure="loss", **options).loss, step.loss)


@pytest.mark.parametrize("M", [1, 3])
@pytest.mark.parametrize("normalizer", ["all", "selected"])
def test_weights_computed_elsewhere_are_trained_with(make_problem, M, normalizer) -> None:
    logits, labels, offsets = make_problem(M=M)
    weight = 3 * torch.rand(24, dtype=torch.float64)
    weight[:3] = torch.tensor([0.0, -2.0, INF])
    leaf = logits.clone().requires_grad_()
    options = {"measure": "none", "scheme": "given", "extra_difficulty": weight, "normalizer": normalizer}
    step = ops.self_paced_step(leaf, labels, offsets, 0.1, **options)
    weight[:3] = 0
    assert torch.equal(step.weight, weight)
    losses = F.cross_entropy(logits.sum(0), labels, reduction="none")
    norm = 24 if normalizer == "all" else weight.sum()
    torch.testing.assert_close(step.loss, (weight * losses).sum() / norm)
    (gradient,) = torch.autograd.grad(step.loss, leaf)
    expected = (torch.softmax(logits.sum(0), -1) - F.one_hot(labels, 6)) * weight[:, None] / norm
    torch.testing.assert_close(gradient, expected.expand_as(gradient))
    assert ops.self_paced_step(logits, labels, offsets, None, **options).weight.eq(1).all()


def test_superloss_weighs_the_utterance_loss(make_problem) -> None:
    """Castells et al.: the weights of the step are the gradient of the values of its losses."""
    logits, labels, offsets = make_problem(M=1)
    options = {"measure": "loss", "scheme": "superloss", "scheme_parameters": {"regularization": 0.7}}
    step = ops.self_paced_step(logits, labels, offsets, 1.2, **options)
    loss = step.utterance_loss.clone().requires_grad_()
    (sigma,) = torch.autograd.grad(ops.super_loss(loss, 1.2, regularization=0.7).value.sum(), loss)
    torch.testing.assert_close(step.weight, sigma)
    assert step.weight.max() > 1
    assert step.totals.selected == 24


@pytest.mark.parametrize(("measure", "difficulty"), [("spcl", INF), ("loss", INF), ("spread", None), ("none", 0.25)])
def test_a_loss_of_inf_is_the_hardest_by_its_own_measures(make_problem, measure, difficulty) -> None:
    logits, labels, offsets = make_problem(M=2)
    logits[:, 8, labels[8]] = -INF
    extra = torch.full((24,), 0.25)
    step = ops.self_paced_step(logits, labels, offsets, 0.5, measure=measure, extra_difficulty=extra)
    assert step.utterance_loss[8] == INF
    assert step.difficulty[8] == (step.spread[3] + 0.25 if difficulty is None else difficulty)
    assert step.totals.nonfinite == 1
    assert step.weight[8] == (step.difficulty[8] <= 0.5)
    assert step.loss.isinf() == (step.weight[8] == 1)


@pytest.mark.parametrize("measure", ["spcl", "spread"])
def test_a_dialogue_of_one_modality_is_undefined_where_the_spread_counts(make_problem, measure) -> None:
    logits, labels, offsets = make_problem()
    present = torch.ones(3, 24, dtype=torch.bool)
    present[1:, 8:20] = False  # the fourth dialogue has the first modality alone
    for other in (measure, "loss"):
        step = ops.self_paced_step(logits, labels, offsets, 0.8, measure=other, present=present)
        undefined = step.difficulty.isnan()
        assert undefined[8:20].all() == (other == measure)
        assert step.totals.undefined == undefined.sum() == (12 if other == measure else 0)


@pytest.mark.parametrize(
    ("M", "options", "message"),
    [
        (1, {}, r"the spread between modalities needs at least 2 of them \(got 1\)"),
        (1, {"measure": "spread"}, r"the spread between modalities needs at least 2 of them \(got 1\)"),
        (2, {"measure": "none"}, r"measure 'none' needs extra_difficulty \(got None\)"),
        (2, {"measure": "margin"}, r"measure must be one of 'spcl', 'loss', 'spread', 'none' \(got 'margin'\)"),
    ],
)
@pytest.mark.parametrize("validate", ["cheap", "full"])
def test_what_a_measure_lacks_is_refused(make_problem, M, options, message, validate) -> None:
    with pytest.raises(ValueError, match=f"^self_paced_step: {message}"):
        ops.self_paced_step(*make_problem(M=M), 0.8, validate=validate, **options)


def test_no_modality_is_refused_by_every_measure() -> None:
    labels, offsets = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3])
    for logits in (torch.zeros(0, 3, 4), []):
        with pytest.raises(ValueError, match="at least one modality"):
            ops.self_paced_step(logits, labels, offsets, 0.8, measure="loss")


@pytest.mark.parametrize("measure", ["loss", "none"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_measures_compile_whole(make_problem, measure) -> None:
    logits, labels, offsets = make_problem(M=1)
    extra = torch.rand(24)

    def f(z, threshold):
        step = ops.self_paced_step(z, labels, offsets, threshold, measure=measure, extra_difficulty=extra)
        return step.loss, step.weight

    torch._dynamo.reset()
    threshold = torch.tensor(0.9)
    got = torch.compile(f, fullgraph=True, backend="aot_eager")(logits, threshold)
    for a, b in zip(got, f(logits, threshold), strict=True):
        torch.testing.assert_close(a, b)
