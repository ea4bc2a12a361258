"""`window_coherence` in plain PyTorch: every way to find the cosines, and the mean over a window of five.

The forms do less than the op: no zero vectors, no faults, no missing modalities, no magnitudes out of the range of
squares. The dialogue of every utterance is given to them, so that they need not find it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

# embeddings [M, T, F] -> c [T]
Cosines = Callable[[Tensor], Tensor]


def cosine_similarity(e: Tensor) -> Tensor:
    """Pair by pair."""
    e = e.float()
    cosines = [F.cosine_similarity(e[m], e[n], dim=-1) for m, n in combinations(range(e.shape[0]), 2)]
    return torch.stack(cosines).mean(0)


def _mean_of_gram(gram: Tensor) -> Tensor:
    """The mean off the diagonal of the cosines [T, M, M]."""
    norm = gram.diagonal(dim1=-2, dim2=-1).rsqrt()
    c = gram * norm[..., :, None] * norm[..., None, :]
    M = gram.shape[-1]
    return (c.sum((-2, -1)) - c.diagonal(dim1=-2, dim2=-1).sum(-1)) / (M * (M - 1))


def normalised_einsum(e: Tensor) -> Tensor:
    """Unit vectors, and all their products at once."""
    unit = F.normalize(e.float(), dim=-1)
    M = e.shape[0]
    gram = torch.einsum("mtf,ntf->tmn", unit, unit)
    return (gram.sum((-2, -1)) - gram.diagonal(dim1=-2, dim2=-1).sum(-1)) / (M * (M - 1))


def sum_of_units(e: Tensor) -> Tensor:
    """|sum of the unit vectors|^2 is M plus twice the sum of the cosines."""
    unit = F.normalize(e.float(), dim=-1)
    M = e.shape[0]
    return (unit.sum(0).square().sum(-1) - M) / (M * (M - 1))


def bmm(e: Tensor) -> Tensor:
    """A small matrix product for every utterance; of halves in their own precision, since it has no other."""
    rows = e.transpose(0, 1)
    return _mean_of_gram(torch.bmm(rows, rows.transpose(1, 2)).float())


def products(e: Tensor) -> Tensor:
    """Every product written out, for a compiler to fuse into one pass."""
    e = e.float()
    M = e.shape[0]
    norm = [e[m].square().sum(-1).rsqrt() for m in range(M)]
    total = torch.zeros_like(norm[0])
    for m, n in combinations(range(M), 2):
        total = total + (e[m] * e[n]).sum(-1) * norm[m] * norm[n]
    return total / (M * (M - 1) / 2)


def window_mean(c: Tensor, dialogue: Tensor, half: int = 2) -> Tensor:
    """Shift by shift, over what lies in the same dialogue."""
    T = c.shape[0]
    padded, owner = F.pad(c, (half, half)), F.pad(dialogue, (half, half), value=-1)
    total, count = torch.zeros_like(c), torch.zeros_like(c)
    for by in range(2 * half + 1):
        own = owner[by : by + T] == dialogue
        total = total + torch.where(own, padded[by : by + T], 0.0)
        count = count + own
    return total / count


def coherence_of(cosines: Cosines) -> Callable[[Tensor, Tensor], Tensor]:
    """The whole op."""

    def coherence(e: Tensor, dialogue: Tensor) -> Tensor:
        return window_mean(cosines(e), dialogue)

    return coherence


COSINES: dict[str, Cosines] = {
    f.__name__: f for f in (cosine_similarity, normalised_einsum, sum_of_units, bmm, products)
}
