"""The statistics of an epoch as named numbers: for TensorBoard, what is shaped like it, and `logging`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Real
from typing import Any, Protocol

from spcl_fast.scheduler import EpochStats

__all__ = ["log_stats", "scalars", "write_stats"]


class _ScalarWriter(Protocol):
    """What has `add_scalar(tag, value, step)`, as TensorBoard's `SummaryWriter` has it."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> Any:
        """Takes one number."""


def scalars(
    stats: EpochStats, *, modalities: Sequence[str] | None = None, prefix: str = "curriculum"
) -> dict[str, float]:
    """The statistics by tag: `curriculum/take_rate`, and for each modality `curriculum/confidence/text`.

    Every number of `stats` is there but the epoch, which is where a number stands and not what it is. NaN, the value of
    what an epoch without utterances has no mean of, stays NaN.

    Args:
        stats: what `SelfPacedScheduler.end_epoch` or `check` returned.
        modalities: their names in the order of the logits, M of them; None numbers them from 0. Statistics before the
            first step have no modality, and need no name.
        prefix: what comes before the first slash; several curricula in one run need several.

    Raises:
        ValueError: as many names as there are modalities are needed.

    Example:
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.integrations.writers import scalars
        >>> stats = SelfPacedScheduler(threshold=0.5).end_epoch()
        >>> numbers = scalars(stats)
        >>> numbers["curriculum/threshold"], numbers["curriculum/selected"]
        (0.5, 0.0)
    """
    numbers: dict[str, float] = {}
    for field, value in stats._asdict().items():
        if field == "epoch":
            continue
        if isinstance(value, tuple):
            names = [str(m) for m in range(len(value))] if modalities is None else list(modalities)
            if value and len(names) != len(value):
                raise ValueError(f"scalars: modalities must name the {len(value)} of the statistics (got {names})")
            numbers |= {f"{prefix}/{field}/{name}": float(x) for name, x in zip(names, value, strict=False)}
        elif isinstance(value, Real):
            numbers[f"{prefix}/{field}"] = float(value)
    return numbers


def write_stats(
    writer: _ScalarWriter,
    stats: EpochStats,
    step: int,
    *,
    modalities: Sequence[str] | None = None,
    prefix: str = "curriculum",
) -> None:
    """Gives the statistics to a writer, one `add_scalar` each; tags and `modalities` as in `scalars`.

    Args:
        writer: TensorBoard's `SummaryWriter`, or anything with `add_scalar(tag, value, step)`.
        stats: what `SelfPacedScheduler.end_epoch` or `check` returned.
        step: where on the axis they stand: `stats.epoch`, or the number of steps made.
        modalities: names, as in `scalars`.
        prefix: as in `scalars`.

    Example:
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.integrations.writers import write_stats
        >>> class Prints:
        ...     def add_scalar(self, tag, value, step):
        ...         if tag.endswith("threshold"):
        ...             print(step, tag, value)
        >>> stats = SelfPacedScheduler(threshold=0.5).end_epoch()
        >>> write_stats(Prints(), stats, step=7)
        7 curriculum/threshold 0.5
    """
    for tag, value in scalars(stats, modalities=modalities, prefix=prefix).items():
        writer.add_scalar(tag, value, step)


def log_stats(
    stats: EpochStats, *, modalities: Sequence[str] | None = None, level: int = logging.INFO, prefix: str = "curriculum"
) -> None:
    """One line of the log `spcl_fast` for the epoch; the record has the numbers as `scalars`, for handlers that count.

    Example:
        >>> import logging, sys
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.integrations.writers import log_stats
        >>> log, handler = logging.getLogger("spcl_fast"), logging.StreamHandler(sys.stdout)
        >>> log.addHandler(handler)
        >>> log_stats(SelfPacedScheduler(threshold=0.5).end_epoch(), level=logging.WARNING)
        curriculum epoch 0: threshold 0.5, took 0 of 0 utterances (nan), mean loss nan
        >>> log.removeHandler(handler)
    """
    numbers = scalars(stats, modalities=modalities, prefix=prefix)
    logging.getLogger("spcl_fast").log(
        level,
        "%s epoch %d: threshold %.4g, took %d of %d utterances (%.3f), mean loss %.4g",
        prefix,
        stats.epoch,
        stats.threshold,
        stats.selected,
        stats.scored,
        stats.take_rate,
        stats.loss,
        extra={"scalars": numbers},
    )
