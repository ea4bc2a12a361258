"""Scores of predictions by hand, and against scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from spcl_fast import balance
from spcl_fast.merc.evaluation import evaluate, multimodal_gain


def logits_of(*predicted, C=3, size=3.0):
    """`[T, C]` whose argmax are these."""
    return size * torch.nn.functional.one_hot(torch.tensor(predicted), C)


def test_evaluation_by_hand():
    predicted = [0, 0, 0, 1, 0]
    logits = [3.0 * torch.nn.functional.one_hot(torch.tensor(predicted), 2), torch.tensor([[0.0, 1.0]] * 5)]
    labels = torch.tensor([0, 0, 1, 1, -100])
    got = evaluate(logits, labels)
    f1 = (2 * 2 / (2 + 3), 2 * 1 / (2 + 1))  # of class 0: 2 right of 3 predicted, 2 there; of class 1: 1 of 1, 2
    assert got.weighted_f1 == pytest.approx((f1[0] * 2 + f1[1] * 2) / 4)
    assert got.accuracy == 0.75
    assert got.macro_recall == (2 / 2 + 1 / 2) / 2
    assert got.modality_accuracy == (0.75, 0.5)
    joint = logits[0] + logits[1]
    assert got.loss == pytest.approx(float(torch.nn.functional.cross_entropy(joint[:4], labels[:4])))
    with pytest.raises(ValueError, match="at least one utterance must be labelled"):
        evaluate(logits, torch.full((5,), -100))


def test_evaluation_of_logits_without_a_softmax_is_wrong():
    logits = torch.tensor([[1.0, 0.0], [math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
    got = evaluate([logits, torch.zeros(4, 2)], torch.tensor([0, 0, 0, 0]))  # whose argmax are all 0
    assert got.accuracy == 0.25
    assert got.weighted_f1 == pytest.approx(2 * 1 / (1 + 4))
    assert math.isnan(got.loss)
    assert got.modality_accuracy == (1.0, 1.0)  # of those that have a softmax


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        ([], [0, 1], ValueError, "at least one modality"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], [0, 1], ValueError, r"logits\[1\] must have shape \(2, 3\)"),
        ([torch.zeros(2, 3)], [0, 1, 2], ValueError, r"labels must have shape \(2,\)"),
        ([torch.zeros(2, 3)], [0, 3], ValueError, r"labels must lie in \[0, 3\).*got 3 at position 1"),
        ([torch.zeros(2, 3)], [0.0, 1.0], TypeError, "labels must hold integers"),
    ],
)
def test_evaluation_refuses_what_does_not_fit(logits, labels, error, message):
    with pytest.raises(error, match=f"evaluate: .*{message}"):
        evaluate(logits, torch.tensor(labels))


def test_evaluation_weighs_the_classes_by_their_utterances():
    labels = torch.tensor([0, 0, 0, 1])
    got = evaluate([torch.tensor([[1.0, 0.0]] * 4)], labels)
    assert got.weighted_f1 == pytest.approx(0.75 * 2 * 3 / 7)  # and nothing for class 1


@pytest.mark.parametrize("seed", range(8))
def test_f1_is_that_of_scikit_learn_with_classes_that_are_absent_or_never_predicted(seed):
    rng = np.random.default_rng(seed)
    there, named = (rng.choice(7, size=rng.integers(1, 6), replace=False) for _ in range(2))
    y, predicted = rng.choice(there, size=40), rng.choice(named, size=40)
    logits = logits_of(*predicted, C=7)
    logits[3] = math.nan  # predicts nothing
    predicted[3] = -1
    got = evaluate([logits], torch.tensor(y))
    classes = {"labels": np.arange(7)}
    assert got.class_f1 == pytest.approx(f1_score(y, predicted, average=None, zero_division=0.0, **classes))
    assert got.weighted_f1 == pytest.approx(f1_score(y, predicted, average="weighted", zero_division=0.0, **classes))
    assert got.macro_f1 == pytest.approx(f1_score(y, predicted, average="macro", zero_division=np.nan, **classes))
    assert got.macro_recall == pytest.approx(recall_score(y, predicted, average="macro", labels=np.unique(y)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        assert got.macro_recall == pytest.approx(balanced_accuracy_score(y, predicted))


def test_evaluation_measures_the_balance_of_labelled_utterances(make_problem):
    logits, labels, _ = make_problem(dtype=torch.float32)
    labels[::3] = -100
    got = evaluate(list(logits), labels)
    assert got.modality_loss == pytest.approx(
        balance.modality_loss(logits[:, labels >= 0], labels[labels >= 0]).tolist()
    )
    assert got.agreement == pytest.approx(balance.agreement(logits[:, labels >= 0]).item())
    assert got.multimodal_gain == multimodal_gain(list(logits), labels)
    assert 0 < got.agreement < 1


@pytest.mark.parametrize("seed", range(4))
def test_multimodal_gain_is_over_the_best_proper_subset(make_problem, seed):
    logits, labels, _ = make_problem(seed=seed, dtype=torch.float32)
    a, b, c = logits
    labels[::4] = -100
    everything, *subsets = [evaluate([z], labels).weighted_f1 for z in (a + b + c, a, b, c, a + b, a + c, b + c)]
    assert multimodal_gain([a, b, c], labels) == pytest.approx(everything - max(subsets))


def test_multimodal_gain_by_hand():
    labels = torch.tensor([0, 1, 2])
    # Each is sure of one class and wrong about the others, so all know all. Two know two, and take the third for one of
    # these: F1 1, 2/3 and 0.
    a, b, c = logits_of(0, 2, 1), logits_of(2, 1, 0), logits_of(1, 0, 2)
    a[0], b[1], c[2] = 3 * a[0], 3 * b[1], 3 * c[2]
    assert multimodal_gain([a, b, c], labels) == pytest.approx(1 - 5 / 9)
    # A modality that disturbs takes away what the other knows alone.
    assert multimodal_gain([logits_of(0, 1, 2), logits_of(1, 1, 1, size=9.0)], labels) == pytest.approx(1 / 6 - 1)


def test_one_modality_has_neither_gain_nor_agreement():
    got = evaluate([logits_of(0, 1)], torch.tensor([0, 1]))
    assert math.isnan(got.multimodal_gain)
    assert math.isnan(got.agreement)
    assert math.isnan(multimodal_gain([logits_of(0, 1)], torch.tensor([0, 1])))


def test_multimodal_gain_refuses_what_evaluation_refuses():
    with pytest.raises(ValueError, match=r"^multimodal_gain: at least one utterance must be labelled"):
        multimodal_gain([torch.zeros(2, 3)] * 2, torch.tensor([-100, -100]))
    with pytest.raises(ValueError, match=r"^multimodal_gain: labels must lie in \[0, 3\)"):
        multimodal_gain([torch.zeros(2, 3)] * 2, torch.tensor([0, 3]))


def test_evaluation_takes_half_precision_and_small_integers():
    z = logits_of(0, 1, 1, C=2).half()
    got = evaluate([z, z], torch.tensor([0, 1, -100], dtype=torch.int8))
    assert (got.accuracy, got.class_f1, got.macro_f1) == (1.0, (1.0, 1.0), 1.0)
