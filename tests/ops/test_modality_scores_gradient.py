"""The gradient of `ops.modality_scores` against the formulas, computed by hand, and the faults; on every backend."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spcl_fast import ops

NAN, INF = float("nan"), float("inf")
NAMES = ("loss", "confidence", "entropy", "margin")


@pytest.fixture
def gradient(backend_name):
    def call(logits, labels, gradients, **options) -> Tensor:
        """The gradient of the logits; `gradients` are those of the scores, by name."""
        leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        scores = ops.modality_scores(leaf, labels, backend=backend_name, **options)
        arriving = {name: g.to(getattr(scores, name).dtype) for name, g in gradients.items()}
        return torch.autograd.grad([getattr(scores, name) for name in arriving], leaf, list(arriving.values()))[0]

    return call


def random_gradients(M: int, T: int, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    return {name: torch.randn(M, T, dtype=torch.float64) for name in names}


def by_hand(row: list[float], y: int) -> dict[str, list[float]]:
    """The derivative of each score in each logit."""
    top = max(row)
    e = [math.exp(z - top) for z in row]
    p = [x / sum(e) for x in e]
    log_p = [math.log(x) if x > 0 else 0.0 for x in p]
    entropy = -sum(x * l for x, l in zip(p, log_p, strict=True))
    best = max(z for c, z in enumerate(row) if c != y) if len(row) > 1 else NAN
    rivals = [c for c, z in enumerate(row) if c != y and z == best]
    of_p = lambda k, c: p[k] * ((c == k) - p[c])  # noqa: E731
    classes = range(len(row))
    return {
        "loss": [p[c] - (c == y) for c in classes],
        "confidence": [of_p(y, c) for c in classes],
        "entropy": [-p[c] * (log_p[c] + entropy) for c in classes],
        "margin": [of_p(y, c) - sum(of_p(r, c) for r in rivals) / len(rivals) if rivals else 0.0 for c in classes],
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_the_gradient_of_each_score_equals_its_formula(make_problem, gradient, name, dtype, tol):
    logits, labels, _ = make_problem(dtype=dtype)
    logits[0, :4, 1:3] = 1.5  # rivals that tie, or the label among them
    arriving = random_gradients(*logits.shape[:2], names=(name,))
    got = gradient(logits, labels, arriving)
    assert got.dtype == dtype
    for m in range(logits.shape[0]):
        for t in range(logits.shape[1]):
            expected = torch.tensor(by_hand(logits[m, t].tolist(), int(labels[t]))[name], dtype=torch.float64)
            torch.testing.assert_close(got[m, t].double(), expected * arriving[name][m, t], rtol=tol, atol=tol)


@pytest.mark.parametrize("C", [1, 2, 7, 64, 65, 130])
def test_gradients_of_several_scores_are_added(gradient, C):
    logits, labels = 2 * torch.randn(2, 37, C, dtype=torch.float64), torch.randint(C, (37,))
    arriving = random_gradients(2, 37)
    parts = [gradient(logits, labels, {name: arriving[name]}) for name in NAMES]
    torch.testing.assert_close(gradient(logits, labels, arriving), sum(parts), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("C", [2, 6, 70])
def test_gradients_are_those_of_finite_differences(make_problem, backend_name, C):
    logits, labels, _ = make_problem(lengths=(3, 2), M=2, C=C)
    labels[2] = -100
    present = torch.tensor([[True, True, True, True, False], [True, False, True, True, True]])
    keep = present & (labels != -100)
    leaves = [z.requires_grad_() for z in logits]

    def scores(*z: Tensor) -> tuple[Tensor, ...]:
        found = ops.modality_scores(z, labels, present=present, backend=backend_name)
        return tuple(x[keep] for x in found)

    assert torch.autograd.gradcheck(scores, leaves)


def test_the_gradient_of_a_single_class_is_zero(gradient):
    got = gradient(torch.randn(2, 3, 1), torch.zeros(3, dtype=torch.int64), random_gradients(2, 3))
    assert torch.equal(got, torch.zeros(2, 3, 1))


def test_the_margin_of_a_single_class_sends_back_zero(gradient):
    arriving = {"margin": torch.full((1, 3), NAN)}
    assert not gradient(torch.randn(1, 3, 1), torch.zeros(3, dtype=torch.int64), arriving).any()


def test_rivals_that_tie_share_the_gradient_of_the_margin(gradient):
    z = torch.tensor([[[1.0, 2.0, 2.0, 0.0, 2.0]]], dtype=torch.float64)
    got = gradient(z, torch.tensor([4]), {"margin": torch.ones(1, 1)})[0, 0]
    assert got[1] == got[2]
    torch.testing.assert_close(got, torch.tensor(by_hand(z[0, 0].tolist(), 4)["margin"]).double())


BAD_ROWS = [("label", -100), ("label", -1), ("label", 6), ("label", 2**40), ("logit", NAN), ("logit", INF)]


@pytest.mark.parametrize("arriving", [1.0, NAN, INF])
@pytest.mark.parametrize(("what", "value"), [*BAD_ROWS, ("row", -INF), ("present", False)])
def test_a_row_that_is_not_scored_sends_back_zeros_whatever_arrives(make_problem, gradient, what, value, arriving):
    logits, labels, _ = make_problem(lengths=(37,), dtype=torch.float32)
    gradients = random_gradients(3, 37)
    clean = gradient(logits, labels, gradients)
    present = None
    if what == "label":
        labels[5] = value
    elif what == "logit":
        logits[:, 5, 2] = value
    elif what == "row":
        logits[:, 5] = value
    else:
        logits[:, 5] = NAN
        present = torch.ones(3, 37, dtype=torch.bool)
        present[:, 5] = False
    for g in gradients.values():
        g[:, 5] = arriving
    got = gradient(logits, labels, gradients, present=present)
    assert torch.equal(got[:, 5], torch.zeros(3, 6))
    keep = torch.arange(37) != 5
    assert torch.equal(got[:, keep], clean[:, keep])


def test_ignore_index_may_be_a_class(gradient):
    logits, labels, arriving = torch.randn(1, 4, 3), torch.tensor([0, 1, 2, 1]), random_gradients(1, 4)
    got = gradient(logits, labels, arriving, ignore_index=1)[0]
    assert got.any(-1).tolist() == [True, False, True, False]


def test_minus_infinity_has_the_gradient_of_a_zero_probability(gradient):
    z = torch.tensor([[[0.0, -INF, 1.0], [0.0, -INF, 1.0], [-INF, 3.0, -INF]]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])
    p = torch.softmax(torch.tensor([0.0, 1.0], dtype=torch.float64), 0).tolist()
    ones = torch.ones(1, 3)
    of_loss = gradient(z, labels, {"loss": ones})[0]
    torch.testing.assert_close(of_loss[0], torch.tensor([p[0] - 1, 0.0, p[1]]).double())
    torch.testing.assert_close(of_loss[1], torch.tensor([p[0], -1.0, p[1]]).double())  # the limit of p - 1
    assert not of_loss[2].any()
    of_others = gradient(z, labels, dict.fromkeys(NAMES[1:], ones))
    assert of_others.isfinite().all()
    assert not of_others[z == -INF].any()


def test_huge_logits_and_vanishing_probabilities_send_back_finite_gradients(gradient):
    z = torch.tensor([[[3e38, -3e38, 0.0], [-3e38, 3e38, 3e38], [0.0, -95.0, -103.0], [0.0, -104.0, -200.0]]])
    got = gradient(z, torch.tensor([0, 0, 1, 2]), random_gradients(1, 4))
    assert got.isfinite().all()
    of_loss = gradient(z, torch.tensor([0, 0, 1, 2]), {"loss": torch.ones(1, 4)})[0]
    assert of_loss.tolist() == [[0, 0, 0], [-1, 0.5, 0.5], [1, -1, pytest.approx(0, abs=1e-40)], [1, 0, -1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_of_halves_is_computed_in_float32_and_rounded(make_problem, gradient, dtype):
    logits, labels, _ = make_problem(dtype=dtype)
    arriving = random_gradients(*logits.shape[:2])
    got = gradient(logits, labels, arriving)
    assert got.dtype == dtype
    expected = gradient(logits.double(), labels, arriving)
    half_a_step = torch.finfo(dtype).eps / 2
    assert ((got.double() - expected).abs() <= half_a_step * expected.abs() + 1e-5).all()


@pytest.mark.parametrize("layout", ["transposed", "step", "expanded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_any_strides_are_taken_of_logits_labels_and_arriving_gradients(make_problem, gradient, layout, dtype):
    logits, labels, _ = make_problem(dtype=dtype)
    arriving = {name: g.float() for name, g in random_gradients(*logits.shape[:2]).items()}
    expected = gradient(logits, labels, arriving)
    if layout == "transposed":
        logits = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        arriving = {name: g.T.contiguous().T for name, g in arriving.items()}
    elif layout == "step":
        labels = labels.repeat_interleave(3)[::3]
        arriving = {name: g.repeat_interleave(2, dim=1)[:, ::2] for name, g in arriving.items()}
    else:
        arriving = {name: g[:1, :1].expand_as(g) for name, g in arriving.items()}  # as those of a sum are
        expected = gradient(logits, labels, {name: g.contiguous() for name, g in arriving.items()})
    got = gradient(logits, labels, arriving)
    assert torch.equal(got, expected)


def test_sequences_and_mappings_receive_the_gradient_of_each_modality(make_problem, backend_name):
    logits, labels, _ = make_problem()
    stacked = logits.clone().requires_grad_()
    ops.modality_scores(stacked, labels, backend=backend_name).entropy.square().sum().backward()
    parts = [z.clone().requires_grad_() for z in logits]
    for form in (parts, dict(zip("atv", parts, strict=True))):
        for part in parts:
            part.grad = None
        ops.modality_scores(form, labels, backend=backend_name).entropy.square().sum().backward()
        assert all(torch.equal(part.grad, grad) for part, grad in zip(parts, stacked.grad, strict=True))


def test_a_frozen_modality_receives_none(make_problem, backend_name):
    logits, labels, _ = make_problem()
    parts = [z.clone() for z in logits]
    parts[1].requires_grad_()
    ops.modality_scores(parts, labels, backend=backend_name).loss.sum().backward()
    assert [part.grad is None for part in parts] == [True, False, True]


def test_a_batch_of_nothing_has_an_empty_gradient(gradient):
    got = gradient(torch.zeros(3, 0, 5), torch.zeros(0, dtype=torch.int64), random_gradients(3, 0))
    assert got.shape == (3, 0, 5)


def test_many_classes_are_tiled(gradient):
    logits, labels = torch.randn(1, 3, 65_536), torch.tensor([0, 65_535, 777])
    arriving = random_gradients(1, 3)
    expected = gradient(logits.double(), labels, arriving)
    torch.testing.assert_close(gradient(logits, labels, arriving).double(), expected, rtol=1e-5, atol=1e-7)


def test_scores_may_be_changed_in_place_before_the_backward_pass(make_problem, backend_name):
    logits, labels, _ = make_problem()
    leaf = logits.clone().requires_grad_()
    ops.modality_scores(leaf, labels, backend=backend_name).loss.mul_(3).sum().backward()
    again = logits.clone().requires_grad_()
    (3 * ops.modality_scores(again, labels, backend=backend_name).loss).sum().backward()
    assert torch.equal(leaf.grad, again.grad)


rows = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=9)


@given(rows, st.data())
@settings(max_examples=60, deadline=None)
def test_a_row_of_gradients_sums_to_zero_and_follows_its_classes(backend_names, row, data):
    """Every score is unchanged when a constant is added to the logits, and by renaming the classes."""
    y = data.draw(st.integers(0, len(row) - 1))
    order = data.draw(st.permutations(range(len(row))))
    z = torch.tensor(row, dtype=torch.float64)
    for backend in backend_names:
        found = []
        for values, label in ((z, y), (z[order], order.index(y))):
            leaf = values[None, None].clone().requires_grad_()
            scores = ops.modality_scores(leaf, torch.tensor([label]), backend=backend)
            found.append(torch.autograd.grad(scores.loss + 2 * scores.entropy - 3 * scores.margin, leaf)[0][0, 0])
        assert abs(float(found[0].sum())) < 1e-12
        torch.testing.assert_close(found[1], found[0][order], rtol=1e-9, atol=1e-12)
