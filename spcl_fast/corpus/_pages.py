"""Reading mapped files that are larger than memory: pages that were looked at are given back."""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus.checksum import _fastest

_PIECE = 1 << 22


def checksum_of_file(path: str | os.PathLike[str]) -> tuple[int, str]:
    """Size and `checksum` of a file; this process maps a piece of it at a time."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return 0, "crc32c:00000000"
        mapped = np.frombuffer(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ), np.uint8)
    crc = 0
    for begin in range(0, size, _PIECE):
        piece = mapped[begin : begin + _PIECE]
        crc = _fastest()(piece, crc)
        release(piece)
    return size, f"crc32c:{crc:08x}"


def release(values: NDArray[Any]) -> None:
    """Takes the pages of a mapped array out of this process; they come back from the file when they are read."""
    size, at = mmap.PAGESIZE, values.__array_interface__["data"][0]
    begin = (at + size - 1) // size * size
    end = (at + values.nbytes) // size * size
    if end > begin:
        _madvise()(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


@cache
def _madvise() -> Any:
    return ctypes.CDLL(None).madvise
