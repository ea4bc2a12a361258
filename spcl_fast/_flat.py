"""What a step is given, padded or not, as one row an utterance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spcl_fast.batch import DialogueBatch
from spcl_fast.difficulty.measurer import StepInputs, Vectors
from spcl_fast.ops import _check


def flat_inputs(
    name: str,
    needs_dialogues: bool,
    logits: Vectors,
    labels: Tensor | DialogueBatch,
    offsets: Tensor | None,
    extra_difficulty: Tensor | None,
    joint: Tensor | None,
    present: Tensor | None,
    speakers: Tensor | None,
    embeddings: Vectors | None,
    ids: Tensor | None,
    *settings: Any,
) -> tuple[StepInputs, Tensor | None]:
    """The inputs of a step and the extra difficulty, from what the caller gave; `settings` end those of `StepInputs`.

    Contract: `SelfPacedScheduler.forward`.
    """
    if isinstance(labels, DialogueBatch):
        if offsets is not None:
            raise ValueError(f"{name}: give a batch or labels and offsets (got both)")
        batch = labels
        labels, offsets, logits = batch.labels, batch.offsets, _flat_vectors(logits, batch)
        speakers = batch.speakers if speakers is None else _flat(speakers, batch, 2)
        if ids is not None:
            ids = _flat(ids, batch, 2)
        if extra_difficulty is not None:
            extra_difficulty = _flat(extra_difficulty, batch, 2)
        if joint is not None:
            joint = _flat(joint, batch, 3)
        if embeddings is not None:
            embeddings = _flat_vectors(embeddings, batch)
        if isinstance(present, Tensor) and present.ndim == 3:
            present = torch.stack([batch.flatten(p) for p in present])
    if not isinstance(labels, Tensor) or labels.ndim != 1:
        _check.tensor(name, "labels", labels, 1, _check.INTEGERS, "integers")
    if ids is not None:  # here, for all that look at them
        _check.tensor(name, "ids", ids, 1, _check.INTEGERS, "integers")
        _check.shaped(name, "ids", ids, tuple(labels.shape), labels.device, "labels")
    if isinstance(logits, Tensor) and logits.ndim == 2:
        logits = logits[None]  # a classifier with one head
    if offsets is None:
        if needs_dialogues:
            raise ValueError(f"{name}: labels need offsets (got none)")
        T = labels.shape[0]
        offsets = torch.arange(0, T + 1, max(T, 1), device=labels.device)  # one dialogue, made on the device
    return StepInputs(logits, labels, offsets, joint, present, speakers, embeddings, ids, *settings), extra_difficulty


def _flat(value: Tensor | None, batch: DialogueBatch, ndim: int) -> Tensor | None:
    return batch.flatten(value) if isinstance(value, Tensor) and value.ndim == ndim else value


def _flat_vectors(vectors: Vectors, batch: DialogueBatch) -> Vectors:
    if isinstance(vectors, Tensor):
        return [batch.flatten(z) for z in vectors] if vectors.ndim == 4 else vectors
    if type(vectors) is not list and isinstance(vectors, Mapping):
        return {name: _flat(z, batch, 3) for name, z in vectors.items()}  # type: ignore[misc]
    return [_flat(z, batch, 3) for z in vectors]  # type: ignore[misc]
