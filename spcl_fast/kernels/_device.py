"""Small functions that the kernels share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exponential(x):
    """e^x for x <= 0, to a rounding or two; -Inf gives 0.

    The hardware's power of two is exact enough for a small exponent alone: rounding x log2(e) first would cost a
    probability of e^-20 its sixth digit.
    """
    if x.dtype == tl.float64:
        result = tl.exp(x)
    else:
        bounded = tl.where(x < -110.0, -110.0, x)  # 0 in float32; NaN stays
        whole = tl.floor(bounded * 1.4426950408889634 + 0.5)
        rest = bounded - whole * 0.693359375 + whole * 2.12194440054690583e-4  # log 2 in two parts
        result = tl.exp2(rest * 1.4426950408889634) * tl.exp2(whole)
    return result


@triton.jit
def log1p(x):
    """log(1 + x) in float64."""
    y = 1 + x
    return tl.log(y) + tl.where(2 * y > 1, (x - (y - 1)) / y, 0.0)


@triton.jit
def double_of_bits(bits):
    """The float64 of `_sources.bits`."""
    return tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)


@triton.jit
def inverse_scale(largest):
    """The power of two that brings a largest magnitude to [1, 2), as far as there is one; any for 0, Inf and NaN."""
    if largest.dtype == tl.float64:
        field = 2046 - ((largest.to(tl.int64, bitcast=True) >> 52) & 2047)
        scale = (tl.maximum(field, 1) << 52).to(tl.float64, bitcast=True)
    else:
        field = 254 - ((largest.to(tl.int32, bitcast=True) >> 23) & 255)
        scale = (tl.maximum(field, 1) << 23).to(tl.float32, bitcast=True)
    return scale


@triton.jit
def source_of(sources, row_strides, column_strides, modality_stride, per_source, m):
    """Pointer, row stride and column stride of modality m, a number that is known when the kernel runs."""
    pointer = sources[0]
    row_stride = tl.cast(row_strides[0], tl.int64)
    column_stride = tl.cast(column_strides[0], tl.int64)
    for i in tl.static_range(1, len(sources)):
        pointer = tl.where(m == i, sources[i], pointer)
        row_stride = tl.where(m == i, tl.cast(row_strides[i], tl.int64), row_stride)
        column_stride = tl.where(m == i, tl.cast(column_strides[i], tl.int64), column_stride)
    if len(sources) == 1:
        pointer += m * tl.cast(modality_stride, tl.int64)
    return pointer, row_stride, column_stride


@triton.jit
def dialogue_of(offsets, rows, owned, D, steps):
    """The dialogue of each owned row: the last that starts at it or before; `steps` halvings of D make 1."""
    low = tl.zeros_like(rows)
    high = low + D
    for _ in range(steps):
        middle = (low + high) // 2
        starts = tl.load(offsets + middle, mask=owned, other=0) <= rows
        low = tl.where(starts, middle, low)
        high = tl.where(starts, high, middle)
    return low


@triton.jit
def is_owned(offsets, rows, T, D):
    """Whether each row lies in any dialogue: they lie side by side."""
    return (rows < T) & (rows >= tl.load(offsets)) & (rows < tl.load(offsets + D))
