"""`select_easiest` in plain PyTorch and NumPy: a mask of the rank smallest of T float32 numbers, ties by index.

The forms do less than the op: they take no NaN, and the rank comes from the host.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def argsort(x: Tensor, rank: int) -> Tensor:
    """All in order, the first of them marked."""
    selected = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    selected[x.argsort(stable=True)[:rank]] = True
    return selected


def from_threshold(threshold: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """What lies below a threshold, and as many of its ties as there is room for."""

    def select(x: Tensor, rank: int) -> Tensor:
        level = threshold(x, rank)
        below, ties = x < level, x == level
        return below | (ties & (ties.cumsum(0) <= rank - below.sum()))

    return select


def partition(x: np.ndarray, rank: int) -> Tensor:
    """NumPy's introselect, and the ties that there is room for."""
    level = np.partition(x, rank - 1)[rank - 1]
    selected = x < level
    selected[np.flatnonzero(x == level)[: rank - np.count_nonzero(selected)]] = True
    return torch.from_numpy(selected)
