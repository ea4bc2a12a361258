"""The rows of `RunningScores`: six numbers an utterance that lie together, since a step reads and writes them together.

`float32[N + 1, 6]`, all 0 for an utterance that nobody has seen; the last row is spare and always 0: what must not
count is sent there. The columns:

- `LOSS`, `CONFIDENCE`: exponential moving averages, which begin at the first observation.
- `MEAN`, `SQUARES`: mean of the confidence, and the sum of the squared distances from it, by Welford's update.
- `COUNT`: number of observations, below zero where there was one since the last merge. Exact up to 2^24.
- `CHANGES`: how often the prediction changed between wrong and right, where everything begins wrong. An odd number is
  right, and every second change forgot.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spcl_fast import _native, backends

COLUMNS = 6
LOSS, CONFIDENCE, MEAN, SQUARES, COUNT, CHANGES = range(COLUMNS)


class RunningStatistics(NamedTuple):
    """What is known of some utterances, each in the shape asked for.

    loss, confidence, mean_confidence, variability: float32, NaN where there was no observation. num_observed,
    num_forgotten: int32. is_correct: bool, of the last observation.

    Example:
        >>> import torch
        >>> from spcl_fast import RunningScores
        >>> scores = RunningScores(2)
        >>> for confidence, is_right in ((0.75, True), (0.25, False)):
        ...     scores.update(torch.tensor([1]), torch.ones(1), torch.tensor([confidence]), torch.tensor([is_right]))
        >>> known = scores.at(torch.tensor([1]))
        >>> known.mean_confidence.item(), known.variability.item(), known.num_forgotten.item()
        (0.5, 0.25, 1)
    """

    loss: Tensor
    confidence: Tensor
    mean_confidence: Tensor
    variability: Tensor
    num_observed: Tensor
    num_forgotten: Tensor
    is_correct: Tensor


def average(rows: Tensor, column: int) -> Tensor:
    """One of LOSS, CONFIDENCE and MEAN, NaN where there is none."""
    return rows[:, column].masked_fill(rows[:, COUNT] == 0, torch.nan)


def variability(rows: Tensor) -> Tensor:
    """Standard deviation of the confidence over all observations, divided by their number and not one less."""
    return (rows[:, SQUARES] / rows[:, COUNT].abs()).sqrt()


def num_observed(rows: Tensor) -> Tensor:
    """How often an utterance was observed."""
    return rows[:, COUNT].abs().to(torch.int32)


def num_forgotten(rows: Tensor) -> Tensor:
    """How often it was right and then wrong."""
    return rows[:, CHANGES].to(torch.int32) >> 1


def is_correct(rows: Tensor) -> Tensor:
    """Whether it was right when it was last observed."""
    return (rows[:, CHANGES].to(torch.int32) & 1).bool()


def statistics(rows: Tensor) -> RunningStatistics:
    """All of them."""
    return RunningStatistics(
        average(rows, LOSS),
        average(rows, CONFIDENCE),
        average(rows, MEAN),
        variability(rows),
        num_observed(rows),
        num_forgotten(rows),
        is_correct(rows),
    )


def update(
    rows: Tensor, row: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor, scored: Tensor | None, decay: float
) -> None:
    """Takes the observations of T utterances into their rows, in place.

    `row` is int64, the other observations float32 or bool, all `[T]`. Left out are observations that are not scored,
    that hold NaN or Inf, or whose row is the spare one; of several of one row, all but the last.
    """
    if torch.compiler.is_compiling():
        torch.ops.spcl_fast.update_running_rows(rows, row, loss, confidence, correct, scored, decay)
    elif rows.device.type == "cpu" and _has_kernel():
        columns = (x.contiguous() for x in (row, loss, confidence, correct))
        scored = None if scored is None else scored.contiguous()
        torch.ops.spcl_fast.update_running_scores(rows, *columns, scored, decay)
    else:
        update_with_torch(rows, row, loss, confidence, correct, scored, decay)


def taken_at_once(rows: Tensor, *observations: Any) -> bool:
    """Whether the compiled op took them as they are, which it checks first; it takes no row that is not there."""
    if torch.compiler.is_compiling() or rows.device.type != "cpu" or not _has_kernel():
        return False
    try:
        torch.ops.spcl_fast.update_running_scores(rows, *observations, True)
    except Exception:  # whatever it is, the checks in Python name it, or the op takes it in another form
        return False
    return True


def update_with_torch(
    rows: Tensor, row: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor, scored: Tensor | None, decay: float
) -> None:
    """The same in plain PyTorch, on any device and in any dtype; nothing waits for the device."""
    spare = rows.shape[0] - 1
    total = loss + confidence
    left_out = (total - total) != 0  # true of NaN and Inf
    if scored is not None:
        left_out = left_out | ~scored
    row, order = row.masked_fill(left_out, spare).sort(stable=True)
    not_last = row[:-1] == row[1:]
    row[:-1].masked_fill_(not_last, spare)  # what several would write in any order goes where nobody looks
    loss, confidence, correct = (x.index_select(0, order) for x in (loss, confidence, correct))

    old_loss, old_confidence, old_mean, squares, count, changes = rows.index_select(0, row).unbind(1)
    count = count.abs() + 1
    share = count.reciprocal()
    of_new = share.floor().clamp(min=1 - decay)  # 1 for the first, whose row is 0
    distance = confidence - old_mean
    mean = old_mean + distance * share
    new = (
        torch.lerp(old_loss, loss, of_new),
        torch.lerp(old_confidence, confidence, of_new),
        mean,
        squares + distance * (confidence - mean),
        -count,
        changes + (changes.remainder(2) - correct.to(rows.dtype)).abs(),
    )
    rows.index_copy_(0, row, torch.stack(new, 1))
    rows[spare].zero_()


@torch.library.custom_op("spcl_fast::update_running_rows", mutates_args=("rows",))
def _update_as_op(
    rows: Tensor, row: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor, scored: Tensor | None, decay: float
) -> None:
    """`update` as a compiler sees it: closed, or it would write all rows anew for the few that change."""
    update(rows, row, loss, confidence, correct, scored, decay)


@_update_as_op.register_fake
def _(*arguments: object) -> None:
    """Gives nothing."""


def _has_kernel() -> bool:
    """Whether the compiled library does it: it is there and has it, and nobody asked for plain PyTorch."""
    return (
        os.environ.get(backends.ENVIRONMENT) != "reference"
        and _native.why_not_loaded() is None
        and not _native.acts_as_device
        and hasattr(torch.ops.spcl_fast, "update_running_scores")  # a library built earlier has not
    )
