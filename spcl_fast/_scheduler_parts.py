"""The parts of a scheduler, from what its arguments say."""

from __future__ import annotations

from spcl_fast import difficulty
from spcl_fast._options import choice
from spcl_fast.difficulty import Difficulty
from spcl_fast.thresholds import ExponentialThreshold, ThresholdSchedule


def measurer(name: str, given: str | Difficulty) -> Difficulty:
    """A measurer as it is, or by its name."""
    if isinstance(given, Difficulty):
        return given
    choice(name, "difficulty", given, difficulty.names())
    return difficulty.make(given)


def schedule(name: str, threshold: float | ThresholdSchedule, growth: float, largest: float) -> ThresholdSchedule:
    """A schedule as it is, or that of SPCL from its first threshold."""
    if isinstance(threshold, ThresholdSchedule):
        return threshold
    return ExponentialThreshold(threshold, growth=growth, maximum=largest, owner=name)
