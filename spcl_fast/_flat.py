"""What a step is given, padded or not, as one row an utterance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spcl_fast.batch import DialogueBatch
from spcl_fast.difficulty.measurer import StepInputs, Vectors


def flat_inputs(
    name: str,
    logits: Vectors,
    labels: Tensor | DialogueBatch,
    offsets: Tensor | None,
    *,
    needs_dialogues: bool,
    extra_difficulty: Tensor | None,
    **given: Any,
) -> tuple[StepInputs, Tensor | None]:
    """The inputs of a step and the extra difficulty, from what the caller gave.

    Contract: `SelfPacedScheduler.forward`.
    """
    if isinstance(labels, DialogueBatch):
        if offsets is not None:
            raise ValueError(f"{name}: give a batch or labels and offsets (got both)")
        batch = labels
        labels, offsets, logits = batch.labels, batch.offsets, _flat_vectors(logits, batch)
        given["speakers"] = batch.speakers if given["speakers"] is None else _flat(given["speakers"], batch, 2)
        given["ids"] = _flat(given["ids"], batch, 2)
        extra_difficulty = _flat(extra_difficulty, batch, 2)
        given["joint"] = _flat(given["joint"], batch, 3)
        if given["embeddings"] is not None:
            given["embeddings"] = _flat_vectors(given["embeddings"], batch)
        present = given["present"]
        if present is not None and present.ndim == 3:
            given["present"] = torch.stack([batch.flatten(p) for p in present])
    if isinstance(logits, Tensor) and logits.ndim == 2:
        logits = logits[None]  # a classifier with one head
    if offsets is None:
        if needs_dialogues:
            raise ValueError(f"{name}: labels need offsets (got none)")
        T = labels.shape[0]
        offsets = torch.arange(0, T + 1, max(T, 1), device=labels.device)  # one dialogue, made on the device
    return StepInputs(logits, labels, offsets, **given), extra_difficulty


def _flat(value: Tensor | None, batch: DialogueBatch, ndim: int) -> Tensor | None:
    return batch.flatten(value) if value is not None and value.ndim == ndim else value


def _flat_vectors(vectors: Vectors, batch: DialogueBatch) -> Vectors:
    if isinstance(vectors, Tensor):
        return [batch.flatten(z) for z in vectors] if vectors.ndim == 4 else vectors
    if isinstance(vectors, Mapping):
        return {name: batch.flatten(z) if z.ndim == 3 else z for name, z in vectors.items()}
    return [batch.flatten(z) if z.ndim == 3 else z for z in vectors]
