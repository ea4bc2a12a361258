"""The op `difficulty_histogram` on arrays."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "difficulty_histogram"


def difficulty_histogram(difficulty: FloatArray | NDArray[np.int64], prefix: int, level: int) -> NDArray[np.int64]:
    """Counts difficulties by one digit of their keys: `spcl_fast.ops.difficulty_histogram` on an array.

    The digits, from the highest, have 11 bits each and the last one what is left: 2 for float16 (11 and 5 bits), 3 for
    float32 (11, 11, 10), 6 for float64 and int64 (five of 11 and one of 9). Histograms of parts add up.

    Args:
        difficulty: `[T]`, float16, float32 or float64, any strides, read-only and memory-mapped arrays too; read in
            place. NaN is not counted. Or int64, of which 2^63 - 1 is not counted.
        prefix: the digits above, as one number; 0 at level 0. One that no key begins with counts nothing.
        level: which digit, 0 the highest; below 2, 3 or 6 by the dtype.

    Returns:
        `int64[2**bits]`: how many have each digit, of those whose key begins with `prefix`.

    Raises:
        TypeError: something else than an array, a dtype that is not taken, a prefix or level that is no integer.
        ValueError: a difficulty that is not `[T]`, a prefix past 64 bits, a level that the dtype does not have.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> counts = arrays.difficulty_histogram(np.array([0.5, np.nan, -1.0, 0.5], np.float32), 0, 0)
        >>> counts.nonzero()[0].tolist(), counts[counts > 0].tolist()  # the digits of -1 and of 0.5
        ([512, 1524], [1, 2])
    """
    kernels = _inputs.kernels()
    _inputs.array(OP, "difficulty", difficulty)
    for name, value in (("prefix", prefix), ("level", level)):
        if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
            raise TypeError(f"{OP}: {name} must be an integer (got {type(value).__name__})")
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{OP}: {name} must fit in 64 bits (got {value})")
    counts: NDArray[Any] = kernels.difficulty_histogram(difficulty, int(prefix), int(level))
    return counts
