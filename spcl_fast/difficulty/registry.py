"""The measurers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from spcl_fast._registry import Registry
from spcl_fast.difficulty.bss import BssDifficulty
from spcl_fast.difficulty.combined import CombinedDifficulty
from spcl_fast.difficulty.extended import ExtendedDifficulty
from spcl_fast.difficulty.history import HistoryDifficulty
from spcl_fast.difficulty.loss import LossDifficulty
from spcl_fast.difficulty.measurer import Difficulty
from spcl_fast.difficulty.random import RandomDifficulty
from spcl_fast.difficulty.spcl import SpclDifficulty
from spcl_fast.difficulty.spread import SpreadDifficulty
from spcl_fast.difficulty.transitions import TransitionDifficulty

_registry: Registry[Difficulty] = Registry(
    "difficulty",
    {
        "spcl": SpclDifficulty,
        "extended": ExtendedDifficulty,
        "loss": LossDifficulty,
        "spread": SpreadDifficulty,
        "dif": TransitionDifficulty,
        "bss": BssDifficulty,
        "random": RandomDifficulty,
        "history": HistoryDifficulty,
    },
)


def _wes(similarity: Tensor, *, ignored: str = "skip") -> TransitionDifficulty:
    return TransitionDifficulty(similarity, ignored=ignored)


_registry.register("wes", _wes)
_registry.register("combined", CombinedDifficulty)


def names() -> tuple[str, ...]:
    """The names of the measurers that can be made.

    Example:
        >>> from spcl_fast import difficulty
        >>> "loss" in difficulty.names()
        True
    """
    return _registry.names()


def make(name: str, **parameters: Any) -> Difficulty:
    """The measurer of that name, with these parameters of its class.

    Raises:
        TypeError: a factory that gives something else than a measurer.
        ValueError: an unknown name; what the class refuses.

    Example:
        >>> from spcl_fast import difficulty
        >>> difficulty.make("random", seed=3)
        RandomDifficulty(seed=3, redraw=True)
    """
    made = _registry.make(name, **parameters)
    if not isinstance(made, Difficulty):
        raise TypeError(f"difficulty: the factory of {name!r} must give a Difficulty (got {type(made).__name__})")
    return made


def register(name: str, factory: Callable[..., Difficulty]) -> None:
    """Makes a measurer of your own known by name, to the scheduler too.

    Raises:
        TypeError: a name that is no text, a factory that cannot be called.
        ValueError: a name that is taken.

    Example:
        >>> from spcl_fast import SelfPacedScheduler, difficulty
        >>> class EasiestFirstClass(difficulty.Difficulty):
        ...     def forward(self, inputs):
        ...         return inputs.labels.float()
        >>> difficulty.register("easiest_first_class", EasiestFirstClass)
        >>> SelfPacedScheduler(difficulty="easiest_first_class").difficulty
        EasiestFirstClass()
    """
    _registry.register(name, factory)
