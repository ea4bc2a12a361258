"""The chosen rows of a corpus, read where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._selection_file import BLOCK, HEADER, ONES, PIECE, read_header, size_of
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import StoreCorrupt

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # [256, 8]
_PLACES = np.argsort(1 - _BITS, axis=1, kind="stable").astype(np.uint8)  # [256, 8]: where its bits are set, in order
_ALL_BEFORE = np.uint64(0x0101010101010101)  # times 8 small numbers in a word: their sums from the lowest on


class SelectionIndex:
    """The chosen rows of a corpus in ascending order, memory-mapped: an array that is not loaded.

    `index[i]`, slices and arrays of positions give chosen rows as `int64`; `np.asarray(index)` all of them. Looking one
    up takes a page or two of the file, in both forms.

    Args:
        path: a file of `write_selection` or `select`.
        verify: whether to read it all once and compare the checksum. Without, only what the file says of itself is
            checked.

    Attributes:
        rows: of the corpus, chosen or not.
        unit: what a row is, "utterance" or "dialogue".
        form: of the file, "rows" or "bits".
        about: what else the file says of itself, such as the pace and the threshold.
        checksum: of the data.

    Raises:
        StoreCorrupt: no such file, another version, one that was cut off or changed; it names the file.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import SelectionIndex
        >>> from spcl_fast.corpus import select
        >>> shards = [np.array([0.5, 0.25, 0.75]), np.array([1.0, 0.125])]
        >>> _ = select(shards, pace=0.6, out="easy.selection")
        >>> index = SelectionIndex("easy.selection")
        >>> len(index), index[-1], index[:2].tolist(), index.mask(3, 5).tolist()
        (3, 4, [0, 1], [False, True])
        >>> index.rows, index.about["threshold"]
        (5, 0.5)
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: bool = True) -> None:
        self.path = Path(path)
        header = read_header(self.path)
        self.form: str = header["form"]
        self.unit: str = header["unit"]
        self.rows: int = header["rows"]
        self.about: dict[str, Any] = header["about"]
        self.checksum: str = header["checksum"]
        self._count: int = header["count"]
        size = size_of(self.form, self.rows, self._count)
        if self.path.stat().st_size != HEADER + size:
            raise StoreCorrupt(
                f"{self.path}: must have {HEADER + size} bytes, by its header (got {self.path.stat().st_size})"
            )
        data = np.memmap(self.path, np.uint8, "r", HEADER, (size,)) if size else np.zeros(0, np.uint8)
        if verify and checksum(data) != self.checksum:
            raise StoreCorrupt(f"{self.path}: must have the checksum {self.checksum} (got {checksum(data)})")
        blocks = -(-self.rows // BLOCK)
        ends = 0 if self.form == "rows" else blocks * BLOCK // 8
        self._bits = data[:ends].reshape(-1, BLOCK // 8)
        self._before = data[ends:].view("<i8")  # of "rows" the rows themselves

    def __len__(self) -> int:
        """How many are chosen."""
        return self._count

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice | NDArray[np.integer[Any]]) -> NDArray[np.int64]: ...
    def __getitem__(self, at: int | slice | NDArray[np.integer[Any]]) -> int | NDArray[np.int64]:
        """The chosen rows at some positions, from 0 or back from the end.

        Raises:
            IndexError: a position beyond the end.
        """
        if isinstance(at, slice):
            part = range(*at.indices(self._count))
            if self.form == "bits" and part.step == 1:
                return self._between(part.start, part.stop)
            return self._at(np.arange(part.start, part.stop, part.step))
        positions = np.asarray(at, np.int64 if np.size(at) == 0 else None)
        if positions.dtype.kind not in "iu":
            raise IndexError(f"SelectionIndex: positions must be integers (got {positions.dtype})")
        if positions.size and not (-self._count <= positions.min() and positions.max() < self._count):
            raise IndexError(f"SelectionIndex: positions must be in [{-self._count}, {self._count}) (got {at})")
        positions = positions.astype(np.int64, copy=False)  # a narrow type has no room for what is computed
        found = self._at(np.where(positions < 0, positions + self._count, positions).reshape(-1))
        return found.reshape(positions.shape) if positions.ndim else int(found[0])

    def __iter__(self) -> Iterator[int]:
        """All of them, one by one."""
        for start in range(0, self._count, PIECE):
            yield from self[start : start + PIECE].tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of them: `int64[count]`; the file itself where it holds rows and no copy is asked for."""
        if self.form == "rows":
            return np.array(self._before, dtype=dtype) if copy else np.asarray(self._before, dtype=dtype)
        if copy is False:
            raise ValueError("SelectionIndex: bits must be unpacked to an array (got copy=False)")
        return self[:].astype(dtype or np.int64, copy=False)

    def mask(self, first: int, last: int) -> NDArray[np.bool_]:
        """Which of the rows `first` to before `last` are chosen, such as those of a shard: `bool[last - first]`.

        Raises:
            IndexError: not `0 <= first <= last <= rows`.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.corpus import SelectionIndex, write_selection
            >>> write_selection("own.selection", [np.array([True, False, True])], rows=3, count=2)
            >>> SelectionIndex("own.selection").mask(1, 3).tolist()
            [False, True]
        """
        if not 0 <= first <= last <= self.rows:
            raise IndexError(f"SelectionIndex: mask must be of rows in [0, {self.rows}] (got {first} to {last})")
        if self.form == "bits":
            packed = self._bits.reshape(-1)[first // 8 : -(-last // 8)]
            bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + last - first]
            return bits.view(np.bool_)
        begin, end = np.searchsorted(self._before, [first, last])
        mask = np.zeros(last - first, np.bool_)
        mask[self._before[begin:end] - first] = True
        return mask

    def _between(self, start: int, stop: int) -> NDArray[np.int64]:
        """The rows at neighbouring positions, from the blocks that hold them."""
        if start >= stop:
            return np.zeros(0, np.int64)
        first = int(np.searchsorted(self._before, start, side="right")) - 1
        last = int(np.searchsorted(self._before, stop - 1, side="right"))
        parts = []
        for block in range(first, last, PIECE // BLOCK):
            bits = np.unpackbits(self._bits[block : min(last, block + PIECE // BLOCK)], bitorder="little")
            parts.append(np.flatnonzero(bits.view(np.bool_)) + block * BLOCK)
        skipped = start - int(self._before[first])
        return np.concatenate(parts)[skipped : skipped + stop - start]

    def _at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows at positions that are there."""
        if self.form == "rows":
            return np.asarray(self._before[positions], np.int64)
        block = np.searchsorted(self._before, positions, side="right") - 1
        left = positions - self._before[block]  # of those chosen in the block, how many come before
        each, held = np.arange(len(positions)), self._bits[block]  # [n, 64]
        up_to = (ONES[held].view("<u8") * _ALL_BEFORE).view(np.uint8).reshape(-1, 8, 8)  # within each 8 bytes
        words = up_to[:, :, 7].cumsum(1, dtype=np.int64)
        word = np.count_nonzero(words <= left[:, None], axis=1)
        left -= words[each, word] - up_to[each, word, 7]
        byte = np.count_nonzero(up_to[each, word] <= left[:, None], axis=1)
        here = held[each, 8 * word + byte]
        left -= up_to[each, word, byte] - ONES[here].astype(np.int64)
        return block * BLOCK + word * 64 + byte * 8 + _PLACES[here, left]
