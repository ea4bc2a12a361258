"""An Arrow file of one record batch whose columns are written piece by piece, so that memory never holds them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._arrow import pa


class ColumnFile:
    """Columns of numbers in a new file: all of its form at once, then the numbers, in any order.

    Args:
        file: open for writing, empty.
        dtypes: name -> dtype of each column, in their order.
        rows: how many numbers a column has.
    """

    def __init__(self, file: BinaryIO, dtypes: Mapping[str, np.dtype[Any]], rows: int) -> None:
        self._descriptor = file.fileno()
        self._dtypes = dict(dtypes)
        recorder = _Recorder()
        longest = max((dtype.itemsize for dtype in dtypes.values()), default=1) * rows
        # Never touched, so it takes no memory, however long.
        nothing = pa.py_buffer(mmap.mmap(-1, max(longest, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ))
        arrays = [
            pa.Array.from_buffers(pa.from_numpy_dtype(dtype), rows, [None, nothing], null_count=0)
            for dtype in dtypes.values()
        ]
        schema = column_schema(dtypes)
        with pa.ipc.new_file(pa.PythonFile(recorder, mode="w"), schema) as writer:
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        os.truncate(self._descriptor, recorder.position)
        for at, piece in recorder.pieces:
            _write(self._descriptor, piece, at)
        self._begins = dict(zip(dtypes, recorder.bodies or [0] * len(self._dtypes), strict=True))

    def write(self, name: str, first: int, values: NDArray[Any]) -> None:
        """Puts numbers, contiguous and of the column's dtype, at the rows from `first` on."""
        _write(self._descriptor, values, self._begins[name] + first * self._dtypes[name].itemsize)


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
