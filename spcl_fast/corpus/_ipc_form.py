"""The one thing of an Arrow file that has to be known before Arrow reads it, and that Arrow does not tell.

A compressed column is unpacked to whatever size it claims, which for a small file may be all the memory there is. So
the flat buffers of the file (File.fbs and Message.fbs of the format, arrow.apache.org/docs/format/Columnar.html) are
followed to the place where compression would stand.
"""

from __future__ import annotations

import struct
from typing import Any

_FOOTER_BLOCKS, _MESSAGE_HEADER, _BATCH_COMPRESSION = 3, 2, 3  # fields, as the schemas of the format number them
_END = b"ARROW1"


def is_compressed(content: Any) -> bool:
    """Whether any record batch of an Arrow file says that it is compressed.

    Args:
        content: all of the file, a buffer of bytes.

    Raises:
        ValueError: what leads there is broken.
    """
    try:
        view = memoryview(content)
        if bytes(view[-len(_END) :]) != _END:
            raise ValueError("does not end as an Arrow file does")
        (size,) = struct.unpack_from("<i", view, len(view) - len(_END) - 4)
        footer = _table(view, len(view) - len(_END) - 4 - size)
        blocks = _field(view, footer, _FOOTER_BLOCKS)
        if blocks is None:
            return False
        vector = blocks + _unpack("<I", view, blocks)
        starts = (_unpack("<q", view, vector + 4 + 24 * i) for i in range(_unpack("<I", view, vector)))
        return any(_batch_is_compressed(view, start) for start in starts)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"not an Arrow file ({error})") from None


def _batch_is_compressed(view: memoryview, start: int) -> bool:
    # A message begins with its size; since format version 0.15 a mark is before that.
    message = _table(view, start + (8 if _unpack("<I", view, start) == 0xFFFFFFFF else 4))
    header = _field(view, message, _MESSAGE_HEADER)
    if header is None:
        return False
    return _field(view, header + _unpack("<I", view, header), _BATCH_COMPRESSION) is not None


def _table(view: memoryview, root: int) -> int:
    return root + _unpack("<I", view, root)


def _field(view: memoryview, table: int, number: int) -> int | None:
    """Where a field of a table stands; None where it is not there."""
    vtable = table - _unpack("<i", view, table)
    entry = 4 + 2 * number
    if entry + 2 > _unpack("<H", view, vtable):
        return None
    offset = _unpack("<H", view, vtable + entry)
    return table + offset if offset else None


def _unpack(form: str, view: memoryview, at: int) -> int:
    if at < 0:  # counted from the end, otherwise
        raise ValueError(f"not an Arrow file (a place {at})")
    return int(struct.unpack_from(form, view, at)[0])
