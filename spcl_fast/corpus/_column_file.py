"""An Arrow file of one record batch whose columns are written piece by piece, so that memory never holds them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._arrow import pa
from spcl_fast.corpus.checksum import _fastest, joined


class ColumnFile:
    """Columns of numbers in a new file: all of its form at once, then the numbers of each column, from its first on.

    The checksum is of what is written, taken before it leaves for the file, while it is in the cache.

    Args:
        file: open for writing, empty.
        dtypes: name -> dtype of each column, in their order.
        rows: how many numbers a column has.

    Attributes:
        size: bytes of the file.
    """

    def __init__(self, file: BinaryIO, dtypes: Mapping[str, np.dtype[Any]], rows: int) -> None:
        self._descriptor = file.fileno()
        recorder = _Recorder()
        sizes = {name: dtype.itemsize * rows for name, dtype in dtypes.items()}
        # Never touched, so it takes no memory, however long.
        longest = max(sizes.values(), default=0)
        nothing = pa.py_buffer(mmap.mmap(-1, max(longest, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ))
        arrays = [
            pa.Array.from_buffers(pa.from_numpy_dtype(dtype), rows, [None, nothing.slice(0, sizes[name])], null_count=0)
            for name, dtype in dtypes.items()
        ]
        schema = column_schema(dtypes)
        with pa.ipc.new_file(pa.PythonFile(recorder, mode="w"), schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        self.size = recorder.position
        os.truncate(self._descriptor, self.size)
        for at, piece in recorder.pieces:
            _write(self._descriptor, piece, at)
        self._words = recorder.pieces
        begins = recorder.bodies or [0] * len(sizes)  # of no rows Arrow writes nothing
        self._columns = {name: _Column(begin) for name, begin in zip(dtypes, begins, strict=True)}

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Puts numbers, contiguous and of the column's dtype, after those that the column has."""
        column = self._columns[name]
        column.crc = _fastest()(np.frombuffer(values, np.uint8), column.crc) if values.nbytes else column.crc
        _write(self._descriptor, values, column.begin + column.written)
        column.written += values.nbytes

    def checksum(self) -> str:
        """`checksum` of the whole file, once every column has all of its numbers."""
        parts = [(at, len(piece), _fastest()(np.frombuffer(piece, np.uint8))) for at, piece in self._words if piece]
        parts += [(column.begin, column.written, column.crc) for column in self._columns.values() if column.written]
        crc = end = 0
        for at, size, of_part in [*sorted(parts), (self.size, 0, 0)]:
            if at != end:
                raise ValueError(f"checksum: every column must be complete (got nothing of the bytes from {end} on)")
            crc, end = joined(crc, of_part, size), at + size
        return f"crc32c:{crc:08x}"


@dataclass
class _Column:
    begin: int
    written: int = 0
    crc: int = 0


def column_schema(dtypes: Mapping[str, np.dtype[Any]]) -> Any:
    """Of such a file."""
    return pa.schema([pa.field(name, pa.from_numpy_dtype(dtype), nullable=False) for name, dtype in dtypes.items()])


class _Recorder:
    """Takes what Arrow writes: keeps the words, and of the numbers only where they would lie."""

    closed = False

    def __init__(self) -> None:
        self.position = 0
        self.pieces: list[tuple[int, bytes]] = []
        self.bodies: list[int] = []

    def write(self, piece: Any) -> int:
        size = memoryview(piece).nbytes
        if isinstance(piece, pa.Buffer):  # numbers are handed over in place
            self.bodies.append(self.position)
        else:
            self.pieces.append((self.position, bytes(piece)))
        self.position += size
        return size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def _write(descriptor: int, values: Any, at: int) -> None:
    rest = memoryview(values).cast("B")
    while len(rest):
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written
