"""The parts of a scheduler, from what its arguments say, and what they give, held to what they promise."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from spcl_fast import difficulty
from spcl_fast._options import choice
from spcl_fast.difficulty import Difficulty, StepInputs
from spcl_fast.difficulty.measurer import require_difficulty
from spcl_fast.ops import _check
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
        _check.number(type(threshold).__name__, "initial", threshold.initial, "not be NaN", lambda x: not math.isnan(x))
        return threshold
    return ExponentialThreshold(threshold, growth=growth, maximum=largest, owner=name)


def require_hard_weights(name: str, schedule: ThresholdSchedule, weighting: str) -> None:
    """ValueError for a schedule that selects by itself beside a weighting that never asks it to."""
    if schedule.hard_weights_only and weighting != "hard":
        raise ValueError(f"{name}: weighting must be 'hard' with {type(schedule).__name__} (got {weighting!r})")


#: what a step may be given for a measurer, and lack in evaluation mode
_OPTIONAL = frozenset({"speakers", "embeddings", "ids"})


def extra(
    name: str, measurer: Difficulty, inputs: StepInputs, given: Tensor | None, *, training: bool
) -> Tensor | None:
    """What is added to the difficulty that the step measures itself, the caller's own included."""
    if not training and any(getattr(inputs, what) is None for what in measurer.needs & _OPTIONAL):
        z = _check.logits(name, inputs.logits)
        return z.tensors[0].new_full((z.T,), math.nan, dtype=_check.real(z.dtype))
    measurer.require(inputs)
    if measurer.fused != "none" and type(measurer).extra is Difficulty.extra:
        return given  # it leaves all to the step
    with torch.no_grad():
        measured = measurer.extra(inputs)
    if measured is None and measurer.fused != "none":
        return given
    measured = require_difficulty(measurer, measured, inputs)
    if given is None:
        return measured
    # A sum would take what the step refuses.
    _check.tensor(name, "extra_difficulty", given, 1, _check.FLOATS, "floating point numbers")
    _check.shaped(name, "extra_difficulty", given, tuple(measured.shape), measured.device)
    return measured + given


def threshold(schedule: ThresholdSchedule, value: Any, before: Tensor) -> Tensor:
    """What a schedule gives, as a 0-dim tensor; TypeError for what is neither that nor a number."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return torch.full_like(before, float(value))
    if isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point():
        return value
    got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(
        f"{type(schedule).__name__}: the threshold must be a number or a 0-dim floating point tensor (got {got})"
    )


def weights(weighting: str, weight: Any, difficulty: Tensor) -> Tensor:
    """What a weighting gives, in the dtype of the difficulty; of the values, those on the host are looked at."""
    name = f"weighting {weighting!r}"
    _check.tensor(name, "the weights", weight, 1, (torch.bool, *_check.INTEGERS, *_check.FLOATS), "real numbers")
    _check.shaped(name, "the weights", weight, tuple(difficulty.shape), difficulty.device, "difficulty")
    weight = weight.to(difficulty.dtype)
    if weight.device.type == "cpu" and not torch.compiler.is_compiling():
        bad = difficulty.isfinite() & ((weight < 0) | weight.isinf())  # NaN: it cannot judge the utterance
        if bool(bad.any()):
            t = int(bad.nonzero()[0])
            raise ValueError(
                f"{name}: the weights must be finite and at least 0 (got {float(weight[t])} for utterance {t})"
            )
    return weight
