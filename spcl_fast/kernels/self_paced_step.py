"""`self_paced_step` and its gradient, in five launches and one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from spcl_fast._options import NUMBERS
from spcl_fast.kernels._offsets import dialogues
from spcl_fast.kernels._sources import bits, blocks, matrix_strides, on_device_of, sources, tiles
from spcl_fast.kernels._step_rows import self_paced_step_rows_kernel
from spcl_fast.kernels._step_totals import (
    COUNTS,
    SUMS,
    self_paced_step_bwd_kernel,
    self_paced_step_spread_kernel,
    self_paced_step_totals_kernel,
    self_paced_step_weigh_kernel,
)

SCALED = 1024  # elements of the gradient in a program of the backward pass


def self_paced_step(
    logits: Sequence[Tensor],
    labels: Tensor,
    offsets: Tensor,
    threshold_tensor: Tensor | None,
    threshold: float | None,
    joint: Tensor | None,
    extra_difficulty: Tensor | None,
    class_weight: Tensor | None,
    present: Tensor | None,
    measure: int,
    scheme: int,
    scheme_parameter: float,
    groups_are_dialogues: bool,
    divides_by_weight: bool,
    of_means: bool,
    label_smoothing: float,
    ignore_index: int,
    flags: bool,
    needs_gradient: bool,
) -> tuple[Tensor, ...]:
    """One step of a batch. Contract: `ops.self_paced_step`.

    Returns:
        loss `[]`, weight `[T]`, difficulty `[T]`, utterance_loss `[T]`, confidence `[M, T]`, spread `[D]`, gradient,
        counts int64 `[7]` and sums float64 `[2 + 2 M]`: those of `StepTotals`, and the sum of the weights behind them.
        The gradient `[T, C]` is (dl/dJ) v in the dtype of the loss, not yet divided by the norm, which
        `self_paced_step_backward` does; it has no rows unless it is needed.

    Raises:
        ValueError: the scheme "spld", whose ranks need a sort.
    """
    if scheme == NUMBERS["spld"]:
        raise ValueError("self_paced_step: the Triton kernels have no scheme 'spld'; backend='reference' has it")
    z = sources(logits)
    M, T, C = z.M, z.T, z.C
    known = dialogues(offsets, T)
    # No program may be without modalities to loop over, nor a total without a program that left its part.
    rows = 128 if T < 2**17 else 1024  # of the totals alone: each weight depends on its row
    programs = triton.cdiv(T, rows)

    def empty(*shape: int, dtype: torch.dtype = z.result_dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=z.first.device)

    loss, weight, difficulty, utterance_loss = empty(), empty(T), empty(T), empty(T)
    confidence, spread = empty(M, T), empty(known.D)
    gradient = empty(T if needs_gradient else 0, C)
    counts, sums = empty(7, dtype=torch.int64), empty(2 + 2 * M, dtype=torch.float64)
    partial_counts = empty(programs, COUNTS, dtype=torch.int64)
    partial_sums = empty(programs, SUMS + 2 * M, dtype=torch.float64)
    has = (present, *matrix_strides(present))
    written = gradient if needs_gradient else None
    with on_device_of(z.first):
        if T > 0:
            tile = tiles(C, z.real, elements=1024)
            self_paced_step_rows_kernel[blocks(T, tile.rows)](
                *(*z.pointers, labels, labels.stride(0), known.offsets, known.D, joint, *matrix_strides(joint)),
                *(class_weight, 0 if class_weight is None else class_weight.stride(0), *has),
                *(confidence, utterance_loss, written, T, C, ignore_index, bits(label_smoothing)),
                REAL=z.real,
                IS_SMOOTHED=label_smoothing > 0,
                **tile.options,
            )
        if known.D > 0:
            modalities = max(triton.next_power_of_2(M), 2)
            self_paced_step_spread_kernel[(known.D,)](
                *(confidence, known.offsets, spread, M, T),
                OF_MEANS=of_means,
                MODALITIES=modalities,
                ROWS=max(1024 // modalities, 16),
            )
        if T > 0:
            self_paced_step_weigh_kernel[(programs,)](
                *(confidence, utterance_loss, spread, written, weight, difficulty, partial_counts, partial_sums),
                *(*known.arguments, labels, labels.stride(0)),
                *(extra_difficulty, 0 if extra_difficulty is None else extra_difficulty.stride(0), *has),
                *(threshold_tensor, bits(0.0 if threshold is None else threshold), bits(scheme_parameter)),
                *(M, T, C, ignore_index),
                REAL=z.real,
                MEASURE=measure,
                SELECTS_ALL=threshold_tensor is None and threshold is None,
                SCHEME=scheme,
                ROWS=rows,
                COLUMNS=min(max(triton.next_power_of_2(C), 2), max(4096 // rows, 8)),
                COUNTS=COUNTS,
                SUMS=SUMS,
            )
        width = triton.next_power_of_2(SUMS + 2 * M)
        self_paced_step_totals_kernel[(1,)](
            *(partial_counts, partial_sums, known.offsets, known.D, loss, counts, sums, programs, M),
            DIVIDES_BY_WEIGHT=divides_by_weight,
            FLAGS=flags,
            BLOCK=min(max(2048 // width, 2), 64),
            WIDTH=width,
            COUNTS=COUNTS,
            SUMS=SUMS,
        )
    return loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums


def self_paced_step_backward(
    gradient: Tensor, grad_loss: Tensor, counts: Tensor, sums: Tensor, divides_by_weight: bool, dtype: torch.dtype
) -> Tensor:
    """The gradient `[T, C]` of the joint logits in `dtype`: that of the step times `grad_loss / norm`.

    The norm is the sum of the weights or the number of scored utterances, 1 where it is 0.
    """
    gradient = gradient.contiguous()
    result = torch.empty(gradient.shape, dtype=dtype, device=gradient.device)
    count = gradient.numel()
    if count == 0:
        return result
    norm = sums[-1:] if divides_by_weight else counts[1:2]
    with on_device_of(gradient):
        self_paced_step_bwd_kernel[blocks(count, SCALED)](
            *(gradient, grad_loss, norm, result, count),
            REAL=tl.float64 if gradient.dtype == torch.float64 else tl.float32,
            BLOCK=SCALED,
        )
    return result
