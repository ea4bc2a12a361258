"""The paces, and the checks they share; `spcl_fast.pacing` is where they are public. Imports no torch."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, ClassVar

from spcl_fast._options import FORMULAS, choice

MOST_EPOCHS = 2**53  # beyond it a float no longer tells one epoch from the next


@dataclass(frozen=True, kw_only=True)
class ConstantPace:
    """The same fraction in every epoch.

    Args:
        value: in (0, 1].

    Raises:
        TypeError: a value that is no number.
        ValueError: a value outside (0, 1].

    Example:
        >>> from spcl_fast import pacing
        >>> pacing.ConstantPace(value=0.3)(7)
        0.3
    """

    name: ClassVar[str] = "constant"
    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", number(type(self).__name__, "value", self.value, "in (0, 1]", is_pace))

    @property
    def config(self) -> dict[str, Any]:
        """All that decides the pace, in plain Python: `make(**config)` makes it again, by the key `pace`."""
        return {"pace": self.name, **asdict(self)}

    def __call__(self, epoch: int, /) -> float:
        """The value."""
        integer(type(self).__name__, "epoch", epoch, 0)
        return self.value


@dataclass(frozen=True, kw_only=True)
class _GrowingPace(ABC):
    """A pace that grows from `start` at epoch 0 to 1 at epoch `total`; both ends are exact."""

    name: ClassVar[str]
    start: float
    total: int

    def __post_init__(self) -> None:
        own = type(self).__name__
        object.__setattr__(self, "start", number(own, "start", self.start, *self._domain_of_start()))
        object.__setattr__(self, "total", integer(own, "total", self.total, 1, MOST_EPOCHS))

    def _domain_of_start(self) -> tuple[str, Callable[[float], bool]]:
        return "in (0, 1]", is_pace

    @property
    def config(self) -> dict[str, Any]:
        """All that decides the pace, in plain Python: `make(**config)` makes it again, by the key `pace`."""
        return {"pace": self.name, **asdict(self)}

    def __call__(self, epoch: int, /) -> float:
        """The fraction of the corpus at a 0-based epoch, in (0, 1].

        Raises:
            TypeError: an epoch that is no integer.
            ValueError: an epoch below 0.
        """
        e = integer(type(self).__name__, "epoch", epoch, 0)
        if e >= self.total:
            return 1.0
        return self.start if e == 0 else min(1.0, max(self.start, self._between(e)))

    @abstractmethod
    def _between(self, e: int) -> float:
        """The formula, for 0 < e < total."""


@dataclass(frozen=True, kw_only=True)
class _PublishedTwice(_GrowingPace):
    """A pace that CurML computes in another way than the literature."""

    formula: str = "paper"

    def __post_init__(self) -> None:
        choice(type(self).__name__, "formula", self.formula, FORMULAS)
        super().__post_init__()

    def __call__(self, epoch: int, /) -> float:
        """The fraction of the corpus at a 0-based epoch, in (0, 1]; errors as for every pace."""
        if self.formula == "paper":
            return super().__call__(epoch)
        e = integer(type(self).__name__, "epoch", epoch, 0) + 1
        return 1.0 if e >= self.total else min(1.0, self._curml(e))

    @abstractmethod
    def _curml(self, e: int) -> float:
        """CurML's formula, for 0 < e < total; e counts from 1."""


@dataclass(frozen=True, kw_only=True)
class LinearPace(_PublishedTwice):
    """`c0 + (1 - c0) e / E` (Platanios et al. 2019, arXiv 1903.09848).

    Args:
        start: c0, in (0, 1]; with "curml" also 0.
        total: E, the first epoch at pace 1, at least 1.
        formula: "paper", or "curml" with e + 1 for e.

    Raises:
        TypeError, ValueError: a setting out of its domain.

    Example:
        >>> from spcl_fast import pacing
        >>> [pacing.LinearPace(start=0.5, total=2)(epoch) for epoch in range(4)]
        [0.5, 0.75, 1.0, 1.0]
    """

    name: ClassVar[str] = "linear"

    def _domain_of_start(self) -> tuple[str, Callable[[float], bool]]:
        if self.formula == "curml":  # its first epoch is e = 1
            return "in [0, 1]", lambda start: 0 <= start <= 1
        return super()._domain_of_start()

    def _between(self, e: int) -> float:
        return self.start + (1 - self.start) * e / self.total

    def _curml(self, e: int) -> float:
        return self.start + (1.0 - self.start) / self.total * e


@dataclass(frozen=True, kw_only=True)
class RootPace(_PublishedTwice):
    """`(c0^p + (1 - c0^p) e / E)^(1/p)`: competence that grows the slower the more there is (Platanios et al. 2019).

    Args:
        start: c0, in (0, 1]; Platanios et al. take 0.01.
        total: E, the first epoch at pace 1, at least 1.
        power: p, finite and above 0; 1 is the linear pace.
        formula: "paper", or "curml" with e + 1 for e and exponent 1/2 for every p.

    Raises:
        TypeError, ValueError: a setting out of its domain.

    Example:
        >>> from spcl_fast import pacing
        >>> pace = pacing.RootPace(total=4)
        >>> [round(pace(epoch), 3) for epoch in range(5)]
        [0.01, 0.5, 0.707, 0.866, 1.0]
    """

    name: ClassVar[str] = "root"
    start: float = 0.01
    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "power", number(type(self).__name__, "power", self.power, *_ABOVE_0))

    def _between(self, e: int) -> float:
        lowest = self.start**self.power
        return (lowest + (1 - lowest) * e / self.total) ** (1 / self.power)

    def _curml(self, e: int) -> float:
        lowest = self.start**self.power
        return math.sqrt(lowest + (1.0 - lowest) / self.total * e)


@dataclass(frozen=True, kw_only=True)
class GeometricPace(_PublishedTwice):
    """`c0^(1 - e / E)`: grows by the same factor in every epoch (Penha and Hauff 2020, arXiv 1912.08555).

    Args:
        start: c0, in (0, 1].
        total: E, the first epoch at pace 1, at least 1.
        formula: "paper", or "curml" with e + 1 for e.

    Raises:
        TypeError, ValueError: a setting out of its domain.

    Example:
        >>> from spcl_fast import pacing
        >>> pace = pacing.GeometricPace(start=0.25, total=2)
        >>> [pace(epoch) for epoch in range(3)]
        [0.25, 0.5, 1.0]
    """

    name: ClassVar[str] = "geometric"

    def _between(self, e: int) -> float:
        return float(self.start ** ((self.total - e) / self.total))

    def _curml(self, e: int) -> float:
        lowest = math.log2(self.start)
        return float(2.0 ** (-lowest / self.total * e + lowest))


@dataclass(frozen=True, kw_only=True)
class ExponentialPace(_GrowingPace):
    """`c0 + (1 - c0) (exp(k e / E) - 1) / (exp(k) - 1)`: slow at first (Wu et al. 2021, arXiv 2012.03107).

    Args:
        start: c0, in (0, 1].
        total: E, the first epoch at pace 1, at least 1.
        rate: k, finite and above 0; Wu et al. take 10.

    Raises:
        TypeError, ValueError: a setting out of its domain.

    Example:
        >>> from spcl_fast import pacing
        >>> pace = pacing.ExponentialPace(start=0.1, total=4, rate=2.0)
        >>> [round(pace(epoch), 3) for epoch in range(5)]
        [0.1, 0.191, 0.342, 0.59, 1.0]
    """

    name: ClassVar[str] = "exponential"
    rate: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rate", number(type(self).__name__, "rate", self.rate, *_ABOVE_0))

    def _between(self, e: int) -> float:
        x = e / self.total
        # Both exponentials times exp(-k), which keeps any k from overflowing.
        grown = math.exp(self.rate * (x - 1)) * math.expm1(-self.rate * x) / math.expm1(-self.rate)
        return self.start + (1 - self.start) * grown


@dataclass(frozen=True, kw_only=True)
class LogarithmicPace(_GrowingPace):
    """`c0 + (1 - c0) log(1 + k e / E) / log(1 + k)`: fast at first.

    Args:
        start: c0, in (0, 1].
        total: E, the first epoch at pace 1, at least 1.
        rate: k, finite and above 0; the default `exp(10) - 1` is the curve of Wu et al. 2021 (arXiv 2012.03107),
            `1 + log(e / E + exp(-10)) / 10`, to within 5e-6.

    Raises:
        TypeError, ValueError: a setting out of its domain.

    Example:
        >>> from spcl_fast import pacing
        >>> pace = pacing.LogarithmicPace(start=0.1, total=4, rate=2.0)
        >>> [round(pace(epoch), 3) for epoch in range(5)]
        [0.1, 0.432, 0.668, 0.851, 1.0]
    """

    name: ClassVar[str] = "logarithmic"
    rate: float = math.expm1(10)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rate", number(type(self).__name__, "rate", self.rate, *_ABOVE_0))

    def _between(self, e: int) -> float:
        grown = math.log1p(self.rate * (e / self.total)) / math.log1p(self.rate)
        return self.start + (1 - self.start) * grown


@dataclass(frozen=True, kw_only=True)
class StepPace(_GrowingPace):
    """`c0 + (1 - c0) floor(n e / E) / n`: n jumps of the same size (baby steps, Spitkovsky et al. 2010).

    The n + 1 buckets of baby steps are as large as each other with `start=1 / (n + 1)`.

    Args:
        start: c0, in (0, 1].
        total: E, the first epoch at pace 1, at least 1.
        steps: n, at least 1.

    Raises:
        TypeError, ValueError: a setting out of its domain.

    Example:
        >>> from spcl_fast import pacing
        >>> pace = pacing.StepPace(start=0.5, total=4, steps=2)
        >>> [pace(epoch) for epoch in range(5)]
        [0.5, 0.5, 0.75, 0.75, 1.0]
    """

    name: ClassVar[str] = "step"
    steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", integer(type(self).__name__, "steps", self.steps, 1, MOST_EPOCHS))

    def _between(self, e: int) -> float:
        return self.start + (1 - self.start) * (self.steps * e // self.total) / self.steps


def is_pace(value: float) -> bool:
    return 0 < value <= 1


_ABOVE_0: tuple[str, Callable[[float], bool]] = ("finite and above 0", lambda value: 0 < value < math.inf)


def number(owner: str, name: str, value: Any, rule: str, holds: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name} must be a number (got {type(value).__name__})")
    number = float(value)
    if not holds(number):
        raise ValueError(f"{owner}: {name} must be {rule} (got {number})")
    return number


def integer(owner: str, name: str, value: Any, least: int, most: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be an integer (got {type(value).__name__})")
    if number < least or (most is not None and number > most):
        rule = f"at least {least}" if number < least else f"at most {most}"
        raise ValueError(f"{owner}: {name} must be {rule} (got {number})")
    return number
