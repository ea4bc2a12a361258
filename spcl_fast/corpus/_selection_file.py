"""The file of a selection: a page that says what it is, and data that is mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spcl_fast._options import choice
from spcl_fast.corpus.atomic import atomic_file
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import StoreCorrupt

HEADER = 4096  # bytes before the data, a page
MAGIC = "spcl_fast selection"
VERSION = 1
FORMS = ("rows", "bits")
UNITS = ("utterance", "dialogue")
MOST_ROWS = 2**62
BLOCK = 512  # rows whose bits are looked through for one of them: a cache line
PIECE = 1 << 20  # rows at a time, a multiple of BLOCK

#: how many bits of each byte are set
ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


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
        form = min(FORMS, key=lambda of: size_of(of, rows, count))
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
        size = size_of(form, rows, count)
        data = np.memmap(file.name, np.uint8, "r", HEADER, (size,)) if size else b""
        header["checksum"] = checksum(data)
        file.seek(0)
        file.write(_page(header))


def size_of(form: str, rows: int, count: int) -> int:
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
    for start in range(0, blocks, PIECE // 64):
        part = min(PIECE // 64, blocks - start)
        bits = np.memmap(file.name, np.uint8, "r", HEADER + start * BLOCK // 8, (part, BLOCK // 8))
        ends = count + ONES[bits].sum(1, dtype=np.int64).cumsum()
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


def read_header(path: Path) -> dict[str, Any]:
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
