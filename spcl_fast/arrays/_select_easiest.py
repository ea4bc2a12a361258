"""The op `select_easiest` on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "select_easiest"


def select_easiest(difficulty: FloatArray, pace: float) -> NDArray[np.bool_]:
    """Takes the easiest utterances: `spcl_fast.ops.select_easiest` on an array.

    Exactly `ceil(pace n)` of the n whose difficulty is not NaN: those below the threshold of `difficulty_quantile`
    and, of those equal to it, the first by index (ours: the literature leaves ties open).

    Args:
        difficulty: `[T]`, float16, float32 or float64, any strides, read-only and memory-mapped arrays too; read in
            place. NaN is never taken; +Inf is the largest value, -Inf the smallest, -0 equals 0.
        pace: fraction of the corpus, a number in (0, 1].

    Returns:
        `bool[T]`, True where taken; empty for T = 0. Deterministic.

    Raises:
        TypeError: something else than an array, a dtype that is not taken, a pace that is no number.
        ValueError: a difficulty that is not `[T]`, a pace outside (0, 1].
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> difficulty = np.array([0.5, 0.25, 0.5, np.nan, 1.0])
        >>> arrays.select_easiest(difficulty, pace=0.5).tolist()  # two of four: of a tie the first
        [True, True, False, False, False]
    """
    kernels = _inputs.kernels()
    _inputs.array(OP, "difficulty", difficulty)
    return kernels.select_easiest(difficulty, _inputs.number(OP, "pace", pace))
