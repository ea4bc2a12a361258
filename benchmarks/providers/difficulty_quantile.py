"""`difficulty_quantile` in plain PyTorch and NumPy: the rank-th smallest of T float32 numbers.

The forms do less than the op: they take no NaN, and the rank comes from the host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def quantile(x: Tensor, rank: int) -> Tensor:
    """The library's quantile, told to round to the order statistic."""
    return torch.quantile(x, _position(x, rank), interpolation="nearest")


def nanquantile(x: Tensor, rank: int) -> Tensor:
    """The same that would leave NaN out."""
    return torch.nanquantile(x, _position(x, rank), interpolation="nearest")


def sort(x: Tensor, rank: int) -> Tensor:
    """All in order."""
    return x.sort().values[rank - 1]


def kthvalue(x: Tensor, rank: int) -> Tensor:
    """Quickselect."""
    return x.kthvalue(rank).values


def topk(x: Tensor, rank: int) -> Tensor:
    """The last of the smaller side, in no order."""
    if 2 * rank <= len(x):
        return x.topk(rank, largest=False, sorted=False).values.amax()
    return x.topk(len(x) - rank + 1, sorted=False).values.amin()


def bisection(x: Tensor, rank: int) -> Tensor:
    """One bit of the answer a sweep: counts alone, which a compiler can fuse and nobody has to wait for."""
    bits = x.view(torch.int32)
    keys = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    key = torch.where((keys < 0).sum() >= rank, -(2**31), 0).to(torch.int32)
    for bit in range(30, -1, -1):
        upper = key + (1 << bit)
        key = torch.where((keys < upper).sum() >= rank, key, upper)
    return torch.where(key < 0, -key | -(2**31), key).to(torch.int32).view(torch.float32)


def partition(x: np.ndarray, rank: int) -> Tensor:
    """NumPy's introselect."""
    return torch.tensor(np.partition(x, rank - 1)[rank - 1])


def _position(x: Tensor, rank: int) -> float:
    return (rank - 1) / max(len(x) - 1, 1)
