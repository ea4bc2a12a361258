"""What is exchanged between the processes of a group: in a step sums and extremes, never scores.

Without a group nothing is sent, also where torch.distributed is in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.distributed as dist
from torch import Tensor, nn


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
    """The sum of the tensors of all processes, of one shape and dtype, in a new one; without a group the tensor."""
    return tensor if group is None else _reduced(tensor, dist.ReduceOp.SUM, group)


def all_max(tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The largest over all processes, element by element."""
    return tensor if group is None else _reduced(tensor, dist.ReduceOp.MAX, group)


#: wrapper -> the modules whose buffers it was told to leave alone
_left_alone: WeakKeyDictionary[nn.Module, WeakSet[nn.Module]] = WeakKeyDictionary()


def keep_own_buffers(module: nn.Module, but: str) -> None:
    """Has a DistributedDataParallel leave the buffers of a module alone from now on; called in its forward pass.

    By default it gives all processes the buffers of the first, before every forward pass: what the others have counted
    since would be lost. What it does before the first pass changes nothing, since all begin with one state. The buffer
    `but`, which is the same on all, is left to it, as it cannot do without any. Where `module` is not called in the
    forward pass of a wrapper that holds it, nothing is done.
    """
    if torch.compiler.is_compiling():
        return
    wrapper = getattr(nn.parallel.DistributedDataParallel, "_active_ddp_module", None)
    if wrapper is None or module in _left_alone.setdefault(wrapper, WeakSet()):
        return
    _left_alone[wrapper].add(module)
    for prefix, part in wrapper.module.named_modules():
        if part is module:
            names = {name for name, _ in module.named_buffers(prefix)}
            wrapper.parameters_to_ignore.update(names - {f"{prefix}.{but}".removeprefix(".")})


def merge_rows(
    touched: Tensor, columns: Sequence[Tensor], group: dist.ProcessGroup | None, *, chunk: int = 1 << 20
) -> None:
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


def _reduced(tensor: Tensor, how: Any, group: dist.ProcessGroup) -> Tensor:
    tensor = tensor.clone()
    dist.all_reduce(tensor, op=how, group=group)
    return tensor
