"""What the samplers have in common: epochs, the share of a process, where an epoch stands, states."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeVar

import numpy as np
from torch.utils.data import Sampler

from spcl_fast import _sampling
from spcl_fast._options import FORMULAS, choice
from spcl_fast._paces import integer
from spcl_fast._sampling import Draw, Items, RowOrder, Rows, Vector
from spcl_fast._state import differences
from spcl_fast.pacing import Pace

STATE_VERSION = 1
FIELDS = {"version", "config", "epoch", "position", "finished", "checksum", "items", "next_items"}
POOLS = ("easiest", "bucket")
ORDERS = ("shuffled", "easiest_first")
UNEVEN = ("keep", "drop", "repeat")

_WHOLE = _sampling.as_pace("", 1.0).config

Unit = TypeVar("Unit")
UnitOut = TypeVar("UnitOut", covariant=True)


class Settings(TypedDict, total=False):
    """The keyword arguments that every sampler takes; `CurriculumSampler` says what they mean."""

    difficulty: Vector | None
    pace: float | Pace
    pool: str
    order: str
    formula: str
    weights: Vector | None
    rows: Rows | None
    num_samples: int | None
    replacement: bool
    seed: int
    rank: int
    world_size: int
    uneven: str


class Units(Protocol[UnitOut]):
    """What the processes share out: the items, or the batches, of an epoch in their common order."""

    def __len__(self) -> int:
        """Of all processes together."""

    def at(self, positions: range) -> Iterator[UnitOut]:
        """Those at some positions."""

    @property
    def checksum(self) -> int:
        """Of the items in their common order."""


@dataclass(slots=True)
class _Pass:
    """One way through an epoch, from a position in the common order on."""

    begin: int = 0
    yielded: int = 0  # by this process
    is_taken: bool = False  # by an iterator
    is_finished: bool = False


class ShardedSampler(Sampler[Unit]):
    """Shares the units of an epoch out over processes; see `CurriculumSampler`, which has items for units."""

    def __init__(
        self,
        num_items: int,
        *,
        difficulty: Vector | None = None,
        pace: float | Pace = 1.0,
        pool: str = "easiest",
        order: str = "shuffled",
        formula: str = "paper",
        weights: Vector | None = None,
        rows: Rows | None = None,
        num_samples: int | None = None,
        replacement: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        uneven: str = "keep",
    ) -> None:
        name = type(self).__name__
        self.num_items = integer(name, "num_items", num_items, 0)
        for argument, got, known in (
            ("pool", pool, POOLS),
            ("order", order, ORDERS),
            ("formula", formula, FORMULAS),
            ("uneven", uneven, UNEVEN),
        ):
            choice(name, argument, got, known)
        if not isinstance(replacement, bool):
            raise TypeError(f"{name}: replacement must be a bool (got {type(replacement).__name__})")
        if num_samples is not None:
            num_samples = integer(name, "num_samples", num_samples, 1)
        self.pace = _sampling.as_pace(name, pace)
        self.seed = integer(name, "seed", seed, 0, 2**64 - 1)
        self.world_size = integer(name, "world_size", world_size, 1)
        self.rank = integer(name, "rank", rank, 0)
        if self.rank >= self.world_size:
            raise ValueError(f"{name}: rank must be below world_size, {self.world_size} (got {self.rank})")
        self.uneven = uneven
        self.epoch = 0
        self._draw = Draw(pool, order, formula, num_samples, replacement)
        self._items = _sampling.as_items(name, self.num_items, difficulty, weights, self._pool_of(rows))
        self._next_items: Items | None = None  # of the epoch after the one under way
        self._pass = _Pass()
        self._made: Units[Unit] | None = None  # the units of this epoch

    def _pool_of(self, rows: Rows | None) -> Rows | None:
        """The rows; ValueError where another setting would choose or draw among them."""
        if rows is not None and (self.pace.config, self._draw.pool) != (_WHOLE, POOLS[0]):
            raise ValueError(f"{type(self).__name__}: rows are the pool of every epoch, at pace 1 (got another)")
        if rows is not None and (self._draw.num_samples is not None or self._draw.replacement):
            raise ValueError(f"{type(self).__name__}: rows are taken once each (got num_samples or replacement)")
        return rows

    @abstractmethod
    def _units(self, order: np.ndarray | RowOrder) -> Units[Unit]:
        """The items of an epoch as units."""

    @property
    def config(self) -> dict[str, Any]:
        """All that decides the order of the units, and is no tensor, in plain Python."""
        return {
            "num_items": self.num_items,
            "pace": dict(self.pace.config),
            **self._draw._asdict(),
            "seed": self.seed,
            "uneven": self.uneven,
        }

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next, 0-based. Another epoch than before begins at its beginning.

        Raises:
            TypeError, ValueError: not an integer, or below 0.
        """
        epoch = integer(type(self).__name__, "epoch", epoch, 0)
        if epoch != self.epoch:
            self.epoch = epoch
            self._start_over()

    def set_difficulty(self, difficulty: Vector | None) -> None:
        """Takes new difficulties, `[N]` as at construction, by a copy; from a GPU it waits for them.

        An epoch under way stays as it is, and so does what a loaded state continues: they count from the next one on.
        """
        self._set_items(difficulty, self._latest.weights, self._latest.rows)

    def set_weights(self, weights: Vector | None) -> None:
        """Takes new weights, `[N]` as at construction, in the same way."""
        self._set_items(self._latest.difficulty, weights, self._latest.rows)

    def set_rows(self, rows: Rows | None) -> None:
        """Takes another pool, as at construction, in the same way; it is not copied. None: all items.

        A state does not hold it: after `load_state_dict` it is to be set again, where the next epoch is to have it.
        """
        self._set_items(self._latest.difficulty, self._latest.weights, self._pool_of(rows))

    @property
    def _latest(self) -> Items:
        return self._items if self._next_items is None else self._next_items

    def _set_items(self, difficulty: Vector | None, weights: Vector | None, rows: Rows | None) -> None:
        self._next_items = _sampling.as_items(type(self).__name__, self.num_items, difficulty, weights, rows)
        if not (self._pass.begin or self._pass.yielded):
            self._start_over()

    def _start_over(self) -> None:
        """Stands before the beginning of the present epoch, with the latest difficulties and weights."""
        self._items, self._next_items = self._latest, None
        self._pass, self._made = _Pass(), None

    def _make(self) -> Units[Unit]:
        if self._made is None:
            name = type(self).__name__
            if self._items.rows is not None:
                pool = RowOrder(name, self.epoch, self.seed, self._items, self._draw.order)
                self._made = self._units(pool)
            else:
                order = _sampling.order_of_epoch(name, self.epoch, self.seed, self._items, self.pace, self._draw)
                self._made = self._units(order)
        return self._made

    def _positions(self, begin: int, total: int) -> range:
        """Where this process stands in the common order from a position on; past its end it begins again."""
        rounds, rest = divmod(total - begin, self.world_size)
        whole = begin + rounds * self.world_size
        stop = {"keep": total, "drop": whole, "repeat": whole + (self.world_size if rest else 0)}[self.uneven]
        return range(begin + self.rank, stop, self.world_size)

    def __len__(self) -> int:
        """How many this process yields in the present epoch as a whole, also after a resume in its middle."""
        return len(self._positions(0, len(self._make())))

    @property
    def remaining(self) -> int:
        """How many this process has still to yield in the present epoch; in all of it, where it has not begun."""
        if self._pass.is_finished:
            return 0
        return len(self._positions(self._pass.begin, len(self._make()))) - self._pass.yielded

    def __iter__(self) -> Iterator[Unit]:
        """Yields the present epoch: all of it, or once, after `load_state_dict`, what was left of it."""
        if self._pass.is_taken:
            self._start_over()
        this, units = self._pass, self._make()
        this.is_taken = True
        total = len(units)
        positions = self._positions(this.begin, total)
        inside = range(positions.start, min(positions.stop, total), self.world_size)
        for unit in units.at(inside):
            this.yielded += 1
            yield unit
        for position in positions[len(inside) :]:  # of "repeat", at most one
            (unit,) = units.at(range(position % total, position % total + 1))
            this.yielded += 1
            yield unit
        this.is_finished = True

    def state_dict(self, *, yielded: int | None = None) -> dict[str, Any]:
        """Where the epoch stands, and all that the rest of it hangs on; loads with `weights_only=True`.

        The position is that of the common order, so that any world size can go on from it, if all processes have used
        as many units as this one. Tensors are those of the sampler, which never writes to them.

        Args:
            yielded: how many units of the newest iterator the trainer has used, where a `DataLoader` with workers has
                asked for more ahead; None for all it gave.

        Raises:
            TypeError, ValueError: not an integer from 0 to what the iterator gave.
        """
        of, following = self._pass, self._next_items
        used = of.yielded if yielded is None else integer(type(self).__name__, "yielded", yielded, 0, of.yielded)
        finished = of.is_finished and used == of.yielded
        position = 0 if finished else of.begin + used * self.world_size
        units = self._make() if position else None
        return {
            "version": STATE_VERSION,
            "config": self.config,
            "epoch": self.epoch,
            "position": min(position, len(units)) if units else 0,
            "finished": finished,
            "checksum": units.checksum if units else None,
            "items": _tensors(self._items),
            "next_items": None if following is None or following.rows is not None else _tensors(following),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a state was taken, on any world size: the next iterator yields what was left, none twice.

        Difficulties and weights are those of the state. A state of a finished epoch goes on with a whole epoch: the
        one that `set_epoch` has named if that is a later one, else the same again. So does a state of which nothing is
        left, after `set_epoch` has named a later one.

        Raises:
            ValueError: not the state of such a sampler, another version, other settings (named), or an order that
                comes out otherwise here. Nothing has changed then.
        """
        name = type(self).__name__
        if not isinstance(state, Mapping) or not isinstance(state.get("config"), Mapping):
            raise ValueError(f"{name}: the state must be that of a {name} (got something else)")
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"{name}: the state must be of version {STATE_VERSION} (got {state.get('version')})")
        if missing := FIELDS - state.keys():
            raise ValueError(f"{name}: the state must have all its fields (got none of {', '.join(sorted(missing))})")
        differ = differences(state["config"], self.config)
        if differ:
            raise ValueError(f"{name}: the state was saved with other settings ({differ})")
        before = (self.epoch, self._items, self._next_items, self._pass, self._made)
        try:
            self._load(name, state)
        except Exception:
            self.epoch, self._items, self._next_items, self._pass, self._made = before
            raise

    def _load(self, name: str, state: Mapping[str, Any]) -> None:
        epoch = integer(name, "epoch of the state", state["epoch"], 0)
        position = integer(name, "position of the state", state["position"], 0)
        following, rows = state["next_items"], self._items.rows
        own = None if rows is None else _sampling.identity(rows)
        if own != state["items"].get("rows"):
            raise ValueError(
                f"{name}: rows must be those of the state, {state['items'].get('rows')} (got {own}): give them first"
            )
        self._items = _sampling.as_items(name, self.num_items, **state["items"] | {"rows": rows})
        self._next_items = None if following is None else _sampling.as_items(name, self.num_items, **following)
        named, self.epoch = self.epoch, epoch
        self._pass, self._made = _Pass(begin=position), None
        is_over = bool(state["finished"])
        if position:
            units = self._make()
            if units.checksum != state["checksum"] or position > len(units):
                raise ValueError(
                    f"{name}: the order of epoch {epoch} must come out as it did where the state was saved (got another"
                    " one: another version of NumPy, or a pace that changed)"
                )
            # A loader's workers may have used up the epoch when its iterator did not know that it had ended.
            is_over = named > epoch and self._positions(position, len(units)).stop <= position
        if is_over:
            self.epoch = max(named, epoch)
            self._start_over()


def _tensors(items: Items) -> dict[str, Any]:
    """What a state holds of the items; of rows what tells them from others."""
    rows = {} if items.rows is None else {"rows": _sampling.identity(items.rows)}
    return {"difficulty": items.difficulty, "weights": items.weights, **rows}
