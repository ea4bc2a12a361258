"""Tables with one row an utterance, as they come: cut into whole dialogues, and read as a writer takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._arrow import pa
from spcl_fast.corpus._columns import STORED
from spcl_fast.corpus.manifest import Modality

NEEDED = ("dialogue_id", "utterance_index", "speaker", "label")


def modalities_of(batch: Any, logits: Mapping[str, str] | None, embeddings: Mapping[str, str] | None) -> list[Modality]:
    """What the list columns of a table are, which `logits` and `embeddings` name by their modalities.

    Where neither is given, `logits.x` and `embedding.x` are those of x, and any other list of numbers the embeddings of
    a modality of its own name. Lists of no fixed size have the size of the first row.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind, chosen in column_names(batch.schema, logits, embeddings).items():
        for modality, column in chosen.items():
            names = ("num_classes", "logits_dtype") if kind == "logits" else ("embedding_size", "embedding_dtype")
            of = (_size_of(batch, column), dtype_of(batch.schema.field(column)))
            found.setdefault(modality, {}).update(zip(names, of, strict=True))
    if not found:
        raise ValueError("has no list column of numbers, so nothing of any modality")
    return [Modality(name, **of) for name, of in found.items()]


def column_names(
    schema: Any, logits: Mapping[str, str] | None, embeddings: Mapping[str, str] | None
) -> dict[str, dict[str, str]]:
    """Kind -> modality -> column."""
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise ValueError(f"has two columns {twice[0]}")
    missing = [name for name in NEEDED if name not in schema.names]
    if missing:
        raise ValueError(f"has no column {', '.join(missing)}; it has {', '.join(schema.names) or 'none'}")
    lists = [field.name for field in schema if dtype_of(field) is not None]
    if logits is None and embeddings is None:
        own: dict[str, dict[str, str]] = {"logits": {}, "embedding": {}}
        for name in lists:
            kind, dot, modality = name.partition(".")
            kind, modality = (kind, modality) if dot and kind in own and modality else ("embedding", name)
            if modality in own[kind]:
                raise ValueError(f"has two columns for the {kind} of {modality}; say which one")
            own[kind][modality] = name
        return own
    chosen = {"logits": dict(logits or {}), "embedding": dict(embeddings or {})}
    for column in (column for of in chosen.values() for column in of.values()):
        if column not in lists:
            raise ValueError(f"{column} must be a list column of numbers; those are {', '.join(lists) or 'none'}")
    return chosen


def dtype_of(field: Any) -> str | None:
    """In which dtype the numbers of a list column are stored; None for a column of another kind."""
    types = pa.types
    if not (types.is_list(field.type) or types.is_large_list(field.type) or types.is_fixed_size_list(field.type)):
        return None
    kind = field.type.value_type
    if kind == pa.uint16() and (field.metadata or {}).get(b"spcl_fast.dtype") == b"bfloat16":
        return "bfloat16"
    if not types.is_floating(kind) and not types.is_integer(kind):
        return None
    return "float16" if kind == pa.float16() else "float32"


def whole_dialogues(batches: Iterable[Any]) -> Iterator[Any]:
    """The same rows as record batches that end where a dialogue does; a batch and a dialogue have to fit in memory."""
    waiting: list[Any] = []  # rows of one dialogue, which the next batch may go on with
    for batch in batches:
        if not batch.num_rows:
            continue
        starts = starts_of(ids_of(batch))
        goes_on = bool(waiting) and _first(waiting[-1], -1) == _first(batch, 0)
        last = int(starts[-1])
        if goes_on and last == 0:
            waiting.append(batch)
            continue
        complete = [*waiting, *([batch.slice(0, last)] if last else [])]
        if complete:
            yield pa.Table.from_batches(complete).combine_chunks().to_batches()[0]
        waiting = [batch.slice(last)]
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]


def ids_of(batch: Any) -> Any:
    """The identifier in each row: int64 or text."""
    return _texts_or_integers(batch, "dialogue_id")


def starts_of(ids: Any) -> NDArray[np.int64]:
    """Where another dialogue begins, the first row included; `[D]` for at least one row."""
    codes = ids.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])


def check_numbers(batch: Any, offsets: NDArray[np.int64], ids: Sequence[Any], base: int | None) -> int:
    """Utterances of a dialogue are numbered in their order without a hole, everywhere from 0 or everywhere from 1.

    Returns:
        Which of the two; `base` where that is given.
    """
    index = integers(batch, "utterance_index")
    position = np.arange(len(index)) - np.repeat(offsets[:-1], np.diff(offsets))
    base = int(index[0] > 0) if base is None else base
    wrong = np.flatnonzero(index - base != position)
    if len(wrong):
        row = int(wrong[0])
        d = int(np.searchsorted(offsets, row, side="right")) - 1
        rule = "rows of a dialogue must follow each other in their order, numbered everywhere from 0 or from 1"
        raise ValueError(f"utterance_index: {rule} (got {index[row]} at {position[row]} of dialogue {ids[d]!r})")
    return base


def speakers_of(batch: Any, offsets: NDArray[np.int64]) -> NDArray[Any]:
    """Integers as they are, negative ones -1; texts numbered in each dialogue by their first words."""
    if pa.types.is_integer(_value_type(batch.column("speaker"))):
        return np.maximum(integers(batch, "speaker"), -1)
    codes = _texts_or_integers(batch, "speaker").dictionary_encode().indices.to_numpy(zero_copy_only=False)
    dialogue = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pair = dialogue * (int(codes.max(initial=0)) + 1) + codes
    _, first, number = np.unique(pair, return_index=True, return_inverse=True)
    order = np.argsort(first)  # of the pairs, by their first rows: those of a dialogue follow each other
    rank = np.empty(len(first), np.int64)
    rank[order] = np.arange(len(first))
    before = np.searchsorted(np.sort(first), offsets[:-1])  # pairs of earlier dialogues
    return rank[number] - np.repeat(before, np.diff(offsets))


def labels_of(batch: Any, class_names: Sequence[str] | None) -> NDArray[Any]:
    """Integers as they are, negative ones -100; texts by their place among the class names."""
    if pa.types.is_integer(_value_type(batch.column("label"))):
        labels = integers(batch, "label")
        return np.where(labels < 0, -100, labels)
    encoded = _texts_or_integers(batch, "label").dictionary_encode()
    if class_names is None:
        raise ValueError("label: texts need class_names, in the order of the classes")
    by_text = {text: c for c, text in enumerate(class_names)}
    texts = encoded.dictionary.to_pylist()
    lost = next((text for text in texts if text not in by_text), None)
    if lost is not None:
        raise ValueError(f"label: must be one of {', '.join(class_names)} (got {lost!r})")
    classes = np.array([by_text[text] for text in texts], np.int64)
    return classes[encoded.indices.to_numpy(zero_copy_only=False)]


def matrix_of(batch: Any, column: str, size: int, dtype: str) -> NDArray[Any]:
    """`[T, size]` as it is stored."""
    values = batch.column(column)
    if values.null_count:
        raise ValueError(f"{column}: must hold no null")
    items = values.flatten()
    if items.null_count:
        raise ValueError(f"{column}: must hold no null")
    if not pa.types.is_fixed_size_list(values.type):
        sizes = values.value_lengths().to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(sizes != size)
        if len(wrong):
            raise ValueError(f"{column}: rows must have {size} numbers (got {sizes[wrong[0]]})")
    elif values.type.list_size != size:
        raise ValueError(f"{column}: rows must have {size} numbers (got {values.type.list_size})")
    with np.errstate(over="ignore"):  # a number past float32 is infinite there
        return items.to_numpy(zero_copy_only=False).astype(STORED[dtype], copy=False).reshape(len(values), size)


def integers(batch: Any, name: str) -> NDArray[np.int64]:
    """A column of integers without a null."""
    values = batch.column(name)
    if not pa.types.is_integer(values.type):
        raise ValueError(f"{name}: must be integers (got {values.type})")
    if values.null_count:
        raise ValueError(f"{name}: must hold no null")
    return values.cast(pa.int64()).to_numpy(zero_copy_only=False)


def _texts_or_integers(batch: Any, name: str) -> Any:
    values = batch.column(name)
    kind = _value_type(values)
    if pa.types.is_integer(kind):
        kind = pa.int64()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        kind = pa.large_string()
    else:
        raise ValueError(f"{name}: must be text or integers (got {values.type})")
    values = values.cast(kind)
    if values.null_count:
        raise ValueError(f"{name}: must hold no null")
    return values


def _value_type(values: Any) -> Any:
    return values.type.value_type if pa.types.is_dictionary(values.type) else values.type


def _first(batch: Any, row: int) -> Any:
    return batch.column("dialogue_id")[row].as_py()


def _size_of(batch: Any, column: str) -> int:
    kind = batch.schema.field(column).type
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size
    if not batch.num_rows:
        raise ValueError(f"{column}: lists of no fixed size need a first row to say it (got none)")
    return len(batch.column(column)[0].as_py() or ())
