"""The later passes of `self_paced_step`: spreads, then weights, then what they come to."""

from __future__ import annotations

import triton
import triton.language as tl

from spcl_fast.kernels._device import dialogue_of, double_of_bits, is_owned
from spcl_fast.kernels._weights import measured, weight_of
from spcl_fast.kernels.modality_scores import is_present

#: What a program of the weighing pass leaves: integers, and float64 in front of the 2 M sums of confidences.
COUNTS = 5  # scored, selected, nonfinite, bad_label, undefined
SUMS = 3  # loss, weighted loss, weight

_OF_BATCH = ["offsets", "confidence", "spread", "T"]
_NUMBERS = ["T", "D", "M", "steps", "ignore_index", "threshold_bits", "parameter_bits", "programs", "count", "grid"]


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def self_paced_step_spread_kernel(
    confidence, offsets, spread, M, T, OF_MEANS: tl.constexpr, MODALITIES: tl.constexpr, ROWS: tl.constexpr
):
    """The spread of one dialogue: the deviation over its modalities of their sums of confidences.

    A modality missing now and then is credited with its mean where it is missing; fewer than two give NaN.
    """
    dialogue = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + dialogue)
    end = tl.load(offsets + dialogue + 1)
    m = tl.arange(0, MODALITIES).to(tl.int64)
    sums = tl.zeros((MODALITIES, ROWS), tl.float64)
    knowns = tl.zeros((MODALITIES, ROWS), tl.float64)
    scoreds = tl.zeros((ROWS,), tl.float64)
    for first in range(0, (end - begin), ROWS):
        rows = begin + first + tl.arange(0, ROWS)
        held = (m < M)[:, None] & (rows < end)[None, :]
        p = tl.load(confidence + m[:, None] * T + rows[None, :], mask=held, other=float("nan"))
        known = (p == p).to(tl.float64)
        sums += tl.where(p == p, p, 0.0).to(tl.float64)
        knowns += known
        scoreds += tl.max(known, 0)
    total = tl.sum(sums, 1)
    n = tl.sum(knowns, 1)
    scored = tl.sum(scoreds, 0)
    has = n > 0
    mean = total / tl.where(has, n, 1.0)
    if OF_MEANS:
        S = mean
    else:
        S = tl.where(n == scored, total, scored * mean)
    # The deviation does not change when the smallest is subtracted, and equal ones give exactly 0.
    S = tl.where(has, S - tl.min(tl.where(has, S, float("inf")), 0), 0.0)
    k = tl.sum(has.to(tl.float64), 0)
    distance = tl.where(has, S - tl.sum(S, 0) / tl.where(k > 0, k, 1.0), 0.0)
    variance = tl.sum(distance * distance, 0) / tl.where(k >= 2, k - 1, 1.0)
    result = tl.where(k >= 2, tl.sqrt(variance), float("nan"))
    tl.store(spread + dialogue, result.to(spread.dtype.element_ty))


@triton.jit(do_not_specialize=_NUMBERS)
def self_paced_step_weigh_kernel(
    confidence, utterance_loss, spread, gradient, weight, difficulty, counts, sums, offsets, D, steps,
    labels, label_stride, extra_difficulty, extra_stride, present, present_modality_stride, present_stride,
    threshold, threshold_bits, parameter_bits, M, T, C, ignore_index,
    REAL: tl.constexpr, MEASURE: tl.constexpr, SELECTS_ALL: tl.constexpr, SCHEME: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, COUNTS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Difficulty and weight of a block of rows, and what the block adds to the totals; dl/dJ becomes (dl/dJ) v."""
    program = tl.program_id(0).to(tl.int64)
    rows = program * ROWS + tl.arange(0, ROWS)
    inside = rows < T
    owned = is_owned(offsets, rows, T, D)
    l = tl.load(utterance_loss + rows, mask=inside, other=float("nan"))
    s = tl.load(spread + dialogue_of(offsets, rows, owned, D, steps), mask=owned, other=float("nan"))
    scored = l == l
    rho = measured(s, l, MEASURE)
    if extra_difficulty is not None:
        extra = extra_difficulty + rows * tl.cast(extra_stride, tl.int64)
        rho += tl.load(extra, mask=inside, other=0.0).to(REAL)
    if SELECTS_ALL:
        v = tl.where(scored, 1.0, 0.0).to(REAL)
    else:
        if threshold is not None:
            level = tl.load(threshold).to(tl.float64)
        else:
            level = double_of_bits(threshold_bits)
        level += tl.zeros((ROWS,), tl.float64)
        v = weight_of(rho, level, double_of_bits(parameter_bits), SCHEME)
    selected = v > 0
    tl.store(difficulty + rows, rho, mask=inside)
    tl.store(weight + rows, v, mask=inside)

    y = tl.load(labels + rows * tl.cast(label_stride, tl.int64), mask=inside, other=0).to(tl.int64)
    is_class = (y >= 0) & (y < C)
    has_any = rows < 0
    sums += program * (SUMS + 2 * M)
    for m in range(M):
        has_any = has_any | is_present(present, present_modality_stride, present_stride, m, rows, inside)
        p = tl.load(confidence + m * tl.cast(T, tl.int64) + rows, mask=inside, other=float("nan")).to(tl.float64)
        p = tl.where(p == p, p, 0.0)
        tl.store(sums + SUMS + m, tl.sum(p, 0))
        tl.store(sums + SUMS + M + m, tl.sum(p * v.to(tl.float64), 0))
    candidate = owned & is_class & (y != ignore_index) & has_any
    nonfinite = candidate & ((scored == 0) | (l == float("inf")))
    bad_label = inside & (is_class == 0) & (y != ignore_index)
    counts += program * COUNTS
    tl.store(counts, tl.sum(scored.to(tl.int64), 0))
    tl.store(counts + 1, tl.sum(selected.to(tl.int64), 0))
    tl.store(counts + 2, tl.sum(nonfinite.to(tl.int64), 0))
    tl.store(counts + 3, tl.sum(bad_label.to(tl.int64), 0))
    tl.store(counts + 4, tl.sum((scored & (rho != rho)).to(tl.int64), 0))
    tl.store(sums, tl.sum(tl.where(scored, l, 0.0).to(tl.float64), 0))
    tl.store(sums + 1, tl.sum(tl.where(selected, v * l, 0.0).to(tl.float64), 0))
    tl.store(sums + 2, tl.sum(v.to(tl.float64), 0))

    if gradient is not None:  # rows of weight 1 stay as they are, those of weight 0 need not be read
        columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
        is_scaled = inside & selected & (v != 1)
        for first in range(0, C, COLUMNS):
            c = first + columns
            place = gradient + rows[:, None] * C + c
            g = tl.load(place, mask=is_scaled[:, None] & (c < C), other=0.0) * v[:, None]
            tl.store(place, g, mask=(inside & (v != 1))[:, None] & (c < C))


@triton.jit(do_not_specialize=_NUMBERS)
def self_paced_step_totals_kernel(
    partial_counts, partial_sums, offsets, D, loss, counts, sums, programs, M,
    DIVIDES_BY_WEIGHT: tl.constexpr, FLAGS: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr,
    COUNTS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """The loss and the totals, from what the programs of the weighing pass left, in their order; one program.

    counts: steps, scored, selected, nonfinite, bad_label, bad_offset, undefined. sums: loss, confidences, selected
    confidences, weight.
    """
    width = SUMS + 2 * M
    column = tl.arange(0, WIDTH)[None, :]
    place = tl.arange(0, 8)[None, :]
    found = tl.zeros((BLOCK, WIDTH), tl.float64)
    number = tl.zeros((BLOCK, 8), tl.int64)
    for first in range(0, programs, BLOCK):
        program = (first + tl.arange(0, BLOCK).to(tl.int64))[:, None]
        inside = program < programs
        found += tl.load(partial_sums + program * width + column, mask=inside & (column < width), other=0.0)
        number += tl.load(partial_counts + program * COUNTS + place, mask=inside & (place < COUNTS), other=0)
    total = tl.sum(found, 0)
    column = tl.arange(0, WIDTH)
    weighted_loss = tl.sum(tl.where(column == 1, total, 0.0), 0)
    weight = tl.sum(tl.where(column == 2, total, 0.0), 0)
    target = tl.where(column == 0, 0, tl.where(column == 2, 1 + 2 * M, column - (SUMS - 1)))
    tl.store(sums + target, total, mask=(column < width) & (column != 1))

    tally = tl.sum(number, 0)
    place = tl.arange(0, 8)
    if not FLAGS:
        tally = tl.where((place == 2) | (place == 3), 0, tally)
    tl.store(counts + tl.where(place == 4, 6, place + 1), tally, mask=place < COUNTS)
    one = tl.full((), 1, tl.int64)
    tl.store(counts, one)
    tl.store(counts + 5, tl.load(offsets + D + 1) if FLAGS else one - 1)
    scored = tl.sum(tl.where(place == 0, tally, 0), 0).to(tl.float64)
    norm = weight if DIVIDES_BY_WEIGHT else scored
    tl.store(loss, (weighted_loss / tl.where(norm > 0, norm, 1.0)).to(loss.dtype.element_ty))


@triton.jit(do_not_specialize=_NUMBERS)
def self_paced_step_bwd_kernel(gradient, grad_loss, norm, result, count, REAL: tl.constexpr, BLOCK: tl.constexpr):
    """`gradient` times `grad_loss / norm`, a norm of 0 taken for 1."""
    divisor = tl.load(norm).to(tl.float64)
    scale = (tl.load(grad_loss).to(tl.float64) / tl.where(divisor == 0, 1.0, divisor)).to(REAL)
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gradient + index, mask=index < count, other=0.0) * scale
    tl.store(result + index, g.to(result.dtype.element_ty), mask=index < count)
