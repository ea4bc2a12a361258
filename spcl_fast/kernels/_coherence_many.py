"""The coherence of any number of modalities and features: pair by pair and tile by tile, from the cache.

Scales and faults are those of `_coherence_few`; what a vector is scaled by and its norm are kept `[M, T]`. A norm of
0 takes no part, NaN is at fault.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spcl_fast.kernels._coherence_few import cosine
from spcl_fast.kernels._device import exponential, inverse_scale, source_of
from spcl_fast.kernels.modality_scores import is_present

_OF_BATCH = ["present", "scales", "norms", "of_coherence", "coefficients", "coherence", "gradient", "T"]
_NUMBERS = ["M", "T"]


@triton.jit
def _scaled(pointers, column_stride, columns, scale, held, REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr):
    """A tile of a vector times its scale, or of e^(z - scale); 0 where not held."""
    x = tl.load(pointers[:, None] + columns * column_stride, mask=held, other=0.0).to(REAL)
    if OF_PREDICTIONS:
        x = tl.where(held, exponential(x - scale[:, None]), 0.0)
    else:
        x = x * scale[:, None]
    return x


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def coherence_many_norms_kernel(
    embeddings, row_strides, column_strides, modality_stride, per_source,
    present, present_modality_stride, present_stride, scales, norms, M, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Scale and norm of the vectors of a block of rows."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    for m in range(M):
        base, row_stride, column_stride = source_of(
            embeddings, row_strides, column_strides, modality_stride, per_source, m
        )
        z = base + rows * row_stride
        has = is_present(present, present_modality_stride, present_stride, m, rows, rows < T)
        largest = tl.full((ROWS, COLUMNS), -float("inf"), REAL)
        for first in range(0, F, COLUMNS):
            held = has[:, None] & (first + columns < F)
            place = z[:, None] + (first + columns) * column_stride
            x = tl.load(place, mask=held, other=-float("inf") if OF_PREDICTIONS else 0.0).to(REAL)
            largest = tl.maximum(largest, x if OF_PREDICTIONS else tl.abs(x))
        scale = tl.max(largest, 1)
        if not OF_PREDICTIONS:
            scale = inverse_scale(scale)
        squares = tl.zeros((ROWS, COLUMNS), REAL)
        for first in range(0, F, COLUMNS):
            held = has[:, None] & (first + columns < F)
            x = _scaled(z, column_stride, first + columns, scale, held, REAL, OF_PREDICTIONS)
            squares += x * x
        square = tl.sum(squares, 1)
        norm = tl.where(square < float("inf"), tl.sqrt(square), float("nan"))
        place = m * tl.cast(T, tl.int64) + rows
        tl.store(scales + place, scale, mask=rows < T)
        tl.store(norms + place, tl.where(has, norm, 0.0), mask=rows < T)


@triton.jit
def _product(
    embeddings, row_strides, column_strides, modality_stride, per_source, scales, i, j, rows, both, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The product of the scaled vectors of two modalities, where both take part."""
    base_i, row_i, column_i = source_of(embeddings, row_strides, column_strides, modality_stride, per_source, i)
    base_j, row_j, column_j = source_of(embeddings, row_strides, column_strides, modality_stride, per_source, j)
    scale_i = tl.load(scales + i * tl.cast(T, tl.int64) + rows, mask=both, other=0.0)
    scale_j = tl.load(scales + j * tl.cast(T, tl.int64) + rows, mask=both, other=0.0)
    products = tl.zeros((ROWS, COLUMNS), REAL)
    for first in range(0, F, COLUMNS):
        columns = first + tl.arange(0, COLUMNS).to(tl.int64)[None, :]
        held = both[:, None] & (columns < F)
        x = _scaled(base_i + rows * row_i, column_i, columns, scale_i, held, REAL, OF_PREDICTIONS)
        products += x * _scaled(base_j + rows * row_j, column_j, columns, scale_j, held, REAL, OF_PREDICTIONS)
    return tl.sum(products, 1).to(tl.float64)


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def coherence_many_fwd_kernel(
    embeddings, row_strides, column_strides, modality_stride, per_source, scales, norms, coherence, M, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The mean cosine of the pairs of each utterance, float64 `[T]`: NaN without a pair, +Inf for a fault."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < T
    total = tl.zeros((ROWS,), tl.float64)
    pairs = tl.zeros((ROWS,), tl.float64)
    at_fault = rows < 0
    for i in range(M):
        a = tl.load(norms + i * tl.cast(T, tl.int64) + rows, mask=inside, other=0.0).to(tl.float64)
        at_fault = at_fault | (a != a)
        for j in range(i + 1, M):
            b = tl.load(norms + j * tl.cast(T, tl.int64) + rows, mask=inside, other=0.0).to(tl.float64)
            both = (a > 0) & (b > 0)
            product = _product(
                embeddings, row_strides, column_strides, modality_stride, per_source, scales, i, j, rows, both, T, F,
                REAL, OF_PREDICTIONS, ROWS, COLUMNS,
            )  # fmt: skip
            total += tl.where(both, cosine(product, tl.where(both, a, 1.0), tl.where(both, b, 1.0)), 0.0)
            pairs += both.to(tl.float64)
    c = tl.where(pairs > 0, total / tl.where(pairs > 0, pairs, 1.0), float("nan"))
    tl.store(coherence + rows, tl.where(at_fault, float("inf"), c), mask=inside)


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def coherence_many_coefficients_kernel(
    embeddings, row_strides, column_strides, modality_stride, per_source,
    scales, norms, of_coherence, coefficients, M, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """K `[M, M, T]`: the gradient of the scaled vector i is the sum over j of K[i, j] times the scaled vector j."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < T
    usable = tl.zeros((ROWS,), tl.float64)
    for m in range(M):  # one at fault makes the sum NaN
        norm = tl.load(norms + m * tl.cast(T, tl.int64) + rows, mask=inside, other=0.0).to(tl.float64)
        usable += tl.where(norm == 0, 0.0, norm / norm)
    clean = usable == usable
    pairs = tl.where(clean & (usable >= 2), usable * (usable - 1) / 2, 1.0)
    share = tl.load(of_coherence + rows, mask=inside, other=0.0) / pairs
    for i in range(M):
        a = tl.load(norms + i * tl.cast(T, tl.int64) + rows, mask=inside, other=0.0).to(tl.float64)
        along = tl.zeros((ROWS,), tl.float64)
        for j in range(M):
            b = tl.load(norms + j * tl.cast(T, tl.int64) + rows, mask=inside, other=0.0).to(tl.float64)
            both = clean & (a > 0) & (b > 0) & (i != j)
            product = _product(
                embeddings, row_strides, column_strides, modality_stride, per_source, scales, i, j, rows, both, T, F,
                REAL, OF_PREDICTIONS, ROWS, COLUMNS,
            )  # fmt: skip
            n = tl.where(both, a, 1.0)
            k = tl.where(both, b, 1.0)
            across = tl.where(both, share / (n * k), 0.0)
            along += tl.where(both, share * cosine(product, n, k) / (n * n), 0.0)
            place = (i * tl.cast(M, tl.int64) + j) * T + rows
            tl.store(coefficients + place, across.to(REAL), mask=inside & (i != j))
        tl.store(coefficients + (i * tl.cast(M, tl.int64) + i) * T + rows, -along.to(REAL), mask=inside)


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def coherence_many_bwd_kernel(
    embeddings, row_strides, column_strides, modality_stride, per_source,
    scales, norms, coefficients, gradient, M, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of the embeddings in a tile of rows and features."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    written = (rows < T)[:, None] & (columns < F)
    for i in range(M):
        g = tl.zeros((ROWS, COLUMNS), REAL)
        own = g
        for j in range(M):
            place = j * tl.cast(T, tl.int64) + rows
            usable = tl.load(norms + place, mask=rows < T, other=0.0) > 0
            scale = tl.load(scales + place, mask=usable, other=0.0)
            base, row_stride, column_stride = source_of(
                embeddings, row_strides, column_strides, modality_stride, per_source, j
            )
            held = usable[:, None] & (columns < F)
            x = _scaled(base + rows * row_stride, column_stride, columns, scale, held, REAL, OF_PREDICTIONS)
            place = (i * tl.cast(M, tl.int64) + j) * T + rows
            k = tl.load(coefficients + place, mask=rows < T, other=0.0)
            g += k[:, None] * x
            if OF_PREDICTIONS:
                own = tl.where(i == j, x, own)
            else:
                own = tl.where(i == j, scale[:, None], own)
        target = gradient + (i * tl.cast(T, tl.int64) + rows)[:, None] * F + columns
        live = tl.load(norms + i * tl.cast(T, tl.int64) + rows, mask=rows < T, other=0.0) > 0
        g = tl.where(live[:, None], g * own, 0.0).to(gradient.dtype.element_ty)
        tl.store(target, g, mask=written)
