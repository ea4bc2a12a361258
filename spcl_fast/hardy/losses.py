"""The losses of HARDY-MER (arXiv 2508.06800)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from spcl_fast import reference
from spcl_fast.merc.dataset import UNLABELLED

__all__ = ["classification_loss", "mutual_information", "reconstruction_loss"]


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy over the labelled utterances; 0 with a zero gradient where there is none.

    Args:
        logits: `float[T, C]`.
        labels: `int64[T]`, -100 where there is none.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy.losses import classification_loss
        >>> round(classification_loss(torch.zeros(2, 2), torch.tensor([0, -100])).item(), 3)  # log 2
        0.693
    """
    total = cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="sum")
    return total / (labels != UNLABELLED).sum().clamp(min=1)


def reconstruction_loss(
    reconstruction: Mapping[str, Tensor], target: Mapping[str, Tensor], present: Tensor, *, target_source: str = "true"
) -> Tensor:
    """`1/T sum over utterances and their missing modalities of mean_f (reconstruction - target)^2` [code].

    Args:
        reconstruction: modality -> `float[T, F]`.
        target: the same, finite: the features of what is missing too.
        present: `bool[M, T]`, the modalities in the order of `reconstruction`.
        target_source: "true", or "code": as if the target of what is missing were zeros, which it is in the published
            code (there the target is the input).

    Returns:
        A number, 0 where nothing is missing or T = 0.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy.losses import reconstruction_loss
        >>> present = torch.tensor([[True, False]])
        >>> reconstruction_loss({"text": torch.zeros(2, 3)}, {"text": torch.ones(2, 3)}, present).item()
        0.5
    """
    total = present.new_zeros((), dtype=torch.float32)
    for (modality, made), here in zip(reconstruction.items(), present, strict=True):
        error = made if target_source == "code" else made - target[modality]
        total = total + torch.where(here, 0.0, error.square().mean(1)).sum()
    return total / max(present.shape[1], 1)


def mutual_information(hidden: Tensor, crossed: Tensor) -> Tensor:
    """`MI_mn = H(x_m) + H(x_n) - H(CA(m<-n) + CA(n<-m))` of every utterance, with a gradient [code].

    H is the entropy proxy of `reference.entropy_proxy`.

    Args:
        hidden: `float[M, T, F]`.
        crossed: `float[P, T, F]`, of the pairs (0, 1), (0, 2), .., (1, 2), ...

    Returns:
        `float[P, T]`, in nats.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy.losses import mutual_information
        >>> round(mutual_information(torch.zeros(2, 1, 4), torch.zeros(1, 1, 4)).item(), 3)  # log 4
        1.386
    """
    entropy = reference.entropy_proxy(hidden)
    pairs = torch.tensor(list(combinations(range(len(hidden)), 2)), dtype=torch.int64, device=hidden.device)
    first, second = pairs.reshape(-1, 2).T
    return entropy[first] + entropy[second] - reference.entropy_proxy(crossed)
