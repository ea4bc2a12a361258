"""What a writer is given: checked, and gathered until a shard is full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._columns import Column


class GrowingRows:
    """Rows of one array that grows by doubling, so that all of them lie side by side; its memory is used again."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._memory = np.empty((0, *shape), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def values(self) -> NDArray[Any]:
        return self._memory[: self._count]

    def append(self, rows: NDArray[Any]) -> None:
        wanted = self._count + len(rows)
        if wanted > len(self._memory):
            larger = np.empty((max(wanted, 2 * len(self._memory)), *self._memory.shape[1:]), self._memory.dtype)
            larger[: self._count] = self.values
            self._memory = larger
        self._memory[self._count : wanted] = rows
        self._count = wanted

    def clear(self) -> None:
        self._count = 0


def checked_ids(values: Any) -> tuple[Any, str]:
    """Identifiers, and which kind: "int64" or "string"."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "OUT":
        values = values.tolist()
    if not isinstance(values, np.ndarray):
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise TypeError(f"dialogue_id: must be a sequence or an array (got {type(values).__name__})")
        if len(values) and isinstance(values[0], str):
            for i, text in enumerate(values):
                if not isinstance(text, str):
                    raise TypeError(f"dialogue_id: must be all texts or all integers (got {text!r} at {i})")
                if any("\ud800" <= character <= "\udfff" for character in text):
                    raise ValueError(f"dialogue_id: must be Unicode text (got {text!r} at {i})")
            return values, "string"
    return integers("dialogue_id", values, np.int64).tolist(), "int64"


def checked_offsets(values: Any, dialogues: int) -> NDArray[np.int64]:
    offsets = integers("offsets", values, np.int64)
    if len(offsets) != dialogues + 1:
        raise ValueError(f"offsets: must have one entry more than the {dialogues} dialogues (got {len(offsets)})")
    if offsets[0] != 0:
        raise ValueError(f"offsets: must start at 0 (got offsets[0] = {offsets[0]})")
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if len(falls):
        i = int(falls[0]) + 1
        raise ValueError(f"offsets: must not decrease (got offsets[{i}] = {offsets[i]} after {offsets[i - 1]})")
    return offsets


def checked_integers(name: str, values: Any, utterances: int) -> NDArray[np.int32]:
    found = integers(name, values, np.int32)
    if len(found) != utterances:
        raise ValueError(f"{name}: must have T = {utterances} entries, as offsets says (got {len(found)})")
    return found


def checked_matrix(column: Column, values: Any, utterances: int) -> NDArray[Any]:
    if not isinstance(values, np.ndarray) or isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{column.name}: must be a NumPy array (got {type(values).__name__})")
    if column.dtype == "bfloat16" and values.dtype.name == "bfloat16":
        values = values.view(np.uint16)
    if values.dtype.newbyteorder("=") != column.stored.newbyteorder("="):
        wanted = "uint16, the bits of bfloat16" if column.dtype == "bfloat16" else column.dtype
        raise TypeError(f"{column.name}: must be {wanted} (got {values.dtype})")
    if values.shape != (utterances, column.size):
        raise ValueError(f"{column.name}: must be [{utterances}, {column.size}] (got shape {values.shape})")
    return values


def integers(name: str, values: Any, dtype: type[np.integer[Any]]) -> NDArray[Any]:
    """`[n]` of any integers, as those of `dtype`; ValueError for one that it does not have."""
    array = np.asarray(values)
    if array.size == 0 and not isinstance(values, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no integers to show its type by
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: must be integers (got {array.dtype})")
    if array.ndim != 1:
        raise ValueError(f"{name}: must have one dimension (got shape {array.shape})")
    if array.size and not (int(array.min()) >= np.iinfo(dtype).min and int(array.max()) <= np.iinfo(dtype).max):
        raise ValueError(f"{name}: must fit {np.dtype(dtype).name} (got {array.min()} to {array.max()})")
    return array.astype(dtype, copy=False)
