"""Selections by lot: by the compiled library on the host, in plain PyTorch elsewhere, the same utterances by both.

The lot of an utterance is a hash of its id, the epoch and a seed (`difficulty.random.uniform`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast.difficulty.random import uniform
from spcl_fast.ops._engines import has_host_ops


def select_by_odds(
    difficulty: Tensor, ids: Tensor, epoch: Tensor, seed: int, pace: Tensor, tilt: Tensor, backend: str | None = None
) -> Tensor:
    """True for those whose lot lies below `pace + tilt min(pace, 1 - pace) (1 - 2 r)`, `bool[T]`.

    r is the share of the known that are easier, `(place + 1/2) / n`, ties by index.

    Args:
        difficulty: `float[T]`; NaN, which is not known, is never selected.
        ids: `int[T]`.
        epoch: 0-dim int64.
        seed: in [0, 2^63).
        pace: 0-dim float64, in (0, 1].
        tilt: 0-dim float64, in [-1, 1].
        backend: None for the fastest, or a name of `spcl_fast.backends`.

    Returns:
        `bool[T]`. Nothing waits for a device. Deterministic.
    """
    if _is_taken(difficulty, backend):
        return torch.ops.spcl_fast.select_by_odds(difficulty, ids, epoch, seed, pace, tilt)
    unknown = difficulty.isnan()
    easier = (place(difficulty, unknown) + 0.5) / (~unknown).sum().clamp(min=1)
    odds = pace + tilt * torch.minimum(pace, 1 - pace) * (1 - 2 * easier)
    return (uniform(ids, epoch, seed) < odds) & ~unknown


def select_as_many(
    difficulty: Tensor,
    ids: Tensor | None,
    epoch: Tensor,
    seed: int,
    threshold: Tensor,
    instead_of: Tensor | None,
    backend: str | None = None,
) -> Tensor:
    """As many as lie up to the threshold, or as `instead_of` takes, `bool[T]`: by lot, or without ids the hardest.

    Args:
        difficulty: `float[T]`; NaN is never selected.
        ids: `int[T]`, or None.
        epoch: 0-dim int64.
        seed: in [0, 2^63).
        threshold: 0-dim floating point, rounded to the dtype of the difficulty.
        instead_of: `bool[T]`, or None: then the threshold says how many.
        backend: None for the fastest, or a name of `spcl_fast.backends`.

    Returns:
        `bool[T]`; all that are known where they are fewer. Nothing waits for a device. Deterministic.
    """
    if _is_taken(difficulty, backend):
        return torch.ops.spcl_fast.select_as_many(difficulty, ids, epoch, seed, threshold, instead_of)
    unknown = difficulty.isnan()
    order = -difficulty if ids is None else uniform(ids, epoch, seed)
    others = difficulty <= threshold if instead_of is None else instead_of
    return (place(order, unknown) < others.sum()) & ~unknown


def place(key: Tensor, unknown: Tensor) -> Tensor:
    """The place of each in ascending order, from 0, ties by index; what is unknown as +Inf."""
    order = torch.where(unknown, torch.inf, key).argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _is_taken(difficulty: Tensor, backend: str | None) -> bool:
    return difficulty.dtype in (torch.float32, torch.float64) and has_host_ops(difficulty.device, backend)
