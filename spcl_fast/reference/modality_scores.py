"""Loss, confidence, entropy and margin of every modality and utterance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spcl_fast.reference.rows import label_is_scored, row_is_finite, stacked


class ModalityScores(NamedTuple):
    """Four scores `[M, T]`: loss and entropy in nats, confidence in [0, 1], margin in [-1, 1].

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> scores = ops.modality_scores(torch.tensor([[[2.0, 0.0]]]), torch.tensor([0]))
        >>> {name: round(score.item(), 3) for name, score in scores._asdict().items()}
        {'loss': 0.127, 'confidence': 0.881, 'entropy': 0.365, 'margin': 0.762}
    """

    loss: Tensor
    confidence: Tensor
    entropy: Tensor
    margin: Tensor


def modality_scores(
    logits: Tensor | Sequence[Tensor],
    labels: Tensor,
    *,
    ignore_index: int = -100,
    present: Tensor | None = None,
) -> ModalityScores:
    """Contract: `spcl_fast.ops.modality_scores`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> logits = torch.tensor([[[0.5, 0.25, 0.25]]], dtype=torch.float64).log()
        >>> scores = reference.modality_scores(logits, torch.tensor([0]))
        >>> [round(x.item(), 4) for x in scores]  # log 2, 1/2, 1.5 log 2 and 1/4
        [0.6931, 0.5, 1.0397, 0.25]
    """
    z = stacked(logits)
    num_classes = z.shape[-1]
    labels = labels.long()
    labelled = label_is_scored(labels, num_classes, ignore_index)
    scored = labelled & row_is_finite(z)
    if present is not None:
        scored = scored & present

    # A row that is not scored goes in as zeros and comes out as NaN, so no gradient ever meets its values.
    z = torch.where(scored[..., None], z, 0.0)
    y = torch.where(labelled, labels, 0).expand(z.shape[:-1])[..., None]

    log_p = torch.log_softmax(z, dim=-1)
    p = log_p.exp()
    loss = -log_p.gather(-1, y).squeeze(-1)
    confidence = p.gather(-1, y).squeeze(-1)
    entropy = -(p * log_p.masked_fill(p == 0, 0.0)).sum(-1)  # 0 log 0 = 0
    if num_classes > 1:
        margin = confidence - p.scatter(-1, y, float("-inf")).amax(-1)
    else:
        margin = confidence.masked_fill(scored, float("nan"))  # undefined, with a gradient of zero

    nan = float("nan")
    return ModalityScores(*(torch.where(scored, x, nan) for x in (loss, confidence, entropy, margin)))
