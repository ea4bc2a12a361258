"""How evenly the modalities carry a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spcl_fast.ops import _check


def modality_ratio(confidence_sum: Tensor) -> Tensor:
    """How much more confident each modality is than the weakest: `r_m = S_m / min_k S_k` (SPCL, code).

    Args:
        confidence_sum: `[M]` (or `[M, ...]`), the confidence of each modality summed over the utterances
            looked at: `totals.confidence_sum`, or `totals.selected_confidence_sum` for those selected.

    Returns:
        The same shape; 1 for the weakest modality, and for all where nothing was summed. +Inf beside a
        modality whose sum is 0.
    """
    smallest = confidence_sum.amin(0, keepdim=True)
    nothing = (confidence_sum == 0).all(0, keepdim=True)
    return torch.where(nothing, torch.ones_like(confidence_sum), confidence_sum / smallest)


def modality_accuracy(
    logits: Tensor | Sequence[Tensor] | Mapping[str, Tensor], labels: Tensor, *, ignore_index: int = -100
) -> Tensor:
    """Share of the labelled utterances that each modality alone gets right: argmax of its own logits.

    Args:
        logits: `[M, T, C]`, or M tensors `[T, C]` as a sequence or a mapping.
        labels: `int[T]`.
        ignore_index: the label of utterances that do not count.

    Returns:
        `float64[M]` in [0, 1]; NaN where no utterance is labelled.
    """
    z = _check.logits("modality_accuracy", logits)
    _check.labels("modality_accuracy", labels, z)
    counted = labels != ignore_index
    right = torch.stack([(z.modality(m).argmax(-1) == labels) & counted for m in range(z.M)])
    return right.sum(1).double() / counted.sum()
