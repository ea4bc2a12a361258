"""How well the modalities agree over a window of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from spcl_fast.reference.rows import dialogue_of_row, row_is_finite, running_offsets, stacked
from spcl_fast.reference.windows import window_sums


def window_coherence(
    embeddings: Tensor | Sequence[Tensor],
    offsets: Tensor,
    *,
    window: int = 5,
    source: str = "embedding",
    present: Tensor | None = None,
) -> Tensor:
    """Contract: `spcl_fast.ops.window_coherence`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> embeddings = torch.tensor([[[3.0, 4.0]], [[4.0, 3.0]]], dtype=torch.float64)
        >>> reference.window_coherence(embeddings, torch.tensor([0, 1])).round(decimals=6).tolist()  # 24 / 25
        [0.96]
    """
    e = stacked(embeddings)  # [M, T, F]
    M, T, _ = e.shape
    present = torch.ones(M, T, dtype=torch.bool, device=e.device) if present is None else present
    good = row_is_finite(e) if source == "prediction" else e.isfinite().all(-1)
    faulty = (present & ~good).any(0)

    # A vector that takes no part goes in as (1, 0, ..., 0), so no gradient ever meets its values.
    usable = present & good & ((e != 0).any(-1) if source == "embedding" else True)
    if source == "prediction":
        e = torch.softmax(torch.where(usable[..., None], e, 0.0), -1)
    first = torch.zeros_like(e[:1, :1])
    first[..., 0] = 1.0
    e = torch.where(usable[..., None], e, first)

    # Scaled to a largest component of 1 before the norm is taken, whose squares could leave the range.
    e = e / e.detach().abs().amax(-1, keepdim=True)
    unit = e / e.square().sum(-1, keepdim=True).sqrt()
    total, pairs = e.new_zeros(T), e.new_zeros(T)
    for m, n in combinations(range(M), 2):
        cosine = (unit[m] * unit[n]).sum(-1)
        cosine = cosine + (cosine.clamp(-1.0, 1.0) - cosine).detach()  # the clamp passes the gradient through
        both = usable[m] & usable[n]
        total = total + torch.where(both, cosine, 0.0)
        pairs = pairs + both

    dialogue, owned = dialogue_of_row(running_offsets(offsets, T), T)
    dialogue = torch.where(owned, dialogue, -1)
    defined = (pairs > 0) & ~faulty
    c = torch.where(defined, total, 0.0) / pairs.clamp(min=1)
    count = window_sums(defined.double(), dialogue, window // 2)
    mean = window_sums(c.double(), dialogue, window // 2) / count.clamp(min=1)
    return torch.where((count > 0) & ~faulty & owned, mean, float("nan")).to(e.dtype)
