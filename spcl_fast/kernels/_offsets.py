"""Offsets of dialogues on a device, where nobody has looked at them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spcl_fast.kernels._sources import on_device_of


class Dialogues(NamedTuple):
    """`offsets[D + 1]` that never fall and stay in [0, T]; behind them how many of those given did not fit."""

    offsets: Tensor
    D: int
    steps: int

    @property
    def arguments(self) -> tuple[Tensor, int, int]:
        """What a kernel takes to find the dialogue of a row."""
        return self.offsets, self.D, self.steps


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit(do_not_specialize=["stride", "count", "T"])
def offsets_fwd_kernel(given, stride, running, count, T, BLOCK: tl.constexpr):
    """The running maximum of `given[count]` within [0, T], in one program; behind it the number of misfits."""
    largest = tl.zeros((), tl.int64)
    misfits = tl.zeros((), tl.int64)
    for first in range(0, count, BLOCK):
        index = first + tl.arange(0, BLOCK).to(tl.int64)
        inside = index < count
        value = tl.load(given + index * tl.cast(stride, tl.int64), mask=inside, other=0).to(tl.int64)
        clamped = tl.minimum(tl.maximum(value, 0), tl.cast(T, tl.int64))
        upto = tl.maximum(tl.associative_scan(clamped, 0, _larger), largest)
        largest = tl.max(upto, 0)
        expected = tl.where(index == 0, 0, upto)
        expected = tl.where(index == count - 1, T, expected)
        misfits += tl.sum((inside & (value != expected)).to(tl.int64), 0)
        tl.store(running + index, upto, mask=inside)
    tl.store(running + count, misfits)


def dialogues(offsets: Tensor, num_rows: int) -> Dialogues:
    """`offsets[D + 1]` as the reference reads them: clamped, then their running maximum. One launch."""
    count = offsets.shape[0]
    running = torch.empty(count + 1, dtype=torch.int64, device=offsets.device)
    block = min(max(triton.next_power_of_2(count), 2), 1024)
    with on_device_of(offsets):
        offsets_fwd_kernel[(1,)](offsets, offsets.stride(0), running, count, num_rows, BLOCK=block)
    return Dialogues(running, count - 1, (count - 1).bit_length())
