"""The columns of a shard's two files, as Arrow knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._arrow import pa
from spcl_fast.corpus.manifest import Modality

INTEGERS = ("speaker", "label")
#: bfloat16 lies in the files as its bits, which neither Arrow nor NumPy has a name for
STORED: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2"), "float32": np.dtype("<f4")}


class Column(NamedTuple):
    """A matrix of numbers with a row for each utterance."""

    kind: str  # "logits" or "embedding"
    modality: str
    size: int
    dtype: str

    @property
    def name(self) -> str:
        return f"{self.kind}.{self.modality}"

    @property
    def stored(self) -> np.dtype[Any]:
        return STORED[self.dtype]


def columns_of(modalities: Sequence[Modality]) -> list[Column]:
    """In the order of the file: all logits, then all embeddings."""
    logits = [
        Column("logits", m.name, m.num_classes, m.logits_dtype) for m in modalities if m.num_classes and m.logits_dtype
    ]
    return logits + [
        Column("embedding", m.name, m.embedding_size, m.embedding_dtype)
        for m in modalities
        if m.embedding_size and m.embedding_dtype
    ]


def utterance_schema(columns: Sequence[Column]) -> Any:
    """Of the file of utterances."""
    fields = [pa.field(name, pa.int32(), nullable=False) for name in INTEGERS]
    for column in columns:
        kind = pa.list_(pa.field("item", pa.from_numpy_dtype(column.stored), nullable=False), column.size)
        fields.append(pa.field(column.name, kind, False, {"spcl_fast.dtype": column.dtype}))
    return pa.schema(fields)


def dialogue_schema(dialogue_id: str) -> Any:
    """Of the file of dialogues."""
    kind = pa.int64() if dialogue_id == "int64" else pa.string()
    return pa.schema([pa.field("dialogue_id", kind, nullable=False), pa.field("length", pa.int64(), nullable=False)])


def difference(found: Any, wanted: Any) -> str | None:
    """How the columns of a file differ from what the manifest says; None where they do not.

    Metadata, names of the items of a list and whether a null could be there do not matter: what other tools write has
    others, and every column is asked for nulls.
    """
    if found.names != wanted.names:
        return f"columns must be {', '.join(wanted.names)} (got {', '.join(map(ascii, found.names)) or 'none'})"
    for got, field in zip(found, wanted, strict=True):
        is_list = pa.types.is_fixed_size_list(field.type)
        if is_list and pa.types.is_fixed_size_list(got.type):
            if (got.type.list_size, got.type.value_type) == (field.type.list_size, field.type.value_type):
                continue
        elif not is_list and got.type == field.type:
            continue
        return f"column {field.name} must be {field.type} (got {got.type})"
    return None


def to_arrow(values: NDArray[Any], kind: Any) -> Any:
    """An Arrow array of this type, from integers [n] or from rows [n, columns] side by side; the memory is shared."""
    of_items = kind.value_type if values.ndim == 2 else kind
    # Not pa.array, which imports pandas to find out that this is none of its columns.
    items = pa.Array.from_buffers(of_items, values.size, [None, pa.py_buffer(values)])
    return items if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(items, type=kind)


def to_numpy(array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """What lies in an Arrow array, [n] or [n, columns], without a copy.

    Raises:
        ValueError: a null, or numbers that do not lie at a multiple of their size, which compiled code counts on.
    """
    if array.null_count:
        raise ValueError("must hold no null")
    is_list = pa.types.is_fixed_size_list(array.type)
    items = array.flatten() if is_list else array
    if items.null_count:
        raise ValueError("must hold no null")
    if len(items) == 0:
        return np.zeros((len(array), array.type.list_size) if is_list else 0, dtype)
    values = np.frombuffer(items.buffers()[-1], dtype, len(items), items.offset * dtype.itemsize)
    if not values.flags.aligned:
        raise ValueError("must lie at multiples of 8 bytes")
    return values.reshape(len(array), array.type.list_size) if is_list else values


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as they are stored, bits of bfloat16 included, in the dtype that holds all of them exactly."""
    if values.dtype == STORED["bfloat16"]:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)
