"""Difficulty and weight of an utterance; the formulas stand in `csrc/math/self_paced_weights.h`."""

from __future__ import annotations

import triton
import triton.language as tl

from spcl_fast._options import MEASURES, NUMBERS, POLYNOMIAL_OF_CURML
from spcl_fast.kernels._device import log1p
from spcl_fast.kernels._super_loss import super_loss_weight

LINEAR = tl.constexpr(NUMBERS["linear"])
LOGISTIC = tl.constexpr(NUMBERS["logistic"])
LOG = tl.constexpr(NUMBERS["log"])
MIXTURE = tl.constexpr(NUMBERS["mixture"])
POLYNOMIAL = tl.constexpr(NUMBERS["polynomial"])
CURML = tl.constexpr(POLYNOMIAL_OF_CURML)
SUPERLOSS = tl.constexpr(NUMBERS["superloss"])
GIVEN = tl.constexpr(NUMBERS["given"])
LOSS = tl.constexpr(MEASURES.index("loss"))
SPREAD = tl.constexpr(MEASURES.index("spread"))
NONE = tl.constexpr(MEASURES.index("none"))


@triton.jit
def harmonic_mean(s, l):
    """2 s l / (s + l), 0 when either is 0, +Inf when l is; NaN when either is."""
    unknown = (s != s) | (l != l)
    low = tl.minimum(s, l)
    high = tl.maximum(s, l)
    rho = tl.where(high == 0, 0.0, low * (2 / (1 + low / high)))
    rho = tl.where(l == float("inf"), float("inf"), rho)
    return tl.where(unknown, float("nan"), rho)


@triton.jit
def measured(s, l, MEASURE: tl.constexpr):
    """The difficulty of an utterance from the spread of its dialogue and its loss; NaN when the loss is."""
    if MEASURE == LOSS:
        rho = l
    elif MEASURE == SPREAD:
        rho = tl.where(l == l, s, float("nan"))
    elif MEASURE == NONE:
        rho = tl.where(l == l, 0.0, float("nan")).to(l.dtype)
    else:
        rho = harmonic_mean(s, l)
    return rho


@triton.jit
def weight_of(rho, level, parameter, SCHEME: tl.constexpr):
    """The weight of a difficulty at the threshold `level` and the parameter of the scheme, both float64."""
    REAL: tl.constexpr = rho.dtype
    threshold = level.to(REAL)
    if SCHEME == LINEAR:
        weight = _within_bounds(1 - tl.where(rho < 0, 0.0, rho) / threshold, threshold)
    elif SCHEME == LOGISTIC:
        weight = _within_bounds((1 + tl.exp(-threshold)) / (1 + tl.exp(rho - threshold)), threshold)
    elif SCHEME == LOG:  # in float64: nothing would be left of a small lambda, or of 1 - lambda near 1
        distance = tl.where(rho < 0, 0.0, rho).to(tl.float64) - level
        selected = (rho < threshold) & (level > 0) & (level < 1)
        distance = tl.where(selected, distance, 0.0)
        weight = (log1p(distance) / log1p(-tl.where((level > 0) & (level < 1), level, 0.5))).to(REAL)
        weight = tl.where(selected, weight, 0.0)
    elif SCHEME == MIXTURE:
        lower = parameter.to(REAL)
        between = lower / rho * (1 - (rho - lower) / (threshold - lower))
        weight = tl.where(rho <= lower, 1.0, tl.where(rho < threshold, between, 0.0))
        weight = tl.where(threshold >= lower, weight, 0.0)
    elif SCHEME == POLYNOMIAL:
        rest = _rest(rho, threshold)
        root = tl.exp(tl.log(tl.where(rest > 0, rest, 1.0)) / (parameter - 1))
        weight = tl.where(rest > 0, root, 0.0).to(REAL)
    elif SCHEME == CURML:
        weight = (_rest(rho, threshold) / (parameter - 1)).to(REAL)
    elif SCHEME == SUPERLOSS:
        weight = super_loss_weight(rho.to(tl.float64), threshold.to(tl.float64), parameter)
    elif SCHEME == GIVEN:
        weight = tl.where((rho > 0) & (rho < float("inf")), rho, 0.0)
    else:  # hard: the threshold itself is taken, with every tie
        weight = tl.where(rho <= threshold, 1.0, 0.0)
    return weight.to(REAL)


@triton.jit
def _rest(rho, threshold):
    """1 - rho / lambda in [0, 1], in float64: of what float32 leaves near lambda, a root would be off by much."""
    wide = threshold.to(tl.float64)
    return _within_bounds(1 - tl.where(rho < 0, 0.0, rho).to(tl.float64) / wide, wide)


@triton.jit
def _within_bounds(weight, threshold):
    """In [0, 1]; 0 for NaN and without a threshold above 0."""
    return tl.where((weight > 0) & (threshold > 0), tl.minimum(weight, 1.0), 0.0)
