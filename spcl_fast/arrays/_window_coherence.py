"""The op `window_coherence` on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "window_coherence"
SOURCES = ("embedding", "prediction")


def window_coherence(
    embeddings: FloatArray | Sequence[FloatArray] | Mapping[str, FloatArray],
    offsets: NDArray[np.integer[Any]],
    *,
    window: int = 5,
    source: str = "embedding",
    present: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """How well the modalities agree around each utterance: `spcl_fast.ops.window_coherence` on arrays.

    The mean over a window of `c_t = mean over pairs m < n of cos(e^m_t, e^n_t)`, cut at the borders of the dialogue;
    ours, since the abstract of SPCL (arXiv 2605.21565) gives no formula.

    Args:
        embeddings: `[M, T, F]`, or M arrays `[T, F]` as a sequence or a mapping; M from 2 to 256; float16, float32 or
            float64, any strides, read-only and memory-mapped arrays too; read in place. Logits for
            `source="prediction"`.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        window: odd and at least 1.
        source: "embedding", or "prediction" for the softmax of logits.
        present: `bool[M, T]`; a modality that is not present is not looked at. None: all are.

    Returns:
        `[T]` in [-1, 1], float64 for float64 embeddings and float32 for all others. NaN where no c of the window is
        defined, and where a present vector of the utterance itself holds NaN or Inf. Empty for T = 0. Deterministic:
        each value depends on its own dialogue alone.

    Raises:
        TypeError: something else than an array, or a dtype that is not taken.
        ValueError: M = 1, shapes that do not fit, an even window or one below 1, an unknown source, offsets that do
            not run from 0 to T without falling.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> text, audio = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])  # cosines 1 and 0
        >>> arrays.window_coherence([text, audio], np.array([0, 2]), window=1).round(3).tolist()
        [1.0, 0.0]
        >>> arrays.window_coherence([text, audio], np.array([0, 2]), window=3).round(3).tolist()
        [0.5, 0.5]
    """
    kernels = _inputs.kernels()
    if source not in SOURCES:
        raise ValueError(f"{OP}: source must be one of {', '.join(map(repr, SOURCES))} (got {source!r})")
    if isinstance(window, bool) or not isinstance(window, int):
        raise TypeError(f"{OP}: window must be an integer (got {type(window).__name__})")
    arrays = _inputs.modalities(OP, "embeddings", "F" if source == "embedding" else "C", embeddings)
    _inputs.array(OP, "offsets", offsets)
    _inputs.optional(OP, "present", present)
    return kernels.window_coherence(arrays, offsets, present, max(-1, min(window, 2**62 + 1)), source == "prediction")
