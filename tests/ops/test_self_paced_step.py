"""`ops.self_paced_step` against the published computation, written out as loops over dialogues and utterances."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
import torch.nn.functional as F

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

INF = float("inf")
#: what a backend may differ by from the formulas in float64
TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {"rtol": 2e-6, "atol": 2e-6}}


def published(logits, labels, offsets, threshold):
    """SPCL's batch, utterance by utterance, in the code's own forms: torch.std's definition and 2/(1/s + 1/l)."""
    M, T, _ = logits.shape
    joint = logits.sum(0)
    loss = [-math.log(torch.softmax(joint[t], 0)[labels[t]]) for t in range(T)]
    p = [[float(torch.softmax(logits[m, t], 0)[labels[t]]) for t in range(T)] for m in range(M)]
    spread, difficulty = [], []
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        s = statistics.stdev(sum(p[m][start:end]) for m in range(M)) if end > start else math.nan
        spread.append(s)
        difficulty += [2 / (1 / s + 1 / loss[t]) for t in range(start, end)]
    weight = [1.0 if rho <= threshold else 0.0 for rho in difficulty]
    total = sum(v * x for v, x in zip(weight, loss, strict=True))
    return total / T, weight, difficulty, loss, p, spread


@pytest.mark.parametrize("M", [2, 3, 5])
@pytest.mark.parametrize("threshold", [0.3, 0.8, 1.2])
def test_self_paced_step_equals_the_published_computation(make_problem, M, threshold):
    logits, labels, offsets = make_problem(M=M)
    step = ops.self_paced_step(logits, labels, offsets, threshold)
    loss, *rest = published(logits, labels, offsets, threshold)
    assert 0 < sum(rest[0]) < len(labels)
    torch.testing.assert_close(step.loss.item(), loss, rtol=1e-12, atol=1e-12)
    names = ("weight", "difficulty", "utterance_loss", "confidence", "spread")
    for name, expected in zip(names, rest, strict=True):
        torch.testing.assert_close(
            getattr(step, name),
            torch.tensor(expected, dtype=torch.float64),
            rtol=1e-12,
            atol=1e-12,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_self_paced_step_in_float32_selects_as_the_published_form(make_problem):
    logits, labels, offsets = make_problem(lengths=(50, 9, 31, 2, 70) * 10, dtype=torch.float32)
    threshold = 0.9
    step = ops.self_paced_step(logits, labels, offsets, threshold)
    p = torch.softmax(logits, -1).gather(-1, labels.expand(3, -1)[..., None])[..., 0]
    s = torch.cat([p[:, a:b].sum(1).std(0).expand(b - a) for a, b in itertools.pairwise(offsets)])
    rho = 2 / (1 / s + 1 / F.cross_entropy(logits.sum(0), labels, reduction="none"))
    differ = (rho <= threshold) != (step.weight == 1)
    assert (rho[differ] - threshold).abs().lt(1e-5).all()
    assert 0 < step.weight.mean() < 1
    torch.testing.assert_close(step.difficulty, rho, rtol=1e-4, atol=1e-5)


def test_self_paced_step_totals_are_the_sums(make_problem):
    logits, labels, offsets = make_problem()
    step = ops.self_paced_step(logits, labels, offsets, 0.8)
    totals = step.totals
    assert totals.scored == 24
    assert totals.selected == step.weight.sum()
    assert not any((totals.nonfinite, totals.bad_label, totals.bad_offset, totals.undefined))
    assert all(getattr(totals, name).ndim == 0 for name in ("scored", "selected", "undefined", "loss_sum"))
    assert (totals.counts.dtype, totals.sums.dtype) == (torch.int64, torch.float64)
    assert totals.counts.tolist() == [1, 24, int(totals.selected), 0, 0, 0, 0]
    torch.testing.assert_close(totals.loss_sum, step.utterance_loss.sum())
    torch.testing.assert_close(totals.confidence_sum, step.confidence.sum(1))
    torch.testing.assert_close(totals.selected_confidence_sum, (step.confidence * step.weight).sum(1))
    soft = ops.self_paced_step(logits, labels, offsets, 0.8, scheme="linear")
    torch.testing.assert_close(soft.totals.weight_sum, soft.weight.sum())
    assert 0 < soft.totals.weight_sum < soft.totals.selected
    assert soft.totals.sums.shape == (2 + 2 * len(logits),)


def test_self_paced_step_gradient_is_that_of_the_selected_cross_entropy(make_problem):
    logits, labels, offsets = make_problem()
    logits.requires_grad_()
    for normalizer in ("all", "selected"):
        step = ops.self_paced_step(logits, labels, offsets, 0.8, normalizer=normalizer)
        v = step.weight
        norm = len(labels) if normalizer == "all" else v.sum()
        expected = (v * F.cross_entropy(logits.sum(0), labels, reduction="none")).sum() / norm
        torch.testing.assert_close(step.loss, expected)
        (got,) = torch.autograd.grad(step.loss, logits)
        torch.testing.assert_close(got, torch.autograd.grad(expected, logits)[0])
        assert not got[:, v == 0].any()
        assert not any(x.requires_grad for x in (*step[1:6], *step.totals))


def test_self_paced_step_passes_gradcheck(make_problem):
    logits, labels, offsets = make_problem(lengths=(3, 2), C=4)
    chosen = ops.self_paced_step(logits, labels, offsets, 0.8).weight
    assert 0 < chosen.sum() < 5
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ops.self_paced_step(z, labels, offsets, 0.8).loss, logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_self_paced_step_at_infinity_gives_exactly_the_gradients_of_the_baseline(make_problem, dtype, backend):
    logits, labels, offsets = make_problem(dtype=dtype)
    logits.requires_grad_()
    plain = F.cross_entropy(logits.sum(0), labels)
    (expected,) = torch.autograd.grad(plain, logits)
    gradients = []
    for threshold in (INF, None):
        step = ops.self_paced_step(logits, labels, offsets, threshold)
        gradients += torch.autograd.grad(step.loss, logits)
        torch.testing.assert_close(step.loss, plain, **TOLERANCE[dtype])
    assert torch.equal(gradients[0], gradients[1])
    if backend == "reference":  # which calls torch's cross entropy; the kernel's exp rounds on its own
        assert torch.equal(gradients[0], expected)
    torch.testing.assert_close(gradients[0], expected, **TOLERANCE[dtype])


def test_self_paced_step_with_nothing_selected_has_loss_zero_and_zero_gradient(make_problem):
    logits, labels, offsets = make_problem()
    logits.requires_grad_()
    for normalizer in ("all", "selected"):
        step = ops.self_paced_step(logits, labels, offsets, -1.0, normalizer=normalizer)
        assert step.loss == 0
        assert step.totals.selected == 0
        assert not torch.autograd.grad(step.loss, logits)[0].any()


def test_self_paced_step_takes_sequences_mappings_and_gives_each_its_gradient(make_problem):
    logits, labels, offsets = make_problem()
    parts = [z.clone().requires_grad_() for z in logits]
    expected = ops.self_paced_step(logits.requires_grad_(), labels, offsets, 0.8)
    expected.loss.backward()
    for form in (parts, tuple(parts), dict(zip("atv", parts, strict=True))):
        step = ops.self_paced_step(form, labels, offsets, 0.8)
        assert torch.equal(step.difficulty, expected.difficulty)
        grads = torch.autograd.grad(step.loss, parts)
        assert torch.equal(torch.stack(grads), logits.grad)


def test_self_paced_step_takes_thresholds_as_tensors(make_problem):
    problem = make_problem()
    step = ops.self_paced_step(*problem, 0.8)
    for threshold in (torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.8)):
        assert torch.equal(ops.self_paced_step(*problem, threshold).weight, step.weight)


@pytest.mark.parametrize(
    "options",
    [{"class_weight": True}, {"label_smoothing": 0.1}, {"class_weight": True, "label_smoothing": 0.2}],
)
def test_self_paced_step_utterance_loss_is_torchs_cross_entropy(make_problem, options):
    logits, labels, offsets = make_problem()
    options = {**options, **({"class_weight": torch.rand(6)} if "class_weight" in options else {})}
    step = ops.self_paced_step(logits, labels, offsets, 0.8, **options)
    weight = options.get("class_weight")
    expected = F.cross_entropy(
        logits.sum(0),
        labels,
        None if weight is None else weight.double(),
        reduction="none",
        label_smoothing=options.get("label_smoothing", 0.0),
    )
    torch.testing.assert_close(step.utterance_loss, expected)
    s = step.spread.repeat_interleave(offsets.diff())
    torch.testing.assert_close(step.difficulty, 2 * s * expected / (s + expected))
    torch.testing.assert_close(step.loss, (step.weight * expected).mean())


def test_self_paced_step_uses_a_given_joint(make_problem):
    logits, labels, offsets = make_problem()
    joint = torch.randn(24, 6, dtype=torch.float64, requires_grad=True)
    step = ops.self_paced_step(logits, labels, offsets, INF, joint=joint)
    torch.testing.assert_close(step.utterance_loss, F.cross_entropy(joint, labels, reduction="none").detach())
    torch.testing.assert_close(step.spread, ops.self_paced_step(logits, labels, offsets, INF).spread, equal_nan=True)
    (got,) = torch.autograd.grad(step.loss, joint)
    expected = torch.autograd.grad(F.cross_entropy(joint, labels), joint)[0]
    torch.testing.assert_close(got, expected, **TOLERANCE[torch.float64])


def test_self_paced_step_adds_extra_difficulty(make_problem):
    problem = make_problem()
    plain = ops.self_paced_step(*problem, 0.8)
    extra = torch.rand(24)
    extra[3] = float("nan")
    step = ops.self_paced_step(*problem, 0.8, extra_difficulty=extra)
    torch.testing.assert_close(step.difficulty, plain.difficulty + extra, equal_nan=True)
    assert step.weight[3] == 0
    assert step.totals.undefined == 1
    assert step.totals.scored == 24


def test_self_paced_step_aggregates_by_mean(make_problem):
    logits, labels, offsets = make_problem()
    by_sum = ops.self_paced_step(logits, labels, offsets, 0.8)
    by_mean = ops.self_paced_step(logits, labels, offsets, 0.8, aggregate="mean")
    torch.testing.assert_close(by_mean.spread, by_sum.spread / offsets.diff(), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_self_paced_step_of_half_precision_is_computed_in_float32(make_problem, dtype):
    logits, labels, offsets = make_problem(dtype=dtype)
    logits.requires_grad_()
    step = ops.self_paced_step(logits, labels, offsets, 0.8)
    exact = ops.self_paced_step(logits.detach().double(), labels, offsets, 0.8)
    assert step.loss.dtype == step.difficulty.dtype == torch.float32
    torch.testing.assert_close(step.difficulty.double(), exact.difficulty, rtol=1e-5, atol=1e-5)
    step.loss.backward()
    assert logits.grad.dtype == dtype


def test_self_paced_step_does_not_write_to_its_inputs(make_problem):
    logits, labels, offsets = make_problem()
    copies = logits.clone(), labels.clone(), offsets.clone()
    ops.self_paced_step(logits, labels, offsets, 0.8)
    assert all(torch.equal(a, b) for a, b in zip((logits, labels, offsets), copies, strict=True))
