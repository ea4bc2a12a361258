"""The ops on NumPy arrays, for data workers, pandas and Arrow. Does not import torch.

The same compiled kernels as the backend "cpu", so the same numbers bit for bit; they run in the calling
thread and release the GIL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ModalityScores", "modality_scores"]

FloatArray = NDArray[np.floating[Any]]


class ModalityScores(NamedTuple):
    """Four scores `[M, T]`: loss and entropy in nats, confidence in [0, 1], margin in [-1, 1]."""

    loss: FloatArray
    confidence: FloatArray
    entropy: FloatArray
    margin: FloatArray


def modality_scores(
    logits: FloatArray | Sequence[FloatArray] | Mapping[str, FloatArray],
    labels: NDArray[np.integer[Any]],
    *,
    ignore_index: int = -100,
    present: NDArray[np.bool_] | None = None,
) -> ModalityScores:
    """Scores every modality's prediction of every utterance: `spcl_fast.ops.modality_scores` on arrays.

    With `p = softmax(z^m_t)` and `y` the label of utterance t: loss `-log p[y]`, confidence `p[y]`, entropy
    `-sum_c p log p` with `0 log 0 = 0`, margin `p[y] - max_{c != y} p[c]`. The closed forms are the
    literature's usual ones.

    Args:
        logits: `[M, T, C]`, or M arrays `[T, C]` as a sequence or a mapping; float16, float32 or float64, any
            strides, read-only and memory-mapped arrays too; read in place.
        labels: `int[T]`, any integer dtype.
        ignore_index: the label of utterances that are not scored.
        present: `bool[M, T]`; a modality that is not present is not looked at. None: all are.

    Returns:
        `ModalityScores(loss, confidence, entropy, margin)`, each `[M, T]`, float64 for float64 logits and
        float32 for all others. NaN in all four where a label is `ignore_index` or names no class, where a row
        holds NaN or +Inf or is -Inf everywhere, and where `present` is False. A logit of -Inf is a
        probability of 0; on the true class it gives a loss of +Inf. The margin of a single class is NaN.

    Raises:
        TypeError: something else than an array, or a dtype that is not taken.
        ValueError: shapes that do not fit.
        ImportError: the compiled module is not built.
    """
    try:
        from spcl_fast import _arrays
    except ImportError as error:
        raise ImportError(
            "spcl_fast.arrays needs the compiled module spcl_fast._arrays; "
            f"run `make setup`, or `pip install --no-build-isolation -e .` ({error})"
        ) from error
    if isinstance(logits, np.ndarray):
        if logits.ndim != 3:
            raise ValueError(f"modality_scores: logits must be [M, T, C] (got shape {logits.shape})")
        arrays = [logits]
    else:
        arrays = list(logits.values() if isinstance(logits, Mapping) else logits)
        for m, array in enumerate(arrays):
            if _array(f"logits[{m}]", array).ndim != 2:
                raise ValueError(f"modality_scores: logits[{m}] must be [T, C] (got shape {array.shape})")
    _array("labels", labels)
    if present is not None:
        _array("present", present)
    return ModalityScores(*_arrays.modality_scores(arrays, labels, present, ignore_index))


def _array(name: str, value: Any) -> NDArray[Any]:
    """Refuses what is not an array: pybind11 would convert a list, silently and by copy."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"modality_scores: {name} must be a NumPy array (got {type(value).__name__})")
    return value
