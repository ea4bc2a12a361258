"""The op `modality_scores` on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "modality_scores"


class ModalityScores(NamedTuple):
    """Four scores `[M, T]`: loss and entropy in nats, confidence in [0, 1], margin in [-1, 1].

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> scores = arrays.modality_scores(np.array([[[2.0, 0.0]]]), np.array([0]))
        >>> {name: round(score.item(), 3) for name, score in scores._asdict().items()}
        {'loss': 0.127, 'confidence': 0.881, 'entropy': 0.365, 'margin': 0.762}
    """

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
        probability of 0; on the true class it gives a loss of +Inf. The margin of a single class is NaN. Empty for
        T = 0. Deterministic: each row depends on itself alone.

    Raises:
        TypeError: something else than an array, or a dtype that is not taken.
        ValueError: shapes that do not fit.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> text, audio = np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [2.0, 0.0]])
        >>> scores = arrays.modality_scores({"text": text, "audio": audio}, labels=np.array([0, 1]))
        >>> scores.confidence.round(2).tolist()
        [[0.95, 0.73], [0.73, 0.12]]
    """
    kernels = _inputs.kernels()
    arrays = _inputs.modalities(OP, "logits", "C", logits)
    _inputs.array(OP, "labels", labels)
    _inputs.optional(OP, "present", present)
    return ModalityScores(*kernels.modality_scores(arrays, labels, present, ignore_index))
