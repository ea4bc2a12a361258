"""The first pass of `self_paced_step`: confidences, losses and the gradient of each loss, row by row."""

from __future__ import annotations

import triton
import triton.language as tl

from spcl_fast.kernels._device import double_of_bits, exponential, is_owned
from spcl_fast.kernels.modality_scores import is_present, scored_rows

_OF_BATCH = ["labels", "offsets", "present", "confidence", "utterance_loss", "gradient", "T"]
_NUMBERS = ["T", "D", "ignore_index", "smoothing_bits"]


@triton.jit
def _confidence(
    z, column_stride, y, has, C, REAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ONLY_TILE: tl.constexpr
):
    """softmax(z)[y] of the rows that have it; NaN for others and for rows without a softmax."""
    columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    true = tl.load(z + y * column_stride, mask=has, other=float("nan")).to(REAL)
    if ONLY_TILE:
        held = has[:, None] & (columns < C)
        tile = tl.load(z[:, None] + columns * column_stride, mask=held, other=-float("inf")).to(REAL)
        top = tl.max(tile, 1)
        total = tl.sum(exponential(tile - top[:, None]), 1)
    else:
        largest = tl.full((ROWS, COLUMNS), -float("inf"), REAL)
        for first in range(0, C, COLUMNS):
            held = has[:, None] & (first + columns < C)
            place = z[:, None] + (first + columns) * column_stride
            largest = tl.maximum(largest, tl.load(place, mask=held, other=-float("inf")).to(REAL))
        top = tl.max(largest, 1)
        totals = tl.zeros((ROWS, COLUMNS), REAL)
        for first in range(0, C, COLUMNS):
            held = has[:, None] & (first + columns < C)
            place = z[:, None] + (first + columns) * column_stride
            totals += exponential(tl.load(place, mask=held, other=-float("inf")).to(REAL) - top[:, None])
        total = tl.sum(totals, 1)
    return exponential(true - top) / total


@triton.jit
def _joint(
    logits, row_strides, column_strides, modality_stride, per_source, joint, joint_row_stride, joint_column_stride,
    present, present_modality_stride, present_stride, rows, candidate, columns, C,
    REAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of the joint logits: as given, or the sum of those of the present modalities; -Inf outside."""
    held = candidate[:, None] & (columns < C)
    if joint is not None:
        place = (rows * tl.cast(joint_row_stride, tl.int64))[:, None] + columns * tl.cast(joint_column_stride, tl.int64)
        total = tl.load(joint + place, mask=held, other=0.0).to(REAL)
    else:
        total = tl.zeros((ROWS, COLUMNS), REAL)
        for s in tl.static_range(len(logits)):
            for k in range(per_source):
                m = s * per_source + k
                has = is_present(present, present_modality_stride, present_stride, m, rows, candidate)
                z = logits[s] + k * tl.cast(modality_stride, tl.int64) + rows * row_strides[s]
                place = z[:, None] + columns * tl.cast(column_strides[s], tl.int64)
                total += tl.load(place, mask=has[:, None] & (columns < C), other=0.0).to(REAL)
    return tl.where(held, total, -float("inf"))


@triton.jit
def _class_weight(class_weight, stride, index, mask, REAL: tl.constexpr):
    """Weights of classes and whether they are proper: finite and at least 0; 1 without any."""
    weight = tl.where(mask, 1.0, 0.0).to(REAL)
    proper = mask
    if class_weight is not None:
        given = tl.load(class_weight + index * tl.cast(stride, tl.int64), mask=mask, other=0.0)
        proper = (given >= 0) & (given < float("inf"))
        weight = tl.where(proper, given, 0.0).to(REAL)
    return weight, proper


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def self_paced_step_rows_kernel(
    logits, row_strides, column_strides, modality_stride, per_source,
    labels, label_stride, offsets, D, joint, joint_row_stride, joint_column_stride,
    class_weight, class_weight_stride, present, present_modality_stride, present_stride,
    confidence, utterance_loss, gradient, T, C, ignore_index, smoothing_bits,
    REAL: tl.constexpr, IS_SMOOTHED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ONLY_TILE: tl.constexpr,
):  # fmt: skip
    """Confidence `[M, T]`, loss `[T]` and dl/dJ `[T, C]` of a block of rows: NaN, and 0, where a row is not scored.

    As torch's cross entropy: with p = softmax(J), class weights w and smoothing e,
    l = -(1 - e) w_y log p_y - (e / C) sum_c w_c log p_c and dl/dJ_c = p_c (a_1 + ... + a_C) - a_c,
    a_c = (1 - e) w_y [c = y] + (e / C) w_c.
    """
    rows, inside, y, labelled = scored_rows(labels, label_stride, T, C, ignore_index, ROWS)
    candidate = labelled & is_owned(offsets, rows, T, D)
    has_any = rows < 0
    finite = candidate
    for s in tl.static_range(len(logits)):
        for k in range(per_source):
            m = s * per_source + k
            has = is_present(present, present_modality_stride, present_stride, m, rows, candidate)
            z = logits[s] + k * tl.cast(modality_stride, tl.int64) + rows * row_strides[s]
            column_stride = tl.cast(column_strides[s], tl.int64)
            p = _confidence(z, column_stride, y, has, C, REAL, ROWS, COLUMNS, ONLY_TILE)
            finite = finite & ((p == p) | (has == 0))
            has_any = has_any | has
            tl.store(confidence + m * tl.cast(T, tl.int64) + rows, p, mask=inside)

    columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    own_weight, is_proper = _class_weight(class_weight, class_weight_stride, y, candidate, REAL)
    weighs = tl.zeros((ROWS, COLUMNS), REAL)  # sum of w_c
    shifts = tl.zeros((ROWS, COLUMNS), REAL)  # sum of w_c (J_c - max J)
    if ONLY_TILE:
        J = _joint(
            logits, row_strides, column_strides, modality_stride, per_source, joint, joint_row_stride,
            joint_column_stride, present, present_modality_stride, present_stride, rows, candidate, columns, C,
            REAL, ROWS, COLUMNS,
        )  # fmt: skip
        top = tl.max(J, 1)
        d = J - top[:, None]
        true = tl.sum(tl.where(columns == y[:, None], d, 0.0), 1)
        total = tl.sum(exponential(d), 1)
        if IS_SMOOTHED:
            weighs, _ = _class_weight(class_weight, class_weight_stride, columns, columns < C, REAL)
            shifts = tl.where(columns < C, weighs * d, 0.0)
    else:
        largest = tl.full((ROWS, COLUMNS), -float("inf"), REAL)
        for first in range(0, C, COLUMNS):
            largest = tl.maximum(largest, _joint(
                logits, row_strides, column_strides, modality_stride, per_source, joint, joint_row_stride,
                joint_column_stride, present, present_modality_stride, present_stride, rows, candidate,
                first + columns, C, REAL, ROWS, COLUMNS,
            ))  # fmt: skip
        top = tl.max(largest, 1)
        trues = tl.zeros((ROWS, COLUMNS), REAL)
        totals = tl.zeros((ROWS, COLUMNS), REAL)
        for first in range(0, C, COLUMNS):
            c = first + columns
            d = _joint(
                logits, row_strides, column_strides, modality_stride, per_source, joint, joint_row_stride,
                joint_column_stride, present, present_modality_stride, present_stride, rows, candidate, c, C,
                REAL, ROWS, COLUMNS,
            ) - top[:, None]  # fmt: skip
            trues += tl.where(c == y[:, None], d, 0.0)
            totals += exponential(d)
            if IS_SMOOTHED:
                w, _ = _class_weight(class_weight, class_weight_stride, c, c < C, REAL)
                weighs += w
                shifts += tl.where(c < C, w * d, 0.0)
        true = tl.sum(trues, 1)
        total = tl.sum(totals, 1)

    log_total = tl.log(total)
    smoothing = double_of_bits(smoothing_bits).to(REAL)
    own = own_weight * (log_total - true)
    own_scale = own_weight
    all_scale = own_weight
    smooth = smoothing / tl.cast(C, REAL)
    loss = own
    if IS_SMOOTHED:
        weight_sum = tl.sum(weighs, 1)
        loss = (1 - smoothing) * own + (log_total * weight_sum - tl.sum(shifts, 1)) * smooth
        own_scale = (1 - smoothing) * own_weight
        all_scale = own_scale + smooth * weight_sum
    scored = candidate & has_any & finite & is_proper & (loss == loss)
    tl.store(utterance_loss + rows, tl.where(scored, loss, float("nan")), mask=inside)
    tl.debug_barrier()  # another thread may have written the confidence of a row
    for s in tl.static_range(len(logits)):
        for k in range(per_source):
            place = confidence + (s * per_source + k) * tl.cast(T, tl.int64) + rows
            tl.store(place, tl.full((ROWS,), float("nan"), REAL), mask=inside & (scored == 0))

    if gradient is not None:
        for first in range(0, C, COLUMNS):
            c = first + columns
            if ONLY_TILE:
                e = exponential(d)
            else:
                e = exponential(_joint(
                    logits, row_strides, column_strides, modality_stride, per_source, joint, joint_row_stride,
                    joint_column_stride, present, present_modality_stride, present_stride, rows, candidate, c, C,
                    REAL, ROWS, COLUMNS,
                ) - top[:, None])  # fmt: skip
            g = e * (all_scale / total)[:, None] - tl.where(c == y[:, None], own_scale[:, None], 0.0)
            if IS_SMOOTHED:
                w, _ = _class_weight(class_weight, class_weight_stride, c, c < C, REAL)
                g -= smooth * w
            g = tl.where(scored[:, None], g, 0.0)
            tl.store(gradient + rows[:, None] * C + c, g, mask=inside[:, None] & (c < C))
