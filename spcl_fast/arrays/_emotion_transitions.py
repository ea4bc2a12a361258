"""The op `emotion_transitions` on arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "emotion_transitions"


class EmotionTransitions(NamedTuple):
    """Integers of a batch and of its dialogues, a difficulty of each dialogue, a surprisal (nats) of each utterance.

    counts `[C, C]`; same_speaker_shifts, cross_speaker_shifts, num_speakers and difficulty `[D]`; surprisal `[T]`.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> labels, speakers, offsets = np.array([0, 1, 1]), np.array([0, 0, 0]), np.array([0, 3])
        >>> train = arrays.emotion_transitions(labels, speakers, offsets, num_classes=2)
        >>> train.counts.tolist()  # what the surprisal of another corpus may be over
        [[0, 1], [0, 1]]
        >>> train.num_speakers.tolist()
        [1]
    """

    counts: NDArray[np.int64]
    same_speaker_shifts: NDArray[np.int64]
    cross_speaker_shifts: NDArray[np.int64]
    num_speakers: NDArray[np.int64]
    difficulty: FloatArray
    surprisal: FloatArray


def emotion_transitions(
    labels: NDArray[np.integer[Any]],
    speakers: NDArray[np.integer[Any]],
    offsets: NDArray[np.integer[Any]],
    num_classes: int,
    *,
    similarity: FloatArray | None = None,
    ignore_index: int = -100,
    ignored: str = "skip",
    by: str = "dialogue",
    weighted: str = "both",
    counts: NDArray[np.integer[Any]] | None = None,
) -> EmotionTransitions:
    """How the emotions of each dialogue change: `spcl_fast.ops.emotion_transitions` on arrays.

    DIF = (N_same + N_sp) / (N_u + N_sp) (MultiDAG+CL, arXiv 2402.17269); WES, with `similarity`, has every change
    i -> j count similarity[i, j] + 0.4 (PRC-Emo, arXiv 2511.07061; LSDGNN, arXiv 2507.15205); surprisal
    -log((n[i, j] + 1) / (sum_k n[i, k] + C)) in nats (ours).

    Args:
        labels: `int[T]`, any integer dtype, any strides, read-only and memory-mapped arrays too; read in place.
        speakers: `int[T]`, any numbers; -1: not known, each such utterance has a speaker of its own.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        num_classes: C, from 1 to 32,768.
        similarity: `float[C, C]`; makes the difficulty WES. What is not finite there makes a difficulty so.
        ignore_index: the label of utterances that are not scored, as are those whose label names no class.
        ignored: what such an utterance does: "skip" makes its neighbours neighbours, "break" cuts its chains.
        by: whose neighbours the counts and the surprisal take: "dialogue" or "speaker".
        weighted: the changes that WES sums: "both" kinds, or those of the "same" speaker.
        counts: `int[C, C]`, at least 0: the surprisal is over them and not over this call's.

    Returns:
        `EmotionTransitions(counts, same_speaker_shifts, cross_speaker_shifts, num_speakers, difficulty, surprisal)`:
        int64 `[C, C]`, `[D]`, `[D]`, `[D]`; difficulty `[D]` and surprisal `[T]` float64 for a float64 similarity,
        else float32. NaN for a dialogue with no scored utterance and for an utterance that is not scored; empty for
        D = 0 and T = 0. Deterministic: the integers are exact, a dialogue's difficulty depends on it alone.

    Raises:
        TypeError: something else than an array, or a dtype that is not taken.
        ValueError: shapes that do not fit, an unknown choice, num_classes out of its domain, counts below 0, or
            offsets that do not run from 0 to T without falling.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> labels, speakers = np.array([0, 1, 0, 2]), np.array([0, 1, 0, 1])  # two who take turns
        >>> found = arrays.emotion_transitions(labels, speakers, np.array([0, 4]), num_classes=3)
        >>> found.same_speaker_shifts.tolist(), found.cross_speaker_shifts.tolist()
        ([1], [3])
        >>> found.difficulty.tolist()  # DIF: (1 + 2) / (4 + 2)
        [0.5]
    """
    kernels = _inputs.kernels()
    for name, value in (("labels", labels), ("speakers", speakers), ("offsets", offsets)):
        _inputs.array(OP, name, value)
    _inputs.optional(OP, "similarity", similarity)
    _inputs.optional(OP, "counts", counts)
    results = kernels.emotion_transitions(
        labels,
        speakers,
        offsets,
        num_classes,
        similarity,
        counts,
        ignore_index,
        _inputs.choice(OP, "ignored", ignored, ("skip", "break")) == "break",
        _inputs.choice(OP, "by", by, ("dialogue", "speaker")) == "speaker",
        _inputs.choice(OP, "weighted", weighted, ("both", "same")) == "both",
    )
    return EmotionTransitions(*results)
