"""Arrow files, Parquet files, and whatever gives an Arrow table: one row an utterance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spcl_fast.merc.dataset import DatasetError, DialogueDataset
from spcl_fast.merc.published import PUBLISHED_COUNTS
from spcl_fast.merc.readers._words import reason, shown
from spcl_fast.merc.readers.assemble import (
    CORPORA,
    SourceDialogue,
    assemble,
    class_names_of,
    label_array,
    split_name,
)
from spcl_fast.merc.readers.dev_split import SPLIT_RULES, split_dev

_COLUMNS = ("dialogue_id", "utterance_index", "speaker", "label")
# Compression may shrink repeated numbers a thousand times; a file that claims more is not believed.
_MAX_RATIO = 1000
_SPARE = 2**26


def read_table(
    source: Any,
    *,
    corpus: str | None = None,
    class_names: Sequence[str] | None = None,
    features: Mapping[str, str] | None = None,
    split: str = "own",
    name: str | None = None,
) -> DialogueDataset:
    """Read a corpus from a table with one row an utterance. Needs pyarrow (`spcl_fast[corpus]`).

    Columns: `dialogue_id` (text or integer), `utterance_index` (integer, from 0 or everywhere from 1, without holes),
    `speaker` (text or integer), `label` (text, or integer with negative ones unlabelled), `split` (text, one a
    dialogue; "valid", "val" and "validation" are "dev"; without the column all is "train"), and for every modality a
    list column of numbers with the same length in every row, best a fixed-size list. Columns of other types are not
    looked at. The order of the rows does not matter but for which dialogue comes first.

    Args:
        source: an Arrow IPC file (file or stream format) or Parquet file, told apart by their first bytes; or an
            object: a pyarrow table, a data frame, a `datasets.Dataset`, anything with the Arrow stream interface; or a
            dict of these by split, such as a `datasets.DatasetDict`.
        corpus: "iemocap", "meld" or "mosi": names the classes of integer labels, and the order of those in text, which
            are then recognised by their first three letters. None takes the order of a known corpus that has all
            classes that occur, else sorts them.
        class_names: the classes in their order, instead; those of a `datasets.ClassLabel` need not be said.
        features: modality -> column; None: every list column, under its own name.
        split: what is done about dev, see `split_dev`.
        name: of the corpus; None: of the file, else "table".

    Returns:
        The corpus, its dialogues in the order of their first rows, speakers numbered inside each by their first words,
        features in float32.

    Raises:
        DatasetError: a file that is missing or broken, a column that is missing or of another type, a null, an
            utterance that is there twice, a hole, a dialogue in two splits; with the column and the dialogue or row.
        ModuleNotFoundError: pyarrow is not installed.
        TypeError: a source that gives no table.
        ValueError: an unknown corpus or split rule, or both a corpus and class names.

    Example:
        >>> import pyarrow as pa
        >>> from spcl_fast.merc.readers import read_table
        >>> table = pa.table({
        ...     "dialogue_id": ["a", "a", "b"], "utterance_index": [1, 0, 0], "speaker": ["Ross", "Joey", "Ross"],
        ...     "label": ["joy", "anger", "joy"], "split": ["train", "train", "test"],
        ...     "text": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
        ... })
        >>> corpus = read_table(table, name="friends")
        >>> corpus
        DialogueDataset('friends': 2 dialogues, 3 utterances, 7 classes; text 2)
        >>> [corpus.class_names[label] for label in corpus.labels]
        ['anger', 'joy', 'joy']
    """
    if split not in SPLIT_RULES:
        raise ValueError(f"split must be one of {', '.join(SPLIT_RULES)} (got {split!r})")
    if corpus is not None and class_names is not None:
        raise ValueError("corpus and class_names both name the classes; give one (got both)")
    class_names_of(corpus, 0)  # refuses a corpus that is not known
    file = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        table = _read_file(Path(file)) if file is not None else _from_object(source)
        names = class_names or _class_label_names(source)
        try:
            found = _build(name or (Path(file).stem if file else "table"), table, corpus, names, features)
        except (_pyarrow().ArrowException, UnicodeDecodeError) as error:  # names of columns are looked at only now
            raise DatasetError(f"not a table of utterances ({reason(error)})") from None
        return split_dev(found, split)
    except DatasetError as error:
        raise DatasetError(f"{file}: {error}" if file is not None else str(error)) from None


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise ModuleNotFoundError("tables are read by pyarrow: install spcl_fast[corpus]", name="pyarrow") from None
    return pyarrow


def _read_file(path: Path) -> Any:
    pa = _pyarrow()
    if path.is_dir():
        raise DatasetError("is a directory, not a file")
    if not path.is_file():
        raise DatasetError("no such file")
    try:
        size = path.stat().st_size
        limit = _SPARE + _MAX_RATIO * size
        with path.open("rb") as file:
            magic = file.read(6)
        if size == 0:
            raise DatasetError("is empty")
        batches, schema = (_parquet if magic[:4] == b"PAR1" else _ipc)(pa, path, magic)
        taken, held = [], 0
        for batch in batches:
            batch.validate(full=True)  # before anything trusts its offsets, as its size does
            held += batch.nbytes
            if held > limit:
                raise DatasetError(f"holds more than {_MAX_RATIO} times its size")
            taken.append(batch)
        table = pa.Table.from_batches(taken, schema)
    except DatasetError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, KeyError, TypeError) as error:
        raise DatasetError(f"not a readable Arrow or Parquet file ({reason(error)})") from None
    return table


def _parquet(pa: Any, path: Path, magic: bytes) -> Any:
    from pyarrow.parquet import ParquetFile

    file = ParquetFile(path)
    return file.iter_batches(batch_size=4096), file.schema_arrow


def _ipc(pa: Any, path: Path, magic: bytes) -> Any:
    if magic == b"ARROW1":
        file = pa.ipc.open_file(path.read_bytes())
        return (file.get_batch(i) for i in range(file.num_record_batches)), file.schema
    stream = pa.ipc.open_stream(path.read_bytes())
    return iter(stream), stream.schema


def _from_object(source: Any) -> Any:
    pa = _pyarrow()
    if isinstance(source, Mapping):
        tables = []
        for split, part in source.items():
            table = _from_object(part)
            if "split" in table.column_names:
                table = table.drop_columns(["split"])
            tables.append(table.append_column("split", pa.array([str(split)] * len(table), pa.string())))
        if not tables:
            raise DatasetError("holds no split")
        try:
            return pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise DatasetError(f"its splits have different columns ({reason(error)})") from None
    if hasattr(source, "with_format"):  # a datasets.Dataset, whose rows may be a selection of its table
        source = source.with_format("arrow")[:]
    if isinstance(source, pa.Table):
        return source
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    if hasattr(source, "iloc"):
        return pa.Table.from_pandas(source, preserve_index=False)
    raise TypeError(f"source must be a file or give an Arrow table (got {type(source).__name__})")


def _class_label_names(source: Any) -> Sequence[str] | None:
    """The names that a `datasets` object gives to its integer labels."""
    part = next(iter(source.values()), None) if isinstance(source, Mapping) else source
    features = getattr(part, "features", None)
    return getattr(features.get("label"), "names", None) if isinstance(features, Mapping) else None


def _build(
    name: str, table: Any, corpus: str | None, class_names: Sequence[str] | None, features: Mapping[str, str] | None
) -> DialogueDataset:
    missing = [column for column in _COLUMNS if column not in table.column_names]
    if missing:
        raise DatasetError(f"has no column {', '.join(missing)}; it has {', '.join(table.column_names) or 'none'}")
    doubled = [column for column in table.column_names if table.column_names.count(column) > 1]
    if doubled:
        raise DatasetError(f"has two columns {doubled[0]}")
    if not len(table):
        raise DatasetError("holds no utterance")
    dialogue, ids = _codes(table, "dialogue_id")
    index = _integers(table, "utterance_index")
    order = np.lexsort((index, dialogue))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(dialogue, minlength=len(ids)))])
    _check_numbers(index[order], offsets, ids)
    labels, classes = _labels(table, corpus, class_names)
    speakers, splits, split_ids = _codes(table, "speaker")[0][order], None, ["train"]
    if "split" in table.column_names:
        splits, split_ids = _codes(table, "split")
        splits = splits[order]
    arrays = {m: _feature_column(table, c)[order] for m, c in _feature_columns(table, features).items()}
    labels = labels[order]
    dialogues = []
    for d, dialogue_id in enumerate(ids):
        rows = slice(int(offsets[d]), int(offsets[d + 1]))
        of = splits[rows] if splits is not None else np.zeros(1, np.int64)
        if np.any(of != of[0]):
            raise DatasetError(f"split: dialogue {shown(dialogue_id)} is in several")
        part = {m: values[rows] for m, values in arrays.items()}
        split = split_name(str(split_ids[of[0]]))
        dialogues.append(SourceDialogue(str(dialogue_id), split, labels[rows], speakers[rows].tolist(), part))
    return assemble(name, dialogues, classes)


def _column(table: Any, name: str, wanted: str, is_wanted: Any) -> Any:
    column = table.column(name)
    pa = _pyarrow()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not is_wanted(kind):
        raise DatasetError(f"{name}: must be {wanted} (got {column.type})")
    if pa.types.is_dictionary(column.type):
        column = column.cast(kind)  # nulls among the values of the dictionary show only now
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DatasetError(f"{name}: must hold no null (got one at row {row})")
    return column


def _codes(table: Any, name: str) -> tuple[np.ndarray, list[Any]]:
    """Number of the distinct value in every row, and these values in the order of their first rows."""
    types = _pyarrow().types
    is_wanted = lambda t: types.is_string(t) or types.is_large_string(t) or types.is_integer(t)  # noqa: E731
    column = _column(table, name, "text or integers", is_wanted).combine_chunks()
    encoded = column.dictionary_encode()
    encoded = encoded.combine_chunks() if hasattr(encoded, "combine_chunks") else encoded
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _integers(table: Any, name: str) -> np.ndarray:
    column = _column(table, name, "integers", _pyarrow().types.is_integer)
    try:
        return column.cast("int64").to_numpy().copy()
    except _pyarrow().ArrowException:
        raise DatasetError(f"{name}: must fit int64") from None


def _check_numbers(index: np.ndarray, offsets: np.ndarray, ids: list[Any]) -> None:
    """Utterances are numbered without a hole, all dialogues from 0 or all from 1."""
    base = int(index[offsets[:-1]].min())
    if base not in (0, 1):
        raise DatasetError(f"utterance_index: must begin at 0 or 1 (got {base})")
    for d, dialogue_id in enumerate(ids):
        numbers = index[offsets[d] : offsets[d + 1]]
        wrong = np.flatnonzero(numbers != np.arange(base, base + len(numbers)))
        if len(wrong):
            i, at = int(wrong[0]), f"utterance_index of dialogue {shown(dialogue_id)}"
            if i and numbers[i] == numbers[i - 1]:
                raise DatasetError(f"{at}: utterance {numbers[i]} is there twice")
            raise DatasetError(f"{at}: utterance {base + i} is missing")


def _labels(table: Any, corpus: str | None, names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    pa = _pyarrow()
    if pa.types.is_integer(table.column("label").type):
        labels = label_array(_integers(table, "label"))
        return labels, tuple(names) if names else class_names_of(corpus, int(labels.max()))
    codes, texts = _codes(table, "label")
    if names is None:
        names = _known_classes(texts, corpus)
    by_text = {text: c for c, text in enumerate(names)}
    if corpus is not None:
        by_text |= {text: by_letters[0] for text in texts if len(by_letters := _like(text, names)) == 1}
    lost = next((text for text in texts if text not in by_text), None)
    if lost is not None:
        raise DatasetError(f"label: must be one of {', '.join(names)} (got {shown(lost)})")
    return np.array([by_text[text] for text in texts], np.int64)[codes], tuple(names)


def _like(text: str, names: Sequence[str]) -> list[int]:
    return [c for c, name in enumerate(names) if text.strip().casefold()[:3] == name[:3]]


def _known_classes(texts: list[str], corpus: str | None) -> tuple[str, ...]:
    if corpus is not None:
        return PUBLISHED_COUNTS[CORPORA[corpus]].class_names
    for published in PUBLISHED_COUNTS.values():
        if set(texts) <= set(published.class_names):
            return published.class_names
    return tuple(sorted(texts))


def _feature_columns(table: Any, features: Mapping[str, str] | None) -> dict[str, str]:
    types = _pyarrow().types
    lists = [
        field.name
        for field in table.schema
        if types.is_list(field.type) or types.is_large_list(field.type) or types.is_fixed_size_list(field.type)
    ]
    numeric = [c for c in lists if types.is_floating(t := table.schema.field(c).type.value_type) or types.is_integer(t)]
    choice = f"choose from {', '.join(numeric) or 'none'}"
    if features is not None:
        lost = next((column for column in features.values() if column not in numeric), None)
        if lost is not None:
            raise DatasetError(f"features: {lost!r} is no list column of numbers; {choice}")
        return dict(features)
    if not numeric:
        raise DatasetError("has no list column of numbers, so no features")
    return {column: column for column in numeric}


def _feature_column(table: Any, name: str) -> np.ndarray:
    """`float32 [T, F]`."""
    pa = _pyarrow()
    column = _column(table, name, "lists", lambda kind: True).combine_chunks()
    values = column.flatten()
    if values.null_count:
        raise DatasetError(f"{name}: must hold no null (got one inside a row)")
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
    else:
        widths = column.value_lengths().to_numpy(zero_copy_only=False)
        width = int(widths[0])
        if np.any(widths != width):
            row = int(np.argmax(widths != width))
            raise DatasetError(f"{name}: rows must have one length, {width} (got {widths[row]} at row {row})")
    with np.errstate(over="ignore"):
        array = values.to_numpy(zero_copy_only=False).astype(np.float32)
    if width == 0:
        raise DatasetError(f"{name}: must have at least one number a row (got none)")
    array = array.reshape(len(table), width)
    if not np.isfinite(array).all():
        row, f = np.argwhere(~np.isfinite(array))[0]
        raise DatasetError(f"{name}: must be finite in float32 (got {values[int(row * width + f)]} at row {row})")
    return array
