"""The op `difficulty_quantile` on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "difficulty_quantile"


def difficulty_quantile(difficulty: FloatArray, pace: float) -> np.floating[Any]:
    """The threshold at a pace: `spcl_fast.ops.difficulty_quantile` on an array.

    The `ceil(pace n)`-th smallest of the n difficulties that are not NaN, exact and never interpolated. A product
    `pace n` that differs from an integer by no more than its rounding counts as that integer. The quantile as the
    threshold of self-paced learning is the literature's usual form.

    Args:
        difficulty: `[T]`, float16, float32 or float64, any strides, read-only and memory-mapped arrays too; read in
            place. NaN is left out; +Inf is the largest value, -Inf the smallest, -0 equals 0.
        pace: fraction of the corpus, a number in (0, 1].

    Returns:
        A NumPy scalar of the dtype of `difficulty`; +0 where it is zero, NaN for n = 0. Deterministic.

    Raises:
        TypeError: something else than an array, a dtype that is not taken, a pace that is no number.
        ValueError: a difficulty that is not `[T]`, a pace outside (0, 1].
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> difficulty = np.array([0.5, 0.25, 0.5, np.nan, 1.0])
        >>> threshold = arrays.difficulty_quantile(difficulty, pace=0.5)  # the second of four
        >>> float(threshold)
        0.5
        >>> (difficulty <= threshold).tolist()  # the tie is kept
        [True, True, True, False, False]
    """
    kernels = _inputs.kernels()
    _inputs.array(OP, "difficulty", difficulty)
    return kernels.difficulty_quantile(difficulty, _inputs.number(OP, "pace", pace))[()]
