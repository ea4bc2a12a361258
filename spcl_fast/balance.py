"""How evenly the modalities carry a model: what their confidences say, and their own predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spcl_fast import ops
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
    _of_modalities("modality_ratio", "confidence_sum", confidence_sum)
    smallest = confidence_sum.amin(0, keepdim=True)
    return torch.where(confidence_sum == smallest, 1.0, confidence_sum / smallest)


def gradient_coefficient(confidence_sum: Tensor, alpha: float) -> Tensor:
    """What the gradient of each modality's encoder is multiplied by, so that the weaker ones keep up.

    `1 - tanh(alpha r_m)` where `r_m > 1`, else 1, with `r_m` of `modality_ratio`: OGM-GE (arXiv 2203.15332) for two
    modalities, whose ratio is that to the other one, and Ada2I (arXiv 2408.12895) for any number. Their noise is left
    to the caller.

    Args:
        confidence_sum: `[M]` (or `[M, ...]`), M >= 1, the confidence of each modality summed over a batch.
        alpha: how strongly, above 0.

    Returns:
        The same shape, floating point, in [0, 1]: 1 for the weakest modality, 0 beside one whose sum is 0, NaN for all
        beside one whose sum is NaN. Deterministic; nothing waits for the device.

    Raises:
        TypeError: something else than a tensor and a number.
        ValueError: no modality, an alpha that is not finite and above 0.

    Example:
        >>> import torch
        >>> from spcl_fast import balance
        >>> [round(x, 3) for x in balance.gradient_coefficient(torch.tensor([6.0, 3.0]), alpha=0.5).tolist()]
        [0.238, 1.0]
    """
    _of_modalities("gradient_coefficient", "confidence_sum", confidence_sum)
    alpha = _check.number("gradient_coefficient", "alpha", alpha, "be finite and above 0", lambda x: 0 < x < math.inf)
    ratio = modality_ratio(confidence_sum)
    return torch.where(ratio <= 1, 1.0, 1 - torch.tanh(alpha * ratio))  # NaN is not at most 1, and stays


def modality_accuracy(
    logits: Tensor | Sequence[Tensor] | Mapping[str, Tensor], labels: Tensor, *, ignore_index: int = -100
) -> Tensor:
    """Share of the utterances that each modality alone gets right: argmax of its own logits, of a tie the first.

    The literature's usual form; `accuracy_variance` of it tells how evenly they have learned.

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


def accuracy_variance(modality_accuracy: Tensor) -> Tensor:
    """Variance of the accuracy over the modalities: 0 where all alone do as well; the literature's usual form.

    The modalities are all there are and no sample of more, so the sum of squares is divided by M, not by M - 1.

    Args:
        modality_accuracy: `[M]` (or `[M, ...]`), M >= 1, floating point: of the function of that name.

    Returns:
        `[]` (or `[...]`) in [0, 1/4], of the same dtype; 0 for one modality; NaN beside an accuracy of NaN.
        Deterministic; nothing waits for the device.

    Raises:
        TypeError: something else than a tensor.
        ValueError: no modality.

    Example:
        >>> import torch
        >>> from spcl_fast import balance
        >>> balance.accuracy_variance(torch.tensor([0.75, 0.25])).item()
        0.0625
    """
    _of_modalities("accuracy_variance", "modality_accuracy", modality_accuracy)
    return modality_accuracy.var(0, correction=0)


def modality_loss(
    logits: Tensor | Sequence[Tensor] | Mapping[str, Tensor], labels: Tensor, *, ignore_index: int = -100
) -> Tensor:
    """Mean cross entropy of each modality alone, `-log softmax(z^m_t)[y_t]`; the literature's usual form.

    Args:
        logits: `[M, T, C]`, or M tensors `[T, C]` as a sequence or a mapping; float16, bfloat16, float32 or float64.
        labels: `int[T]`, any integer dtype.
        ignore_index: the label of utterances that do not count.

    Returns:
        `float64[M]` in nats, over the utterances that `modality_accuracy` counts, without a gradient; NaN where there
        are none, +Inf where one has a probability of 0. Deterministic; nothing waits for the device.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, two devices.

    Example:
        >>> import torch
        >>> from spcl_fast import balance
        >>> logits = {"text": torch.tensor([[0.75, 0.25]]).log(), "audio": torch.tensor([[0.5, 0.5]]).log()}
        >>> [round(x, 4) for x in balance.modality_loss(logits, torch.tensor([0])).tolist()]  # log 4/3 and log 2
        [0.2877, 0.6931]
    """
    _check.labels("modality_loss", labels, _check.logits("modality_loss", logits))
    with torch.no_grad():
        loss = ops.modality_scores(logits, labels, ignore_index=ignore_index).loss
        return loss.double().nanmean(1)  # NaN in those that are not counted


def loss_disparity(modality_loss: Tensor) -> Tensor:
    """How far the losses of the modalities lie apart, `max_m CE_m - min_m CE_m`; the literature's usual form.

    Args:
        modality_loss: `[M]` (or `[M, ...]`), M >= 1: of the function of that name.

    Returns:
        `[]` (or `[...]`) in nats, at least 0, of the same dtype; 0 for one modality; +Inf where only some are +Inf, NaN
        where all are or one is NaN. Deterministic; nothing waits for the device.

    Raises:
        TypeError: something else than a tensor.
        ValueError: no modality.

    Example:
        >>> import torch
        >>> from spcl_fast import balance
        >>> balance.loss_disparity(torch.tensor([0.5, 1.25, 0.75])).item()
        0.75
    """
    _of_modalities("loss_disparity", "modality_loss", modality_loss)
    return modality_loss.amax(0) - modality_loss.amin(0)


def agreement(
    logits: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    labels: Tensor | None = None,
    *,
    ignore_index: int = -100,
) -> Tensor:
    """How alike the modalities predict: mean over utterances of the mean over pairs of `cos(softmax z^m, softmax z^n)`.

    The literature's usual form; `ops.window_coherence` gives it for each utterance.

    Args:
        logits: `[M, T, C]`, or M tensors `[T, C]` as a sequence or a mapping, M up to 256; float16, bfloat16, float32
            or float64.
        labels: `int[T]`, any integer dtype: only utterances whose label names a class count. None: all do.
        ignore_index: the label of utterances that do not count.

    Returns:
        `float64[]` in [0, 1], without a gradient; 1 where all predict the same. A modality whose logits for an
        utterance are NaN or +Inf, or -Inf for every class, drops its pairs there; an utterance without a pair does not
        count. NaN where none counts, so for M = 1 and T = 0. Deterministic; nothing waits for the device.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, two devices, more than 256 modalities.

    Example:
        >>> import torch
        >>> from spcl_fast import balance
        >>> logits = [torch.tensor([[0.6, 0.4]]).log(), torch.tensor([[0.4, 0.6]]).log()]
        >>> round(balance.agreement(logits).item(), 4)  # 0.48 / 0.52
        0.9231
    """
    z = _check.logits("agreement", logits)
    counted = torch.ones(z.T, dtype=torch.bool, device=z.device)
    if labels is not None:
        _check.labels("agreement", labels, z)
        counted = label_is_scored(labels.long(), z.C, ignore_index)
    if z.M == 1:
        return torch.full((), math.nan, dtype=torch.float64, device=z.device)
    present = torch.stack([counted & row_is_finite(z.modality(m)) for m in range(z.M)])
    offsets = torch.arange(z.T + 1, device=z.device)
    with torch.no_grad():
        cosine = ops.window_coherence(logits, offsets, window=1, source="prediction", present=present)
        return cosine.double().nanmean()  # NaN in those without a pair


def _of_modalities(function: str, name: str, value: Tensor) -> None:
    """TypeError or ValueError unless it is a tensor of at least one modality."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: {name} must be a tensor (got {type(value).__name__})")
    if value.ndim == 0 or value.shape[0] == 0:
        raise ValueError(f"{function}: {name} must have at least one modality (got shape {tuple(value.shape)})")
