"""The sampler that lets a `DataLoader` begin with what is easy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from spcl_fast import _sampling
from spcl_fast._sampling import RowOrder
from spcl_fast._sharded import ShardedSampler

AT_ONCE = 1 << 16  # items that become Python integers at a time


class CurriculumSampler(ShardedSampler[int]):
    """Items of a data set, utterances or dialogues, from easy to hard: a pool that grows with the pace.

    In epoch e the pool is the `ceil(pace(e) n)` easiest of the n items whose difficulty is not NaN, ties by index
    (`ops.select_easiest`): competence-based learning (Platanios et al. 2019, arXiv 1903.09848), and with a
    `pacing.StepPace` baby steps (Spitkovsky et al. 2010). All processes compute one common order, from seed, epoch,
    difficulties and weights alone, without talking to each other; process r of W takes its positions r, r + W, ...

    Call `set_epoch` before every epoch, as with torch's `DistributedSampler`; without it every epoch is the same. The
    sampler lives in the main process. Beside its copies of difficulties and weights it keeps 4 bytes an item of the
    pool, and no list of items; to find a pool takes a few times as much for a moment.

    Args:
        num_items: N, at least 0; without items every epoch is empty.
        difficulty: `[N]`, float16, bfloat16, float32 or float64, a tensor on any device or a NumPy array; copied.
            An item of NaN is never taken, at pace 1 neither: it could not be scored. All of NaN is refused. None:
            all are alike, so that the pool is the first by index.
        pace: a number in (0, 1], or a `pacing.Pace` of the epoch.
        pool: "easiest"; or "bucket", only what the pool gained when it last grew: the baby steps that pass over
            every bucket once. After the last growth that bucket stays.
        order: "shuffled"; or "easiest_first" within what was drawn, ties by index.
        formula: "paper"; or "curml", `int(pace n)` items, at least one, as in CurML and CurBench.
        weights: `[N]`, finite and at least 0, not all 0, any scale; copied. Items are drawn with probability
            proportional to them. Without replacement (Efraimidis and Spirakis 2006) "shuffled" is the order of the
            draws, which the heavier lead; an item of weight 0 is never drawn.
        rows: the pool, chosen elsewhere: a `corpus.SelectionIndex` of the N items, or a NumPy array or memory map
            of integers, ascending and each once. It is not loaded, and no order of it is kept: past 2^16 rows
            "shuffled" is a permutation that is computed where it is read, and memory does not grow. "easiest_first"
            goes by index. Without difficulty, weights, num_samples and replacement, at pace 1. A state has the
            checksum of the rows, and needs a sampler that was given the same.
        num_samples: items to draw from the pool, at least 1; None for as many as the pool has. Without replacement no
            more than can be drawn.
        replacement: whether an item may be drawn again.
        seed: integer in [0, 2^64).
        rank: of this process, from 0.
        world_size: number of processes.
        uneven: what becomes of a last round that has not an item for every process: "keep" gives the first
            processes one item more, none lost or doubled (then a loop that waits for all processes in every step
            must stop with the first that ends); "drop" leaves that round out; "repeat" fills it from the beginning
            of the order. With fewer items than processes these are: some processes without any, none at all, one each.

    Raises:
        TypeError, ValueError: an argument out of its domain. Later, from whatever needs the order: a pace outside
            (0, 1], a pool whose weights are all 0.

    Deterministic: the same for every thread count and world size. `state_dict()` can be taken and loaded at any
    position, also by `torchdata`'s `StatefulDataLoader`, also on another world size; it holds difficulties and weights.

    Example:
        >>> import torch
        >>> from spcl_fast import CurriculumSampler, pacing
        >>> difficulty = torch.tensor([0.9, 0.1, 0.5, 0.3])
        >>> sampler = CurriculumSampler(4, difficulty=difficulty, pace=pacing.LinearPace(start=0.5, total=2))
        >>> sorted(sampler)
        [1, 3]
        >>> sampler.set_epoch(1)
        >>> sorted(sampler)
        [1, 2, 3]

        A pool that was chosen elsewhere, on a disk or here:

        >>> import numpy as np
        >>> sorted(CurriculumSampler(4, rows=np.array([1, 3])))
        [1, 3]

        A state taken after the first item is gone on with by two processes:

        >>> first = next(iter(sampler))
        >>> state = sampler.state_dict()
        >>> rest = []
        >>> for rank in range(2):
        ...     pace = pacing.LinearPace(start=0.5, total=2)
        ...     shared = CurriculumSampler(4, pace=pace, rank=rank, world_size=2)
        ...     shared.load_state_dict(state)
        ...     rest += list(shared)
        >>> sorted([first, *rest])
        [1, 2, 3]
    """

    def _units(self, order: np.ndarray | RowOrder) -> _Order:
        return _Order(order)


class _Order:
    """The items of an epoch in their common order."""

    def __init__(self, order: np.ndarray | RowOrder) -> None:
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def at(self, positions: range) -> Iterator[int]:
        for start in range(0, len(positions), AT_ONCE):
            part = positions[start : start + AT_ONCE]
            yield from self._order[part.start : part.stop : part.step].tolist()

    @cached_property
    def checksum(self) -> int:
        return _sampling.checksum(self._order)
