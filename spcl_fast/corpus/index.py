"""Selections on disk: which rows of a corpus are chosen, in a file that is read where it lies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from spcl_fast._options import choice
from spcl_fast.corpus.atomic import atomic_file
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import StoreCorrupt

__all__ = ["SelectionIndex", "write_selection"]

HEADER = 4096  # bytes before the data, a page
MAGIC = "spcl_fast selection"
VERSION = 1
FORMS = ("rows", "bits")
UNITS = ("utterance", "dialogue")
MOST_ROWS = 2**62
BLOCK = 512  # rows whose bits are looked through for one of them: a cache line
PIECE = 1 << 20  # rows at a time, a multiple of BLOCK

_BYTES = np.arange(256, dtype=np.uint8)
_BITS = np.unpackbits(_BYTES[:, None], axis=1, bitorder="little")  # [256, 8]
_ONES = _BITS.sum(1, dtype=np.uint8)  # of each byte
_ALL_BEFORE = np.uint64(0x0101010101010101)  # times 8 small numbers in a word: their sums from the lowest on
_PLACES = np.argsort(1 - _BITS, axis=1, kind="stable").astype(np.uint8)  # [256, 8]: where its bits are set, in order


def write_selection(
    path: str | os.PathLike[str],
    masks: Iterable[NDArray[np.bool_]],
    *,
    rows: int,
    count: int,
    form: str = "auto",
    unit: str = "utterance",
    about: Mapping[str, float | str | None] | None = None,
) -> None:
    """Writes which rows are chosen, from masks that go by: little-endian, checksummed, whole or not at all.

    The file begins with a page of text: `spcl_fast selection`, the checksum of what follows in it, and JSON. Then comes
    the data, by its form:

    - "rows": `int64[count]`, the chosen rows in ascending order; 8 bytes each.
    - "bits": a bit a row, the lowest of a byte first, filled up with zeros to blocks of 64 bytes; then `int64`, how
      many are chosen before each block and in all. 1.13 bits a row of the corpus, and any chosen row is found in one
      block.

    "auto" takes the smaller: "bits" where more than 1.8 % are chosen. 40 % of 10^10 rows are 32 GB as rows and 1.4 GB
    as bits. The formats are ours.

    Args:
        path: the file; its folder exists. One that is there is replaced.
        masks: `bool[n]` each, one after the other those of all rows.
        rows: how many there are.
        count: how many are chosen.
        form: "auto", "rows" or "bits".
        unit: what a row is, "utterance" or "dialogue".
        about: what else the file is to say of itself, numbers and short texts.

    Raises:
        TypeError: a mask that is no array of bool.
        ValueError: masks of another length or with another count than was said, an unknown form or unit, an `about`
            that does not fit the page.
        OSError: the file cannot be written; the old one stays.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import SelectionIndex, write_selection
        >>> masks = [np.array([True, False]), np.array([True])]
        >>> write_selection("own.selection", masks, rows=3, count=2)
        >>> np.asarray(SelectionIndex("own.selection")).tolist()
        [0, 2]
    """
    choice("write_selection", "form", form, ("auto", *FORMS))
    choice("write_selection", "unit", unit, UNITS)
    if form == "auto":
        form = min(FORMS, key=lambda of: _size(of, rows, count))
    header = {"version": VERSION, "form": form, "unit": unit, "rows": rows, "count": count}
    header |= {"about": {key: _plain(value) for key, value in (about or {}).items()}}
    _page(header | {"checksum": "crc32c:00000000"})
    with atomic_file(path) as file:
        file.seek(HEADER)
        written = (_write_rows if form == "rows" else _write_bits)(file, masks)
        file.flush()
        if written != (rows, count):
            raise ValueError(
                f"write_selection: masks must have {count} of {rows} rows chosen (got {written[1]} of {written[0]})"
            )
        size = _size(form, rows, count)
        data = np.memmap(file.name, np.uint8, "r", HEADER, (size,)) if size else b""
        header["checksum"] = checksum(data)
        file.seek(0)
        file.write(_page(header))


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
        header = _header(self.path)
        self.form: str = header["form"]
        self.unit: str = header["unit"]
        self.rows: int = header["rows"]
        self.about: dict[str, Any] = header["about"]
        self.checksum: str = header["checksum"]
        self._count: int = header["count"]
        size = _size(self.form, self.rows, self._count)
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
        up_to = (_ONES[held].view("<u8") * _ALL_BEFORE).view(np.uint8).reshape(-1, 8, 8)  # within each 8 bytes
        words = up_to[:, :, 7].cumsum(1, dtype=np.int64)
        word = np.count_nonzero(words <= left[:, None], axis=1)
        left -= words[each, word] - up_to[each, word, 7]
        byte = np.count_nonzero(up_to[each, word] <= left[:, None], axis=1)
        here = held[each, 8 * word + byte]
        left -= up_to[each, word, byte] - _ONES[here].astype(np.int64)
        return block * BLOCK + word * 64 + byte * 8 + _PLACES[here, left]


def _size(form: str, rows: int, count: int) -> int:
    """Bytes of the data."""
    blocks = -(-rows // BLOCK)
    return 8 * count if form == "rows" else blocks * (BLOCK // 8) + 8 * (blocks + 1)


def _write_rows(file: BinaryIO, masks: Iterable[NDArray[np.bool_]]) -> tuple[int, int]:
    rows = count = 0
    for mask in masks:
        chosen = np.flatnonzero(_checked(mask)) + rows
        file.write(chosen.astype("<i8", copy=False).data)
        rows, count = rows + len(mask), count + len(chosen)
    return rows, count


def _write_bits(file: BinaryIO, masks: Iterable[NDArray[np.bool_]]) -> tuple[int, int]:
    held, used, rows = np.zeros(PIECE, np.bool_), 0, 0
    for mask in masks:
        taken, rows = 0, rows + len(_checked(mask))
        while taken < len(mask):
            part = mask[taken : taken + PIECE - used]
            held[used : used + len(part)] = part
            taken, used = taken + len(part), used + len(part)
            if used == PIECE:
                file.write(np.packbits(held, bitorder="little").data)
                used = 0
    blocks = -(-used // BLOCK)
    held[used : blocks * BLOCK] = False
    file.write(np.packbits(held[: blocks * BLOCK], bitorder="little").data)
    file.flush()
    return rows, _write_counts(file, -(-rows // BLOCK))


def _write_counts(file: BinaryIO, blocks: int) -> int:
    """Appends how many are chosen before each block, from the bits that are in the file; returns how many in all."""
    count = np.zeros(1, np.int64)
    for start in range(0, blocks, PIECE // 8):
        part = min(PIECE // 8, blocks - start)
        bits = np.memmap(file.name, np.uint8, "r", HEADER + start * BLOCK // 8, (part, BLOCK // 8))
        ends = count + _ONES[bits].sum(1, dtype=np.int64).cumsum()
        file.write(np.concatenate([count, ends[:-1]]).astype("<i8", copy=False).data)
        count = ends[-1:]
    file.write(count.astype("<i8", copy=False).data)
    return int(count[0])


def _checked(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 1:
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(f"write_selection: masks must be arrays bool[n] (got {got})")
    return mask


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _page(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    rest = HEADER - len(f"{MAGIC} {checksum(b'')}\n") - 1
    if len(text) > rest:
        raise ValueError(f"write_selection: about must fit into a page of {HEADER} bytes (got {len(text)})")
    text = text.ljust(rest) + b"\n"
    return f"{MAGIC} {checksum(text)}\n".encode() + text


def _header(path: Path) -> dict[str, Any]:
    """What the file says of itself, checked; nothing is allocated by a number in it before."""
    try:
        with path.open("rb") as file:
            page = file.read(HEADER)
    except OSError as error:
        raise StoreCorrupt(f"{path}: cannot be read ({error.strerror})") from error
    line, _, text = page.partition(b"\n")
    if len(page) < HEADER or not line.startswith(MAGIC.encode()):
        raise StoreCorrupt(f"{path}: must be a selection of spcl_fast (got something else)")
    if line != f"{MAGIC} {checksum(text)}".encode():
        raise StoreCorrupt(f"{path}: header must have the checksum it names (got another)")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreCorrupt(f"{path}: header must be JSON (got something else)") from error
    if not isinstance(header, dict) or header.get("version") != VERSION:
        raise StoreCorrupt(f"{path}: must be a selection of version {VERSION} (got another)")
    count, rows = header.get("count"), header.get("rows")
    is_sound = (
        type(count) is int
        and type(rows) is int
        and 0 <= count <= rows <= MOST_ROWS
        and header.get("form") in FORMS
        and header.get("unit") in UNITS
        and isinstance(header.get("about"), dict)
        and isinstance(header.get("checksum"), str)
    )
    if not is_sound:
        raise StoreCorrupt(f"{path}: header must have form, unit, rows, count, about and checksum (got {header})")
    return header
