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
    easier = (_place(difficulty, unknown).float() + 0.5) / (~unknown).sum().clamp(min=1)
    odds = pace + tilt * torch.minimum(pace, 1 - pace) * (1 - 2 * easier)
    return (uniform(ids, epoch, seed) < odds) & ~unknown


def select_as_many(
    difficulty: Tensor,
    ids: Tensor | None,
    epoch: Tensor,
    seed: int,
    threshold: Tensor,
    instead_of: Tensor | None,
    offsets: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """As many as lie up to the threshold, or as `instead_of` takes, `bool[T]`: by lot, or without ids the hardest.

    With offsets the shares that those take of each dialogue are dealt among dialogues of about the same length, and
    each dialogue gives its share by lot.

    Args:
        difficulty: `float[T]`; NaN is never selected.
        ids: `int[T]`, or None.
        epoch: 0-dim int64.
        seed: in [0, 2^63).
        threshold: 0-dim floating point, rounded to the dtype of the difficulty.
        instead_of: `bool[T]`, or None: then the threshold says how many.
        offsets: `int[D+1]`, of whole dialogues, where there are ids; or None.
        backend: None for the fastest, or a name of `spcl_fast.backends`.

    Returns:
        `bool[T]`; all that are known where they are fewer. Nothing waits for a device. Deterministic.
    """
    if _is_taken(difficulty, backend):
        return torch.ops.spcl_fast.select_as_many(difficulty, ids, epoch, seed, threshold, instead_of, offsets)
    unknown = difficulty.isnan()
    others = difficulty <= threshold if instead_of is None else instead_of
    if ids is None:
        order = -difficulty
    elif offsets is None:
        order = uniform(ids, epoch, seed)
    else:
        order = _by_dialogue(others, unknown, ids, epoch, seed, offsets.long())
    return (_place(order, unknown) < others.sum()) & ~unknown


def _place(key: Tensor, unknown: Tensor) -> Tensor:
    """The place of each in ascending order, from 0, ties by index; what is unknown as +Inf."""
    order = torch.where(unknown, torch.inf, key).argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _by_dialogue(selected: Tensor, unknown: Tensor, ids: Tensor, epoch: Tensor, seed: int, offsets: Tensor) -> Tensor:
    """An order in which each dialogue gives about the share that one of its length gave to the selection."""
    lots = uniform(ids, epoch, seed)
    T, D = len(lots), len(offsets) - 1
    if not T or not D:
        return lots
    rows = torch.arange(T, device=lots.device)
    dialogue = torch.bucketize(rows, offsets[1:-1], right=True) if D > 1 else torch.zeros_like(rows)
    known = lots.new_zeros(D).index_add_(0, dialogue, (~unknown).to(lots.dtype))
    taken = lots.new_zeros(D).index_add_(0, dialogue, (selected & ~unknown).to(lots.dtype))
    share = taken / known.clamp(min=1)

    # Neighbours by length, ties by lot, then the lots of other draws deal the shares within each group.
    first = offsets[:-1].clamp(max=T - 1)
    by_length = _ordered(known, uniform(ids[first], epoch, seed ^ 1))
    group = torch.arange(D, device=lots.device) * max(D // 4, 1) // D
    dealt = _ordered(group.to(lots.dtype), uniform(ids[first[by_length]], epoch, seed ^ 2))
    share = torch.empty_like(share).scatter_(0, by_length, share[by_length][dealt])

    # Within a dialogue by lot; the place of an utterance there against what its dialogue is to give.
    within = _ordered(dialogue.to(lots.dtype), torch.where(unknown, 2.0, lots))
    place = torch.empty_like(lots).scatter_(0, within, rows.to(lots.dtype)) - offsets[dialogue]
    return (place + 0.5) / known[dialogue].clamp(min=1) - share[dialogue]


def _ordered(key: Tensor, then: Tensor) -> Tensor:
    """The order by `key`, ties by `then`."""
    by_second = then.argsort(stable=True)
    return by_second[key[by_second].argsort(stable=True)]


def _is_taken(difficulty: Tensor, backend: str | None) -> bool:
    return difficulty.dtype in (torch.float32, torch.float64) and has_host_ops(difficulty.device, backend)
