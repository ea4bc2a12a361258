"""Rescoring of one shard: slices of whole dialogues go through the kernel and into the files of scores."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast import arrays
from spcl_fast.arrays import _inputs
from spcl_fast.corpus._column_file import ColumnFile
from spcl_fast.corpus._columns import as_float32
from spcl_fast.corpus._pages import checksum_of_file, release
from spcl_fast.corpus._predict import Predictor
from spcl_fast.corpus._records import HISTOGRAMS, Summary, input_identity, record_path, write_json
from spcl_fast.corpus._scoring import IGNORED, Scoring
from spcl_fast.corpus._slices import slice_rows, slices
from spcl_fast.corpus._transition_counts import counts_checksum, require_counted
from spcl_fast.corpus.atomic import atomic_file
from spcl_fast.corpus.manifest import ShardInfo, StoreCorrupt
from spcl_fast.corpus.place import Place
from spcl_fast.corpus.scores import DIALOGUE_COLUMNS, DTYPES
from spcl_fast.corpus.store import Corpus, Shard

_OF_DIALOGUES = ("spread", "transition", "mean_difficulty", "max_difficulty", "mean_loss")

Progress = Callable[[int], None]


class Stopped(Exception):  # noqa: N818 - no error of its own: another worker has one
    """Another worker failed, or the user interrupted."""


@dataclass
class Times:
    """Seconds that were spent in waiting for the disk; for measurements."""

    sync: float = 0.0


@dataclass(frozen=True)
class Job:
    """What rescoring any shard needs."""

    corpus: Corpus
    out: Path | Place
    begun: str  # what the folder was begun with
    scoring: Scoring
    counts: NDArray[np.int64] | None  # transitions of the whole corpus
    predictor: Predictor | None
    memory: int  # of one worker
    verify: bool
    on_progress: Progress
    is_stopped: Callable[[], bool]
    times: Times


def dialogue_memory(info: ShardInfo) -> int:
    """Bytes of all dialogues of a shard, which are looked at together: their file, and their places thrice."""
    return info.dialogue_bytes + 24 * info.dialogues


def require_memory(corpus: Corpus, index: int, what: str, needed: int, memory: int) -> None:
    """ValueError for a shard that takes more than a worker has; a quarter is for shards that are mapped."""
    if needed > memory - memory // 4:
        raise ValueError(
            f"{corpus.folder / corpus.shards[index].name}: shard {index} has {what}, which takes "
            f"{-(-needed * 4 // 3 >> 20)} MB: memory must be at least that for each worker (got {memory >> 20} MB)"
        )


def rescore_shard(job: Job, index: int) -> None:
    """Writes the two files of a shard, then the record that it is done."""
    info = job.corpus.shards[index]
    shard = open_shard(job.corpus, index, job.verify, job.memory)
    summary = Summary(confidence_sum=[0.0] * len(job.scoring.modalities))
    dtype = DTYPES[job.scoring.dtype]
    with atomic_timed(job, info.name) as file, atomic_timed(job, info.dialogues_name) as dialogue_file:
        columns = ColumnFile(file, dict.fromkeys(job.scoring.columns, dtype), info.utterances)
        of_dialogues = ColumnFile(dialogue_file, DIALOGUE_COLUMNS, info.dialogues)
        _Slices(job, shard, index).run(columns, of_dialogues, summary)
    output = {
        "bytes": columns.size,
        "checksum": columns.checksum(),
        "dialogue_bytes": of_dialogues.size,
        "dialogue_checksum": of_dialogues.checksum(),
    }
    if job.scoring.wants_surprisal:
        require_counted(job.out, info, summary.transitions)
    counts = counts_checksum(job.counts) if job.scoring.wants_surprisal and job.counts is not None else None
    record = {
        "begun": job.begun,
        "input": input_identity(info),
        "output": output,
        "counts": counts,
        "summary": summary.as_json(),
    }
    write_json(record_path(job.out, info.name), record)


def open_shard(corpus: Corpus, index: int, verify: bool, memory: int) -> Shard:
    """A shard whose bytes are what the manifest says; one that is large is looked at piece by piece."""
    info = corpus.shards[index]
    if not verify or info.bytes <= memory // 4 or isinstance(corpus.folder, Place):
        return corpus.shard(index, verify=verify)
    for name, size, said in (
        (info.name, info.bytes, info.checksum),
        (info.dialogues_name, info.dialogue_bytes, info.dialogue_checksum),
    ):
        path = corpus.folder / name
        try:
            found = checksum_of_file(path)
        except OSError as error:
            raise StoreCorrupt(f"{path}: shard {index}: cannot be read ({error.strerror})") from None
        if found != (size, said):
            wanted = f"{size} bytes of checksum {said}"
            raise StoreCorrupt(f"{path}: shard {index}: damaged: {found[0]} bytes of checksum {found[1]}, not {wanted}")
    return corpus.shard(index, verify=False)


@contextlib.contextmanager
def atomic_timed(job: Job, name: str) -> Iterator[Any]:
    """`atomic_file` of the scores, and how long its sync takes."""
    start = time.perf_counter()
    with atomic_file(job.out / name) as file:
        yield file
        start = time.perf_counter()
    job.times.sync += time.perf_counter() - start


class _Slices:
    """The slices of a shard, and the memory that they take in turn."""

    def __init__(self, job: Job, shard: Shard, index: int) -> None:
        self.job, self.shard = job, shard
        self.kernel = _inputs.kernels().rescore
        self.width = 2 * len(job.scoring.modalities) + 6
        self.logits = [shard.logits[name] for name in job.scoring.modalities] if job.predictor is None else []
        self.is_mixed = len({rows.dtype for rows in self.logits}) > 1  # the kernel takes one dtype
        embedded = job.scoring.source == "embedding" and job.scoring.wants_coherence
        self.embeddings = list(shard.embeddings.values()) if embedded else []
        row_bytes = self._row_bytes()
        self.rows = slice_rows(row_bytes)
        longest = min(max(self.rows, int(np.diff(shard.offsets).max(initial=0))), shard.info.utterances)
        what = f"{longest} utterances that are scored at a time"
        require_memory(job.corpus, index, what, longest * row_bytes + dialogue_memory(shard.info), job.memory)
        self.memory = np.empty(self.width * longest, np.float32)
        self.releases = shard.info.bytes > job.memory // 4

    def _row_bytes(self) -> int:
        """Of one utterance: buffer, what is converted for the file, mapped pages, the kernel's own, a dialogue's."""
        scoring = self.job.scoring
        M = len(scoring.modalities)
        stored = 2 * len(scoring.columns) if scoring.dtype == "float16" else 0
        mapped = 8 + sum(rows.strides[0] for rows in (*self.logits, *self.embeddings))
        of_model = 4 * M * scoring.num_classes if self.job.predictor is not None or self.is_mixed else 0
        return 4 * self.width + stored + mapped + of_model + (20 + 4 * M) + 48

    def run(self, columns: ColumnFile, of_dialogues: ColumnFile, summary: Summary) -> None:
        """Scores every slice into the files, and adds what it comes to."""
        job = self.job
        for first, last in slices(self.shard.offsets, self.rows):
            if job.is_stopped():
                raise Stopped
            self._slice(first, last, columns, of_dialogues, summary)
            job.on_progress(int(self.shard.offsets[last] - self.shard.offsets[first]))

    def _slice(self, first: int, last: int, columns: ColumnFile, of_dialogues: ColumnFile, summary: Summary) -> None:
        shard, scoring = self.shard, self.job.scoring
        offsets = shard.offsets[first : last + 1]
        begin, end = int(offsets[0]), int(offsets[-1])
        T, D = end - begin, last - first
        offsets = offsets - begin
        label, speaker = shard.label[begin:end], shard.speaker[begin:end]
        stored_logits = [rows[begin:end] for rows in self.logits]
        if self.job.predictor is None:
            logits = [as_float32(rows) for rows in stored_logits] if self.is_mixed else stored_logits
        else:
            logits = self.job.predictor.logits(shard, first, last, scoring.modalities, scoring.num_classes)
        embeddings = [rows[begin:end] for rows in self.embeddings]
        out = self.memory[: self.width * T].reshape(self.width, T)
        numbers = np.full((len(_OF_DIALOGUES), D), np.nan, np.float32)
        scored = np.empty(D, np.int64)
        found = self.kernel(
            logits,
            label,
            speaker if scoring.wants_transitions else None,
            offsets,
            embeddings,
            self.job.counts,
            scoring.measure,
            scoring.aggregate == "mean",
            scoring.window,
            scoring.incoherence,
            scoring.transition,
            scoring.surprisal,
            scoring.wants_modalities,
            scoring.wants_coherence,
            scoring.wants_transitions,
            out,
            numbers,
            scored,
        )
        stored = DTYPES[scoring.dtype]
        with np.errstate(over="ignore"):  # what float16 does not have becomes infinite
            values = {name: out[scoring.row(name)].astype(stored, copy=False) for name in scoring.columns}
        for name, column in values.items():
            columns.write(name, column)
        of_dialogues.write("length", np.diff(offsets))
        of_dialogues.write("scored", scored)
        for name, of_dialogue in zip(_OF_DIALOGUES, numbers, strict=True):
            of_dialogues.write(name, of_dialogue)
        self._add(summary, found, values, label, D)
        if self.releases:
            for mapped in (label, speaker, *stored_logits, *embeddings):
                release(mapped)

    def _add(
        self,
        summary: Summary,
        found: Sequence[Any],
        values: dict[str, NDArray[Any]],
        label: NDArray[np.int32],
        dialogues: int,
    ) -> None:
        counts = dict(zip(("scored", "nonfinite", "bad_label", "undefined"), found[:4], strict=True))
        counts |= {"dialogues": dialogues, "utterances": len(label), "ignored": int(np.count_nonzero(label == IGNORED))}
        for name, count in counts.items():
            summary.counts[name] += count
        summary.loss_sum += found[4]
        for m, total in enumerate(found[5].tolist()):
            summary.confidence_sum[m] += total
        if self.job.scoring.wants_transitions:
            summary.transitions = found[6] + (0 if summary.transitions is None else summary.transitions)
        for name in HISTOGRAMS:
            if name in values:
                counted = arrays.difficulty_histogram(values[name], 0, 0)
                summary.histograms[name] = counted + summary.histograms.get(name, 0)
