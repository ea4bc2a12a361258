"""How well a model does, each of its modalities alone, and how evenly they carry it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spcl_fast import balance
from spcl_fast.merc.dataset import UNLABELLED
from spcl_fast.ops import _check
from spcl_fast.reference.rows import row_is_finite


class Evaluation(NamedTuple):
    """Of the labelled utterances: shares in [0, 1], losses in nats, and the multimodal gain in [-1, 1].

    weighted_f1, accuracy, loss, macro_f1 and class_f1 (in the order of the classes) are of the joint prediction;
    modality_accuracy and modality_loss of each modality alone, in their order; agreement and multimodal_gain of all;
    macro_recall, of the joint prediction again, is what papers on missing modalities call unweighted accuracy (UA), and
    accuracy what they call weighted (WA).

    Example:
        >>> import torch
        >>> from spcl_fast.merc.evaluation import evaluate
        >>> dev = evaluate([torch.tensor([[2.0, 0.0], [0.0, 1.0]])], torch.tensor([0, 1]))
        >>> f"{dev.weighted_f1:.1%}", dev.class_f1
        ('100.0%', (1.0, 1.0))
    """

    weighted_f1: float
    accuracy: float
    loss: float
    modality_accuracy: tuple[float, ...]
    macro_f1: float
    class_f1: tuple[float, ...]
    modality_loss: tuple[float, ...]
    agreement: float
    multimodal_gain: float
    macro_recall: float


def evaluate(logits: Sequence[Tensor], labels: Tensor) -> Evaluation:
    """Scores joint and single predictions.

    Args:
        logits: one `[T, C]` a modality, float16, bfloat16, float32 or float64; the joint is their sum.
        labels: `int[T]`, any integer dtype, -100 where there is none.

    Returns:
        Of the joint: F1 of every class (0 for one that is never predicted), their mean weighted by the utterances of
        each, their plain mean over the classes that are there or predicted, the mean over the classes that are there of
        the share of their utterances that is recognised (all as scikit-learn has them), accuracy and loss. Of each
        modality `balance.modality_accuracy` and `balance.modality_loss`; of all `balance.agreement` and
        `multimodal_gain`, both NaN for one modality. A joint that has no softmax (NaN, +Inf, -Inf for every class)
        predicts nothing, which is wrong, and makes the loss NaN. Deterministic; waits for the device.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: no modality, shapes that do not fit, a label that names no class, no utterance that is labelled.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.evaluation import evaluate
        >>> text = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        >>> audio = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> found = evaluate([text, audio], torch.tensor([0, 1, -100]))
        >>> found.accuracy, found.modality_accuracy
        (0.5, (1.0, 0.5))
    """
    z = _checked("evaluate", logits, labels)
    y, predicted = _predictions(z, labels)
    f1 = _class_f1(y, predicted, z.C)
    weighted = _weighted_f1(y, f1)
    loss = torch.nn.functional.cross_entropy(_joint(z, range(z.M)), labels.long(), ignore_index=UNLABELLED)
    return Evaluation(
        weighted_f1=float(weighted[-1]),
        accuracy=float((predicted[-1] == y).mean()),
        loss=float(loss),
        modality_accuracy=tuple(balance.modality_accuracy(logits, labels).tolist()),
        macro_f1=float(np.nanmean(f1[-1])),
        class_f1=tuple(np.nan_to_num(f1[-1]).tolist()),
        modality_loss=tuple(balance.modality_loss(logits, labels).tolist()),
        agreement=float(balance.agreement(logits, labels)),
        multimodal_gain=_gain(weighted),
        macro_recall=_macro_recall(y, predicted[-1], z.C),
    )


def multimodal_gain(logits: Sequence[Tensor], labels: Tensor) -> float:
    """What all modalities together do better than the best of fewer: F1(all) - max over proper subsets F1(subset).

    The literature's usual form, with the weighted F1, and with the sum of the logits of its modalities as the
    prediction of a subset: nothing is trained again without the others, so what is found is how much the model at hand
    needs them all. It is negative where a modality disturbs.

    Args:
        logits: one `[T, C]` a modality, float16, bfloat16, float32 or float64; 2^M - 1 subsets of them are looked at.
        labels: `int[T]`, any integer dtype, -100 where there is none.

    Returns:
        A number in [-1, 1]; NaN for one modality, which has no proper subset. A sum that has no softmax predicts
        nothing. Deterministic; waits for the device.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: no modality, shapes that do not fit, a label that names no class, no utterance that is labelled.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.evaluation import multimodal_gain
        >>> text = torch.tensor([[3.0, 0.0], [1.0, 0.0]])  # right and sure, wrong and less sure
        >>> audio = torch.tensor([[0.0, 1.0], [0.0, 3.0]])  # the other way round
        >>> round(multimodal_gain([text, audio], torch.tensor([0, 1])), 3)  # 1 together, 1/3 each
        0.667
    """
    z = _checked("multimodal_gain", logits, labels)
    y, predicted = _predictions(z, labels)
    return _gain(_weighted_f1(y, _class_f1(y, predicted, z.C)))


def _checked(function: str, logits: Sequence[Tensor], labels: Tensor) -> _check.Logits:
    """The logits, if they fit the labels, which all name a class or are missing, and one of which is there."""
    z = _check.logits(function, logits)
    _check.labels(function, labels, z)
    _check.label_values(function, labels, z.C, UNLABELLED)
    if not bool((labels.long() != UNLABELLED).any()):
        raise ValueError(f"{function}: at least one utterance must be labelled (got none)")
    return z


def _joint(z: _check.Logits, modalities: Iterable[int]) -> Tensor:
    """`[T, C]`: the sum of the logits of some modalities, of half precision rounded once."""
    return torch.stack([z.modality(m) for m in modalities]).sum(0)


def _predictions(z: _check.Logits, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The labels there are, `int[N]`, and what each subset of the modalities predicts, `int[2^M - 1, N]`; all last.

    -1 where it predicts nothing.
    """
    subsets = [chosen for size in range(1, z.M + 1) for chosen in combinations(range(z.M), size)]
    joints = [_joint(z, chosen) for chosen in subsets]
    predicted = torch.stack([torch.where(row_is_finite(joint), joint.argmax(-1), -1) for joint in joints])
    counted = labels.long() != UNLABELLED
    return labels.long()[counted].cpu().numpy(), predicted[:, counted].cpu().numpy()


def _class_f1(y: np.ndarray, predicted: np.ndarray, C: int) -> np.ndarray:
    """F1 of every class for each row of predictions, `float64[S, C]`: 2 right / (there + predicted), 0/0 is NaN."""
    S = len(predicted)
    row = np.arange(S)[:, None]
    named = np.bincount((row * (C + 1) + predicted + 1).ravel(), minlength=S * (C + 1)).reshape(S, C + 1)[:, 1:]
    right = np.bincount((row * C + y)[predicted == y], minlength=S * C).reshape(S, C)
    with np.errstate(invalid="ignore"):
        return 2 * right / (np.bincount(y, minlength=C) + named)


def _macro_recall(y: np.ndarray, predicted: np.ndarray, C: int) -> float:
    """Mean over the classes that are there of the share that is right."""
    there = np.bincount(y, minlength=C)
    return float((np.bincount(y[predicted == y], minlength=C)[there > 0] / there[there > 0]).mean())


def _weighted_f1(y: np.ndarray, class_f1: np.ndarray) -> np.ndarray:
    """`float64[S]`: the mean over the utterances of their classes' F1; a class that is NaN has none."""
    return np.nan_to_num(class_f1) @ np.bincount(y, minlength=class_f1.shape[1]) / len(y)


def _gain(weighted_f1: np.ndarray) -> float:
    """All, the last, against the best of the others."""
    return float(weighted_f1[-1] - weighted_f1[:-1].max()) if len(weighted_f1) > 1 else math.nan
