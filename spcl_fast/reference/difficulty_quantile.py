"""The difficulty that a fraction of the corpus does not exceed."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast.reference.rank_of_pace import rank_of_pace


def difficulty_quantile(difficulty: Tensor, pace: float | Tensor) -> Tensor:
    """Contract: `spcl_fast.ops.difficulty_quantile`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> reference.difficulty_quantile(torch.tensor([3.0, 1.0, 2.0, float("nan")]), 0.5).item()
        2.0
    """
    nothing = difficulty.new_full((), float("nan"))
    if difficulty.shape[0] == 0:
        return nothing
    rho = torch.where(difficulty == 0, 0.0, difficulty).sort().values  # -0 is 0; NaN comes last
    rank = rank_of_pace(pace, (~difficulty.isnan()).sum())
    return torch.where(rank > 0, rho.gather(0, (rank - 1).clamp(min=0)[None])[0], nothing)
