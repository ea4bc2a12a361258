"""Cutting the dialogues of a shard into pieces of work."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

#: utterances of a slice, unless a dialogue has more; sums are rounded slice by slice, so it decides their last bits
SLICE = 1 << 16


def slices(
    offsets: NDArray[np.int64], rows: int = SLICE, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, int]]:
    """Ranges of the dialogues [first, last), each of at most `rows` utterances or of one longer dialogue."""
    D = len(offsets) - 1 if last is None else last
    while first < D:
        end = int(np.searchsorted(offsets[: D + 1], offsets[first] + rows, side="right")) - 1
        end = max(end, first + 1)
        yield first, end
        first = end
