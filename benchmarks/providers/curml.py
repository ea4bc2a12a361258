"""Self-paced learning and SuperLoss as CurML and CurBench compute them, written anew from what their code does.

Source: THUMNLab/CurML, `curriculum/algorithms/self_paced.py` and `superloss.py` (revisions 3d89d71, 28c2dd0, 34e742f);
THUMNLab/CurBench, `curbench/algorithms/self_paced.py` (14c4708, f5e13df), `spl.py` and `superloss.py` (616f3ca).

Before each epoch the loss of every sample is measured with the present model, in a pass over the training set of its
own. The `int(N c)` smallest are kept (by `spl.py` the `ceil(N c)` smallest), the largest of them is the threshold, and
either the epoch trains on the kept alone ("hard"), or on all with weights. What differs from the formulas they name:

- the epoch of the pace counts from 1, and "root-p" takes the exponent 1/2 for every p;
- "polynomial-t" is `(1 - l / threshold) / (t - 1)`: what was meant to be a root of order t - 1 divides by it;
- revision 28c2dd0 of CurML trains on the first `int(N c)` rows of the data set, whatever their losses;
- "logarithmic" is NaN for every sample once the threshold is 1 or more, since `0 * NaN` is NaN under their mask;
- CurML's SuperLoss cuts at the branch point of Lambert's W itself, -1 / e, where SciPy 1.17 gives NaN for the float64
  that NumPy 2 makes of it: then one loss below `tau - 2 lambda / e` makes that of the batch NaN. CurBench cuts 1e-12
  above.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import lambertw
from torch import Tensor

Model = Callable[[Tensor], Tensor]


class Selection(NamedTuple):
    """The rows that an epoch may train on, in any order, and the largest loss of those that are kept."""

    rows: Tensor | list[int]
    threshold: Tensor


def pace(function: str, start: float, total: int, epoch: int) -> float:
    """The share of the samples in a 0-based epoch: `function` is "linear", "geom" or "root-p" with a whole p."""
    e = epoch + 1
    if function == "linear":
        share = start + (1.0 - start) / total * e
    elif function == "geom":
        share = 2.0 ** (-math.log2(start) / total * e + math.log2(start))
    else:
        p = int(function.removeprefix("root-"))
        share = (start**p + (1.0 - start**p) / total * e) ** 0.5
    return min(1.0, share)


def measured(model: Model, x: Tensor, y: Tensor, batch_size: int, *, records_graph: bool = False) -> Tensor:
    """The loss of every sample, batch by batch; CurML records the graph of each batch and drops it."""
    with torch.set_grad_enabled(records_graph):
        parts = [
            torch.nn.functional.cross_entropy(model(inputs), labels, reduction="none").detach()
            for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True)
        ]
    return torch.cat(parts)


def easiest_by_argsort(loss: Tensor, share: float) -> Selection:
    """CurML, and CurBench at first: all losses are sorted; an IndexError when nothing is kept."""
    rows = torch.argsort(loss)[: int(loss.shape[0] * share)]
    return Selection(rows, loss[rows[-1]])


def easiest_by_topk(loss: Tensor, share: float) -> Selection:
    """CurBench since f5e13df: the smallest are found without a full order, and their rows become a list."""
    values, rows = loss.topk(int(loss.shape[0] * share), largest=False, sorted=False)
    return Selection(rows.tolist(), values.max())


def first_rows(loss: Tensor, share: float) -> Selection:
    """CurML at 28c2dd0: the threshold is that of the kept, the epoch trains on as many rows from the front."""
    return Selection(list(range(int(loss.shape[0] * share))), easiest_by_argsort(loss, share).threshold)


def weights(scheme: str, loss: Tensor, threshold: Tensor) -> Tensor:
    """The weight of every sample: `scheme` is "linear", "logarithmic", "logistic" or "polynomial-t" with a whole t."""
    below = loss < threshold
    if scheme == "linear":
        return below * (1.0 - loss / threshold)
    if scheme == "logarithmic":
        return below * (torch.log(loss + 1.0 - threshold) / torch.log(1.0 - threshold))
    if scheme == "logistic":
        return (1.0 + torch.exp(-threshold)) / (1.0 + torch.exp(loss - threshold))
    t = int(scheme.removeprefix("polynomial-"))
    return below * ((1.0 - loss / threshold) / (t - 1.0))


class SuperLoss:
    """The loss of a batch with the confidence of SuperLoss, by SciPy on the host.

    Args:
        tau: the threshold; moved towards the mean of each batch first where `momentum` is above 0.
        regularization: lambda.
        momentum: CurML keeps `1 - momentum` of tau, CurBench keeps `momentum` of it.
        keeps: which of the two, "curml" or "curbench".
    """

    def __init__(self, tau: float, regularization: float, momentum: float = 0.0, keeps: str = "curml") -> None:
        self.tau = tau
        self.regularization = regularization
        self.kept = momentum if keeps == "curbench" else 1.0 - momentum
        self.moves = momentum > 0.0
        self.lowest = -2.0 / np.exp(1.0) + (1e-12 if keeps == "curbench" else 0.0)

    def __call__(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, differentiable in the losses, and the confidence of each."""
        on_host = loss.detach().cpu().numpy()
        if self.moves:
            self.tau = self.kept * self.tau + (1.0 - self.kept) * on_host.mean()
        beta = (on_host - self.tau) / self.regularization
        sigma = torch.from_numpy(np.exp(-lambertw(0.5 * np.maximum(beta, self.lowest))).real).to(loss.device)
        return ((loss - self.tau) * sigma + self.regularization * torch.log(sigma) ** 2).mean(), sigma
