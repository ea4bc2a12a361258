"""Columns that go by shard by shard, for thresholds and selections: of scores, of arrays in files, of dialogues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast._options import choice

if TYPE_CHECKING:
    from spcl_fast.corpus.scores import Scores

__all__ = ["dialogue_columns", "dialogue_difficulty", "score_columns"]

AGGREGATES = ("mean", "max")
#: what is looked at where no column is named
DEFAULTS = {"utterance": "difficulty", "dialogue": "mean_difficulty"}


def dialogue_difficulty(
    difficulty: NDArray[np.floating[Any]], offsets: NDArray[np.integer[Any]], *, aggregate: str = "mean"
) -> NDArray[np.floating[Any]]:
    """One difficulty a dialogue: the mean of its utterances, or the hardest of them (ours).

    Args:
        difficulty: `[T]`, float16, float32 or float64; NaN is left out.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        aggregate: "mean", summed in float64, or "max".

    Returns:
        `[D]` of the dtype of `difficulty`; NaN for a dialogue without an utterance that has one, and for a mean over
        both infinities. A mean beyond float16 is Inf. Deterministic.

    Raises:
        TypeError: a difficulty or offsets of another type.
        ValueError: other shapes, offsets that do not run from 0 to T without falling, an unknown aggregate.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus.columns import dialogue_difficulty
        >>> difficulty, offsets = np.array([0.5, 1.0, np.nan, 0.25]), np.array([0, 2, 2, 4])
        >>> dialogue_difficulty(difficulty, offsets).tolist()  # the second is empty
        [0.75, nan, 0.25]
        >>> dialogue_difficulty(difficulty, offsets, aggregate="max").tolist()
        [1.0, nan, 0.25]
    """
    name = "dialogue_difficulty"
    choice(name, "aggregate", aggregate, AGGREGATES)
    for argument, value, kinds in (("difficulty", difficulty, "f"), ("offsets", offsets, "iu")):
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            got = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(f"{name}: {argument} must be an array of the right type (got {got})")
        if value.ndim != 1:
            raise ValueError(f"{name}: {argument} must have one dimension (got shape {value.shape})")
    T = len(difficulty)
    lengths = np.diff(offsets.astype(np.int64))
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != T or (lengths < 0).any():
        raise ValueError(f"{name}: offsets must run from 0 to {T} without falling (got {offsets})")
    result = np.full(len(lengths), np.nan, difficulty.dtype)
    full = np.flatnonzero(lengths)
    if not len(full):
        return result
    starts = offsets[full]
    unknown = np.isnan(difficulty)
    known = lengths[full] - np.add.reduceat(unknown, starts, dtype=np.int64)
    with np.errstate(all="ignore"):
        if aggregate == "max":
            found = np.maximum.reduceat(np.where(unknown, difficulty.dtype.type(-np.inf), difficulty), starts)
            result[full] = np.where(known > 0, found, np.nan)
        else:
            sums = np.add.reduceat(np.where(unknown, difficulty.dtype.type(0), difficulty), starts, dtype=np.float64)
            result[full] = sums / known  # 0 / 0 where none is known
    return result


class dialogue_columns:  # noqa: N801 - a call that gives columns, as `map` is one
    """The difficulties of the dialogues of every shard, for `select` and `global_threshold`, computed as they go by.

    Args:
        columns: the difficulties of the utterances, a shard each, as often as they are asked for.
        offsets: `int[D+1]` for each shard, in the same way.
        aggregate: "mean" or "max".

    Raises:
        TypeError, ValueError: as `dialogue_difficulty`, when a shard goes by; as many offsets as shards are needed.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus.columns import dialogue_columns
        >>> from spcl_fast.corpus import select
        >>> shards, offsets = [np.array([0.5, 1.0, 0.25])], [np.array([0, 2, 3])]
        >>> of_dialogues = dialogue_columns(shards, offsets)
        >>> np.asarray(select(of_dialogues, pace=0.5, unit="dialogue", out="easy.selection")).tolist()
        [1]
    """

    def __init__(
        self,
        columns: Iterable[NDArray[np.floating[Any]]],
        offsets: Iterable[NDArray[np.integer[Any]]],
        aggregate: str = "mean",
    ) -> None:
        choice("dialogue_columns", "aggregate", aggregate, AGGREGATES)
        for name, value in (("columns", columns), ("offsets", offsets)):
            if not isinstance(value, Iterable) or isinstance(value, Iterator):
                raise TypeError(
                    f"dialogue_columns: {name} must be a sequence of arrays, or give them anew for every pass"
                    f" (got {type(value).__name__})"
                )
        self._columns, self._offsets, self._aggregate = columns, offsets, aggregate

    def __iter__(self) -> Iterator[NDArray[np.floating[Any]]]:
        """A shard at a time."""
        for column, offsets in zip(self._columns, self._offsets, strict=True):
            yield dialogue_difficulty(column, offsets, aggregate=self._aggregate)


class score_columns:  # noqa: N801 - a call that gives columns
    """One column of every shard of a store of scores, opened as it goes by.

    Args:
        scores: what `rescore` left.
        column: its name; None for "difficulty", of dialogues "mean_difficulty".
        unit: "utterance", or "dialogue" for the columns of dialogues.
        verify: whether the checksum of every file is compared, in every pass.

    Raises:
        ValueError: an unknown unit; when a shard goes by, a column that is not there.
        StoreCorrupt: when a shard goes by, a file that is missing or damaged.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore, score_columns
        >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)]) as writer:
        ...     writer.add([7], [0, 1], [0, -100], {"text": np.zeros((2, 2), np.float32)}, offsets=[0, 2])
        >>> scores = rescore(open_corpus("corpus"), "scores", difficulty="loss").scores
        >>> [column.astype(float).round(3).tolist() for column in score_columns(scores)]
        [[0.693, nan]]
        >>> [column.astype(float).round(3).tolist() for column in score_columns(scores, unit="dialogue")]
        [[0.693]]
    """

    def __init__(
        self, scores: Scores, column: str | None = None, *, unit: str = "utterance", verify: bool = False
    ) -> None:
        choice("score_columns", "unit", unit, tuple(DEFAULTS))
        self._open = scores.column if unit == "utterance" else scores.dialogue_column
        self._scores, self.column, self._verify = scores, column or DEFAULTS[unit], verify

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """A shard at a time."""
        for shard in range(len(self._scores)):
            yield self._open(self.column, shard, self._verify)
