"""How well a model does, and each of its modalities alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from spcl_fast import balance


class Evaluation(NamedTuple):
    """Of the labelled utterances: shares in [0, 1], and the mean joint loss in nats."""

    weighted_f1: float
    accuracy: float
    loss: float
    modality_accuracy: tuple[float, ...]


def evaluate(logits: Sequence[Tensor], labels: Tensor) -> Evaluation:
    """Scores joint and single predictions.

    Args:
        logits: one `[T, C]` a modality; the joint is their sum.
        labels: `int[T]`, -100 where there is none.

    Returns:
        Weighted F1 over the classes (scikit-learn's), accuracy and loss of the joint, accuracy per modality.

    Raises:
        ValueError: no utterance is labelled.
    """
    joint = torch.stack(list(logits)).sum(0)
    counted = labels != -100
    if not bool(counted.any()):
        raise ValueError("evaluate: at least one utterance must be labelled (got none)")
    y = labels[counted].cpu().numpy()
    predicted = joint.argmax(-1)[counted].cpu().numpy()
    f1 = f1_score(y, predicted, labels=np.arange(joint.shape[-1]), average="weighted", zero_division=0.0)
    return Evaluation(
        weighted_f1=float(f1),
        accuracy=float((predicted == y).mean()),
        loss=float(torch.nn.functional.cross_entropy(joint, labels, ignore_index=-100)),
        modality_accuracy=tuple(balance.modality_accuracy(logits, labels).tolist()),
    )
