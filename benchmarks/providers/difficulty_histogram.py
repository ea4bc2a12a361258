"""`difficulty_histogram` in plain PyTorch and NumPy: how many of T float32 numbers have each leading digit of 11 bits.

The forms do less than the op: they take no NaN, and count at the first level alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BUCKETS, SHIFT, INFINITY = 2048, 21, 0x7F800000


def digits(x: Tensor) -> Tensor:
    """The leading digit of each key."""
    bits = x.view(torch.int32)
    magnitude = (bits & 0x7FFFFFFF).long()
    return (torch.where(bits < 0, -magnitude, magnitude) + INFINITY) >> SHIFT


def bincount(x: Tensor) -> Tensor:
    """What torch counts integers with; on a GPU it waits."""
    return digits(x).bincount(minlength=BUCKETS)


def scatter(x: Tensor) -> Tensor:
    """A sum of ones by digit, which nobody has to wait for."""
    digit = digits(x)
    return digit.new_zeros(BUCKETS).scatter_add_(0, digit, torch.ones_like(digit))


def histc(x: Tensor) -> Tensor:
    """What torch counts real numbers with."""
    return digits(x).float().histc(BUCKETS, 0, BUCKETS).long()


def np_bincount(x: np.ndarray) -> Tensor:
    """NumPy's."""
    bits = x.view(np.int32)
    magnitude = (bits & 0x7FFFFFFF).astype(np.int64)
    digit = (np.where(bits < 0, -magnitude, magnitude) + INFINITY) >> SHIFT
    return torch.from_numpy(np.bincount(digit, minlength=BUCKETS))
