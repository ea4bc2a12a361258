"""The confidence of SuperLoss; its formula and how it is solved stand in `csrc/math/super_loss.h`."""

from __future__ import annotations

import triton
import triton.language as tl

from spcl_fast.kernels._device import log1p

INFINITY = tl.constexpr(float("inf"))


@triton.jit
def super_loss_weight(loss, threshold, regularization):
    """Sigma in [0, e], all in float64: a logarithm of the hardware's would leave nothing near the branch point."""
    distance = loss - threshold
    taken = distance - loss
    error = (loss - (distance - taken)) - (threshold + taken)
    high, low = _two_over_e(regularization)
    rest = (distance + high) + tl.where(error == error, low + error, low)
    t = tl.where(rest > 0, rest, 0.0) / (2 * regularization)
    t = tl.where(distance < INFINITY, t, INFINITY)
    y = 2.331643981597124 * tl.sqrt(t)  # sqrt(2 e t)
    a = tl.log(1 + 0.1814574797054844 * y)
    bend = a * (0.5473840838310379 + 0.22375469 * a) / (1 + 0.21077377 * a)
    D = y / (1 + bend) * (1 + 0.2659936029495424 * y)
    for _ in tl.static_range(2):
        above = t * (2.718281828459045 / (1 + D)) + D / (1 + D)
        z = log1p(D) - above
        q = 2 * above * (above + 2.0 / 3.0 * z)
        change = z / above * ((q - z) / (q - 2 * z))
        change = tl.where(D > 1e-8, change, 0.0)
        D = (D - change) / (1 + change)
    return tl.where(t < INFINITY, 2.718281828459045 / (1 + D), 0.0)


@triton.jit
def _two_over_e(x):
    """2/e x, and what it lacks; of products that are exact, so that it does not matter which of them are fused."""
    high = 0.7357588823428847 * x
    head = _head(x)
    tail = x - head
    constant = high * 0 + 0.7357588823428847
    upper = _head(constant)
    lower = constant - upper
    low = lower * tail - (((high - upper * head) - lower * head) - upper * tail)
    return high, low - 2.4857507345576725e-17 * x


@triton.jit
def _head(x):
    """The first half of the digits of a float64."""
    return (x.to(tl.int64, bitcast=True) & -134217728).to(tl.float64, bitcast=True)
