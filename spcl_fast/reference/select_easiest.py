"""The easiest utterances, a fraction of the corpus."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast.reference.rank_of_pace import rank_of_pace


def select_easiest(difficulty: Tensor, pace: float | Tensor) -> Tensor:
    """Contract: `spcl_fast.ops.select_easiest`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> reference.select_easiest(torch.tensor([2.0, 1.0, 2.0, float("nan")]), 0.5).tolist()
        [True, True, False, False]
    """
    n = (~difficulty.isnan()).sum()
    rho = torch.where(difficulty == 0, 0.0, difficulty)  # -0 is 0
    order = rho.argsort(stable=True)  # NaN comes last
    easiest = torch.arange(len(order), device=order.device) < rank_of_pace(pace, n)
    return torch.empty_like(easiest).scatter_(0, order, easiest)
