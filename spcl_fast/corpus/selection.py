"""Exact thresholds and selections over corpora past memory: histograms add up, and a piece at a time goes by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcl_fast import arrays
from spcl_fast._paces import is_pace, number
from spcl_fast.corpus._selection_file import write_selection
from spcl_fast.corpus.index import SelectionIndex

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["GlobalThreshold", "global_threshold", "global_thresholds", "select"]

Column = NDArray[np.floating[Any]]
Columns = Iterable[Column] | Column

PIECE = 1 << 17  # values that stay in the cache while several paces count them, or a mask is made of them
MOST_AT_ONCE = 1 << 24
DTYPES = tuple(map(np.dtype, (np.float16, np.float32, np.float64)))


class GlobalThreshold(NamedTuple):
    """The threshold at a pace, and what it stands on.

    value: the threshold, of the dtype of the columns; NaN where nothing is known.
    taken: `ceil(pace known)`, what a selection at this pace takes.
    ties: how many of those that are equal to the threshold it takes; all that are below are taken.
    known: values that are not NaN.
    total: all values, the rows of the corpus.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import global_thresholds
        >>> (found,) = global_thresholds([np.array([0.5, np.nan]), np.array([0.5, 0.25])], [0.5])
        >>> float(found.value), found.taken, found.ties, found.known, found.total
        (0.5, 2, 1, 3, 4)
    """

    value: np.floating[Any]
    taken: int
    ties: int
    known: int
    total: int


def global_threshold(columns: Columns, pace: float, *, process_group: ProcessGroup | None = None) -> np.floating[Any]:
    """The threshold at a pace over all shards: `ops.difficulty_quantile` of them laid end to end, bit for bit.

    Args:
        columns: as for `global_thresholds`.
        pace: in (0, 1].
        process_group: as for `global_thresholds`.

    Returns:
        The `ceil(pace n)`-th smallest of the n values that are not NaN, a scalar of their dtype; NaN for n = 0.

    Raises:
        TypeError, ValueError: as for `global_thresholds`.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import global_threshold
        >>> shards = np.array([0.5, 2.0, 0.25], np.float32), np.array([np.nan, 0.25], np.float32)
        >>> float(global_threshold(shards, 0.6))  # the third of four
        0.5
    """
    return global_thresholds(columns, [pace], process_group=process_group)[0].value


def global_thresholds(
    columns: Columns, paces: Sequence[float], *, process_group: ProcessGroup | None = None
) -> list[GlobalThreshold]:
    """The thresholds at several paces over all shards, exact, in the passes that one takes.

    A radix selection by `arrays.difficulty_histogram` (textbook; the digits are ours), as `ops.difficulty_quantile`
    does it over processes: 2 passes over float16, 3 over float32, 6 over float64. Memory is 16 KB a pace and a piece of
    one shard, however many there are; no shard is copied.

    Args:
        columns: the shards, each `[T]`, float16, float32 or float64, all of one dtype: NumPy arrays or memory maps,
            also read-only and empty ones. A sequence, or anything that gives them anew for every pass; one array is one
            shard. +Inf is the largest value, -Inf the smallest, -0 equals 0, NaN is left out.
        paces: each in (0, 1]; `ceil` is that of `ops.difficulty_quantile`.
        process_group: the processes that have shards of the corpus, of which this is one; None for this one alone. All
            have to call, also without a shard, with the same paces. Histograms are summed, values are not sent.

    Returns:
        One a pace, in their order; the same on every process. Deterministic, however the corpus is cut.

    Raises:
        TypeError: a shard that is no array or of another dtype, shards of several dtypes, also over processes; columns
            that could be read only once; a pace that is no number.
        ValueError: a shard that is not `[T]`, a pace outside (0, 1].

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import global_thresholds
        >>> shards = [np.arange(6, dtype=np.float32), np.arange(6, 10, dtype=np.float32)]
        >>> [float(found.value) for found in global_thresholds(shards, [0.1, 0.5, 1.0])]
        [0.0, 4.0, 9.0]
    """
    import torch  # not before it is needed: scores are made and columns are read without

    from spcl_fast import _distributed
    from spcl_fast.ops._radix_select import next_digit
    from spcl_fast.reference import keys
    from spcl_fast.reference.rank_of_pace import rank_of_pace

    name = "global_threshold"
    paces = [number(name, "pace", pace, "in (0, 1]", is_pace) for pace in paces]
    group = None if process_group is None else _distributed.group(name, process_group)
    shards = _repeatable(name, columns)
    extent = _distributed.all_sum(torch.from_numpy(_extent(name, shards)), group).numpy()
    dtype, total = _common(name, extent)
    like: torch.dtype = getattr(torch, dtype.name)
    prefixes = [torch.zeros((), dtype=torch.int64) for _ in paces]
    ranks, taken, known = prefixes, prefixes, 0
    for level in range(keys.levels(like) if paces else 0):
        bits = keys.digit_at(like, level).bits
        rows = {prefix: row for row, prefix in enumerate(sorted(set(map(int, prefixes))))}
        counts = _distributed.all_sum(torch.from_numpy(_counts(shards, list(rows), level, bits)), group)
        if level == 0:
            known = int(counts.sum())
            ranks = taken = [rank_of_pace(pace, torch.tensor(known)) for pace in paces]
        digits = [
            next_digit(counts[rows[int(prefix)]], prefix, rank, bits)
            for prefix, rank in zip(prefixes, ranks, strict=True)
        ]
        prefixes, ranks = [prefix for prefix, _ in digits], [rank for _, rank in digits]
    values = [dtype.type(keys.value_of(prefix, like).item() if known else np.nan) for prefix in prefixes]
    counted = zip(values, map(int, taken), map(int, ranks), strict=True)
    return [GlobalThreshold(value, rank, ties, known, total) for value, rank, ties in counted]


def select(
    columns: Columns,
    *,
    out: str | os.PathLike[str],
    pace: float | None = None,
    threshold: float | None = None,
    form: str = "auto",
    unit: str = "utterance",
) -> SelectionIndex:
    """Writes which rows of the corpus are chosen: the easiest at a pace, or all up to a threshold.

    `ops.select_easiest` over shards, exactly `ceil(pace n)` of the n values that are not NaN, ties by row, so that what
    a pace takes a larger one takes too; or hard self-paced selection, `difficulty <= threshold` (METHODS: section 3,
    "hard"). A row is the place of a value over all shards in their order. For dialogues give the columns of
    `dialogue_columns`, and the numbers are those of dialogues.

    The passes are those of `global_thresholds`, and one or two more; memory is a few MB, however many rows. The file
    is whole or not there, the same bytes however the corpus is cut, and of the smaller of two forms: 8 bytes a chosen
    row, or 1.13 bits a row of the corpus (`write_selection`).

    Args:
        columns: as for `global_thresholds`.
        out: the file; its folder exists. One that is there is replaced.
        pace: in (0, 1]; or, instead of it,
        threshold: a number, not NaN, rounded to the dtype of the columns as all thresholds are.
        form: "auto", "rows" or "bits".
        unit: what a row is, "utterance" or "dialogue"; goes into the file.

    Returns:
        The selection, open.

    Raises:
        TypeError: as for `global_thresholds`; a threshold that is no number.
        ValueError: as for `global_thresholds`; both or neither of pace and threshold, a threshold that is NaN, an
            unknown form or unit; columns that changed between two passes.
        OSError: the file cannot be written.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import select
        >>> shards = [np.array([0.5, 0.25, np.nan]), np.array([0.5, 0.125])]
        >>> np.asarray(select(shards, pace=0.75, out="easy.selection")).tolist()  # of the tie the first
        [0, 1, 4]
        >>> np.asarray(select(shards, threshold=0.5, out="easy.selection")).tolist()
        [0, 1, 3, 4]
    """
    shards = _repeatable("select", columns)
    if (pace is None) == (threshold is None):
        raise ValueError("select: give either pace or threshold (got both or neither)")
    if pace is not None:
        (found,) = global_thresholds(shards, [pace])
        value, ties, count, total = found.value, found.ties, found.taken, found.total
    else:
        level = number("select", "threshold", threshold, "a number that is not NaN", lambda x: x == x)
        dtype, total = _common("select", _extent("select", shards))
        with np.errstate(over="ignore"):
            value = dtype.type(level)
        ties = total
        count = sum(int(np.count_nonzero(piece <= value)) for piece in _pieces(shards))
    about = {"pace": pace, "threshold": float(value)}
    write_selection(out, _masks(shards, value, ties), rows=total, count=count, form=form, unit=unit, about=about)
    return SelectionIndex(out, verify=False)


def _masks(shards: Iterable[Column], value: np.floating[Any], ties: int) -> Iterator[NDArray[np.bool_]]:
    """What is below the threshold, and the first of those that are equal to it; a piece at a time."""
    for piece in _pieces(shards):
        mask = piece <= value
        equal = np.flatnonzero(piece == value)
        mask[equal[ties:]] = False
        ties = max(ties - len(equal), 0)
        yield mask


def _counts(shards: Iterable[Column], prefixes: list[int], level: int, bits: int) -> NDArray[np.int64]:
    """Histograms of one digit over the shards of this process, one for each prefix: `int64[P, 2**bits]`."""
    counts = np.zeros((len(prefixes), 1 << bits), np.int64)
    for piece in _pieces(shards, PIECE if len(prefixes) > 1 else MOST_AT_ONCE):
        for of, prefix in zip(counts, prefixes, strict=True):
            of += arrays.difficulty_histogram(piece, prefix, level)
    return counts


def _pieces(shards: Iterable[Column], size: int = PIECE) -> Iterator[Column]:
    for shard in shards:
        for start in range(0, len(shard), size):
            yield shard[start : start + size]


def _repeatable(name: str, columns: Any) -> Iterable[Column]:
    """The shards, as often as they are asked for."""
    if isinstance(columns, np.ndarray):
        return [columns]
    if not isinstance(columns, Iterable) or isinstance(columns, Iterator):
        raise TypeError(
            f"{name}: columns must be a sequence of arrays, or give them anew for every pass"
            f" (got {type(columns).__name__})"
        )
    return columns


def _extent(name: str, shards: Iterable[Column]) -> NDArray[np.int64]:
    """Whether there are shards of each dtype, then how many values there are in all; looks at no value."""
    extent = np.zeros(len(DTYPES) + 1, np.int64)
    for i, shard in enumerate(shards):
        if not isinstance(shard, np.ndarray) or isinstance(shard, np.ma.MaskedArray):
            raise TypeError(f"{name}: columns must be NumPy arrays (got {type(shard).__name__} for shard {i})")
        if shard.dtype not in DTYPES:
            rule = "must be float16, float32 or float64 in native byte order"
            raise TypeError(f"{name}: columns {rule} (got {shard.dtype.str} for shard {i})")
        if shard.ndim != 1:
            raise ValueError(f"{name}: columns must be [T] each (got shape {shard.shape} for shard {i})")
        extent[DTYPES.index(shard.dtype)] = 1
        extent[-1] += len(shard)
    return extent


def _common(name: str, extent: NDArray[np.int64]) -> tuple[np.dtype[Any], int]:
    """The one dtype of all shards, float32 where there is none, and how many values they have."""
    found = [dtype for dtype, count in zip(DTYPES, extent[:-1], strict=True) if count]
    if len(found) > 1:
        raise TypeError(f"{name}: columns must be of one dtype (got {' and '.join(map(str, found))})")
    return found[0] if found else np.dtype(np.float32), int(extent[-1])
