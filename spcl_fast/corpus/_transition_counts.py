"""The transitions of a whole corpus, which a surprisal is over: one pass over its labels, a small file a shard."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast import arrays
from spcl_fast.corpus._pages import release
from spcl_fast.corpus._records import input_identity, read_json, record_path, write_json
from spcl_fast.corpus._scoring import OP
from spcl_fast.corpus._slices import slices
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import ShardInfo, StoreCorrupt
from spcl_fast.corpus.place import Place, place_of
from spcl_fast.corpus.store import Corpus

#: that all counts come to: exact in float64, and far from where int64 wraps around
_MOST = 2**53


def count_transitions(
    corpus: Corpus, out: Path | Place, own: Sequence[int], num_classes: int, is_stopped: Callable[[], bool]
) -> NDArray[np.int64] | None:
    """Counts `[C, C]` over adjacent utterances of every dialogue of the corpus; None when it was stopped.

    Processes that share a folder count their own shards, then what no other has counted by then: none waits, and
    what two of them count is the same.
    """
    total = np.zeros((num_classes, num_classes), np.int64)
    others = [index for index in range(len(corpus)) if index not in own]
    begin = next((k for k, index in enumerate(others) if index > max(own, default=-1)), 0)
    for index in (*own, *others[begin:], *others[:begin]):
        if is_stopped():
            return None
        total += count_shard(corpus, out, index, num_classes)
    return total


def count_shard(corpus: Corpus, out: Path | Place, index: int, num_classes: int) -> NDArray[np.int64]:
    """Counts `[C, C]` of one shard, which are written down for all who need them."""
    info = corpus.shards[index]
    counts = _counted(out, info, num_classes)
    if counts is None:
        counts = _count(corpus, index, num_classes)
        write_json(_path(out, info), {"input": input_identity(info), "transitions": counts.tolist()})
    return counts


def require_counted(out: Path | Place, info: ShardInfo, counts: NDArray[np.int64] | None) -> None:
    """StoreCorrupt where a shard's labels changed between the two passes; then both are done again by a new run."""
    path = _path(out, info)
    record = read_json(path)
    if record is not None and counts is not None and record["transitions"] != counts.tolist():
        path.unlink()
        raise StoreCorrupt(f"{path}: {info.name} had other labels when its transitions were counted: begin anew")


def read_transitions(source: str | os.PathLike[str] | Any, num_classes: int) -> NDArray[np.int64]:
    """Counts `[C, C]` that are given: an array, a JSON file with a matrix, or the folder of other scores."""
    if isinstance(source, (str, os.PathLike, Place)):
        path = place_of(source)
        path = path / "manifest.json" if path.is_dir() else path
        try:
            with path.open("rb") as file:
                given = json.loads(file.read(1 << 25))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON ({error})") from None
        for key in ("extra", "summary", "transitions"):
            given = given.get(key) if isinstance(given, dict) and key in given else given
        where = str(path)
    else:
        given, where = source, f"{OP}: transitions"
    try:
        counts = np.asarray(given)
    except ValueError:
        counts = np.zeros(0)
    if counts.dtype.kind not in "iu" or counts.shape != (num_classes, num_classes) or np.any(counts < 0):
        got = f"{counts.dtype} {counts.shape}"
        raise ValueError(f"{where}: must be a matrix of {num_classes} x {num_classes} integers from 0 on (got {got})")
    if counts.sum(dtype=np.float64) > _MOST:
        raise ValueError(f"{where}: counts must sum to at most {_MOST} (got {counts.sum(dtype=np.float64):g})")
    return counts.astype(np.int64)


def require_same_counts(out: Path | Place, shards: Sequence[ShardInfo], records: Sequence[Mapping[str, Any]]) -> None:
    """StoreCorrupt where a surprisal is over other transitions than the scored shards have together.

    So it is when labels were misread in the first pass and `require_counted` found it out after other shards had been
    scored. The records of those are taken away, so that a new run does them again.
    """
    tables = (record["summary"]["transitions"] for record in records)
    total = sum(np.array(table, np.int64) for table in tables if table is not None)
    wanted = counts_checksum(np.asarray(total, np.int64))
    stale = [info for info, record in zip(shards, records, strict=True) if record.get("counts") not in (None, wanted)]
    for info in stale:
        record_path(out, info.name).unlink(missing_ok=True)
    if stale:
        raise StoreCorrupt(f"{out}: {stale[0].name} was scored by other transitions than the corpus has: begin anew")


def counts_checksum(counts: NDArray[np.int64]) -> str:
    """What transitions are known by."""
    return checksum(np.ascontiguousarray(counts, "<i8"))


def _path(out: Path | Place, info: ShardInfo) -> Path | Place:
    return out / f"{info.name.removesuffix('.arrow')}.transitions.json"


def _counted(out: Path | Place, info: ShardInfo, num_classes: int) -> NDArray[np.int64] | None:
    record = read_json(_path(out, info))
    if record is None or record.get("input") != input_identity(info):
        return None
    return read_transitions(record["transitions"], num_classes)


def _count(corpus: Corpus, index: int, num_classes: int) -> NDArray[np.int64]:
    shard = corpus.shard(index, verify=False)  # that the labels were right is found out by the pass over all of it
    total = np.zeros((num_classes, num_classes), np.int64)
    for first, last in slices(shard.offsets):
        offsets = shard.offsets[first : last + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        label, speaker = shard.label[rows], shard.speaker[rows]
        total += arrays.emotion_transitions(label, speaker, offsets - offsets[0], num_classes).counts
        release(label)
        release(speaker)
    return total
