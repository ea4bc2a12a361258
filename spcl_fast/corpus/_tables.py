"""Where tables of utterances come from, each as record batches that are read when they are asked for."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from spcl_fast.corpus._arrow import pa

CLASS_NAMES = b"spcl_fast.class_names"  # of the metadata of a table: a list in JSON
ROWS = 65_536  # of a batch


def tables_of(source: Any, wanted: Callable[[Any], list[str]]) -> Iterator[tuple[str | None, Iterable[Any]]]:
    """The tables of a source, each as record batches, at least one; with its name where it is a file.

    `wanted` says which columns of a schema have to be read.
    """
    if isinstance(source, (str, os.PathLike)):
        yield os.fspath(source), _file(Path(source), wanted)
    elif isinstance(source, (list, tuple)):
        for path in source:
            yield os.fspath(path), _file(Path(path), wanted)
    elif hasattr(source, "with_format"):  # a datasets.Dataset, whose rows may be a selection of its table
        parts = source.with_format("arrow").iter(batch_size=ROWS)
        yield None, (batch for table in parts for batch in table.to_batches())
    elif isinstance(source, pa.Table):
        yield None, source.to_batches(max_chunksize=ROWS) or [_empty(source.schema)]
    elif hasattr(source, "__arrow_c_stream__"):
        yield None, pa.RecordBatchReader.from_stream(source)
    else:
        raise TypeError(f"source: must be files or give an Arrow table (got {type(source).__name__})")


def class_names_of(schema: Any, source: Any) -> tuple[str, ...] | None:
    """What a table says of its classes: in its metadata, or as a `datasets.ClassLabel` of the source."""
    said = (schema.metadata or {}).get(CLASS_NAMES)
    features = getattr(source, "features", None)
    names: Any = None
    if said is not None:
        names = json.loads(said)
    elif isinstance(features, Mapping):
        names = getattr(features.get("label"), "names", None)
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _file(path: Path, wanted: Callable[[Any], list[str]]) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", os.fspath(path))
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic[:4] == b"PAR1":
            yield from _parquet(path, wanted)
        else:
            yield from _ipc(path, magic == b"ARROW1")
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a readable Arrow or Parquet file ({reason})") from None


def _parquet(path: Path, wanted: Callable[[Any], list[str]]) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    # Pages are read as they are needed: a row group may be larger than the memory.
    with ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        yield _empty(file.schema_arrow)
        yield from file.iter_batches(batch_size=ROWS, columns=wanted(file.schema_arrow))


def _ipc(path: Path, has_footer: bool) -> Iterator[Any]:
    with pa.memory_map(os.fspath(path)) as mapped:
        table = pa.ipc.open_file(mapped) if has_footer else pa.ipc.open_stream(mapped)
        with table:
            yield _empty(table.schema)
            yield from (table.get_batch(i) for i in range(table.num_record_batches)) if has_footer else table


def _empty(schema: Any) -> Any:
    return pa.RecordBatch.from_pylist([], schema)
