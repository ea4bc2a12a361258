"""`super_loss` as it is written elsewhere: Lambert's W from SciPy on the host, or by iterations in plain PyTorch.

The forms do less than the op: no faults, no infinities, and next to the branch point half of the digits.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

Both = tuple[Tensor, Tensor]


def scipy_lambertw(loss: Tensor, tau: float, lam: float) -> Both:
    """What the published implementations do: to the host, a complex W, and back."""
    from scipy.special import lambertw

    x = np.maximum(-2 / math.e + 1e-12, (loss.detach().cpu().double().numpy() - tau) / lam) / 2
    w = torch.from_numpy(lambertw(x).real.astype(np.float32)).to(loss.device)
    return _terms(loss, w, tau, lam)


def halley(loss: Tensor, tau: float, lam: float) -> Both:
    """Three steps of third order from a start that knows the branch point and the logarithm."""
    x, w = _start(loss, tau, lam)
    for _ in range(3):
        e = w.exp()
        p, next_to = w * e - x, (w + 1).clamp(min=1e-6)
        w = w - p / (e * next_to - (w + 2) * p / (2 * next_to))
    return _terms(loss, w, tau, lam)


def newton(loss: Tensor, tau: float, lam: float) -> Both:
    """Six steps of second order from the same start."""
    x, w = _start(loss, tau, lam)
    for _ in range(6):
        e = w.exp()
        w = w - (w * e - x) / (e * (w + 1).clamp(min=1e-6))
    return _terms(loss, w, tau, lam)


def _start(loss: Tensor, tau: float, lam: float) -> Both:
    x = ((loss - tau) / (2 * lam)).clamp(min=-1 / math.e)
    p = (2 * math.e * x + 2).clamp(min=0).sqrt()
    near = -1 + p * (1 + p * (-1 / 3 + p * (11 / 72)))
    far = torch.log1p(x.clamp(min=0))
    return x, torch.where(x < 0.3, near, far * (1 - torch.log1p(far) / (2 + far)))


def _terms(loss: Tensor, w: Tensor, tau: float, lam: float) -> Both:
    sigma = torch.exp(-w)
    return (loss - tau) * sigma + lam * w * w, sigma
