"""What every op on arrays does first: the compiled module, and arguments that are arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


def kernels() -> ModuleType:
    """The compiled module; ImportError with what to do where it is not built."""
    try:
        from spcl_fast import _arrays
    except ImportError as error:
        raise ImportError(
            "spcl_fast.arrays needs the compiled module spcl_fast._arrays; "
            f"run `make setup`, or `pip install --no-build-isolation -e .` ({error})"
        ) from error
    return _arrays


def array(op: str, name: str, value: Any) -> NDArray[Any]:
    """Refuses what is not an array: pybind11 would convert a list, silently and by copy, and look past a mask."""
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{op}: {name} must be a NumPy array (got {type(value).__name__})")
    return value


def optional(op: str, name: str, value: Any) -> NDArray[Any] | None:
    """An array, or None."""
    return None if value is None else array(op, name, value)


def number(op: str, name: str, value: Any) -> float:
    """A number; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name} must be a number (got {type(value).__name__})")
    return float(value)


def threshold(op: str, value: Any) -> float:
    """A number that is not NaN."""
    level = number(op, "threshold", value)
    if level != level:
        raise ValueError(f"{op}: threshold must not be NaN (got {level})")
    return level


def modalities(
    op: str, name: str, letter: str, value: FloatArray | Sequence[FloatArray] | Mapping[str, FloatArray]
) -> list[FloatArray]:
    """One array `[M, T, columns]`, or M arrays `[T, columns]`, as the kernels take them; `letter` names the columns."""
    if isinstance(value, np.ndarray):
        if array(op, name, value).ndim != 3:
            raise ValueError(f"{op}: {name} must be [M, T, {letter}] (got shape {value.shape})")
        return [value]
    arrays = list(value.values() if isinstance(value, Mapping) else value)
    for m, part in enumerate(arrays):
        if array(op, f"{name}[{m}]", part).ndim != 2:
            raise ValueError(f"{op}: {name}[{m}] must be [T, {letter}] (got shape {part.shape})")
    return arrays


def choice(op: str, name: str, got: str, known: Sequence[str]) -> str:
    """`got`; ValueError unless it is one of `known`."""
    if got not in known:
        raise ValueError(f"{op}: {name} must be one of {', '.join(map(repr, known))} (got {got!r})")
    return got
