"""What `rescore` does, stage by stage, for one process or for several."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

from spcl_fast.corpus._pages import checksum_of_file
from spcl_fast.corpus._predict import Predictor, load_model
from spcl_fast.corpus._records import (
    finished_record,
    identity,
    input_identity,
    read_json,
    require_same,
    score_info,
    summarize,
    write_json,
)
from spcl_fast.corpus._rescore_shard import Job, Stopped, Times, dialogue_memory, require_memory, rescore_shard
from spcl_fast.corpus._scoring import OP, Scoring, make_scoring
from spcl_fast.corpus._transition_counts import count_transitions, read_transitions, require_same_counts
from spcl_fast.corpus.atomic import sweep_partial
from spcl_fast.corpus.manifest import MANIFEST, SCORES_FORMAT, Manifest, StoreCorrupt, write_manifest
from spcl_fast.corpus.place import Place, Where, place_of
from spcl_fast.corpus.scores import DTYPES, Scores
from spcl_fast.corpus.store import Corpus

BEGUN = "rescore.json"
# Files of a store, finished or not, or of who is writing one: without BEGUN nobody knows what they were made by.
_OF_STORES = re.compile(r".+\.arrow|.+\.record\.json|manifest\.json|\.writing")


class Rescored(NamedTuple):
    """What a call of `rescore` did.

    scores: of the whole corpus; None while shards of other processes are missing.
    shards, reused: how many were rescored now, and how many were there already.
    utterances: of those rescored now.
    sync_seconds: spent in waiting for the disk, summed over the workers.

    Example:
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore
        >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)]):
        ...     pass
        >>> rescore(open_corpus("corpus"), "scores", difficulty="loss").shards
        0
    """

    scores: Scores | None
    shards: int
    reused: int
    utterances: int
    sync_seconds: float


class Rescoring:
    """What `rescore` does, stage by stage: the options are those of `rescore`, checked and written down in the folder.

    `sweeps`: whether what killed writers left is removed at once; not where others may be at work on another machine,
    whose locks are not always seen.
    """

    def __init__(
        self,
        corpus: Corpus,
        out: Where,
        *,
        columns: Sequence[str] | None,
        dtype: str,
        difficulty: str,
        aggregate: str,
        window: int,
        source: str,
        incoherence: float,
        transition: float,
        surprisal: float,
        transitions: Any,
        model: str | None,
        checkpoint: str | os.PathLike[str] | None,
        device: str,
        batch_utterances: int,
        workers: int,
        memory: int,
        verify: bool,
        on_progress: Callable[[int], None] | None,
        sweeps: bool = True,
    ) -> None:
        self.corpus, self.folder = corpus, place_of(out)
        _require_integers(workers=workers, memory=memory, batch_utterances=batch_utterances)
        self.predictor = None if model is None else Predictor(load_model(model, checkpoint), device, batch_utterances)
        if self.predictor is None:
            if checkpoint is not None:
                raise ValueError(f"{OP}: checkpoint is of a model (got no model)")
            names = tuple(m.name for m in corpus.modalities if m.num_classes is not None)
            if not names:
                raise ValueError(f"{OP}: the corpus must have logits, or a model must give them (got neither)")
            num_classes = corpus.num_classes or 0
        else:
            names, num_classes = self.predictor.outputs(corpus)
        self.scoring = make_scoring(
            corpus.manifest,
            names,
            num_classes,
            columns=columns,
            dtype=dtype,
            difficulty=difficulty,
            aggregate=aggregate,
            window=window,
            source=source,
            incoherence=incoherence,
            transition=transition,
            surprisal=surprisal,
        )
        self.counts = None if transitions is None else read_transitions(transitions, num_classes)
        self.options = {
            **json.loads(json.dumps(vars(self.scoring))),
            "transitions": None if self.counts is None else hashlib.sha256(self.counts.tobytes()).hexdigest(),
            "model": model,
            "checkpoint": None if checkpoint is None else checksum_of_file(checkpoint)[1],
            "batch_utterances": batch_utterances if model is not None else None,
        }
        self._begun = _begin(self.folder, corpus, self.options)
        if sweeps:
            sweep_partial(self.folder)
        self.num_classes = num_classes
        self.workers, self.memory, self.verify = workers, memory, verify
        self.report = on_progress or (lambda utterances: None)
        self.times = Times()

    def missing(self, own: Iterable[int]) -> list[int]:
        """Which of them are not there yet."""
        return [index for index in own if finished_record(self.folder, self.corpus.shards[index], self._begun) is None]

    def score(self, own: Sequence[int], missing: Sequence[int]) -> None:
        """Rescores what is missing of the own shards; transitions are counted first where they are wanted."""
        stop = threading.Event()
        self.report(self._utterances(set(own) - set(missing)))
        threads = 1 if self.predictor is not None else min(self.workers, max(len(missing), 1))
        share = self.memory // threads
        for index in missing:  # before any is opened
            info = self.corpus.shards[index]
            require_memory(self.corpus, index, f"{info.dialogues} dialogues", dialogue_memory(info), share)
        if missing and self.scoring.wants_surprisal and self.counts is None:
            self.counts = count_transitions(self.corpus, self.folder, own, self.num_classes, stop.is_set)
        job = Job(
            self.corpus,
            self.folder,
            self._begun,
            self.scoring,
            self.counts,
            self.predictor,
            share,
            self.verify,
            self.report,
            stop.is_set,
            self.times,
        )
        _run(job, missing, threads, stop)
        _begin(self.folder, self.corpus, self.options)  # elsewhere two can begin at once, and one is refused now

    def finish(self) -> Scores | None:
        """The scores, when every shard of the corpus is there; None before that."""
        return _finish(self.folder, self.corpus, self.scoring, self.options, self._begun)

    def done(self, own: Sequence[int], missing: Sequence[int], scores: Scores | None) -> Rescored:
        """What the stages came to."""
        reused = len(own) - len(missing)
        return Rescored(scores, len(missing), reused, self._utterances(missing), self.times.sync)

    def _utterances(self, indices: Iterable[int]) -> int:
        return sum(self.corpus.shards[index].utterances for index in indices)


def _require_integers(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{OP}: {name} must be an integer (got {type(number).__name__})")
        if number < 1:
            raise ValueError(f"{OP}: {name} must be at least 1 (got {number})")


def _begin(folder: Path | Place, corpus: Corpus, options: dict[str, Any]) -> str:
    """Says in the folder what it is for, whose identity it gives; refuses one that is for something else."""
    if folder.exists() and folder.resolve() == corpus.folder.resolve():
        raise ValueError(f"{folder}: is the corpus itself: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    held = [path.name for path in folder.iterdir() if _OF_STORES.fullmatch(path.name)]  # before: others may begin now
    path = folder / BEGUN
    begun, wanted = read_json(path), {"corpus": _identity(corpus), **options}
    if begun is None:
        if held:
            what = f"missing or damaged, though the folder holds {min(held)}"
            raise StoreCorrupt(f"{path}: {what}: choose another folder")
        with contextlib.suppress(FileExistsError):  # another process came first, and has decided
            write_json(path, wanted, replace=path.exists())  # one that is there is damaged
        begun = read_json(path) or {}
    require_same(str(folder), begun, wanted)
    return identity(wanted)


def _identity(corpus: Corpus) -> str:
    """What a corpus is known by: all that its manifest says of its shards."""
    shards = json.dumps([input_identity(info) for info in corpus.shards], sort_keys=True)
    return hashlib.sha256(shards.encode()).hexdigest()


def _run(job: Job, indices: Sequence[int], threads: int, stop: threading.Event) -> None:
    """Rescores shards; the first error ends all of it, and so does an interrupt."""
    if threads == 1:
        for index in indices:
            rescore_shard(job, index)
        return
    with ThreadPoolExecutor(threads) as pool:
        tasks = [pool.submit(rescore_shard, job, index) for index in indices]
        try:
            wait(tasks, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            for task in tasks:
                task.cancel()
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    for error in errors:
        if not isinstance(error, Stopped):
            raise error


def _finish(
    folder: Path | Place, corpus: Corpus, scoring: Scoring, options: dict[str, Any], begun: str
) -> Scores | None:
    """Writes the manifest, when every shard is there: whoever comes last does, and all would write the same."""
    if not (folder / MANIFEST).exists():
        records = []
        for info in corpus.shards:
            record = finished_record(folder, info, begun)
            if record is None:
                return None
            records.append(record)
        if options["transitions"] is None:
            require_same_counts(folder, corpus.shards, records)
        shards = tuple(score_info(r, info.first_utterance) for r, info in zip(records, corpus.shards, strict=True))
        extra = {
            "columns": list(scoring.columns),
            "dtype": scoring.dtype,
            "options": options,
            "corpus": _identity(corpus),
            "summary": summarize(records, scoring.modalities, DTYPES[scoring.dtype]),
        }
        write_manifest(folder, Manifest(shards, (), corpus.manifest.class_names, format=SCORES_FORMAT, extra=extra))
    return Scores(folder)
