"""Corpora for the tests of rescoring, and what the ops make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spcl_fast import arrays
from spcl_fast.corpus import Corpus, CorpusWriter, Modality, Shard, open_corpus

NAMES = ("text", "audio", "visual")


def write_corpus(
    folder: Path,
    *,
    dialogues: int = 40,
    M: int = 3,
    C: int = 5,
    dtype: str = "float16",
    embedding_size: int | None = None,
    per_shard: int = 90,
    longest: int = 30,
    seed: int = 0,
    faults: bool = True,
) -> Corpus:
    """Ragged dialogues, some empty; some labels missing or wrong, some logits not finite."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest, dialogues)
    offsets = np.concatenate([[0], lengths.cumsum()])
    T = int(offsets[-1])
    stored = "float32" if dtype == "bfloat16" else dtype
    logits = {name: (2 * rng.standard_normal((T, C))).astype(stored) for name in NAMES[:M]}
    label = rng.integers(0, C, T)
    if faults:
        label[rng.random(T) < 0.05] = -100
        label[T // 2] = C + 3
        logits["text"][T // 3, 1] = np.nan
        logits["text"][T // 4] = -np.inf
    if dtype == "bfloat16":
        logits = {name: (values.view(np.uint32) >> 16).astype(np.uint16) for name, values in logits.items()}
    embeddings = None
    if embedding_size is not None:
        embeddings = {name: rng.standard_normal((T, embedding_size)).astype(np.float32) for name in NAMES[:M]}
        if faults:
            embeddings["text"][T // 5, 0] = np.inf
            embeddings["text"][T // 6] = 0
    modalities = [
        Modality(name, num_classes=C, logits_dtype=dtype, embedding_size=embedding_size) for name in NAMES[:M]
    ]
    with CorpusWriter(folder, modalities, utterances_per_shard=per_shard) as writer:
        writer.add(np.arange(dialogues), rng.integers(-1, 3, T), label, logits, embeddings, offsets=offsets)
    return open_corpus(folder)


def decoded(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.uint32) << 16).view(np.float32) if values.dtype == np.uint16 else values


def expected(
    shard: Shard, C: int, counts: np.ndarray | None, *, source: str = "prediction", measure: str = "spcl"
) -> dict[str, Any]:
    """The columns of a shard, by the ops one after the other."""
    logits = [decoded(values) for values in shard.logits.values()]
    if len({values.dtype for values in logits}) > 1:  # the ops take one dtype
        logits = [values.astype(np.float32) for values in logits]
    scores = arrays.modality_scores(logits, shard.label)
    step = arrays.self_paced_step(logits, shard.label, shard.offsets, None, measure=measure)
    vectors = logits if source == "prediction" else list(shard.embeddings.values())
    change = arrays.emotion_transitions(shard.label, shard.speaker, shard.offsets, C, counts=counts)
    lengths = np.diff(shard.offsets)
    columns = {f"loss.{name}": scores.loss[m] for m, name in enumerate(shard.logits)}
    columns |= {f"confidence.{name}": scores.confidence[m] for m, name in enumerate(shard.logits)}
    return columns | {
        "spread": np.repeat(step.spread, lengths),
        "coherence": arrays.window_coherence(vectors, shard.offsets, window=5, source=source),
        "transition": np.repeat(change.difficulty, lengths),
        "surprisal": change.surprisal,
        "utterance_loss": step.utterance_loss,
        "difficulty": step.difficulty,
    }


def transition_counts(corpus: Corpus, C: int) -> np.ndarray:
    parts = (arrays.emotion_transitions(s.label, s.speaker, s.offsets, C).counts for s in corpus)
    return sum(parts, np.zeros((C, C), np.int64))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, also what should not be there."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
