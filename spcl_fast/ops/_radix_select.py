"""Order statistics from histograms of keys, which add up over shards and over the processes of a group.

Nothing waits for a device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from spcl_fast._distributed import all_sum
from spcl_fast.ops._difficulty_histogram import difficulty_histogram
from spcl_fast.reference import keys
from spcl_fast.reference.rank_of_pace import rank_of_pace

#: the histogram of all values, given the digits that are found and the level of the next one
Count = Callable[[Tensor, int], Tensor]


def count_over(values: Tensor, group: dist.ProcessGroup | None, backend: str | None) -> Count:
    """Counts the values of all processes of a group; every one makes the same sums, whatever it has."""
    return lambda prefix, level: all_sum(difficulty_histogram(values, prefix, level, backend=backend), group)


def threshold(count: Count, like: Tensor, pace: float | Tensor) -> tuple[Tensor, Tensor]:
    """The threshold of all difficulties that are counted, NaN where there is none, and how many equal to it are taken.

    Args:
        count: counts them all.
        like: some of them, perhaps none: for their dtype and device.
        pace: fraction of them; on every process the same.

    Returns:
        0-dim, of the dtype of `like`, and 0-dim int64; both on its device.
    """
    value, ties = _value_at(count, like, lambda known: rank_of_pace(pace, known))
    return torch.where(ties > 0, value, float("nan")), ties


def smallest(
    ids: Tensor, is_candidate: Tensor, rank: Tensor, group: dist.ProcessGroup | None, backend: str | None
) -> Tensor:
    """Which of the candidates of this process are among the `rank` smallest ids of those of all; bool like `ids`."""
    others = torch.iinfo(torch.int64).max  # not counted, and no id is too large to be found: see _value_at
    candidates = torch.where(is_candidate, ids, others)
    last, _ = _value_at(count_over(candidates, group, backend), ids, lambda _: rank)
    return is_candidate & (ids <= last)


def _value_at(count: Count, like: Tensor, rank_among: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The value with a rank from 1 among all that are counted, and its rank among those equal to it; 0 for a rank of 0.

    `rank_among` gives the rank, given how many there are. One beyond that is that of the largest key.
    """
    prefix = rank = like.new_zeros((), dtype=torch.int64)
    for level in range(keys.levels(like.dtype)):
        histogram = count(prefix, level)
        if level == 0:
            rank = rank_among(histogram.sum())
        prefix, rank = next_digit(histogram, prefix, rank, keys.digit_at(like.dtype, level).bits)
    return keys.value_of(prefix, like.dtype), rank


def next_digit(histogram: Tensor, prefix: Tensor, rank: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The digit of a rank in a histogram of that many bits: the prefix with it, and the rank among those with both."""
    up_to = histogram.cumsum(0)
    bucket = torch.searchsorted(up_to, rank[None]).clamp(max=len(histogram) - 1)  # [1]: the first that reaches it
    return (prefix << bits | bucket)[0], (rank - (up_to - histogram).gather(0, bucket))[0]
