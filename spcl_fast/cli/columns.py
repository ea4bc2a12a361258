"""What `threshold` and `select` read: a store of scores, or an array in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

NPY = b"\x93NUMPY"


def open_columns(source: Path, column: str | None, unit: str, verify: bool) -> tuple[str, Iterable[np.ndarray]]:
    """The name of the column, and the shards; ValueError where there is no such column."""
    if unit not in ("utterance", "dialogue"):
        raise ValueError(f"--by must be utterance or dialogue (got {unit!r})")
    if source.is_dir():
        from spcl_fast.corpus import Scores, score_columns

        found = score_columns(Scores(source), column, unit=unit, verify=verify)
        return found.column, _floats(found.column, found)
    if column is not None or unit != "utterance" or verify:
        raise ValueError(f"{source}: --column, --by and --verify are for a folder of scores (got a file)")
    with source.open("rb") as file:
        if file.read(len(NPY)) != NPY:
            raise ValueError(f"{source}: must be a folder of scores or a .npy file (got something else)")
    return source.name, _floats(source.name, [np.load(source, mmap_mode="r", allow_pickle=False)])


def _floats(name: str, columns: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """The columns; ValueError, which is told in a line, for one that is no difficulty."""
    for first in columns:
        _difficulty(name, first)
        break
    return columns


def _difficulty(name: str, values: Any) -> None:
    if values.dtype not in (np.float16, np.float32, np.float64) or values.ndim != 1:
        raise ValueError(f"{name}: must hold floating point numbers [T] (got {values.dtype} of shape {values.shape})")
