"""`self_paced_weights` in plain PyTorch: the formulas as one would write them, in the dtype of the difficulties.

The forms do less than the op: no faults, no NaN, no threshold outside the domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Weights = Callable[[Tensor], Tensor]


def linear(rho: Tensor, level: float) -> Tensor:
    return (1 - rho / level).clamp(0, 1)


def logistic(rho: Tensor, level: float) -> Tensor:
    return (1 + math.exp(-level)) * torch.sigmoid(level - rho)


def log(rho: Tensor, level: float) -> Tensor:
    z = 1 - level
    return torch.where(rho < level, torch.log(rho + z) / math.log(z), 0.0)


def mixture(rho: Tensor, level: float, lower: float) -> Tensor:
    z = level * lower / (level - lower)
    return torch.where(rho <= lower, 1.0, (z / rho - z / level).clamp(min=0))


def polynomial(rho: Tensor, level: float, degree: float) -> Tensor:
    return (1 - rho / level).clamp(min=0) ** (1 / (degree - 1))


def spld_two_sorts(rho: Tensor, level: float, gamma: float, groups: Tensor) -> Tensor:
    """Ranks from one sort by difficulty and a stable one by group: for any number of groups."""
    order = rho.argsort(stable=True)
    order = order[groups[order].argsort(stable=True)]
    sizes = groups.bincount()
    first = (sizes.cumsum(0) - sizes)[groups[order]]
    rank = torch.arange(1, order.numel() + 1, device=rho.device) - first
    return _below_bound(rho, level, gamma, torch.empty_like(rank).scatter_(0, order, rank))


def spld_by_group(rho: Tensor, level: float, gamma: float, groups: Tensor) -> Tensor:
    """Group by group, as the published selection does: for few groups."""
    weight = torch.zeros_like(rho)
    for group in range(int(groups.max()) + 1):
        own = (groups == group).nonzero().squeeze(1)
        values, order = rho[own].sort(stable=True)
        rank = torch.arange(1, own.numel() + 1, device=rho.device)
        weight[own[order]] = _below_bound(values, level, gamma, rank)
    return weight


def _below_bound(rho: Tensor, level: float, gamma: float, rank: Tensor) -> Tensor:
    r = rank.double()
    return (rho < level + gamma / (r.sqrt() + (r - 1).sqrt())).to(rho.dtype)


def forms(scheme: str, level: float, parameters: dict[str, float], groups: Tensor) -> dict[str, Weights]:
    """Every form of a scheme."""
    if scheme == "spld":
        both = (spld_two_sorts, spld_by_group)
        return {f.__name__: partial(f, level=level, gamma=parameters["gamma"], groups=groups) for f in both}
    if scheme == "hard":
        return {"compare": lambda rho: (rho <= level).to(rho.dtype)}
    form = {f.__name__: f for f in (linear, logistic, log, mixture, polynomial)}[scheme]
    return {scheme: lambda rho: form(rho, level, **parameters)}
