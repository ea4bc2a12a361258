"""Sums over the processes of a group, the one thing that is ever sent: counts, never what they count.

Without a group nothing is sent, also where torch.distributed is in use.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor


class World(NamedTuple):
    """The place of this process in a group, and the number of processes there."""

    rank: int
    size: int


def group(op: str, value: Any) -> dist.ProcessGroup:
    """TypeError unless `value` is a process group that this process belongs to."""
    if dist.is_available() and isinstance(value, dist.ProcessGroup):
        return value
    raise TypeError(
        f"{op}: process_group must be a torch.distributed.ProcessGroup that this process belongs to, or None"
        f" (got {type(value).__name__})"
    )


def world(group: dist.ProcessGroup | None) -> World:
    """This process alone where there is no group."""
    return World(0, 1) if group is None else World(dist.get_rank(group), dist.get_world_size(group))


def all_sum(tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum of the tensors of all processes of a group, each of one shape and dtype; in place."""
    if group is not None:
        dist.all_reduce(tensor, group=group)
    return tensor
