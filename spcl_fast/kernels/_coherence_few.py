"""The coherence of a few modalities whose vectors a program holds at once: each is read one time.

A vector x is scaled by a power of two to a largest component in [1, 2) before it is squared, which could leave the
range of its dtype; a prediction is e^(z - max z), whose cosines are those of the softmax. Both have a norm of at
least 1. A vector of norm 0 takes no part; one with a NaN or Inf is at fault, and its utterance with it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from spcl_fast.kernels._device import exponential, inverse_scale
from spcl_fast.kernels.modality_scores import is_present

_OF_BATCH = ["present", "of_coherence", "coherence", "gradient", "T"]


@triton.jit
def cosine(product, a, b):
    """The cosine of two vectors from their product and their norms, in [-1, 1]."""
    return tl.minimum(tl.maximum(product / (a * b), -1.0), 1.0)


@triton.jit
def _held_vectors(
    embeddings, row_strides, column_strides, present, present_modality_stride, present_stride, rows, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The scaled vectors of every modality, what they were scaled by, their norms in float64, and the faults.

    The norm of a vector that takes no part is 0; such a vector is 0 too.
    """
    inside = rows < T
    columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    at_fault = rows < 0
    # Triton takes no star in a tuple.
    vectors = ()
    scales = ()
    norms = ()
    for m in tl.static_range(len(embeddings)):
        has = is_present(present, present_modality_stride, present_stride, m, rows, inside)
        held = has[:, None] & (columns < F)
        place = (rows * row_strides[m])[:, None] + columns * column_strides[m]
        if OF_PREDICTIONS:
            z = tl.load(embeddings[m] + place, mask=held, other=-float("inf")).to(REAL)
            x = tl.where(held, exponential(z - tl.max(z, 1)[:, None]), 0.0)
            scale = tl.zeros(rows.shape, REAL) + 1
        else:
            x = tl.load(embeddings[m] + place, mask=held, other=0.0).to(REAL)
            scale = inverse_scale(tl.max(tl.abs(x), 1))
            x = x * scale[:, None]
        square = tl.sum(x * x, 1)
        is_finite = square < float("inf")
        at_fault = at_fault | (has & (is_finite == 0))
        usable = has & is_finite & (square > 0)
        vectors = vectors + (tl.where(usable[:, None], x, 0.0),)  # type: ignore[assignment]  # noqa: RUF005
        scales = scales + (scale,)  # type: ignore[assignment]  # noqa: RUF005
        norms = norms + (tl.where(usable, tl.sqrt(square.to(tl.float64)), 0.0),)  # type: ignore[assignment]  # noqa: RUF005
    return vectors, scales, norms, at_fault


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=["T"])
def coherence_few_fwd_kernel(
    embeddings, row_strides, column_strides, present, present_modality_stride, present_stride, coherence, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The mean cosine of the pairs of each utterance, float64 `[T]`: NaN without a pair, +Inf for a fault."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    vectors, _, norms, at_fault = _held_vectors(
        embeddings, row_strides, column_strides, present, present_modality_stride, present_stride, rows, T, F,
        REAL, OF_PREDICTIONS, COLUMNS,
    )  # fmt: skip
    total = tl.zeros((ROWS,), tl.float64)
    pairs = tl.zeros((ROWS,), tl.float64)
    for i in tl.static_range(len(embeddings)):
        for j in tl.static_range(i + 1, len(embeddings)):
            product = tl.sum(vectors[i] * vectors[j], 1).to(tl.float64)
            both = (norms[i] > 0) & (norms[j] > 0)
            total += tl.where(both, cosine(product, norms[i], norms[j]), 0.0)
            pairs += both.to(tl.float64)
    c = tl.where(pairs > 0, total / tl.where(pairs > 0, pairs, 1.0), float("nan"))
    tl.store(coherence + rows, tl.where(at_fault, float("inf"), c), mask=rows < T)


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=["T"])
def coherence_few_bwd_kernel(
    embeddings, row_strides, column_strides, present, present_modality_stride, present_stride,
    of_coherence, gradient, T, F,
    REAL: tl.constexpr, OF_PREDICTIONS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of the embeddings, `[M, T, F]`, from that of each utterance's mean cosine.

    d cos(a, b) / d a = b / |a||b| - cos a / |a|^2. The softmax sends back x times that: its other term is 0, the
    cosine being the same for a vector of any length.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    vectors, scales, norms, at_fault = _held_vectors(
        embeddings, row_strides, column_strides, present, present_modality_stride, present_stride, rows, T, F,
        REAL, OF_PREDICTIONS, COLUMNS,
    )  # fmt: skip
    usable = tl.zeros((ROWS,), tl.float64)
    for m in tl.static_range(len(embeddings)):
        usable += (norms[m] > 0).to(tl.float64)
    pairs = tl.maximum(usable * (usable - 1) / 2, 1.0)
    share = tl.load(of_coherence + rows, mask=rows < T, other=0.0) / pairs
    columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    for i in tl.static_range(len(embeddings)):
        along = tl.zeros((ROWS,), tl.float64)
        g = tl.zeros((ROWS, COLUMNS), REAL)
        for j in tl.static_range(len(embeddings)):
            if i != j:
                product = tl.sum(vectors[i] * vectors[j], 1).to(tl.float64)
                both = (norms[i] > 0) & (norms[j] > 0) & (at_fault == 0)
                a = tl.where(both, norms[i], 1.0)
                b = tl.where(both, norms[j], 1.0)
                g += tl.where(both, share / (a * b), 0.0).to(REAL)[:, None] * vectors[j]
                along += tl.where(both, share * cosine(product, a, b) / (a * a), 0.0)
        g -= along.to(REAL)[:, None] * vectors[i]
        g = g * (vectors[i] if OF_PREDICTIONS else scales[i][:, None])
        live = (norms[i] > 0) & (at_fault == 0)
        place = (i * tl.cast(T, tl.int64) + rows)[:, None] * F + columns
        g = tl.where(live[:, None], g, 0.0).to(gradient.dtype.element_ty)
        tl.store(gradient + place, g, mask=(rows < T)[:, None] & (columns < F))
