"""How well a model does, and each of its modalities alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from spcl_fast import balance
from spcl_fast.merc.dataset import UNLABELLED
from spcl_fast.ops import _check
from spcl_fast.reference.rows import row_is_finite


class Evaluation(NamedTuple):
    """Of the labelled utterances: shares in [0, 1], and the mean joint loss in nats.

    weighted_f1 and accuracy are of the joint prediction, modality_accuracy of each modality alone, in their order.

    Example:
        >>> from spcl_fast.merc.evaluation import Evaluation
        >>> dev = Evaluation(weighted_f1=0.5, accuracy=0.75, loss=1.25, modality_accuracy=(0.75, 0.5))
        >>> f"{dev.weighted_f1:.1%}"
        '50.0%'
    """

    weighted_f1: float
    accuracy: float
    loss: float
    modality_accuracy: tuple[float, ...]


def evaluate(logits: Sequence[Tensor], labels: Tensor) -> Evaluation:
    """Scores joint and single predictions.

    Args:
        logits: one `[T, C]` a modality, float16, bfloat16, float32 or float64; the joint is their sum.
        labels: `int[T]`, any integer dtype, -100 where there is none.

    Returns:
        Weighted F1 over the classes (scikit-learn's; 0 for a class that is never predicted), accuracy and loss of the
        joint, accuracy per modality (`balance.modality_accuracy`). A joint that has no softmax (NaN, +Inf, -Inf for
        every class) predicts nothing, which is wrong, and makes the loss NaN. Deterministic; waits for the device.

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
    z = _check.logits("evaluate", logits)
    _check.labels("evaluate", labels, z)
    _check.label_values("evaluate", labels, z.C, UNLABELLED)
    labels = labels.long()
    joint = torch.stack([z.modality(m) for m in range(z.M)]).sum(0)
    counted = labels != UNLABELLED
    if not bool(counted.any()):
        raise ValueError("evaluate: at least one utterance must be labelled (got none)")
    y = labels[counted].cpu().numpy()
    predicted = torch.where(row_is_finite(joint), joint.argmax(-1), -1)[counted].cpu().numpy()
    f1 = f1_score(y, predicted, labels=np.arange(z.C), average="weighted", zero_division=0.0)
    return Evaluation(
        weighted_f1=float(f1),
        accuracy=float((predicted == y).mean()),
        loss=float(torch.nn.functional.cross_entropy(joint, labels, ignore_index=UNLABELLED)),
        modality_accuracy=tuple(balance.modality_accuracy(logits, labels).tolist()),
    )
