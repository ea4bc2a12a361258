"""Weightings of your own beside the schemes of `ops.self_paced_weights`: functions by name.

A weighting is `f(difficulty, threshold, **parameters) -> weight`: `[T]`, a 0-dim float64 tensor on the same device, and
weights `[T]` that are finite and at least 0: others are refused on the host, and are 0 on a device. NaN is a weight of
0 for an utterance that cannot be judged, and is counted as undefined; a difficulty that is NaN has it, whatever the
function says of it. It runs without autograd, writes to no input and must not wait for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from spcl_fast import _options
from spcl_fast._registry import Registry

__all__ = ["Weighting", "names", "register"]

Weighting = Callable[..., Tensor]

_registry: Registry[Tensor] = Registry("weighting", {})


def names() -> tuple[str, ...]:
    """The names that `SelfPacedScheduler(weighting=...)` takes: the schemes, and what was registered.

    Example:
        >>> from spcl_fast import weighting
        >>> "linear" in weighting.names()
        True
    """
    return (*(name for name in _options.NUMBERS if name != "given"), *_registry.names())


def register(name: str, function: Weighting) -> None:
    """Makes a weighting of your own known by name, to the scheduler too.

    Raises:
        TypeError: a name that is no text, something that cannot be called.
        ValueError: a name that is taken, by a scheme or another function.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler, weighting
        >>> weighting.register("inverse", lambda rho, threshold: 1 / (1 + rho / threshold))
        >>> scheduler = SelfPacedScheduler(threshold=1.0, difficulty="loss", weighting="inverse")
        >>> step = scheduler(torch.zeros(2, 2), torch.tensor([0, 1]))
        >>> [round(x, 3) for x in step.weight.tolist()]  # 1 / (1 + log 2)
        [0.591, 0.591]
    """
    if name in _options.NUMBERS:
        raise ValueError(f"weighting: a name must be new (got {name!r}, which is taken)")
    _registry.register(name, function)


def resolve(
    owner: str, weighting: str | Weighting, parameters: Mapping[str, Any] | None
) -> tuple[str, Weighting | None]:
    """The name of a weighting for the settings, and its function.

    None for a scheme of the ops, whose parameters are checked.
    """
    if callable(weighting):
        return getattr(weighting, "__qualname__", type(weighting).__qualname__), weighting
    _options.choice(owner, "weighting", weighting, names())
    function = _registry.get(weighting)
    if function is None:
        _options.step_weighting(owner, weighting, parameters)
    return weighting, function
