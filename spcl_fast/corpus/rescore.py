"""Rescoring: what every utterance of a corpus past memory is worth, from stored logits or from a model."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spcl_fast.corpus._pages import checksum_of_file
from spcl_fast.corpus._predict import Predictor, load_model
from spcl_fast.corpus._records import (
    finished_record,
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


def plan(corpus: Corpus, world_size: int) -> list[range]:
    """Which shards each of several processes takes: ranges one after the other, of about as many utterances.

    Args:
        corpus: whose shards hold whole dialogues, so that no dialogue is in two ranges.
        world_size: how many processes; more than shards leave some of them without.

    Returns:
        `world_size` ranges that make `range(len(corpus))`. Deterministic: every process finds the same.

    Raises:
        ValueError: world_size below 1.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, plan
        >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)], utterances_per_shard=2) as writer:
        ...     writer.add(range(4), [0] * 8, [0] * 8, {"text": np.zeros((8, 2), np.float32)}, offsets=[0, 2, 4, 6, 8])
        >>> plan(open_corpus("corpus"), 2)
        [range(0, 2), range(2, 4)]
    """
    if isinstance(world_size, bool) or not isinstance(world_size, int) or world_size < 1:
        raise ValueError(f"plan: world_size must be an integer of at least 1 (got {world_size!r})")
    total = max(corpus.num_utterances, 1)
    # A shard goes to the process in whose share its middle lies.
    middles = (2 * s.first_utterance + s.utterances for s in corpus.shards)
    owners = np.array([min(m * world_size // (2 * total), world_size - 1) for m in middles], np.int64)
    ends = np.searchsorted(owners, np.arange(world_size), side="right").tolist()
    return [range(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def rescore(
    corpus: Corpus,
    out: str | os.PathLike[str],
    *,
    shards: Iterable[int] | None = None,
    columns: Sequence[str] | None = None,
    dtype: str = "float32",
    difficulty: str = "spcl",
    aggregate: str = "sum",
    window: int = 5,
    source: str = "prediction",
    incoherence: float = 1.0,
    transition: float = 1.0,
    surprisal: float = 0.0,
    transitions: Any = None,
    model: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    batch_utterances: int = 4096,
    workers: int = 1,
    memory: int = 512 << 20,
    verify: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Rescored:
    """Scores every utterance of a corpus into a folder, shard by shard; what is there already is not done again.

    Of each utterance: loss and confidence of every modality by itself (`ops.modality_scores`), spread of its dialogue,
    utterance loss and difficulty (SPCL, arXiv 2605.21565; `ops.self_paced_step`), coherence (ours,
    `ops.window_coherence`), transition (DIF of its dialogue, MultiDAG+CL, arXiv 2402.17269) and surprisal (ours,
    `ops.emotion_transitions`): the numbers of these ops, bit for bit. The "extended" difficulty is that of
    `difficulty.ExtendedDifficulty`: rho + incoherence (1 - C_t) / 2 + transition DIF + surprisal / log C.

    The surprisal is over the transitions of the whole corpus, so where it is wanted a pass over the labels comes first;
    `transitions` saves it. Killed at any moment, the same call continues, and the files are those of an undisturbed
    run, byte for byte; several processes may work in one folder, each with its `shards` (see `plan`), and whichever is
    last writes the manifest. A shard counts as done when its record names the very checksums of the corpus' manifest.

    Args:
        corpus: with logits, or with anything that the model takes.
        out: the folder of the scores; is made where there is none.
        shards: which ones are done now. None: all.
        columns: what is stored, in any order: "loss" and "confidence" (of all modalities), "loss.text" and the like,
            "spread", "coherence", "transition", "surprisal", "utterance_loss", "difficulty". None: all that there can
            be. What is not stored is not computed unless the difficulty needs it.
        dtype: of these columns, "float32" or "float16"; the arithmetic is float32.
        difficulty: "spcl", "extended", "loss" (the utterance loss) or "spread".
        aggregate: "sum" or "mean", of `ops.modality_spread`.
        window: odd number of utterances, of `ops.window_coherence`.
        source: what the coherence compares: "prediction" the softmax of the logits, "embedding" the embeddings.
        incoherence: weight of this term of the extended difficulty, finite and at least 0; 0 switches it off.
        transition: the same of this term.
        surprisal: the same of this term.
        transitions: counts `int [C, C]` of another corpus, as an array, a JSON file with the matrix, or a folder of
            scores.
        model: `package.module:factory` of a `torch.nn.Module`, called as the backbones of `spcl_fast.merc.models` are,
            whose logits are scored in place of stored ones.
        checkpoint: its parameters, a state_dict; tensors and plain containers alone are unpickled.
        device: of the model; "auto" is the GPU that torch prefers, or else the CPU.
        batch_utterances: dialogues are given to the model together until they hold this many.
        workers: threads, each with a shard of its own; the kernels release the GIL.
        memory: bytes that all workers take at most, beside the interpreter and the model, mapped pages included. A
            dialogue that takes more is refused: one of three modalities and seven classes 180 bytes an utterance; and
            so is a shard of very many dialogues, of which each takes 40 bytes, one with a text for its name more.
        verify: whether the checksums of the corpus are compared.
        on_progress: is told how many utterances are done, by any worker, and at the beginning how many were.

    Returns:
        `Rescored(scores, shards, reused, utterances, sync_seconds)`. An utterance without a label, or with logits that
        are not finite, has NaN and is counted in the summary. Deterministic for any workers and memory.

    Raises:
        OSError: a file cannot be written, such as on a full disk; what was written is whole.
        StoreCorrupt: a shard is damaged or missing; the message names the file.
        TypeError: an option of another type.
        ValueError: an option out of its domain, one that the corpus cannot serve, a folder that was begun with other
            options (the message names them), a dialogue past `memory`.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore
        >>> modalities = [Modality("text", num_classes=2), Modality("audio", num_classes=2)]
        >>> logits = {"text": np.array([[2, 0], [0, 1]], np.float32), "audio": np.zeros((2, 2), np.float32)}
        >>> with CorpusWriter("corpus", modalities) as writer:
        ...     writer.add([7], [0, 1], [0, 1], logits, offsets=[0, 2])
        >>> scores = rescore(open_corpus("corpus"), "scores", columns=["confidence", "difficulty"]).scores
        >>> scores.columns
        ('confidence.text', 'confidence.audio', 'difficulty')
        >>> scores.column("confidence.text", 0).astype(float).round(3).tolist()
        [0.881, 0.731]
        >>> rescore(open_corpus("corpus"), "scores", columns=["confidence", "difficulty"]).reused
        1
    """
    folder = Path(out)
    _require_integers(workers=workers, memory=memory, batch_utterances=batch_utterances)
    predictor = None if model is None else Predictor(load_model(model, checkpoint), device, batch_utterances)
    if predictor is None:
        if checkpoint is not None:
            raise ValueError(f"{OP}: checkpoint is of a model (got no model)")
        names = tuple(m.name for m in corpus.modalities if m.num_classes is not None)
        if not names:
            raise ValueError(f"{OP}: the corpus must have logits, or a model must give them (got neither)")
        num_classes = corpus.num_classes or 0
    else:
        names, num_classes = predictor.outputs(corpus)
    scoring = make_scoring(
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
    counts = None if transitions is None else read_transitions(transitions, num_classes)
    options = {
        **json.loads(json.dumps(vars(scoring))),
        "transitions": None if counts is None else hashlib.sha256(counts.tobytes()).hexdigest(),
        "model": model,
        "checkpoint": None if checkpoint is None else checksum_of_file(checkpoint)[1],
        "batch_utterances": batch_utterances if model is not None else None,
    }
    own = list(range(len(corpus))) if shards is None else sorted(set(shards))
    if own and not 0 <= own[0] <= own[-1] < len(corpus):
        raise ValueError(f"{OP}: shards must be in [0, {len(corpus)}) (got {own[0]} to {own[-1]})")
    _begin(folder, corpus, options)

    stop = threading.Event()
    times = Times()
    missing = [index for index in own if finished_record(folder, corpus.shards[index]) is None]
    report = on_progress or (lambda utterances: None)
    report(sum(corpus.shards[index].utterances for index in set(own) - set(missing)))
    threads = 1 if predictor is not None else min(workers, max(len(missing), 1))
    share = memory // threads
    for index in missing:  # before any is opened
        info = corpus.shards[index]
        require_memory(corpus, index, f"{info.dialogues} dialogues", dialogue_memory(info), share)
    if missing and scoring.wants_surprisal and counts is None:
        counts = count_transitions(corpus, folder, own, num_classes, stop.is_set)
    job = Job(corpus, folder, scoring, counts, predictor, share, verify, report, stop.is_set, times)
    _run(job, missing, threads, stop)
    utterances = sum(corpus.shards[index].utterances for index in missing)
    scores = _finish(folder, corpus, scoring, options)
    return Rescored(scores, len(missing), len(own) - len(missing), utterances, times.sync)


def _require_integers(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{OP}: {name} must be an integer (got {type(number).__name__})")
        if number < 1:
            raise ValueError(f"{OP}: {name} must be at least 1 (got {number})")


def _begin(folder: Path, corpus: Corpus, options: dict[str, Any]) -> None:
    """Says in the folder what it is for; refuses one that is for something else."""
    if folder.exists() and folder.resolve() == corpus.folder.resolve():
        raise ValueError(f"{folder}: is the corpus itself: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    held = [path.name for path in folder.iterdir() if _OF_STORES.fullmatch(path.name)]  # before: others may begin now
    begun = read_json(folder / BEGUN)
    wanted = {"corpus": _identity(corpus), **options}
    if begun is None:
        if held:
            what = f"missing or damaged, though the folder holds {min(held)}"
            raise StoreCorrupt(f"{folder / BEGUN}: {what}: choose another folder")
        write_json(folder / BEGUN, wanted)
    else:
        require_same(os.fspath(folder), begun, wanted)
    sweep_partial(folder)


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


def _finish(folder: Path, corpus: Corpus, scoring: Scoring, options: dict[str, Any]) -> Scores | None:
    """Writes the manifest, when every shard is there: whoever comes last does, and all would write the same."""
    if not (folder / MANIFEST).exists():
        records = []
        for info in corpus.shards:
            record = finished_record(folder, info)
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
