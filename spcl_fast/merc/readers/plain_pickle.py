"""Pickles that nobody has to be trusted with: NumPy arrays and plain containers, and nothing that runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers._opcodes import Machine as Machine
from spcl_fast.merc.readers._words import reason


def load_plain(source: str | os.PathLike[str] | bytes) -> Any:
    """Read a pickle of arrays and plain containers, without running what it says.

    A pickle is a program, and `pickle.load` runs it. This reads the same format, protocols 0 to 5 of Python 2 and 3,
    with a machine that only builds data: None, booleans, integers, floats, text, bytes, lists, tuples, dicts, sets,
    NumPy arrays and scalars of numbers or text (NumPy 1 and 2), and contiguous tensors, which take no torch to read. A
    pickle that asks for any other function or class is refused by its name, and nothing is ever called. Memory and
    time grow with the size of the file alone: at worst by about a hundred bytes for each of its bytes, for a published
    file by a few.

    Args:
        source: the file, or its content.

    Returns:
        The object. Text of Python 2 is decoded as latin-1, as the authors of the published files do. A frozenset is
        a set, a bytearray is bytes, an ordered dict and one with a default are dicts, a NumPy scalar is a number, and
        a tensor is an array (of float32 where it has bfloat16).

    Raises:
        DatasetError: a file that is missing, truncated or no pickle, or holds something else; with the byte where.

    Example:
        >>> import os, pickle
        >>> from spcl_fast.merc.readers import load_plain
        >>> load_plain(pickle.dumps({"labels": [0, 2], "train": {"Ses01"}}))
        {'labels': [0, 2], 'train': {'Ses01'}}
        >>> class Wicked:
        ...     def __reduce__(self):
        ...         return os.system, ("echo never printed",)
        >>> try:
        ...     load_plain(pickle.dumps(Wicked()))
        ... except ValueError as error:
        ...     print(error)
        byte ...: asks for posix.system, which is not among arrays and plain containers
    """
    if isinstance(source, bytes):
        return Machine(source).run()
    file = os.fspath(source)
    try:
        return Machine(read_bytes(Path(file))).run()
    except DatasetError as error:
        raise DatasetError(f"{file}: {error}") from None


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DatasetError: no file, a folder, or one that cannot be read.
    """
    if path.is_dir():
        raise DatasetError("is a directory, not a file")
    if not path.is_file():
        raise DatasetError("no such file")
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise DatasetError(f"cannot be read ({reason(error)})") from None
