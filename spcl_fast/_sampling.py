"""How an epoch of a sampler is drawn: pool, draw, order, batches. All on the host, the same in every process.

Items are indices, as arrays; no list of them is ever made. Randomness is NumPy's PCG64DXSM with a `SeedSequence` of
seed and epoch, since the generator of torch for the CPU keeps 32 bits of its seed.
"""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast._paces import ConstantPace, is_pace, number
from spcl_fast._permutation import Permutation
from spcl_fast.ops._check import FLOATS
from spcl_fast.pacing import Pace
from spcl_fast.reference.rank_of_pace import rank_of_pace

Vector = Tensor | np.ndarray


class Rows(Protocol):
    """The items of a pool in ascending order, which may lie on a disk: `corpus.SelectionIndex`, or an array."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, positions: np.ndarray, /) -> np.ndarray:
        """Those at some positions, `int64[n]`."""


class Items(NamedTuple):
    """What is known of the items; tensors lie on the host and are never written to.

    known: how many have a difficulty that is not NaN; all where there is none.
    rows: the pool, where it has been chosen elsewhere.
    """

    num_items: int
    known: int
    difficulty: Tensor | None
    weights: Tensor | None
    rows: Rows | None = None


class Draw(NamedTuple):
    """How items are drawn from the pool of an epoch."""

    pool: str
    order: str
    formula: str
    num_samples: int | None
    replacement: bool


def as_pace(owner: str, pace: float | Pace) -> Pace:
    """A number as a constant pace, a pace as it is; TypeError for anything else."""
    if isinstance(pace, Real) and not isinstance(pace, bool):
        return ConstantPace(value=number(owner, "pace", pace, "in (0, 1]", is_pace))
    if isinstance(pace, type) or not isinstance(pace, Pace):
        raise TypeError(
            f"{owner}: pace must be a number or a pacing.Pace, callable and with a config (got {type(pace).__name__})"
        )
    return pace


def as_items(
    owner: str, num_items: int, difficulty: Vector | None, weights: Vector | None, rows: Rows | None = None
) -> Items:
    """Copies of difficulties and weights on the host, checked; rows as they are."""
    if rows is not None:
        return _chosen(owner, num_items, difficulty, weights, rows)
    known, rho, w = num_items, None, None
    if difficulty is not None:
        rho = _vector(owner, "difficulty", difficulty, num_items)
        if rho.dtype not in FLOATS:
            raise TypeError(f"{owner}: difficulty must hold floating point numbers (got {rho.dtype})")
        known -= int(rho.isnan().sum())
        if num_items and not known:
            raise ValueError(f"{owner}: difficulty must have an entry that is not NaN (got NaN {num_items} times)")
    if weights is not None:
        w = _vector(owner, "weights", weights, num_items)
        if w.dtype == torch.bool or w.is_complex():
            raise TypeError(f"{owner}: weights must hold numbers (got {w.dtype})")
        w = w.double()
        bad = ~((w >= 0) & (w < torch.inf)).numpy()
        if bad.any():
            i = int(bad.argmax())
            raise ValueError(f"{owner}: weights must be finite and at least 0 (got {float(w[i])} for item {i})")
        if num_items and not bool(w.any()):
            raise ValueError(f"{owner}: weights must have an entry above 0 (got 0 {num_items} times)")
    return Items(num_items, known, rho, w)


def _chosen(owner: str, num_items: int, difficulty: Any, weights: Any, rows: Rows) -> Items:
    if difficulty is not None or weights is not None:
        raise ValueError(f"{owner}: rows are a pool that is chosen, without difficulty and weights (got one of them)")
    if isinstance(rows, np.ndarray) and (rows.dtype.kind not in "iu" or rows.ndim != 1):
        raise TypeError(f"{owner}: rows must hold integers [n] (got {rows.dtype} of shape {rows.shape})")
    if not (hasattr(rows, "__len__") and hasattr(rows, "__array__")) or isinstance(rows, Tensor):
        raise TypeError(f"{owner}: rows must be a SelectionIndex or a NumPy array (got {type(rows).__name__})")
    of = getattr(rows, "rows", num_items)
    if of != num_items:
        raise ValueError(f"{owner}: rows must be of {num_items} items (got a selection of {of})")
    return Items(num_items, len(rows), None, None, rows)


def as_lengths(owner: str, value: Vector, num_items: int) -> np.ndarray:
    """A copy of the lengths on the host, `int64[N]`."""
    lengths = _vector(owner, "lengths", value, num_items)
    if lengths.dtype == torch.bool or lengths.is_floating_point() or lengths.is_complex():
        raise TypeError(f"{owner}: lengths must hold integers (got {lengths.dtype})")
    lengths = lengths.long()
    if num_items and bool((lengths < 0).any()):
        i = int((lengths < 0).int().argmax())
        raise ValueError(f"{owner}: lengths must be at least 0 (got {int(lengths[i])} for item {i})")
    return lengths.numpy()


def _vector(owner: str, name: str, value: Any, num_items: int) -> Tensor:
    if isinstance(value, np.ndarray):
        try:
            value = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
        except TypeError:
            raise TypeError(f"{owner}: {name} must hold numbers that torch has (got {value.dtype})") from None
    elif isinstance(value, Tensor):
        value = value.detach().to("cpu", copy=True).contiguous()
    else:
        raise TypeError(f"{owner}: {name} must be a tensor or a NumPy array (got {type(value).__name__})")
    if tuple(value.shape) != (num_items,):
        raise ValueError(f"{owner}: {name} must have shape ({num_items},) (got {tuple(value.shape)})")
    return value


class RowOrder:
    """The rows of a pool in the order of an epoch, looked up when they are asked for."""

    def __init__(self, owner: str, epoch: int, seed: int, items: Items, order: str) -> None:
        assert items.rows is not None
        self._owner, self._rows, self._num_items = owner, items.rows, items.num_items
        entropy = np.random.SeedSequence(seed, spawn_key=(epoch,))
        self._shuffled = Permutation(len(items.rows), entropy) if order == "shuffled" else None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        positions = np.arange(*at.indices(len(self))) if isinstance(at, slice) else at
        rows = np.asarray(self._rows[positions if self._shuffled is None else self._shuffled(positions)])
        if rows.size and not (rows.min() >= 0 and rows.max() < self._num_items):
            raise ValueError(
                f"{self._owner}: rows must be in [0, {self._num_items}) (got {rows.min()} to {rows.max()})"
            )
        return rows

    @property
    def checksum(self) -> int:
        """Of the rows, and of their order."""
        return zlib.crc32(identity(self._rows).encode(), 0 if self._shuffled is None else self._shuffled.checksum)


def identity(rows: Rows) -> str:
    """What tells one pool from another: the checksum of its file, or of the array."""
    held = getattr(rows, "checksum", None)
    return held if isinstance(held, str) else f"crc32:{checksum(np.asarray(rows)):08x}"


def order_of_epoch(owner: str, epoch: int, seed: int, items: Items, pace: Pace, draw: Draw) -> np.ndarray:
    """The items of one epoch in the order of all processes together: `int32[n]`, or int64 past 2^31 items."""
    pool = pool_of_ranks(items, *_ranks(owner, epoch, items.known, pace, draw))
    generator = np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(seed, spawn_key=(epoch,))))
    if items.weights is not None:
        drawn = weighted_draw(owner, epoch, pool, items.weights.numpy(), draw, generator)
    else:
        drawn = _uniform(pool, draw, generator)
    if draw.order == "easiest_first":
        drawn = np.sort(drawn)  # ties go by index
        if items.difficulty is not None:
            drawn = drawn[torch.argsort(items.difficulty[torch.from_numpy(drawn)], stable=True).numpy()]
    return drawn


def _ranks(owner: str, epoch: int, known: int, pace: Pace, draw: Draw) -> tuple[int, int]:
    """Which of the items, counted from the easiest, are the pool: from the first to before the last."""

    def taken(of_epoch: int) -> int:
        value = number(owner, f"the pace of epoch {of_epoch}", pace(of_epoch), "in (0, 1]", is_pace)
        if draw.formula == "curml":
            return min(known, max(1, int(known * value)))
        return int(rank_of_pace(value, torch.tensor(known, device="cpu")))

    last = taken(epoch)
    if draw.pool == "easiest":
        return 0, last
    began = bisect.bisect_left(range(epoch), last, key=taken)  # the first epoch that took as many
    return (taken(began - 1) if began else 0), last


def pool_of_ranks(items: Items, first: int, last: int) -> np.ndarray:
    """The items of these ranks, in ascending order of their indices."""
    dtype = np.int32 if items.num_items < 2**31 else np.int64
    if items.difficulty is None or last == 0:
        return np.arange(first, last, dtype=dtype)
    mask = ops.select_easiest(items.difficulty, last / items.known)  # `last` exactly: the op allows for the rounding
    if first:
        mask &= ~ops.select_easiest(items.difficulty, first / items.known)
    return np.flatnonzero(mask.numpy()).astype(dtype)


def _uniform(pool: np.ndarray, draw: Draw, generator: np.random.Generator) -> np.ndarray:
    n = len(pool)
    if draw.replacement:
        return pool[generator.integers(n, size=_at_most(draw, n))] if n else pool
    if draw.order == "easiest_first" and _at_most(draw, n) >= n:
        return pool
    generator.shuffle(pool)
    return pool[: _at_most(draw, n)]


@np.errstate(all="ignore")
def weighted_draw(
    owner: str, epoch: int, pool: np.ndarray, weights: np.ndarray, draw: Draw, generator: np.random.Generator
) -> np.ndarray:
    """Items with probability proportional to their weights."""
    k = _at_most(draw, len(pool))
    weights = weights if len(pool) == len(weights) else weights[pool]
    has_weight = weights > 0
    if not has_weight.all():
        if not has_weight.any():
            raise ValueError(
                f"{owner}: some weight must be above 0 in every pool (got none among the {len(pool)} items of epoch "
                f"{epoch})"
            )
        pool, weights = pool[has_weight], weights[has_weight]
    n = len(pool)
    if n == 0:
        return pool
    weights = weights / weights.max()  # no sum overflows
    if draw.replacement:
        ends = weights.cumsum()
        points = np.sort(generator.random(k)) * ends[-1]
        found = np.searchsorted(ends, points, side="right")
        drawn = pool[np.minimum(found, np.searchsorted(ends, ends[-1]))]  # a product may round up to the last end
        generator.shuffle(drawn)
        return drawn
    # Efraimidis and Spirakis 2006: the smallest of exponential variables divided by the weights, in ascending order,
    # are successive draws without replacement. The least weight keeps 0 / 0 away.
    keys = generator.standard_exponential(n)
    keys /= np.maximum(weights, np.finfo(np.float64).tiny, out=weights)
    if k < n:
        drawn = np.flatnonzero(ops.select_easiest(torch.from_numpy(keys), k / n).numpy())
        pool, keys = pool[drawn], keys[drawn]
    return pool[_ascending(keys)] if draw.order == "shuffled" else pool


def _ascending(keys: np.ndarray) -> np.ndarray:
    """The order of keys, ties by index; three times as fast as a stable sort where there are none."""
    order = keys.argsort()
    ordered = keys[order]
    return keys.argsort(kind="stable") if (ordered[1:] == ordered[:-1]).any() else order


def _at_most(draw: Draw, n: int) -> int:
    return n if draw.num_samples is None else draw.num_samples


class SizeBounds:
    """Where batches of so many of n items begin, and where the last ends; no list of them."""

    def __init__(self, n: int, batch_size: int, drop_last: bool) -> None:
        self._n, self._batch_size = n, batch_size
        self._batches = n // batch_size if drop_last else -(-n // batch_size)

    def __len__(self) -> int:
        return self._batches + 1

    def item(self, i: int) -> int:
        """Bound i, from 0."""
        return min(i * self._batch_size, self._n)


def budget_bounds(lengths: np.ndarray, budget: int, drop_last: bool) -> np.ndarray:
    """Where batches begin that are filled in order up to a budget of utterances, and where the last ends.

    An item longer than the budget is a batch of its own. `drop_last` leaves out a last batch below the budget.
    """
    n = len(lengths)
    ends = lengths.cumsum()
    begins = ends - lengths
    following = np.maximum(np.searchsorted(ends, begins + budget, side="right"), np.arange(1, n + 1))

    def walk() -> Iterator[int]:
        i = 0
        while i < n:
            yield i
            i = following.item(i)

    starts = np.fromiter(walk(), np.int64)
    if drop_last and len(starts) and ends[-1] - begins[starts[-1]] < budget:
        return starts
    return np.append(starts, n) if n else np.zeros(1, np.int64)


def checksum(values: np.ndarray | RowOrder) -> int:
    """CRC-32 of an array; of an order that is not made, what it has instead."""
    if isinstance(values, RowOrder):
        return values.checksum
    return zlib.crc32(np.ascontiguousarray(values).data)
