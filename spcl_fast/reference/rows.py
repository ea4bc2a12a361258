"""What every reference op asks of a row of logits and of a dialogue's rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stacked(logits: Tensor | Sequence[Tensor]) -> Tensor:
    """`[M, T, C]` in the dtype of the arithmetic: float64 for float64 logits, float32 for all others."""
    joined = logits if isinstance(logits, Tensor) else torch.stack(tuple(logits))
    return joined if joined.dtype == torch.float64 else joined.float()


def label_is_scored(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """True where a label names a class and is not `ignore_index`."""
    return (labels >= 0) & (labels < num_classes) & (labels != ignore_index)


def row_is_finite(logits: Tensor) -> Tensor:
    """True where a row has a softmax: no NaN, no +Inf, and not -Inf everywhere."""
    return (logits < float("inf")).all(-1) & (logits > float("-inf")).any(-1)


def running_offsets(offsets: Tensor, num_rows: int) -> Tensor:
    """`offsets` read so that no dialogue can reach outside the batch: clamped, then their running maximum.

    Well-formed offsets come back as they are; a dialogue whose end lies before its start is empty.
    """
    return offsets.long().clamp(0, num_rows).cummax(0).values


def expected_offsets(offsets: Tensor, num_rows: int) -> Tensor:
    """What `offsets` are when they are right: never falling, from 0 to the number of rows."""
    expected = running_offsets(offsets, num_rows)
    expected[0] = 0
    expected[-1] = num_rows
    return expected


def dialogue_of_row(offsets: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """The dialogue of each row, and whether the row is in any: `(index[T], owned[T])`; index 0 where not.

    `offsets` are those of `running_offsets`. Of several dialogues that start at one row, the last is the
    one that is not empty.
    """
    rows = torch.arange(num_rows, device=offsets.device)
    dialogue = torch.searchsorted(offsets, rows, right=True) - 1
    owned = (dialogue >= 0) & (dialogue < offsets.numel() - 1)
    return torch.where(owned, dialogue, 0), owned


def sum_by_dialogue(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums `[M, T]` over each dialogue's rows: float64 `[M, D]`; 0 for an empty dialogue.

    In float64, because a float32 sum of 10^6 confidences is off by percents.
    """
    if values.shape[-1] == 0:
        return values.new_zeros(values.shape[0], offsets.numel() - 1, dtype=torch.float64)
    rows = values.T.contiguous().double()
    return torch.segment_reduce(rows, "sum", offsets=offsets, axis=0, unsafe=True, initial=0).T
