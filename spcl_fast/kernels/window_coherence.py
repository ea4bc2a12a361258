"""`window_coherence` and its gradient; the formulas stand in `csrc/math/window_coherence.h`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spcl_fast.kernels._coherence_few import coherence_few_bwd_kernel, coherence_few_fwd_kernel
from spcl_fast.kernels._coherence_many import (
    coherence_many_bwd_kernel,
    coherence_many_coefficients_kernel,
    coherence_many_fwd_kernel,
    coherence_many_norms_kernel,
)
from spcl_fast.kernels._offsets import dialogues
from spcl_fast.kernels._sources import Sources, Tiles, blocks, matrix_strides, on_device_of, sources, tiles
from spcl_fast.kernels._window_sums import window_gradients, window_means

MOST_HELD = 4  # modalities whose vectors fit in the registers of a program together


def window_coherence(
    embeddings: Sequence[Tensor],
    offsets: Tensor,
    present: Tensor | None,
    window: int,
    of_predictions: bool,
    needs_counts: bool,
) -> tuple[Tensor, Tensor]:
    """The coherence `[T]`, and how many terms each mean has: int64 `[T]`, empty unless they are needed.

    Contract: `ops.window_coherence`.
    """
    e = sources(embeddings)
    coherence = torch.empty(e.T, dtype=e.result_dtype, device=e.first.device)
    counts = torch.empty(e.T if needs_counts else 0, dtype=torch.int64, device=e.first.device)
    _forward(e, offsets, present, window, of_predictions, coherence, counts if needs_counts else None)
    return coherence, counts


def window_coherence_out(
    embeddings: Sequence[Tensor],
    offsets: Tensor,
    present: Tensor | None,
    window: int,
    of_predictions: bool,
    out: Tensor,
) -> None:
    """The coherence, into a contiguous tensor `[T]`."""
    _forward(sources(embeddings), offsets, present, window, of_predictions, out, None)


def window_coherence_backward(
    grad: Tensor,
    counts: Tensor,
    embeddings: Sequence[Tensor],
    offsets: Tensor,
    present: Tensor | None,
    window: int,
    of_predictions: bool,
) -> Tensor:
    """The gradient `[M, T, F]` in the embeddings, in their dtype, from that in the coherence and from the counts."""
    e = sources(embeddings)
    gradient = torch.empty((e.M, e.T, e.C), dtype=e.first.dtype, device=e.first.device)
    if e.T == 0:
        return gradient
    of_coherence = window_gradients(grad, counts, dialogues(offsets, e.T), window // 2)
    has = (present, *matrix_strides(present))
    grid, tile, options = _launch(e, of_predictions)
    with on_device_of(e.first):
        if _are_held(e, tile):
            coherence_few_bwd_kernel[grid](*(*_each(e), *has, of_coherence, gradient, e.T, e.C), **options)
            return gradient
        scales, norms = _norms(e, has, of_predictions)
        coefficients = torch.empty((e.M, e.M, e.T), dtype=e.result_dtype, device=e.first.device)
        coherence_many_coefficients_kernel[grid](
            *(*e.pointers, scales, norms, of_coherence, coefficients, e.M, e.T, e.C), **options
        )
        coherence_many_bwd_kernel[(*grid, *blocks(e.C, tile.columns))](
            *(*e.pointers, scales, norms, coefficients, gradient, e.M, e.T, e.C), **options
        )
    return gradient


def _forward(
    e: Sources,
    offsets: Tensor,
    present: Tensor | None,
    window: int,
    of_predictions: bool,
    result: Tensor,
    counts: Tensor | None,
) -> None:
    if e.T == 0:
        return
    coherence = torch.empty(e.T, dtype=torch.float64, device=e.first.device)
    has = (present, *matrix_strides(present))
    grid, tile, options = _launch(e, of_predictions)
    with on_device_of(e.first):
        if _are_held(e, tile):
            coherence_few_fwd_kernel[grid](*(*_each(e), *has, coherence, e.T, e.C), **options)
        else:
            scales, norms = _norms(e, has, of_predictions)
            coherence_many_fwd_kernel[grid](*(*e.pointers, scales, norms, coherence, e.M, e.T, e.C), **options)
    window_means(coherence, dialogues(offsets, e.T), window // 2, result, counts)


def _launch(e: Sources, of_predictions: bool) -> tuple[tuple[int], Tiles, dict[str, Any]]:
    """The programs of a kernel that goes over the rows, the tile of each, and its constants."""
    tile = tiles(e.C, e.real)
    options = {"REAL": e.real, "OF_PREDICTIONS": of_predictions, "ROWS": tile.rows, "COLUMNS": tile.columns}
    return blocks(e.T, tile.rows), tile, options


def _are_held(e: Sources, tile: Tiles) -> bool:
    """Whether a program can hold its rows of every modality at once, and so read them once."""
    return e.M <= MOST_HELD and tile.only_tile


def _each(e: Sources) -> tuple[object, ...]:
    """The modalities one by one, with their strides."""
    if len(e.tensors) == e.M:
        return e.tensors, e.row_strides, e.column_strides
    return e.first.unbind(0), e.row_strides * e.M, e.column_strides * e.M


def _norms(e: Sources, has: tuple[Tensor | None, int, int], of_predictions: bool) -> tuple[Tensor, Tensor]:
    """What vectors are scaled by, `[M, T]`, and their norms when scaled: 0 takes no part, NaN is at fault."""
    scales, norms = torch.empty((2, e.M, e.T), dtype=e.result_dtype, device=e.first.device)
    grid, _, options = _launch(e, of_predictions)
    coherence_many_norms_kernel[grid](*(*e.pointers, *has, scales, norms, e.M, e.T, e.C), **options)
    return scales, norms
