"""From difficulty to weight."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def hard(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`1[rho <= lambda]`: the threshold itself is taken, with every tie."""
    return (difficulty <= threshold).to(difficulty.dtype)


#: scheme -> weight function of (difficulty, threshold, **parameters); NaN difficulty must give weight 0
SCHEMES: dict[str, Callable[..., Tensor]] = {"hard": hard}


def self_paced_weights(
    difficulty: Tensor, threshold: Tensor | float, *, scheme: str = "hard", **parameters: float
) -> Tensor:
    """Contract: `spcl_fast.ops.self_paced_weights`."""
    return SCHEMES[scheme](difficulty, threshold, **parameters)
