"""The op `super_loss`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast import _options, backends, reference
from spcl_fast.ops import _check
from spcl_fast.reference import SuperLoss

OP = "super_loss"


def super_loss(
    loss: Tensor, threshold: Tensor | float, *, regularization: float, backend: str | None = None
) -> SuperLoss:
    """SuperLoss (Castells et al. 2020): losses that count less the harder they are, by a confidence of their own.

    With the losses l, the threshold tau and r = `regularization`:

    - confidence `sigma = exp(-W0(max(-2 / e, (l - tau) / r) / 2))`, W0 the principal branch of Lambert's W
    - value `(l - tau) sigma + r log(sigma)^2`

    Sigma is what makes the value smallest, so the gradient of the value in l is sigma itself; tau and sigma are
    constants. Easy losses (l < tau) count up to e times, hard ones less and less. tau is log C for C classes, or a
    running mean of the losses.

    Args:
        loss: floating point, any shape, one loss an element.
        threshold: tau, in units of the loss: any number but NaN, or a 0-dim tensor, which nobody waits for. It counts
            in the dtype of the arithmetic, as r does.
        regularization: r, in units of the loss, finite and above 0; the larger, the closer sigma is to 1.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `SuperLoss(value, weight)` of the shape and dtype of `loss`, computed in float64 for float64 and float32 for all
        others (the reference: in float64); the weight is sigma, in (0, e]. Only the value is differentiable, once. NaN:
        value NaN, weight 0, gradient 0. +Inf: value +Inf, weight and gradient 0. -Inf: value -Inf, weight e. Errors of
        sigma and, relative to the larger of its two terms, of the value: 1e-6 in float32, 2e-15 in float64.
        Deterministic, element by element.

    Raises:
        TypeError: a loss, threshold or regularization of another type.
        ValueError: a regularization out of its domain, a threshold that is NaN, has dimensions or lies on another
            device.

    Example:
        >>> import math, torch
        >>> from spcl_fast import ops
        >>> loss = torch.tensor([0.1, 1.5, 4.0], requires_grad=True)
        >>> value, weight = ops.super_loss(loss, math.log(4), regularization=1.0)
        >>> [round(x, 3) for x in weight.tolist()]
        [2.718, 0.948, 0.512]
        >>> value.sum().backward()
        >>> torch.equal(loss.grad, weight)
        True
    """
    if not isinstance(loss, Tensor) or loss.dtype not in _check.FLOATS:
        got = loss.dtype if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"{OP}: loss must be a floating point tensor (got {got})")
    number = _options.weighting(OP, "superloss", {"regularization": regularization}).parameter
    threshold = _check.threshold(OP, threshold, loss.device)
    needs_grad = loss.requires_grad and torch.is_grad_enabled()
    chosen = backends.choose(OP, backend, loss.device, needs_grad=needs_grad)
    with torch.no_grad():
        value, weight = _computed(chosen, loss, threshold, number)
    if needs_grad:
        value = _WithGradient.apply(value, weight, loss)
    return SuperLoss(value, weight)


def _computed(backend: str, loss: Tensor, threshold: Tensor | float, regularization: float) -> tuple[Tensor, Tensor]:
    if backend == "reference":
        return reference.super_loss(loss, threshold, regularization=regularization)
    l = loss if loss.dtype == torch.float64 else loss.float()
    level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
    value, weight = torch.ops.spcl_fast.super_loss(l.contiguous(), level, number, regularization)
    return value.to(loss.dtype), weight.to(loss.dtype)


class _WithGradient(torch.autograd.Function):
    """The values as a function of losses in which their derivatives are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, loss: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, grad_value: Tensor) -> tuple[None, None, Tensor]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # It would be 0, in silence: sigma is kept as a constant.
            raise RuntimeError(f"{OP}: the gradient cannot be differentiated again (got create_graph=True)")
        (weight,) = ctx.saved_tensors
        # what arrives at a loss without a weight, NaN perhaps, goes no further
        return None, None, torch.where(weight > 0, grad_value * weight, 0.0)
