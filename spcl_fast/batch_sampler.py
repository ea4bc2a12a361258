"""The sampler of whole batches: of so many items, or of dialogues up to so many utterances."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Unpack

import numpy as np

from spcl_fast import _sampling
from spcl_fast._paces import integer
from spcl_fast._sampling import RowOrder, SizeBounds, Vector
from spcl_fast._sharded import Settings, ShardedSampler

AT_ONCE = 256  # batches whose rows are looked up at a time, where that takes more than a slice


class CurriculumBatchSampler(ShardedSampler[list[int]]):
    """Batches of a `CurriculumSampler`'s order, for `DataLoader(batch_sampler=...)`.

    The common order of all processes is cut into batches, and process r of W takes the batches r, r + W, ...: so the
    batches of an epoch are the same on every world size. A dialogue is never split.

    Args:
        num_items: N, as for `CurriculumSampler`.
        batch_size: items of a batch, at least 1; or, instead of it,
        max_utterances: utterances of a batch, at least 1: dialogues are taken in order until the next one would not
            fit. A longer dialogue is a batch of its own.
        lengths: `int[N]`, at least 0, the utterances of each dialogue; only with `max_utterances`. Copied.
        drop_last: whether to leave out a last batch of fewer items than `batch_size`, or of fewer utterances than
            `max_utterances`.
        **settings: those of `CurriculumSampler`; `uneven` speaks of batches, not items.

    Raises:
        TypeError, ValueError: an argument out of its domain, both or neither of `batch_size` and `max_utterances`.

    Example:
        >>> import torch
        >>> from spcl_fast import CurriculumBatchSampler
        >>> difficulty, lengths = torch.tensor([0.4, 0.1, 0.2, 0.3]), torch.tensor([9, 3, 2, 4])
        >>> list(
        ...     CurriculumBatchSampler(
        ...         4, max_utterances=6, lengths=lengths, difficulty=difficulty, order="easiest_first"
        ...     )
        ... )
        [[1, 2], [3], [0]]
    """

    def __init__(
        self,
        num_items: int,
        *,
        batch_size: int | None = None,
        max_utterances: int | None = None,
        lengths: Vector | None = None,
        drop_last: bool = False,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(num_items, **settings)
        name = type(self).__name__
        if (batch_size is None) == (max_utterances is None):
            raise ValueError(f"{name}: give either batch_size or max_utterances (got both or neither)")
        if (lengths is None) != (max_utterances is None):
            raise ValueError(f"{name}: max_utterances and lengths must be given together (got one of them)")
        if not isinstance(drop_last, bool):
            raise TypeError(f"{name}: drop_last must be a bool (got {type(drop_last).__name__})")
        self.batch_size = None if batch_size is None else integer(name, "batch_size", batch_size, 1)
        self.max_utterances = (
            None if max_utterances is None else integer(name, "max_utterances", max_utterances, 1, 2**62)
        )
        self.drop_last = drop_last
        self._lengths = None if lengths is None else _sampling.as_lengths(name, lengths, self.num_items)
        self._checksum_of_lengths = None if self._lengths is None else _sampling.checksum(self._lengths)

    @property
    def sampler(self) -> CurriculumBatchSampler:
        """Itself: trainers look here for `set_epoch` when they are given a batch sampler."""
        return self

    @property
    def config(self) -> dict[str, Any]:
        """All that decides the batches, and is no tensor, in plain Python; the lengths by their checksum."""
        return super().config | {
            "batch_size": self.batch_size,
            "max_utterances": self.max_utterances,
            "lengths": self._checksum_of_lengths,
            "drop_last": self.drop_last,
        }

    def _units(self, order: np.ndarray | RowOrder) -> _Batches:
        if self.batch_size is not None:
            return _Batches(order, SizeBounds(len(order), self.batch_size, self.drop_last))
        assert self._lengths is not None
        assert self.max_utterances is not None
        lengths = self._lengths[order[:]]
        return _Batches(order, _sampling.budget_bounds(lengths, self.max_utterances, self.drop_last))


class _Batches:
    """The batches of an epoch in their common order."""

    def __init__(self, order: np.ndarray | RowOrder, bounds: np.ndarray | SizeBounds) -> None:
        self._order, self._bounds = order, bounds

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def at(self, positions: range) -> Iterator[list[int]]:
        if isinstance(self._order, np.ndarray):
            for position in positions:
                yield self._order[self._bounds.item(position) : self._bounds.item(position + 1)].tolist()
            return
        for start in range(0, len(positions), AT_ONCE):
            part = positions[start : start + AT_ONCE]
            spans = [(self._bounds.item(position), self._bounds.item(position + 1)) for position in part]
            items = self._order[np.concatenate([np.arange(*span) for span in spans])].tolist()
            begin = 0
            for first, last in spans:
                yield items[begin : begin + last - first]
                begin += last - first

    @cached_property
    def checksum(self) -> int:
        return _sampling.checksum(self._order)
