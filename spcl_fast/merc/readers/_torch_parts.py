"""Tensors in a pickle, read without torch: their numbers are written as `torch.save` wrote them before its archives.

Such a stream is three pickles of constants, one that names a storage, one with its key, the number of its elements in
8 bytes, and the elements. As for arrays, the bytes must be exactly as many as the pickle says.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers._machine import Machine
from spcl_fast.merc.readers._numpy_parts import Name

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: Kind of storage -> dtype of its elements; those of bfloat16 are the upper halves of float32.
DTYPES = {
    **{"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2"},
    **{"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1"},
    "BoolStorage": "?",
}


def read_storage(content: bytes) -> np.ndarray:
    """The elements of a storage, `[n]`.

    Raises:
        DatasetError: bytes that are no storage of numbers of the kinds in `DTYPES`.
    """
    if content[:2] == b"PK":
        raise DatasetError("torch.storage._load_from_bytes: an archive of torch.save (store arrays: tensor.numpy())")
    machine = Machine(content, is_storage=True)
    parts = [machine.run() for _ in range(5)]
    if parts[0] != _MAGIC or parts[1] != _PROTOCOL or type(parts[2]) is not dict or type(parts[4]) is not list:
        raise DatasetError("torch.storage._load_from_bytes: bytes that torch does not write")
    if parts[2].get("little_endian") is not True:
        raise DatasetError("torch.storage._load_from_bytes: a storage of another byte order")
    said = parts[3]  # ("storage", kind, key, device, elements, None)
    kind = said[1] if type(said) is tuple and len(said) == 6 and said[0] == "storage" else None
    if (
        not isinstance(kind, Name)
        or kind.of not in DTYPES
        or said[5] is not None
        or type(said[2]) is not str
        or parts[4] != [said[2]]
    ):
        raise DatasetError("torch.storage._load_from_bytes: bytes that torch does not write")
    dtype, count = np.dtype(DTYPES[kind.of]), machine.number(8)
    left = len(content) - machine.position
    if count != said[4] or count * dtype.itemsize != left:
        raise DatasetError(f"{kind.written} of {count} elements takes {count * dtype.itemsize} bytes, not {left}")
    elements = np.frombuffer(content, dtype, count, machine.position)
    return (elements.astype(np.uint32) << 16).view(np.float32) if kind.of == "BFloat16Storage" else elements


def make_tensor(arguments: tuple[Any, ...]) -> np.ndarray:
    """The part of a storage that a tensor shows, as an array; it must lie there without gaps or repetition.

    Raises:
        DatasetError: another layout, or a part that reaches out of the storage.
    """
    storage, first, shape, strides = arguments[:4] if len(arguments) >= 4 else (None,) * 4
    sizes = (*shape, *strides, first) if type(shape) is type(strides) is tuple else ()
    if (
        not (isinstance(storage, np.ndarray) and storage.ndim == 1)
        or not (sizes and all(type(n) is int and 0 <= n < 2**63 for n in sizes))
        or len(shape) != len(strides)
        or len(shape) > 8
    ):
        raise DatasetError("torch._utils._rebuild_tensor_v2: arguments that torch does not write")
    count, step = math.prod(shape), 1
    for size, stride in zip(shape[::-1], strides[::-1], strict=True):
        if size > 1 and stride != step and count:
            raise DatasetError("a tensor that is not contiguous (store tensor.contiguous(), or arrays: tensor.numpy())")
        step *= size
    if first + count > len(storage):
        raise DatasetError(f"a tensor of {count} elements from {first} on, in a storage of {len(storage)}")
    return storage[first : first + count].reshape(shape)
