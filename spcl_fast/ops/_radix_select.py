"""Order statistics from histograms of keys, which add up over the processes of a group.

Every process makes the same sums whatever it has: one histogram for each digit. Nothing waits for a device.
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


def threshold(
    difficulty: Tensor, pace: float | Tensor, group: dist.ProcessGroup | None, backend: str | None
) -> tuple[Tensor, Tensor]:
    """The threshold of the difficulties of all processes, NaN where there is none, and how many equal to it are taken.

    Args:
        difficulty: `[T]`, those of this process.
        pace: fraction of all difficulties that are not NaN, the same on every process.
        group: the processes; None for this one.
        backend: of the histograms.

    Returns:
        0-dim, of the dtype of `difficulty`, and 0-dim int64; both on its device, and the same on every process.
    """
    value, ties = _value_at(difficulty, lambda known: rank_of_pace(pace, known), group, backend)
    return torch.where(ties > 0, value, float("nan")), ties


def smallest(
    ids: Tensor, is_candidate: Tensor, rank: Tensor, group: dist.ProcessGroup | None, backend: str | None
) -> Tensor:
    """Which of the candidates of this process are among the `rank` smallest ids of all candidates; bool like `ids`."""
    others = torch.iinfo(torch.int64).max  # not counted, so no id is too large to be found
    last, _ = _value_at(torch.where(is_candidate, ids, others), lambda _: rank, group, backend)
    return is_candidate & (ids <= last)


def _value_at(
    values: Tensor, rank_among: Callable[[Tensor], Tensor], group: dist.ProcessGroup | None, backend: str | None
) -> tuple[Tensor, Tensor]:
    """The value with a rank from 1 among all that are counted, and its rank among those equal to it; 0 for a rank of 0.

    `rank_among` gives the rank, given how many there are. One beyond that is that of the largest key.
    """
    prefix = rank = values.new_zeros((), dtype=torch.int64)
    for level in range(keys.levels(values.dtype)):
        histogram = all_sum(difficulty_histogram(values, prefix, level, backend=backend), group)
        up_to = histogram.cumsum(0)
        if level == 0:
            rank = rank_among(up_to[-1])
        bucket = (up_to < rank).sum().clamp(max=len(histogram) - 1)
        prefix = (prefix << keys.digit_at(values.dtype, level).bits) | bucket
        rank = rank - (up_to - histogram).gather(0, bucket[None])[0]
    return keys.value_of(prefix, values.dtype), rank
