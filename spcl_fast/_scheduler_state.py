"""The settings of a scheduler as its state keeps them, and how saved ones are compared with its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from spcl_fast._state import differences, is_plain

VERSION = 3  # 1: sums without that of the weights; 2: no measurer, no schedule, no process group


def described(part: Any) -> dict[str, Any]:
    """A measurer or a schedule: its class and settings, in plain Python."""
    name, config = type(part).__name__, dict(part.config)
    if not is_plain(config):
        raise TypeError(f"{name}: config must hold plain Python alone, numbers, text and lists of them (got {config})")
    return {"class": name, **config}


def plain(owner: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a weighting in types that a state may hold; TypeError for one that has none."""
    return {name: _plain(owner, name, value) for name, value in parameters.items()}


def _plain(owner: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(owner, name, x) for x in value]
    raise TypeError(
        f"{owner}: {name} of weighting_parameters must be a number, text, a tensor or a list of these"
        f" (got {type(value).__name__})"
    )


def weight_list(name: str, class_weight: Tensor | None) -> list[float] | None:
    """The class weights, after a look at their values."""
    if class_weight is None:
        return None
    if not isinstance(class_weight, Tensor):
        raise TypeError(f"{name}: class_weight must be a floating point tensor [C] (got {type(class_weight).__name__})")
    if not class_weight.is_floating_point() or class_weight.ndim != 1:
        got = f"{class_weight.dtype} of shape {tuple(class_weight.shape)}"
        raise TypeError(f"{name}: class_weight must be a floating point tensor [C] (got {got})")
    weights: list[float] = class_weight.double().tolist()
    for c, weight in enumerate(weights):
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name}: class_weight must be finite and at least 0 (got {weight} for class {c})")
    return weights


def require_same_settings(saved: Any, config: Mapping[str, Any]) -> None:
    """ValueError that lists every field in which saved settings differ from the present ones."""
    if not isinstance(saved, dict) or not isinstance(saved.get("config"), dict):
        raise ValueError("SelfPacedScheduler: the state must be that of a SelfPacedScheduler (got something else)")
    if saved.get("version") != VERSION:
        raise ValueError(f"SelfPacedScheduler: the state must be of version {VERSION} (got {saved.get('version')})")
    differ = differences(saved["config"], config)
    if differ:
        raise ValueError(f"SelfPacedScheduler: the state was saved with other settings ({differ})")
