"""How far the modalities of a dialogue stand apart."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast.reference.rows import running_offsets, sum_by_dialogue


def modality_spread(
    confidence: Tensor, offsets: Tensor, *, aggregate: str = "sum", present: Tensor | None = None
) -> Tensor:
    """Contract: `spcl_fast.ops.modality_spread`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> confidence = torch.tensor([[0.5, 0.5], [0.0, 0.0]], dtype=torch.float64)
        >>> reference.modality_spread(confidence, torch.tensor([0, 2])).square().round(decimals=6).tolist()
        [0.5]
    """
    p = confidence if confidence.dtype == torch.float64 else confidence.float()
    offsets = running_offsets(offsets, p.shape[1])
    present = torch.ones_like(p, dtype=torch.bool) if present is None else present

    # An utterance counts when it has a modality and none of those it has is NaN.
    scored = present.any(0) & ~(present & p.isnan()).any(0)
    counted = present & scored
    total = sum_by_dialogue(torch.where(counted, p, 0.0), offsets)  # [M, D]
    n_m = sum_by_dialogue(counted.to(p.dtype), offsets)  # utterances of d that have m
    n = sum_by_dialogue(scored.to(p.dtype)[None], offsets)  # utterances of d

    has = n_m > 0
    if aggregate == "mean":
        S = total / n_m
    else:  # a modality missing now and then is credited with its mean where it is missing
        S = torch.where(n_m == n, total, n * (total / n_m))

    # The standard deviation does not change when the smallest S is subtracted, and equal ones give exactly 0.
    S = S - torch.where(has, S, float("inf")).amin(0)
    S = torch.where(has, S, 0.0)
    k = has.sum(0)
    mean = S.sum(0) / k
    variance = torch.where(has, (S - mean) ** 2, 0.0).sum(0) / (k - 1)
    return torch.where(k >= 2, variance.sqrt(), float("nan")).to(p.dtype)
