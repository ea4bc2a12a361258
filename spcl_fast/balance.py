"""How evenly the modalities carry a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spcl_fast.ops import _check
from spcl_fast.reference.rows import label_is_scored, row_is_finite


def modality_ratio(confidence_sum: Tensor) -> Tensor:
    """How much more confident each modality is than the weakest: `r_m = S_m / min_k S_k` (arXiv 2605.21565, code).

    Args:
        confidence_sum: `[M]` (or `[M, ...]`), M >= 1, the confidence of each modality summed over the utterances
            looked at: `totals.confidence_sum`, or `totals.selected_confidence_sum` for those selected.

    Returns:
        The same shape, floating point; 1 for the weakest modality, so for all where nothing was summed. +Inf beside a
        modality whose sum is 0; NaN for all beside one whose sum is NaN. Deterministic; nothing waits for the device.

    Raises:
        TypeError: something else than a tensor.
        ValueError: no modality.

    Example:
        >>> import torch
        >>> from spcl_fast import balance
        >>> balance.modality_ratio(torch.tensor([6.0, 3.0])).tolist()  # the first is twice as confident
        [2.0, 1.0]
    """
    if not isinstance(confidence_sum, Tensor):
        raise TypeError(f"modality_ratio: confidence_sum must be a tensor (got {type(confidence_sum).__name__})")
    if confidence_sum.ndim == 0 or confidence_sum.shape[0] == 0:
        shape = tuple(confidence_sum.shape)
        raise ValueError(f"modality_ratio: confidence_sum must have at least one modality (got shape {shape})")
    smallest = confidence_sum.amin(0, keepdim=True)
    return torch.where(confidence_sum == smallest, 1.0, confidence_sum / smallest)


def modality_accuracy(
    logits: Tensor | Sequence[Tensor] | Mapping[str, Tensor], labels: Tensor, *, ignore_index: int = -100
) -> Tensor:
    """Share of the utterances that each modality alone gets right: argmax of its own logits, of a tie the first.

    The literature's usual form; its variance over the modalities tells how evenly they have learned.

    Args:
        logits: `[M, T, C]`, or M tensors `[T, C]` as a sequence or a mapping; float16, bfloat16, float32 or float64.
        labels: `int[T]`, any integer dtype.
        ignore_index: the label of utterances that do not count.

    Returns:
        `float64[M]` in [0, 1], over the utterances whose label names a class and whose logits of that modality
        are neither NaN nor +Inf, nor -Inf for every class; NaN where there are none, so for T = 0. Deterministic;
        nothing waits for the device.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, two devices.

    Example:
        >>> import torch
        >>> from spcl_fast import balance
        >>> text = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
        >>> audio = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> balance.modality_accuracy({"text": text, "audio": audio}, torch.tensor([0, 1, -100])).tolist()
        [1.0, 0.5]
    """
    z = _check.logits("modality_accuracy", logits)
    _check.labels("modality_accuracy", labels, z)
    y = labels.long()
    labelled = label_is_scored(y, z.C, ignore_index)
    counted = torch.stack([labelled & row_is_finite(z.modality(m)) for m in range(z.M)])
    right = torch.stack([z.modality(m).argmax(-1) == y for m in range(z.M)]) & counted
    return right.sum(1).double() / counted.sum(1)
