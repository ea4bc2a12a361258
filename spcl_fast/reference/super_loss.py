"""SuperLoss (Castells et al. 2020): a confidence for each loss, and the loss that it belongs to."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# 2 / e as the sum of two floats: float64 alone would leave half of the digits where sigma leaves e
_TWO_OVER_E = 0.7357588823428847, -2.4857507345576725e-17
_SPLITTER = 2.0**27 + 1


class SuperLoss(NamedTuple):
    """The value of each loss, and sigma, the confidence in it, which is its gradient too.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> value, weight = reference.super_loss(torch.tensor([1.0]), 1.0, regularization=1.0)
        >>> value.item(), round(weight.item(), 6)  # a loss at the threshold
        (0.0, 1.0)
    """

    value: Tensor
    weight: Tensor


def super_loss(loss: Tensor, threshold: Tensor | float, *, regularization: float) -> SuperLoss:
    """Contract: `spcl_fast.ops.super_loss`; in float64 whatever the dtype.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> result = reference.super_loss(torch.tensor([0.0, 1.0, 3.0]), 1.0, regularization=1.0)
        >>> [round(x, 3) for x in result.weight.tolist()]  # easier than the threshold: above 1
        [2.718, 1.0, 0.567]
        >>> [round(x, 3) for x in result.value.tolist()]
        [-1.718, 0.0, 1.456]
    """
    own = loss if loss.dtype == torch.float64 else loss.float()  # in which the numbers count
    tau = (threshold if isinstance(threshold, Tensor) else own.new_full((), threshold)).to(own.dtype).double()
    l, r = own.double(), regularization_of(own, regularization)
    sigma = super_loss_weight(l, tau, r)
    # log sigma = -W0(x) = -x sigma, but 1 where x is cut at the branch point
    distance = (l - tau) * sigma
    log_sigma = (-distance / (2 * r)).clamp(max=1)
    value = distance + r * log_sigma**2
    # no confidence at all: the loss is +Inf, or as far from tau as that
    value = torch.where(l.isnan(), l, torch.where(sigma == 0, float("inf"), value))
    return SuperLoss(value.to(loss.dtype), sigma.to(loss.dtype))


def regularization_of(loss: Tensor, regularization: float) -> Tensor:
    """The regularization in the dtype of the losses, in which its double and its inverse are numbers too."""
    most = 2.0**1000 if loss.dtype == torch.float64 else 2.0**120
    number = loss.new_full((), regularization, dtype=torch.float64)
    return number.clamp(1 / most, most).to(loss.dtype).double()


def super_loss_weight(loss: Tensor, threshold: Tensor, regularization: Tensor) -> Tensor:
    """`sigma = exp(-W0(x))`, x = max(-2 / e, (l - tau) / regularization) / 2, W0 Lambert's function; in (0, e].

    Of float64. 0 for l - tau = +Inf and where it is NaN. `log sigma + x sigma = 0` is solved by two steps of fourth
    order (Fritsch, Shafer and Crowley 1973) for D = e / sigma - 1 >= 0, in which nothing cancels:
    with t = x + 1/e, `1 + W0(x) = (e t + D) / (1 + D)` and `log sigma = 1 - log1p(D)`.
    """
    t = _above_branch(loss, threshold, regularization)
    y = math.sqrt(2 * math.e) * t.sqrt()
    # From a fit that is right to 0.5 % for all x below 1e37, and to second order at the branch point.
    a = torch.log1p(0.1814574797054844 * y)
    D = y / (1 + a * (0.5473840838310379 + 0.22375469 * a) / (1 + 0.21077377 * a)) * (1 + 0.2659936029495424 * y)
    for _ in range(2):
        above = (t * (math.e / (1 + D)) + D / (1 + D)).clamp(min=1e-100)  # 1 + W0
        z = torch.log1p(D) - above
        q = 2 * above * (above + 2 / 3 * z)
        step = z / above * (q - z) / (q - 2 * z)
        step = torch.where(D > 1e-8, step, 0.0)  # below, the fit has all digits
        D = (D - step) / (1 + step)
    return torch.where(t < float("inf"), math.e / (1 + D), 0.0)


def _above_branch(loss: Tensor, threshold: Tensor, regularization: Tensor) -> Tensor:
    """How far x lies above the branch point, x + 1/e or 0; there sigma goes like the root of it.

    ((l - tau) + 2/e regularization) / (2 regularization), to all digits of the difference: the rounding errors of
    `l - tau` and of the product, which are floats themselves, are added to what is left of the sum.
    """
    high, low = _product(regularization)
    distance = loss - threshold
    taken = distance - loss
    error = (loss - (distance - taken)) - (threshold + taken)
    error = torch.where(error.isfinite(), error, 0.0)
    return ((distance + high) + (low + error)).clamp(min=0) / (2 * regularization)


def _product(x: Tensor) -> tuple[Tensor, Tensor]:
    """2/e x, and what it lacks (Dekker 1971)."""
    high = _TWO_OVER_E[0] * x
    (a, b), (c, d) = _halves(x.new_full((), _TWO_OVER_E[0])), _halves(x)
    low = b * d - (((high - a * c) - b * c) - a * d) + _TWO_OVER_E[1] * x
    return high, torch.where(low.isfinite(), low, 0.0)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    shifted = _SPLITTER * x
    head = shifted - (shifted - x)
    return head, x - head
