"""Epochs of one length, for trainers that take the number of steps of an epoch to be a constant."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from spcl_fast._sharded import ShardedSampler
from spcl_fast.batch_sampler import CurriculumBatchSampler


class SameLengthEpochs(Sampler[Any]):
    """The epochs of a sampler, each gone through again in a new order until it has `length` items or batches.

    So a small pool of a first epoch is seen as often as it takes to fill the steps of an epoch, as in Platanios et al.
    2019 (arXiv 1903.09848), where each step draws from the pool of its pace; a longer epoch is cut off, and an epoch
    without items stays without. The order depends on the sampler and its epoch alone. It keeps 8 bytes an item where a
    pool has to be repeated.

    `batch_size` and `drop_last` are there for those who deal out the batches of a batch sampler.
    """

    def __init__(self, sampler: ShardedSampler[Any], length: int) -> None:
        self.sampler = sampler
        self.length = length
        self.batch_size = getattr(sampler, "batch_size", None)
        self.drop_last = bool(getattr(sampler, "drop_last", False))

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        repeats = len(self.sampler) < self.length
        seen: list[Any] | array[int] = [] if isinstance(self.sampler, CurriculumBatchSampler) else array("q")
        left = self.length
        for unit in self.sampler:
            if not left:
                return
            if repeats:
                seen.append(unit)
            left -= 1
            yield unit
        generator = np.random.default_rng([self.sampler.seed, self.sampler.epoch])
        while left and seen:
            for i in generator.permutation(len(seen))[:left]:
                left -= 1
                yield seen[i]


def longest(sampler: ShardedSampler[Any], epochs: int) -> int:
    """The largest length that the first epochs have; leaves the sampler at the first."""
    lengths = []
    for epoch in reversed(range(epochs)):
        sampler.set_epoch(epoch)
        lengths.append(len(sampler))
    return max(lengths)
