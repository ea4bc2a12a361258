"""What an epoch of a curriculum counted, in numbers on the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from spcl_fast import _distributed, balance
from spcl_fast.ops import StepTotals

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

COUNTS = ("steps", "scored", "selected", "nonfinite", "bad_label", "bad_offset", "undefined")


class EpochStats(NamedTuple):
    """What one epoch of training selected.

    `threshold` is the one the epoch was trained with. `take_rate` is selected / scored and `loss` the mean
    utterance loss over the scored, both NaN for an epoch without utterances. The ratios and confidences have
    one entry a modality: `modality_ratio` over the selected utterances, `modality_ratio_all` over the scored; NaN of
    a modality that was never there.
    `undefined` counts utterances that were scored but have no difficulty: in dialogues with fewer than two
    modalities, or with a NaN extra difficulty.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> scheduler = SelfPacedScheduler(threshold=0.5)
        >>> step = scheduler(torch.zeros(2, 3, 4), torch.tensor([0, 3, 1]), torch.tensor([0, 3]))
        >>> stats = scheduler.end_epoch()
        >>> f"epoch {stats.epoch}: took {stats.take_rate:.0%} of {stats.scored} at {stats.threshold:.2f}"
        'epoch 0: took 100% of 3 at 0.50'
    """

    epoch: int
    threshold: float
    take_rate: float
    loss: float
    modality_ratio: tuple[float, ...]
    modality_ratio_all: tuple[float, ...]
    confidence: tuple[float, ...]
    steps: int
    scored: int
    selected: int
    nonfinite: int
    bad_label: int
    bad_offset: int
    undefined: int


class FaultyDataError(ValueError):
    """Training met labels, logits or offsets that it had to leave out; `stats` says how many of each.

    Example:
        >>> import torch
        >>> from spcl_fast import FaultyDataError, SelfPacedScheduler
        >>> scheduler = SelfPacedScheduler(threshold=0.5)
        >>> step = scheduler(torch.zeros(2, 2, 4), torch.tensor([0, 7]), torch.tensor([0, 2]))  # there is no class 7
        >>> try:
        ...     scheduler.end_epoch()
        ... except FaultyDataError as error:
        ...     print(error.stats.bad_label, error.stats.scored)
        1 1
    """

    def __init__(self, message: str, stats: EpochStats) -> None:
        super().__init__(message)
        self.stats = stats


def totals_of_all(name: str, counts: Tensor, sums: Tensor, process_group: ProcessGroup | None) -> tuple[Tensor, Tensor]:
    """Counters and sums over all processes; a process that made no step has no sums and knows no modalities.

    ValueError on all of them where they had different numbers of modalities. Waits for the device with a group.
    """
    if process_group is None:
        return counts, sums
    size = sums.numel()
    sizes = counts.new_tensor([size, -size if size else torch.iinfo(counts.dtype).min])
    most, fewest = _distributed.all_max(sizes, process_group).tolist()
    if -fewest < most:
        known = f"{-fewest // 2 - 1} in one, {most // 2 - 1} in another"
        raise ValueError(f"{name}: the steps of all processes must have the same modalities (got {known})")
    sums = sums if size else sums.new_zeros(most)
    return _distributed.all_sum(counts, process_group), _distributed.all_sum(sums, process_group)


def epoch_stats(epoch: int, threshold: Tensor, counts: Tensor, sums: Tensor) -> EpochStats:
    """The statistics of summed totals; `sums` is empty before the first step. One copy from the device."""
    numbers = torch.cat([counts.double(), threshold[None], sums]).cpu()
    counted = {name: int(n) for name, n in zip(COUNTS, numbers.tolist(), strict=False)}
    sums = numbers[len(COUNTS) + 1 :]
    totals = StepTotals(counts, sums if sums.numel() else sums.new_zeros(2))
    n = counted["scored"]
    return EpochStats(
        epoch=epoch,
        threshold=float(numbers[len(COUNTS)]),
        take_rate=counted["selected"] / n if n else math.nan,
        loss=float(totals.loss_sum) / n if n else math.nan,
        modality_ratio=_ratio(totals.selected_confidence_sum),
        modality_ratio_all=_ratio(totals.confidence_sum),
        confidence=tuple((totals.confidence_sum / n).tolist()),
        **counted,
    )


def raise_for_faults(name: str, stats: EpochStats, *, counts_nonfinite: bool) -> None:
    """`FaultyDataError` where the epoch left something out; `counts_nonfinite`: for logits and losses too."""
    faults = {
        "utterance(s) with a non-finite logit or loss": stats.nonfinite if counts_nonfinite else 0,
        "label(s) outside the classes": stats.bad_label,
        "offset(s) out of order or range": stats.bad_offset,
    }
    found = [f"{n} {what}" for what, n in faults.items() if n]
    if found:
        raise FaultyDataError(
            f"{name}: epoch {stats.epoch} left out {', '.join(found)}; "
            "validate='full' stops at the first one and names it",
            stats,
        )


def _ratio(confidence_sum: Tensor) -> tuple[float, ...]:
    """Against the weakest of the modalities that were there; NaN of one that never was."""
    if not confidence_sum.numel():
        return ()
    there = confidence_sum > 0
    if not there.any():
        there = ~there  # nothing was selected, so nothing is known of any
    ratio = torch.full_like(confidence_sum, math.nan)
    ratio[there] = balance.modality_ratio(confidence_sum[there])
    return tuple(ratio.tolist())
