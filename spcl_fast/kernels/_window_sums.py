"""Sums over sliding windows of a dialogue.

A narrow window is added up row by row. For a wide one the sums double in length from launch to launch, and a window
takes those of the powers of two that make its length. Either way the order of the terms depends on the window and on
its dialogue alone, and no sum is the difference of longer ones.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spcl_fast.kernels._device import dialogue_of, is_owned
from spcl_fast.kernels._offsets import Dialogues
from spcl_fast.kernels._sources import blocks, on_device_of

WIDEST_BY_ROW = 32  # rows on either side
ROWS = 128
_NUMBERS = ["T", "D", "steps", "half", "size", "stride", "count_stride"]


@triton.jit
def _term(terms, stride, counts, count_stride, rows, inside, OF_GRADIENTS: tl.constexpr):
    """What a row adds to a window: a coherence and 1, or the gradient that each term of its mean receives and 0.

    As coherences, NaN is undefined and +Inf a fault: neither counts.
    """
    value = tl.load(terms + rows * tl.cast(stride, tl.int64), mask=inside, other=0.0).to(tl.float64)
    if OF_GRADIENTS:
        n = tl.load(counts + rows * tl.cast(count_stride, tl.int64), mask=inside, other=0).to(tl.float64)
        defined = inside & (n > 0)
        term = tl.where(defined, value / tl.where(defined, n, 1.0), 0.0)
    else:
        defined = inside & (value <= 1.0)
        term = tl.where(defined, value, 0.0)
    return term, defined.to(tl.float64)


@triton.jit
def _borders(offsets, D, steps, rows, T):
    """Whether each row is in a dialogue, and where that begins and ends."""
    owned = is_owned(offsets, rows, T, D)
    dialogue = dialogue_of(offsets, rows, owned, D, steps)
    begin = tl.load(offsets + dialogue, mask=owned, other=0)
    end = tl.load(offsets + dialogue + 1, mask=owned, other=0)
    return owned, begin, end


@triton.jit
def _take(terms, rows, owned, T, value, count, result, result_counts, OF_GRADIENTS: tl.constexpr):
    """Writes the mean of a window and its count, or the sum of the gradients."""
    inside = rows < T
    if OF_GRADIENTS:
        tl.store(result + rows, tl.where(owned, value, 0.0), mask=inside)
    else:
        at_fault = tl.load(terms + rows, mask=owned, other=0.0) == float("inf")
        count = tl.where(owned & (at_fault == 0), count, 0.0)
        mean = tl.where(count > 0, value / tl.where(count > 0, count, 1.0), float("nan"))
        tl.store(result + rows, mean.to(result.dtype.element_ty), mask=inside)
        if result_counts is not None:
            tl.store(result_counts + rows, count.to(tl.int64), mask=inside)


@triton.jit(do_not_specialize=_NUMBERS)
def window_sums_by_row_kernel(
    terms, stride, counts, count_stride, offsets, D, steps, half, T, result, result_counts,
    OF_GRADIENTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The windows of a block of rows, term by term."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    owned, begin, end = _borders(offsets, D, steps, rows, T)
    value = tl.zeros((ROWS,), tl.float64)
    count = tl.zeros((ROWS,), tl.float64)
    for distance in range(-half, half + 1):
        row = rows + distance
        inside = owned & (row >= begin) & (row < end)
        term, one = _term(terms, stride, counts, count_stride, row, inside, OF_GRADIENTS)
        value += term
        count += one
    _take(terms, rows, owned, T, value, count, result, result_counts, OF_GRADIENTS)


@triton.jit(do_not_specialize=_NUMBERS)
def window_sums_double_kernel(
    terms, stride, counts, count_stride, offsets, D, steps, half, T, size, sums, longer, windows,
    IS_FIRST: tl.constexpr, OF_GRADIENTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Adds sums of `size` rows to the windows that need one, and makes those of twice as many.

    `sums[2, T]` holds value and count of the rows t .. t + size - 1, as far as the dialogue goes; the first time, when
    a sum is a term, it is not read.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    owned, begin, end = _borders(offsets, D, steps, rows, T)
    first = tl.maximum(begin, rows - half)
    width = tl.minimum(end, rows + half + 1) - first
    place = first + (width & (size - 1))  # the smaller powers of two in the width have been taken
    takes = owned & ((width & size) != 0)
    has_next = owned & (rows + size < end)
    T = tl.cast(T, tl.int64)
    if IS_FIRST:
        value, count = _term(terms, stride, counts, count_stride, rows, owned, OF_GRADIENTS)
        next_value, next_count = _term(terms, stride, counts, count_stride, rows + size, has_next, OF_GRADIENTS)
        window, known = _term(terms, stride, counts, count_stride, place, takes, OF_GRADIENTS)
    else:
        value = tl.load(sums + rows, mask=owned, other=0.0)
        count = tl.load(sums + T + rows, mask=owned, other=0.0)
        next_value = tl.load(sums + rows + size, mask=has_next, other=0.0)
        next_count = tl.load(sums + T + rows + size, mask=has_next, other=0.0)
        window = tl.load(sums + place, mask=takes, other=0.0) + tl.load(windows + rows, mask=owned, other=0.0)
        known = tl.load(sums + T + place, mask=takes, other=0.0) + tl.load(windows + T + rows, mask=owned, other=0.0)
    tl.store(longer + rows, value + next_value, mask=owned)
    tl.store(longer + T + rows, count + next_count, mask=owned)
    tl.store(windows + rows, window, mask=owned)
    tl.store(windows + T + rows, known, mask=owned)


@triton.jit(do_not_specialize=_NUMBERS)
def window_sums_take_kernel(
    terms, windows, offsets, D, T, result, result_counts, OF_GRADIENTS: tl.constexpr, ROWS: tl.constexpr
):
    """The results of windows whose sums are complete."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    owned = is_owned(offsets, rows, T, D)
    value = tl.load(windows + rows, mask=owned, other=0.0)
    count = tl.load(windows + tl.cast(T, tl.int64) + rows, mask=owned, other=0.0)
    _take(terms, rows, owned, T, value, count, result, result_counts, OF_GRADIENTS)


def window_means(coherence: Tensor, dialogues: Dialogues, half: int, result: Tensor, counts: Tensor | None) -> None:
    """Means of the defined `coherence[T]`, float64, over windows of `half` rows to either side, and their counts."""
    _window_sums(coherence, None, dialogues, half, result, counts)


def window_gradients(gradient: Tensor, counts: Tensor, dialogues: Dialogues, half: int) -> Tensor:
    """What the terms of the means receive: float64 `[T]`, the sum of gradient / count over the windows they are in."""
    result = torch.empty(counts.shape[0], dtype=torch.float64, device=gradient.device)
    _window_sums(gradient, counts, dialogues, half, result, None)
    return result


def _window_sums(
    terms: Tensor, counts: Tensor | None, dialogues: Dialogues, half: int, result: Tensor, result_counts: Tensor | None
) -> None:
    T = terms.shape[0]
    if T == 0:
        return
    of_gradients = counts is not None
    given = terms, terms.stride(0), counts, 0 if counts is None else counts.stride(0)
    grid = blocks(T, ROWS)
    with on_device_of(terms):
        if half <= WIDEST_BY_ROW:
            window_sums_by_row_kernel[grid](
                *given, *dialogues.arguments, half, T, result, result_counts, OF_GRADIENTS=of_gradients, ROWS=ROWS
            )
            return
        sums, longer, windows = torch.empty((3, 2, T), dtype=torch.float64, device=terms.device)
        size = 1
        while size <= min(2 * half + 1, T):
            window_sums_double_kernel[grid](
                *(*given, *dialogues.arguments, half, T, size, sums, longer, windows),
                IS_FIRST=size == 1,
                OF_GRADIENTS=of_gradients,
                ROWS=ROWS,
            )
            sums, longer, size = longer, sums, 2 * size
        window_sums_take_kernel[grid](
            *(terms, windows, dialogues.offsets, dialogues.D, T, result, result_counts),
            OF_GRADIENTS=of_gradients,
            ROWS=ROWS,
        )
