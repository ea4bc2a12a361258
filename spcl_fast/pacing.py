"""Paces: the fraction of the corpus that an epoch, or a step, may learn from. Imports no torch.

Every pace is a small object that cannot be changed: called with the 0-based epoch e it gives a Python float in (0, 1],
never falling (but for a last bit); `config` says in plain Python all that decides it, and paces with the same settings
are equal. Those that grow begin at `start`, c0 in the formulas, and are 1 from epoch `total`, E, on. Epochs may as well
be steps.

The formulas are those of the literature: linear and root-p from Platanios et al. 2019 (arXiv 1903.09848), exponential
and logarithmic as in Wu et al. 2021 (arXiv 2012.03107), geometric from Penha and Hauff 2020 (arXiv 1912.08555), steps
from the baby steps of Spitkovsky et al. 2010. `formula="curml"` gives what CurML and CurBench compute instead: they
count epochs from 1 and take exponent 1/2 for every power of the root.

Example:
    >>> from spcl_fast import pacing
    >>> pace = pacing.LinearPace(start=0.25, total=3)
    >>> [pace(epoch) for epoch in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    >>> pace == pacing.make("linear", start=0.25, total=3)
    True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from spcl_fast._paces import ConstantPace as ConstantPace
from spcl_fast._paces import ExponentialPace as ExponentialPace
from spcl_fast._paces import GeometricPace as GeometricPace
from spcl_fast._paces import LinearPace as LinearPace
from spcl_fast._paces import LogarithmicPace as LogarithmicPace
from spcl_fast._paces import RootPace as RootPace
from spcl_fast._paces import StepPace as StepPace
from spcl_fast._registry import Registry


@runtime_checkable
class Pace(Protocol):
    """What a sampler takes as a pace: any object that is called and says how it was made.

    A call must give a number in (0, 1], the same for the same epoch in every process, and must not fall from one epoch
    to the next. `config` holds plain Python values: a saved state of other settings is refused by it.

    Example:
        >>> from spcl_fast import pacing
        >>> class Sudden:
        ...     config = {"pace": "sudden", "at": 3}
        ...
        ...     def __call__(self, epoch: int) -> float:
        ...         return 0.5 if epoch < 3 else 1.0
        >>> isinstance(Sudden(), pacing.Pace)
        True
    """

    @property
    def config(self) -> dict[str, Any]:
        """All that decides the pace, in plain Python."""

    def __call__(self, epoch: int, /) -> float:
        """The fraction of the corpus at a 0-based epoch, in (0, 1]."""


_registry: Registry[Pace] = Registry(
    "pace",
    {
        of.name: of
        for of in (ConstantPace, LinearPace, RootPace, GeometricPace, ExponentialPace, LogarithmicPace, StepPace)
    },
)


def names() -> tuple[str, ...]:
    """The names that `make` knows, in the order they were registered.

    Example:
        >>> from spcl_fast import pacing
        >>> pacing.names()[:3]
        ('constant', 'linear', 'root')
    """
    return _registry.names()


def register(name: str, factory: Callable[..., Pace]) -> None:
    """Adds a pace of one's own to `make`, for configurations that name one.

    Args:
        name: not yet taken.
        factory: takes keyword arguments and gives a `Pace`; a class, for example.

    Raises:
        TypeError: a name that is no string, a factory that cannot be called.
        ValueError: a name that is taken.

    Example:
        >>> from functools import partial
        >>> from spcl_fast import pacing
        >>> pacing.register("slow root", partial(pacing.RootPace, power=5))
        >>> pacing.make("slow root", total=10).config["power"]
        5.0
    """
    _registry.register(name, factory)


def make(pace: str, **settings: Any) -> Pace:
    """A pace by its name.

    Args:
        pace: one of `names()`.
        settings: those of the pace.

    Raises:
        TypeError, ValueError: an unknown name, or settings that the pace refuses.

    Example:
        >>> from spcl_fast import pacing
        >>> pacing.make("root", total=10)
        RootPace(start=0.01, total=10, formula='paper', power=2.0)
    """
    return _registry.make(pace, **settings)
