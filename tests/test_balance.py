"""Balance metrics by hand."""

from __future__ import annotations

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
