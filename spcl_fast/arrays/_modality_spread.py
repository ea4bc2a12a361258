"""The op `modality_spread` on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast._options import AGGREGATES, choice
from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "modality_spread"


def modality_spread(
    confidence: FloatArray,
    offsets: NDArray[np.integer[Any]],
    *,
    aggregate: str = "sum",
    present: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """How far the modalities of each dialogue stand apart: `spcl_fast.ops.modality_spread` on arrays.

    `s_d = std over m of S^m_d`, divided by M - 1, with `S^m_d` the sum of the confidence over the utterances of d
    (`aggregate="sum"`, as in SPCL, arXiv 2605.21565, code) or its mean ("mean", ours).

    Args:
        confidence: `[M, T]`, M >= 2; float16, float32 or float64, any strides, read in place. An utterance with NaN
            in a modality that is present is left out.
        offsets: `int[D+1]`, any integer dtype; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        aggregate: "sum" or "mean".
        present: `bool[M, T]`, or None for all.

    Returns:
        `[D]`, in units of confidence; float64 for float64 confidence, float32 for all others. Exactly 0 for equal
        modalities. NaN for a dialogue with no scored utterance or fewer than two modalities; empty for D = 0.
        Deterministic.

    Raises:
        TypeError: something else than an array, or a dtype that is not taken.
        ValueError: M = 1, shapes that do not fit, an unknown aggregate, offsets that do not run from 0 to T without
            falling.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> confidence = np.array([[0.9, 0.8, 0.5], [0.4, 0.3, 0.5]])  # two modalities, three utterances
        >>> arrays.modality_spread(confidence, np.array([0, 2, 3])).round(3).tolist()  # |1.7 - 0.7| / sqrt 2, and none
        [0.707, 0.0]
    """
    kernels = _inputs.kernels()
    choice(OP, "aggregate", aggregate, AGGREGATES)
    _inputs.array(OP, "confidence", confidence)
    _inputs.array(OP, "offsets", offsets)
    _inputs.optional(OP, "present", present)
    spread: FloatArray = kernels.modality_spread(confidence, offsets, present, aggregate == "mean")
    return spread
