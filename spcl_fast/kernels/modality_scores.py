"""`modality_scores` and its gradient; the formulas stand in `csrc/math/modality_scores*.h`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from spcl_fast.kernels._device import exponential
from spcl_fast.kernels._sources import Sources, blocks, matrix_strides, on_device_of, sources, tiles


@triton.jit
def row_sums(
    z,
    column_stride,
    y,
    scored,
    C,
    REAL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ONLY_TILE: tl.constexpr,
):
    """What the scores of a block of rows are made of, `[ROWS]` each; NaN sums for a row without a softmax.

    Returns z[y], the largest other logit, the larger of the two (d is the distance to it), sum e^d and sum e^d d.

    A NaN or +Inf logit, or a row that is all -Inf, gives a NaN d somewhere, and so NaN sums: faults need no branch.
    """
    columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    true = tl.load(z + y * column_stride, mask=scored, other=float("nan")).to(REAL)
    if ONLY_TILE:
        held = scored[:, None] & (columns < C)
        tile = tl.load(z[:, None] + columns * column_stride, mask=held, other=-float("inf")).to(REAL)
        rival = tl.max(tl.where(columns == y[:, None], -float("inf"), tile), 1)
        top = tl.maximum(rival, true)
        d = tile - top[:, None]
        e = exponential(d)
        total = tl.sum(e, 1)
        weighted = tl.sum(tl.where(e == 0, 0.0, e * d), 1)  # 0 log 0 = 0
    else:
        rivals = tl.full((ROWS, COLUMNS), -float("inf"), REAL)
        for first in range(0, C, COLUMNS):
            c = first + columns
            held = scored[:, None] & (c < C)
            tile = tl.load(z[:, None] + c * column_stride, mask=held, other=-float("inf")).to(REAL)
            rivals = tl.maximum(rivals, tl.where(c == y[:, None], -float("inf"), tile))
        rival = tl.max(rivals, 1)
        top = tl.maximum(rival, true)
        totals = tl.zeros((ROWS, COLUMNS), REAL)
        products = tl.zeros((ROWS, COLUMNS), REAL)
        for first in range(0, C, COLUMNS):
            c = first + columns
            held = scored[:, None] & (c < C)
            tile = tl.load(z[:, None] + c * column_stride, mask=held, other=-float("inf")).to(REAL)
            shift = tile - top[:, None]
            e = exponential(shift)
            totals += e
            products += tl.where(e == 0, 0.0, e * shift)
        total = tl.sum(totals, 1)
        weighted = tl.sum(products, 1)
    return true, rival, top, total, weighted


@triton.jit
def scored_rows(labels, label_stride, T, C, ignore_index, ROWS: tl.constexpr):
    """The rows of this program, whether each is in the batch, its label, and whether that is to be scored."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < T
    y = tl.load(labels + rows * tl.cast(label_stride, tl.int64), mask=inside, other=0).to(tl.int64)
    labelled = inside & (y >= 0) & (y < C) & (y != ignore_index)
    return rows, inside, y, labelled


@triton.jit
def is_present(present, modality_stride, row_stride, m, rows, inside):
    """Whether modality m has each row; all rows where `present` is None."""
    has = inside
    if present is not None:
        place = m * tl.cast(modality_stride, tl.int64) + rows * tl.cast(row_stride, tl.int64)
        has = inside & (tl.load(present + place, mask=inside, other=0) != 0)
    return has


BACKWARD_ELEMENTS = 512  # of a tile; twice as many would not fit in registers

# Nothing about these may change how a row is summed: they differ between a batch and a part of it.
_OF_BATCH = ["labels", "present", "T"]
_NUMBERS = ["T", "ignore_index"]


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def modality_scores_fwd_kernel(
    logits, row_strides, column_strides, modality_stride, per_source,
    labels, label_stride, present, present_modality_stride, present_stride,
    loss, confidence, entropy, margin, loss_stride, confidence_stride, entropy_stride, margin_stride,
    T, C, ignore_index,
    REAL: tl.constexpr, HAS_RIVALS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ONLY_TILE: tl.constexpr,
):  # fmt: skip
    """The four scores of a block of rows, of every modality."""
    rows, inside, y, labelled = scored_rows(labels, label_stride, T, C, ignore_index, ROWS)
    for s in tl.static_range(len(logits)):
        for k in range(per_source):
            m = s * per_source + k
            scored = labelled & is_present(present, present_modality_stride, present_stride, m, rows, inside)
            z = logits[s] + k * tl.cast(modality_stride, tl.int64) + rows * row_strides[s]
            column_stride = tl.cast(column_strides[s], tl.int64)
            true, rival, top, total, weighted = row_sums(z, column_stride, y, scored, C, REAL, ROWS, COLUMNS, ONLY_TILE)
            log_total = tl.log(total)
            p = exponential(true - top) / total
            gap = p - exponential(rival - top) / total
            if not HAS_RIVALS:
                gap = total * float("nan")
            tl.store(loss + m * tl.cast(loss_stride, tl.int64) + rows, log_total - (true - top), mask=inside)
            tl.store(confidence + m * tl.cast(confidence_stride, tl.int64) + rows, p, mask=inside)
            of_entropy = log_total - weighted / total
            tl.store(entropy + m * tl.cast(entropy_stride, tl.int64) + rows, of_entropy, mask=inside)
            tl.store(margin + m * tl.cast(margin_stride, tl.int64) + rows, gap, mask=inside)


@triton.jit
def _arriving(gradient, modality_stride, row_stride, m, rows, known, REAL: tl.constexpr):
    """The gradient of one score of each known row; 0 where there is none."""
    arriving = tl.zeros(rows.shape, REAL)
    if gradient is not None:
        place = m * tl.cast(modality_stride, tl.int64) + rows * tl.cast(row_stride, tl.int64)
        arriving = tl.load(gradient + place, mask=known, other=0.0).to(REAL)
    return arriving


@triton.jit(do_not_specialize_on_alignment=_OF_BATCH, do_not_specialize=_NUMBERS)
def modality_scores_bwd_kernel(
    logits, row_strides, column_strides, modality_stride, per_source,
    labels, label_stride, present, present_modality_stride, present_stride,
    grad_loss, grad_confidence, grad_entropy, grad_margin, grad_strides, gradient,
    T, C, ignore_index,
    REAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ONLY_TILE: tl.constexpr,
):  # fmt: skip
    """The gradient of the logits of a block of rows, of every modality; 0 for a row that has no scores."""
    rows, inside, y, labelled = scored_rows(labels, label_stride, T, C, ignore_index, ROWS)
    columns = tl.arange(0, COLUMNS).to(tl.int64)[None, :]
    for s in tl.static_range(len(logits)):
        for k in range(per_source):
            m = s * per_source + k
            scored = labelled & is_present(present, present_modality_stride, present_stride, m, rows, inside)
            z = logits[s] + k * tl.cast(modality_stride, tl.int64) + rows * row_strides[s]
            column_stride = tl.cast(column_strides[s], tl.int64)
            true, rival, top, total, weighted = row_sums(z, column_stride, y, scored, C, REAL, ROWS, COLUMNS, ONLY_TILE)
            known = scored & (total == total)
            of_loss = _arriving(grad_loss, grad_strides[0][0], grad_strides[0][1], m, rows, known, REAL)
            of_confidence = _arriving(grad_confidence, grad_strides[1][0], grad_strides[1][1], m, rows, known, REAL)
            of_entropy = _arriving(grad_entropy, grad_strides[2][0], grad_strides[2][1], m, rows, known, REAL)
            of_margin = _arriving(grad_margin, grad_strides[3][0], grad_strides[3][1], m, rows, known, REAL)

            rival_e = exponential(rival - top)
            ties = tl.zeros((ROWS,), REAL) + 1
            if grad_margin is not None:
                count = tl.zeros((ROWS, COLUMNS), REAL)
                for first in range(0, C, COLUMNS):
                    c = first + columns
                    held = known[:, None] & (c < C)
                    tile = tl.load(z[:, None] + c * column_stride, mask=held, other=-float("inf")).to(REAL)
                    is_rival = held & (c != y[:, None]) & (exponential(tile - top[:, None]) == rival_e[:, None])
                    count += is_rival.to(REAL)
                ties = tl.sum(count, 1)

            own = (of_confidence + of_margin) * (exponential(true - top) / total)
            p_rival = rival_e / total
            common = (of_loss - own + of_margin * p_rival + of_entropy * (weighted / total)) / total
            slope = of_entropy / total
            at_label = own - of_loss
            at_rival = of_margin * p_rival / ties
            for first in range(0, C, COLUMNS):
                c = first + columns
                held = known[:, None] & (c < C)
                tile = tl.load(z[:, None] + c * column_stride, mask=held, other=-float("inf")).to(REAL)
                d = tile - top[:, None]
                e = exponential(d)
                g = tl.where(e == 0, 0.0, e * (common[:, None] - slope[:, None] * d))
                is_label = c == y[:, None]
                g += tl.where(is_label, at_label[:, None], 0.0)
                if grad_margin is not None:
                    g -= tl.where((e == rival_e[:, None]) & (c != y[:, None]), at_rival[:, None], 0.0)
                target = gradient + (m * tl.cast(T, tl.int64) + rows)[:, None] * C + c
                g = tl.where(held, g, 0.0).to(gradient.dtype.element_ty)
                tl.store(target, g, mask=inside[:, None] & (c < C))


def modality_scores(logits: Sequence[Tensor], labels: Tensor, present: Tensor | None, ignore_index: int) -> Tensor:
    """The four scores as a slab `[4, M, T]`: loss, confidence, entropy, margin. Contract: `ops.modality_scores`."""
    z = sources(logits)
    slab = torch.empty((4, z.M, z.T), dtype=z.result_dtype, device=z.first.device)
    _forward(z, labels, present, ignore_index, slab)
    return slab


def modality_scores_out(
    logits: Sequence[Tensor],
    labels: Tensor,
    present: Tensor | None,
    ignore_index: int,
    loss: Tensor,
    confidence: Tensor,
    entropy: Tensor,
    margin: Tensor,
) -> None:
    """The same, into four tensors `[M, T]` whose rows are contiguous."""
    _forward(sources(logits), labels, present, ignore_index, (loss, confidence, entropy, margin))


def modality_scores_backward(
    logits: Sequence[Tensor],
    labels: Tensor,
    present: Tensor | None,
    ignore_index: int,
    grad_loss: Tensor | None,
    grad_confidence: Tensor | None,
    grad_entropy: Tensor | None,
    grad_margin: Tensor | None,
) -> Tensor:
    """The gradient `[M, T, C]` of the logits, in their dtype, for the gradients `[M, T]` of the scores."""
    z = sources(logits)
    gradient = torch.empty((z.M, z.T, z.C), dtype=z.first.dtype, device=z.first.device)
    if z.T == 0:
        return gradient
    if z.C == 1:  # the margin is a constant, NaN
        grad_margin = None
    gradients = grad_loss, grad_confidence, grad_entropy, grad_margin
    tile = tiles(z.C, z.real, elements=BACKWARD_ELEMENTS)
    with on_device_of(z.first):
        modality_scores_bwd_kernel[blocks(z.T, tile.rows)](
            *z.pointers,
            *(labels, labels.stride(0), present, *matrix_strides(present)),
            *(*gradients, tuple(matrix_strides(g) for g in gradients), gradient),
            *(z.T, z.C, ignore_index),
            REAL=z.real,
            **tile.options,
        )
    return gradient


def _forward(
    z: Sources, labels: Tensor, present: Tensor | None, ignore_index: int, targets: Tensor | Sequence[Tensor]
) -> None:
    if z.T == 0:
        return
    tile = tiles(z.C, z.real)
    loss, confidence, entropy, margin = targets
    with on_device_of(z.first):
        modality_scores_fwd_kernel[blocks(z.T, tile.rows)](
            *z.pointers,
            *(labels, labels.stride(0), present, *matrix_strides(present)),
            *(loss, confidence, entropy, margin),
            *(loss.stride(0), confidence.stride(0), entropy.stride(0), margin.stride(0)),
            *(z.T, z.C, ignore_index),
            REAL=z.real,
            HAS_RIVALS=z.C > 1,
            **tile.options,
        )
