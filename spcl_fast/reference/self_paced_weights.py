"""From difficulty to weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spcl_fast.reference.super_loss import regularization_of, super_loss_weight


def hard(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`1[rho <= lambda]`: the threshold itself is taken, with every tie."""
    return (difficulty <= threshold).to(difficulty.dtype)


def linear(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`max(0, 1 - rho / lambda)`; 0 for lambda <= 0."""
    return _within_bounds(1 - difficulty.clamp(min=0) / threshold, threshold)


def logistic(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`(1 + e^-lambda) / (1 + e^(rho - lambda))`; 0 for lambda <= 0."""
    threshold = _as_tensor(difficulty, threshold)
    return _within_bounds((1 + torch.exp(-threshold)) * torch.sigmoid(threshold - difficulty), threshold)


def log(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """`log(rho + z) / log z` for rho < lambda, z = 1 - lambda; 0 for lambda outside (0, 1).

    In float64: in float32 nothing would be left of a small lambda, or of z for one near 1.
    """
    rho, level = difficulty.double().clamp(min=0), _as_tensor(difficulty.double(), threshold)
    weight = torch.log1p(rho - level) / torch.log1p(-level)
    selected = (difficulty < threshold) & (level > 0) & (level < 1)
    return torch.where(selected, weight, 0.0).to(difficulty.dtype)


def mixture(difficulty: Tensor, threshold: Tensor | float, *, lower: float) -> Tensor:
    """1 for rho <= l2, 0 for rho >= l1 = lambda, else `z / rho - z / l1`, z = l1 l2 / (l1 - l2); 0 for l1 < l2.

    Written as l2 / rho (1 - (rho - l2) / (l1 - l2)), two factors in [0, 1], where z may be beyond all numbers.
    """
    upper = _as_tensor(difficulty, threshold)
    between = lower / difficulty * (1 - (difficulty - lower) / (upper - lower))
    weight = torch.where(difficulty < upper, between, 0.0)
    return torch.where(upper >= lower, torch.where(difficulty <= lower, 1.0, weight), 0.0)


def polynomial(difficulty: Tensor, threshold: Tensor | float, *, degree: float, formula: str = "paper") -> Tensor:
    """`(1 - rho / lambda)^(1 / (t - 1))` for rho < lambda; 0 for lambda <= 0.

    In float64: a root of what float32 leaves of 1 - rho / lambda near lambda would be off by much.

    `formula="curml"`: `(1 - rho / lambda) / (t - 1)`, what the codes of CurML and CurBench compute for t.
    """
    level = _as_tensor(difficulty, threshold)
    rest = linear(difficulty.double(), level.double())
    return (rest / (degree - 1) if formula == "curml" else rest ** (1 / (degree - 1))).to(difficulty.dtype)


def spld(difficulty: Tensor, threshold: Tensor | float, *, gamma: float, groups: Tensor) -> Tensor:
    """`1[rho < lambda + gamma / (sqrt r + sqrt(r - 1))]`, r the rank of rho in its group; 0 for lambda <= 0."""
    rho, level = difficulty.flatten(), _as_tensor(difficulty, threshold)
    rank = rank_in_group(rho, groups.flatten()).double()
    bound = level.double() + gamma / (rank.sqrt() + (rank - 1).sqrt())
    return ((rho < bound) & (level > 0)).to(difficulty.dtype).view(difficulty.shape)


def superloss(difficulty: Tensor, threshold: Tensor | float, *, regularization: float) -> Tensor:
    """`exp(-W0(max(-2 / e, (rho - lambda) / regularization) / 2))`; 0 for a difficulty of +Inf. In float64."""
    level = _as_tensor(difficulty, threshold)
    r = regularization_of(difficulty, regularization)
    return super_loss_weight(difficulty.double(), level.double(), r).to(difficulty.dtype)


def given(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """The difficulty itself where it is above 0 and finite, else 0."""
    return torch.where((difficulty > 0) & (difficulty < float("inf")), difficulty, 0.0)


def rank_in_group(difficulty: Tensor, groups: Tensor) -> Tensor:
    """The rank of each difficulty among those of its group, from 1; ties by index, NaN last."""
    groups = groups.long()
    order = difficulty.argsort(stable=True)
    order = order[groups[order].argsort(stable=True)]
    place = torch.arange(1, order.numel() + 1, device=order.device)
    before = torch.cat([groups[order[:1]] - 1, groups[order[:-1]]])
    first = torch.where(groups[order] != before, place, 0).cummax(0).values
    return torch.empty_like(place).scatter_(0, order, place - first + 1)


def _as_tensor(difficulty: Tensor, threshold: Tensor | float) -> Tensor:
    """The threshold in the dtype of the difficulty, in which it counts."""
    if isinstance(threshold, Tensor):
        return threshold.to(difficulty.dtype)
    return difficulty.new_full((), threshold)


def _within_bounds(weight: Tensor, threshold: Tensor | float) -> Tensor:
    """In [0, 1], also for a difficulty below 0; 0 for NaN and without a threshold above 0."""
    return torch.where((weight > 0) & (threshold > 0), weight.clamp(max=1), 0.0)


#: scheme -> weight function of (difficulty, threshold, **parameters); NaN difficulty must give weight 0
SCHEMES: dict[str, Callable[..., Tensor]] = {
    "hard": hard,
    "linear": linear,
    "logistic": logistic,
    "log": log,
    "mixture": mixture,
    "polynomial": polynomial,
    "spld": spld,
    "superloss": superloss,
    "given": given,
}


def self_paced_weights(
    difficulty: Tensor, threshold: Tensor | float, *, scheme: str = "hard", **parameters: Any
) -> Tensor:
    """Contract: `spcl_fast.ops.self_paced_weights`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> reference.self_paced_weights(torch.tensor([0.0, 1.0, 2.0]), 2.0, scheme="linear").tolist()
        [1.0, 0.5, 0.0]
    """
    rho = difficulty if difficulty.dtype == torch.float64 else difficulty.float()
    return SCHEMES[scheme](rho, threshold, **parameters).to(difficulty.dtype)
