"""The few collectives of this package: sums and extremes of counts, never of scores. None without a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def world(group: ProcessGroup | None) -> tuple[int, int]:
    """`(rank, size)` of this process in the group; `(0, 1)` without one."""
    return (0, 1) if group is None else (group.rank(), group.size())


def all_sum(tensor: Tensor, group: ProcessGroup | None) -> Tensor:
    """The sum over all processes, in a new tensor; the tensor itself without a group."""
    return _reduced(tensor, group, "SUM")


def all_max(tensor: Tensor, group: ProcessGroup | None) -> Tensor:
    """The largest over all processes, element by element."""
    return _reduced(tensor, group, "MAX")


def merge_rows(touched: Tensor, columns: Sequence[Tensor], group: ProcessGroup | None, *, chunk: int = 1 << 20) -> None:
    """Gives every process, in place, the rows `[N]` that some process has touched, those of the first that has.

    The columns are `[N]` or `[N, k]`, of any dtype that sums take; `touched` is `bool[N]`. A chunk of rows at a time,
    so that the memory does not grow with N. All processes must have the same N.
    """
    if group is None:
        return
    rank, size = world(group)
    for begin in range(0, touched.numel(), chunk):
        rows = slice(begin, begin + chunk)
        own = touched[rows].long() * (size - rank)  # the first process has the largest number
        first = all_max(own, group)
        is_own = (own > 0) & (own == first)
        for column in columns:
            part = column[rows]
            shape = (-1,) + (1,) * (part.ndim - 1)
            sent = part.masked_fill(~is_own.view(shape), 0)
            sent = all_sum(sent.int() if sent.dtype.itemsize < 4 else sent, group).to(part.dtype)
            column[rows] = sent.where((first > 0).view(shape), part)


def _reduced(tensor: Tensor, group: ProcessGroup | None, how: str) -> Tensor:
    if group is None:
        return tensor
    import torch.distributed as dist

    tensor = tensor.clone()
    dist.all_reduce(tensor, op=getattr(dist.ReduceOp, how), group=group)
    return tensor
