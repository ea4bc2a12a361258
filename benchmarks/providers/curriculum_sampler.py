"""What an epoch of a sampler needs, in plain PyTorch and NumPy: the easiest of N items, and a draw by weight.

The forms do less than the sampler: they take no NaN, leave ties open, and the rank comes from the host.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .difficulty_quantile import bisection


def pool_of(select: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], np.ndarray]:
    """The indices of a mask in ascending order, by NumPy, which is faster at it than torch."""
    return lambda x, rank: np.flatnonzero(select(x, rank).numpy())


def topk(x: Tensor, rank: int) -> Tensor:
    """The smallest in no order, marked."""
    mask = torch.zeros(len(x), dtype=torch.bool)
    mask[x.topk(rank, largest=False, sorted=False).indices] = True
    return mask


def kthvalue(x: Tensor, rank: int) -> Tensor:
    """Quickselect, and what does not lie above."""
    return x <= x.kthvalue(rank).values


def sort(x: Tensor, rank: int) -> Tensor:
    """All in order, the first of them marked."""
    mask = torch.zeros(len(x), dtype=torch.bool)
    mask[x.argsort()[:rank]] = True
    return mask


def bisect(x: Tensor, rank: int) -> Tensor:
    """One bit of the threshold a sweep, and what does not lie above."""
    return x <= bisection(x, rank)


def partition(x: Tensor, rank: int) -> Tensor:
    """NumPy's introselect, and what does not lie above."""
    return x <= float(np.partition(x.numpy(), rank - 1)[rank - 1])


def multinomial(weights: Tensor, num_samples: int) -> Tensor:
    """The library's draw, by the global generator."""
    return torch.multinomial(weights, num_samples)


def keys_topk(weights: Tensor, num_samples: int) -> Tensor:
    """Exponential keys, the smallest in order."""
    return torch.empty_like(weights).exponential_().div_(weights).topk(num_samples, largest=False).indices


def keys_sort(weights: Tensor, num_samples: int) -> Tensor:
    """Exponential keys, all in order."""
    return torch.empty_like(weights).exponential_().div_(weights).argsort()[:num_samples]


def keys_partition(weights: Tensor, num_samples: int) -> Tensor:
    """Exponential keys by NumPy, its introselect, the smaller side in order."""
    keys = np.random.default_rng().standard_exponential(len(weights)) / weights.numpy()
    smallest = np.argpartition(keys, num_samples)[:num_samples]
    return torch.from_numpy(smallest[keys[smallest].argsort()])
