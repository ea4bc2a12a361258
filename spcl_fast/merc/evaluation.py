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
    """Of the labelled utterances: shares in [0, 1], and the mean joint loss in nats.

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
        logits: one `[T, C]` a modality; the joint is their sum.
        labels: `int[T]`, -100 where there is none.

    Returns:
        Weighted F1 over the classes (scikit-learn's), accuracy and loss of the joint, accuracy per modality.

    Raises:
        ValueError: no utterance is labelled.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.evaluation import evaluate
        >>> text = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
        >>> audio = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> found = evaluate([text, audio], torch.tensor([0, 1, -100]))
        >>> found.accuracy, found.modality_accuracy
        (0.5, (1.0, 0.5))
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
