"""`multiview_hardness` in plain PyTorch: utterance by utterance, as formulas over all, and those a slice at a time.

The forms do less than the op: no faults, no padding, one width for all modalities, no scaling of before.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

AT_ONCE = 256  # utterances whose intermediate results stay in the caches


class Inputs(NamedTuple):
    """Reconstruction, target and hidden units `[M, T, F]`, crossed units `[P, T, F]`, present `bool[M, T]`."""

    reconstruction: Tensor
    target: Tensor
    hidden: Tensor
    crossed: Tensor
    present: Tensor

    def rows(self, begin: int, end: int) -> Inputs:
        """Those of some utterances."""
        return Inputs(*(part[:, begin:end] for part in self))


# direct hardness and information [T]
Parts = Callable[[Inputs], tuple[Tensor, Tensor]]


def entropy(x: Tensor) -> Tensor:
    """The entropy proxy over the last dimension."""
    p = torch.softmax(x.float(), -1).clamp(1e-6, 1.0)
    return -(p * (p + 1e-7).log()).sum(-1)


def formulas(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Everything at once, in tensors as large as the inputs."""
    r, x, hidden, crossed, present = inputs
    M = hidden.shape[0]
    error = (r.float() - x.float()).square().mean(-1)
    direct = torch.where(present, 0.0, error).sum(0) / M
    return direct, (M - 1) * entropy(hidden).sum(0) - entropy(crossed).sum(0)


def slices(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The same a slice of utterances at a time."""
    T = inputs.present.shape[1]
    parts = [formulas(inputs.rows(begin, begin + AT_ONCE)) for begin in range(0, T, AT_ONCE)]
    return torch.cat([d for d, _ in parts]), torch.cat([g for _, g in parts])


def loop(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """As published code goes about it: utterance by utterance, pair by pair, and only what is missing."""
    r, x, hidden, crossed, present = inputs
    M, T = present.shape
    direct, information = torch.zeros(T), torch.zeros(T)
    for t in range(T):
        for m in range(M):
            if not present[m, t]:
                direct[t] += (r[m, t].float() - x[m, t].float()).square().mean() / M
        for k, (m, n) in enumerate(combinations(range(M), 2)):
            information[t] += entropy(hidden[m, t]) + entropy(hidden[n, t]) - entropy(crossed[k, t])
    return direct, information


def scaled(x: Tensor) -> Tensor:
    """To [0, 1]; 0 where all are equal."""
    low, high = x.aminmax()
    return torch.where(high > low, (x - low) / (high - low), 0.0)


def hardness_of(parts: Parts) -> Callable[[Inputs], tuple[Tensor, Tensor, Tensor]]:
    """The whole op."""

    def hardness(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        direct, information = parts(inputs)
        h = torch.sigmoid(4 * (0.6 * scaled(direct) + 0.4 * scaled(information)))
        return h, direct, information

    return hardness


PARTS: dict[str, Parts] = {f.__name__: f for f in (formulas, slices, loop)}
