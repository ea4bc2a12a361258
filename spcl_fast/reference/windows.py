"""Sums over windows of a dialogue's rows."""

from __future__ import annotations

import torch
from torch import Tensor


def window_sums(values: Tensor, dialogue: Tensor, half: int) -> Tensor:
    """Sum of `values[T]` over the rows `t - half .. t + half` of the dialogue of t.

    `dialogue[T]` numbers the dialogues, whose rows lie side by side. The sums double in length, so that there are
    `log2(half)` of them, no difference of long sums, and nothing of one dialogue in those of another.
    """
    half = min(half, values.shape[0])
    return _run(values, dialogue, half + 1, 1) + _shifted(_run(values, dialogue, half, -1), dialogue, -1)


def _run(values: Tensor, dialogue: Tensor, count: int, sign: int) -> Tensor:
    """Sum of `count` rows from t on, forwards or backwards, as far as the dialogue of t goes."""
    total, done = torch.zeros_like(values), 0
    power, size = values, 1  # sums of `size` rows
    while count > 0:
        if count & 1:
            total, done = total + _shifted(power, dialogue, sign * done), done + size
        power, size, count = power + _shifted(power, dialogue, sign * size), 2 * size, count >> 1
    return total


def _shifted(values: Tensor, dialogue: Tensor, by: int) -> Tensor:
    """The value of row `t + by` where that is a row of the dialogue of t, else 0."""
    rows = torch.arange(values.shape[0], device=values.device) + by
    inside = (rows >= 0) & (rows < values.shape[0]) & (dialogue.roll(-by) == dialogue)
    return torch.where(inside, values.roll(-by), 0.0)
