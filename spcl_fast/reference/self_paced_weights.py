"""From difficulty to weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def hard(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`1[rho <= lambda]`: the threshold itself is taken, with every tie."""
    return (difficulty <= threshold).to(difficulty.dtype)


def linear(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`max(0, 1 - rho / lambda)`; 0 for lambda <= 0."""
    return _within_bounds(1 - difficulty / threshold, threshold)


def logistic(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`(1 + e^-lambda) / (1 + e^(rho - lambda))`; 0 for lambda <= 0."""
    if not isinstance(threshold, Tensor):
        threshold = difficulty.new_full((), threshold)
    return _within_bounds((1 + torch.exp(-threshold)) * torch.sigmoid(threshold - difficulty), threshold)


def _within_bounds(weight: Tensor, threshold: Tensor | float) -> Tensor:
    """In [0, 1], also for a difficulty below 0; 0 for NaN and without a threshold above 0."""
    return torch.where((weight > 0) & (threshold > 0), weight.clamp(max=1), 0.0)


#: scheme -> weight function of (difficulty, threshold, **parameters); NaN difficulty must give weight 0
SCHEMES: dict[str, Callable[..., Tensor]] = {"hard": hard, "linear": linear, "logistic": logistic}


def self_paced_weights(
    difficulty: Tensor, threshold: Tensor | float, *, scheme: str = "hard", **parameters: float
) -> Tensor:
    """Contract: `spcl_fast.ops.self_paced_weights`."""
    rho = difficulty if difficulty.dtype == torch.float64 else difficulty.float()
    return SCHEMES[scheme](rho, threshold, **parameters).to(difficulty.dtype)
