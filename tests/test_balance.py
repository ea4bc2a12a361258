"""Balance metrics by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from spcl_fast import balance


def test_modality_ratio_divides_by_the_weakest():
    assert torch.equal(balance.modality_ratio(torch.tensor([3.0, 1.5, 6.0])), torch.tensor([2.0, 1.0, 4.0]))


def test_modality_ratio_of_nothing_is_one_and_of_a_silent_modality_infinite():
    assert torch.equal(balance.modality_ratio(torch.zeros(3)), torch.ones(3))
    assert torch.equal(balance.modality_ratio(torch.tensor([2.0, 0.0])), torch.tensor([math.inf, 1.0]))


def test_modality_ratio_beside_nan_is_nan():
    assert balance.modality_ratio(torch.tensor([2.0, math.nan])).isnan().all()


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([2.0, 1.0], TypeError, r"confidence_sum must be a tensor \(got list\)"),
        (torch.zeros(0), ValueError, r"at least one modality \(got shape \(0,\)\)"),
        (torch.tensor(1.0), ValueError, r"at least one modality \(got shape \(\)\)"),
    ],
)
def test_modality_ratio_refuses_what_has_no_modality(value, error, message):
    with pytest.raises(error, match=message):
        balance.modality_ratio(value)


def test_modality_accuracy_counts_labelled_utterances_alone():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 1.0], [3.0, 0.0]]])
    labels = torch.tensor([0, 1, -100])
    expected = torch.tensor([1.0, 0.5], dtype=torch.float64)
    assert torch.equal(balance.modality_accuracy(logits, labels), expected)
    assert torch.equal(balance.modality_accuracy({"a": logits[0], "t": logits[1]}, labels), expected)
    assert balance.modality_accuracy(logits, torch.full((3,), -100)).isnan().all()


def test_modality_accuracy_leaves_out_bad_labels_and_logits():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 1.0], [3.0, 0.0]]])
    logits[0, 1, 1] = float("nan")
    labels = torch.tensor([0, 1, 156], dtype=torch.uint8)  # 156 is -100 in eight bits
    expected = torch.tensor([1.0, 0.5], dtype=torch.float64)
    assert torch.equal(balance.modality_accuracy(logits, labels), expected)


def test_accuracy_variance_divides_by_the_number_of_modalities():
    assert balance.accuracy_variance(torch.tensor([0.5, 0.75, 1.0])).item() == pytest.approx(0.125 / 3)
    assert balance.accuracy_variance(torch.tensor([0.5])).item() == 0
    assert balance.accuracy_variance(torch.tensor([0.5, math.nan])).isnan()


def test_loss_disparity_is_the_range():
    assert balance.loss_disparity(torch.tensor([0.5, 2.0, 1.0])).item() == 1.5
    assert balance.loss_disparity(torch.tensor([0.5])).item() == 0
    assert balance.loss_disparity(torch.tensor([0.5, math.inf])).item() == math.inf
    assert balance.loss_disparity(torch.tensor([0.5, math.nan, math.inf])).isnan()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (balance.accuracy_variance, "modality_accuracy"),
        (balance.loss_disparity, "modality_loss"),
        (lambda x: balance.gradient_coefficient(x, 0.5), "confidence_sum"),
    ],
)
def test_measures_of_modalities_refuse_what_has_none(function, name):
    with pytest.raises(TypeError, match=rf"{name} must be a tensor \(got list\)"):
        function([0.5])
    with pytest.raises(ValueError, match=rf"{name} must have at least one modality \(got shape \(0,\)\)"):
        function(torch.zeros(0))


@pytest.mark.parametrize("sums", [(6.0, 3.0), (3.0, 6.0), (2.0, 2.0)])
def test_gradient_coefficient_of_two_is_that_of_ogm_ge(sums):
    first = sums[0] / sums[1]
    expected = [1 - math.tanh(0.8 * r) if r > 1 else 1.0 for r in (first, 1 / first)]
    got = balance.gradient_coefficient(torch.tensor(sums, dtype=torch.float64), 0.8)
    assert got.tolist() == pytest.approx(expected, rel=1e-12)


def test_gradient_coefficient_of_three_compares_with_the_weakest():
    got = balance.gradient_coefficient(torch.tensor([4.0, 1.0, 2.0]), 0.5)
    assert got.tolist() == pytest.approx([1 - math.tanh(2.0), 1.0, 1 - math.tanh(1.0)])
    assert balance.gradient_coefficient(torch.tensor([2.0, 0.0]), 0.5).tolist() == [0.0, 1.0]
    assert balance.gradient_coefficient(torch.tensor([2.0, math.nan]), 0.5).isnan().all()


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
def test_gradient_coefficient_refuses_an_alpha_that_is_not_above_0(alpha):
    with pytest.raises(ValueError, match=r"gradient_coefficient: alpha must be finite and above 0 \(got "):
        balance.gradient_coefficient(torch.ones(2), alpha)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_modality_loss_is_the_mean_cross_entropy(make_problem, dtype):
    logits, labels, _ = make_problem(dtype=dtype)
    labels[::5] = -100
    got = balance.modality_loss(logits.requires_grad_(), labels)
    expected = [torch.nn.functional.cross_entropy(z.double(), labels) for z in logits]
    assert (got.dtype, got.requires_grad) == (torch.float64, False)
    assert got.tolist() == pytest.approx([x.item() for x in expected], rel=1e-6)
    assert torch.equal(balance.modality_loss(list(logits), labels), got)


def test_modality_loss_of_faulty_logits_and_of_nothing():
    logits = torch.tensor([[[0.0, 0.0], [math.nan, 0.0], [0.0, -math.inf]]] * 2)
    logits[1, 2] = 0.0
    got = balance.modality_loss(logits, torch.tensor([0, 0, 1]))
    assert got.tolist() == pytest.approx([math.inf, math.log(2)])
    assert balance.modality_loss(logits, torch.full((3,), -100)).isnan().all()
    assert balance.modality_loss(torch.zeros(2, 0, 3), torch.zeros(0, dtype=torch.long)).isnan().all()


def agreement_by_pairs(logits, counted):
    """The definition: the mean over utterances of the mean over the pairs that have two softmaxes."""
    p = torch.softmax(logits.double(), -1)
    means = []
    for t in counted.nonzero().flatten():
        pairs = itertools.combinations([x for x in p[:, t] if not x.isnan().any()], 2)
        if cosines := [torch.cosine_similarity(a, b, dim=0) for a, b in pairs]:
            means.append(torch.stack(cosines).mean())
    return torch.stack(means).mean().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_agreement_is_the_mean_of_all_cosines(make_problem, dtype):
    logits, labels, _ = make_problem(M=4, dtype=dtype)
    logits[2, 3, 1], logits[0, 5, 0], logits[1, 7] = math.nan, math.inf, -math.inf
    everything = torch.ones_like(labels, dtype=torch.bool)
    got = balance.agreement(logits)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(agreement_by_pairs(logits, everything), rel=1e-6)
    labels[:4] = -100
    got = balance.agreement(dict(enumerate(logits)), labels)
    assert got.item() == pytest.approx(agreement_by_pairs(logits, labels >= 0), rel=1e-6)


def test_agreement_is_1_for_equal_and_0_for_opposed_predictions():
    z = torch.tensor([[3.0, -1.0, 0.5], [0.0, 1.0, 2.0]])
    assert balance.agreement([z, z + 7, z]).item() == pytest.approx(1, abs=1e-6)
    certain = torch.tensor([[0.0, -math.inf]])
    assert balance.agreement([certain, certain.flip(1)]).item() == 0


def test_agreement_without_a_pair_is_nan():
    z = torch.zeros(2, 3)
    assert balance.agreement([z]).isnan()
    assert balance.agreement([z[:0], z[:0]]).isnan()
    assert balance.agreement([z, z * math.nan]).isnan()
    assert balance.agreement([z, z], torch.tensor([-100, 3])).isnan()


@pytest.mark.parametrize("function", [balance.modality_loss, balance.agreement])
def test_measures_of_logits_refuse_what_does_not_fit(function):
    z, labels = torch.zeros(2, 3), torch.tensor([0, 1])
    name = function.__name__
    with pytest.raises(ValueError, match=f"^{name}: logits must have at least one modality"):
        function([], labels)
    with pytest.raises(TypeError, match=f"^{name}: labels must hold integers"):
        function([z, z], labels.double())
    with pytest.raises(ValueError, match=rf"^{name}: labels must have shape \(2,\) \(got \(3,\)\)"):
        function([z, z], torch.tensor([0, 1, 2]))
