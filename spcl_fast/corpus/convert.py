"""From tables and other files into a store and back, a part at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from spcl_fast.corpus import _utterances as rows
from spcl_fast.corpus._arrow import compute, pa
from spcl_fast.corpus._columns import as_float32, columns_of, to_arrow
from spcl_fast.corpus._tables import CLASS_NAMES, ROWS, class_names_of, tables_of
from spcl_fast.corpus.atomic import atomic_file
from spcl_fast.corpus.manifest import Modality
from spcl_fast.corpus.store import Corpus, Shard
from spcl_fast.corpus.writer import CorpusWriter

if TYPE_CHECKING:
    from spcl_fast.merc.dataset import DialogueDataset

__all__ = ["store_dataset", "store_table", "to_record_batches", "write_parquet"]


def store_table(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    logits: Mapping[str, str] | None = None,
    embeddings: Mapping[str, str] | None = None,
    class_names: Sequence[str] | None = None,
    split: str | None = None,
    utterances_per_shard: int = 1 << 20,
    replace: bool = False,
) -> Corpus:
    """Writes a store from a table with one row an utterance, which is never in memory as a whole.

    Columns: `dialogue_id` (text or integers), `utterance_index` (integers), `speaker` (text, or integers, negative
    where not known), `label` (integers, negative where there is none, or text with `class_names`), and lists of numbers
    of one size: float16 and float32 stay so, all others become float32. The rows of a dialogue follow each other in the
    order of `utterance_index`, which begins everywhere at 0 or everywhere at 1: a table past memory is sorted by who
    makes it.

    Args:
        source: a Parquet file, an Arrow IPC file or stream, or a sequence of such files, taken one after the
            other and each with whole dialogues; or
            a `datasets.Dataset` (also one that streams), a pyarrow table or reader, or anything else with the Arrow
            stream interface.
        folder: of the store.
        logits: modality -> column of `[C]` numbers a row.
        embeddings: modality -> column of `[F]` numbers a row. Where neither is given, columns `logits.x` and
            `embedding.x` are those of modality x, and other lists the embeddings of a modality of their name.
        class_names: of the C classes; those that `write_parquet` left, or a `datasets.ClassLabel` has, need not be
            said.
        split: takes only the rows with this text in the column `split`; None takes all rows.
        utterances_per_shard: as for `CorpusWriter`.
        replace: as for `CorpusWriter`.

    Returns:
        The corpus, opened.

    Raises:
        OSError: a file is missing, or the store cannot be written.
        TypeError: a source that gives no table.
        ValueError: a column that is missing or of another kind, a null, rows out of order; the message names the
            source, and the store is not there.

    Example:
        >>> import pyarrow as pa
        >>> from spcl_fast.corpus import store_table
        >>> table = pa.table({
        ...     "dialogue_id": ["a", "a", "b"], "utterance_index": [0, 1, 0], "speaker": ["Ross", "Joey", "Ross"],
        ...     "label": [1, 0, 1], "logits.text": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)),
        ... })
        >>> corpus = store_table(table, "friends", class_names=["sad", "happy"])
        >>> corpus, corpus.shard(0).speaker.tolist()
        (Corpus('friends': 2 dialogues, 3 utterances, 1 shard; text), [0, 1, 0])
    """
    names = None if class_names is None else tuple(class_names)
    writer, base = None, None
    where = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "source"
    try:
        for path, batches in tables_of(source, lambda schema: _wanted(schema, logits, embeddings)):
            where = path or where
            first, rest = _first(batches)
            names = names or class_names_of(first.schema, source)
            if writer is not None and not first.num_rows:
                continue
            modalities = rows.modalities_of(first, logits, embeddings)
            if writer is None:
                options: dict[str, Any] = {"utterances_per_shard": utterances_per_shard, "replace": replace}
                writer = CorpusWriter(folder, modalities, class_names=names, **options)
            elif modalities != list(writer.modalities):
                raise ValueError(f"must have what the first file has, {writer.modalities} (got {modalities})")
            columns = rows.column_names(first.schema, logits, embeddings)
            checked = (_checked(batch, split) for batch in rest)
            for batch in rows.whole_dialogues(checked):
                base = _add(writer, batch, columns, base)
    except (pa.ArrowException, ValueError, OverflowError, UnicodeError) as error:
        if writer is not None:
            writer.abandon()
        raise ValueError(f"{where}: {' '.join(str(error).split()) or type(error).__name__}") from None
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    if writer is None:
        raise ValueError(f"{where}: at least one file is needed (got none)")
    writer.close()
    return Corpus(folder)


def store_dataset(
    dataset: DialogueDataset,
    folder: str | os.PathLike[str],
    *,
    split: str | None = None,
    utterances_per_shard: int = 1 << 20,
    replace: bool = False,
) -> Corpus:
    """Writes a store from a corpus in memory, such as `merc.npz.read_npz` reads: its features become embeddings.

    Args:
        dataset: the corpus.
        folder: of the store.
        split: takes only the dialogues of this split; None takes all, one split after the other.
        utterances_per_shard: as for `CorpusWriter`.
        replace: as for `CorpusWriter`.

    Returns:
        The corpus, opened; embeddings in float32, dialogues under the names that they have.

    Raises:
        OSError: the store cannot be written.
        ValueError: a split that the corpus does not have.

    Example:
        >>> from spcl_fast.corpus import store_dataset
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> store_dataset(make_synthetic("meld-like", dialogues={"train": 3, "dev": 2}), "train", split="train")
        Corpus('train': 3 dialogues, 29 utterances, 1 shard; text, audio, visual)
    """
    splits = dataset.split_names if split is None else (split,)
    chosen = np.concatenate([dataset.dialogues(name) for name in splits])
    modalities = [Modality(name, embedding_size=x.shape[1]) for name, x in dataset.features.items()]
    options: dict[str, Any] = {"utterances_per_shard": utterances_per_shard, "replace": replace}
    with CorpusWriter(folder, modalities, class_names=dataset.class_names, **options) as writer:
        for start in range(0, len(chosen), 1000):  # a part at a time, since rows_of copies
            dialogues = chosen[start : start + 1000]
            at, offsets = dataset.rows_of(dialogues)
            writer.add(
                [str(dataset.dialogue_ids[d]) for d in dialogues],
                dataset.speakers[at],
                dataset.labels[at],
                embeddings={name: values[at] for name, values in dataset.features.items()},
                offsets=offsets,
            )
    return Corpus(folder)


def to_record_batches(corpus: Corpus, *, rows_per_batch: int = ROWS) -> Iterator[Any]:
    """The utterances of a store as Arrow record batches, for other tools: one row an utterance, in their order.

    Columns: `dialogue_id`, `utterance_index`, `speaker`, `label`, `logits.<modality>`, `embedding.<modality>`. bfloat16
    becomes float32, which holds it exactly; everything else stays where it is, in the mapped files. A dialogue without
    an utterance has no row.

    Args:
        corpus: the store.
        rows_per_batch: at least 1.

    Yields:
        `pyarrow.RecordBatch` of at most so many rows; none where there is no utterance.

    Raises:
        StoreCorrupt: a shard is damaged.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, to_record_batches
        >>> with CorpusWriter("small", [Modality("text", num_classes=2)]) as writer:
        ...     writer.add([7, 8], [0, 1, 0], [1, 0, -100], {"text": np.zeros((3, 2), np.float32)}, offsets=[0, 2, 3])
        >>> for batch in to_record_batches(open_corpus("small"), rows_per_batch=2):
        ...     print(batch.column("dialogue_id").to_pylist())
        [7, 7]
        [8]
    """
    if rows_per_batch < 1:
        raise ValueError(f"rows_per_batch: must be at least 1 (got {rows_per_batch})")
    schema = _schema(corpus)
    for shard in corpus:
        dialogue = np.repeat(np.arange(shard.info.dialogues), np.diff(shard.offsets))
        ids = pa.array(shard.dialogue_id, schema.field("dialogue_id").type)
        for start in range(0, shard.info.utterances, rows_per_batch):
            here = slice(start, start + rows_per_batch)
            values = [x[here] for x in (shard.utterance_index, shard.speaker, shard.label)]
            values += [_widened(shard, column, here) for column in columns_of(corpus.modalities)]
            arrays = [to_arrow(x, kind) for x, kind in zip(values, schema.types[1:], strict=True)]
            yield pa.record_batch([ids.take(pa.array(dialogue[here])), *arrays], schema)


def write_parquet(corpus: Corpus, path: str | os.PathLike[str], *, rows_per_group: int = ROWS) -> None:
    """Writes the utterances of a store into one Parquet file, whole or not at all; `store_table` takes it back.

    Args:
        corpus: the store.
        path: the file; its folder exists.
        rows_per_group: rows of a row group, which is what has to fit in memory.

    Raises:
        OSError: it cannot be written; an older file stays.
        StoreCorrupt: a shard is damaged.

    Example:
        >>> from spcl_fast.corpus import store_dataset, store_table, write_parquet
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = store_dataset(make_synthetic("meld-like", dialogues={"train": 3}), "small")
        >>> write_parquet(corpus, "small.parquet")
        >>> store_table("small.parquet", "again")
        Corpus('again': 3 dialogues, 29 utterances, 1 shard; text, audio, visual)
    """
    from pyarrow.parquet import ParquetWriter

    with atomic_file(path) as file, ParquetWriter(file, _schema(corpus)) as writer:
        for batch in to_record_batches(corpus, rows_per_batch=rows_per_group):
            writer.write_batch(batch, row_group_size=rows_per_group)


def _schema(corpus: Corpus) -> Any:
    integers = ("utterance_index", "speaker", "label")
    fields = [("dialogue_id", pa.int64() if corpus.manifest.dialogue_id == "int64" else pa.string())]
    fields += [(name, pa.int32()) for name in integers]
    for column in columns_of(corpus.modalities):
        kind = pa.float16() if column.dtype == "float16" else pa.float32()
        fields.append((column.name, pa.list_(kind, column.size)))
    names = corpus.manifest.class_names
    return pa.schema(fields, None if names is None else {CLASS_NAMES: json.dumps(names)})


def _widened(shard: Shard, column: Any, here: slice) -> np.ndarray:
    values = (shard.logits if column.kind == "logits" else shard.embeddings)[column.modality][here]
    return as_float32(values) if column.dtype == "bfloat16" else values


def _add(writer: CorpusWriter, batch: Any, columns: dict[str, dict[str, str]], base: int | None) -> int:
    ids = rows.ids_of(batch)
    starts = rows.starts_of(ids)
    offsets = np.append(starts, batch.num_rows)
    names = ids.take(pa.array(starts)).to_pylist()
    base = rows.check_numbers(batch, offsets, names, base)
    of: dict[str, dict[str, Any]] = {"logits": {}, "embedding": {}}
    for column in columns_of(writer.modalities):
        values = rows.matrix_of(batch, columns[column.kind][column.modality], column.size, column.dtype)
        of[column.kind][column.modality] = values
    speakers, labels = rows.speakers_of(batch, offsets), rows.labels_of(batch, writer.class_names)
    writer.add(names, speakers, labels, of["logits"], of["embedding"], offsets=offsets)
    return base


def _wanted(schema: Any, logits: Mapping[str, str] | None, embeddings: Mapping[str, str] | None) -> list[str]:
    chosen = rows.column_names(schema, logits, embeddings)
    lists = [column for of in chosen.values() for column in of.values()]
    return [*rows.NEEDED, *(["split"] if "split" in schema.names else []), *lists]


def _first(batches: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """The first batch of a table that has a row, or one that has none, and all that are not empty."""
    iterator = iter(batches)
    first = None
    for first in iterator:
        if first.num_rows:
            break
    if first is None:
        raise ValueError("holds no utterance")
    first.validate(full=True)  # before anything trusts what is in it
    return first, chain([first], iterator)


def _checked(batch: Any, split: str | None) -> Any:
    """What is in it can be trusted; and only the rows that are wanted."""
    batch.validate(full=True)
    if split is None:
        return batch
    if "split" not in batch.schema.names:
        raise ValueError("has no column split")
    return batch.filter(compute.equal(batch.column("split"), split))
