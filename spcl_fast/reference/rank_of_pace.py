"""How many of n values a pace stands for."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_of_pace(pace: float | Tensor, n: Tensor) -> Tensor:
    """`ceil(pace n)` for `0 < pace <= 1` and a count `n` on any device, as int64: at least 1, and 0 for n = 0.

    A product that differs from an integer by no more than the rounding of the pace and of the product counts as that
    integer: 0.1 times 30 is 3, though the double nearest to 0.1 lies above it and the product is 3 + 2^-51.

    A pace that is a tensor may hold anything: more than 1 counts as 1, and 0, less and NaN take nothing.
    """
    if isinstance(pace, Tensor):
        pace = torch.where(pace > 0, pace, 0).double().clamp(max=1)
    product = pace * n.double()
    nearest = (product + 0.5).floor()
    is_integer = (product - nearest).abs() <= nearest * 2.0**-52
    return torch.where(is_integer, nearest, product.ceil()).long().clamp(max=n)
