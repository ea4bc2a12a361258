"""The raw `window_coherence` of an engine, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast.ops._engines import engine


def native_coherence(
    backend: str,
    embeddings: list[Tensor],
    offsets: Tensor,
    present: Tensor | None,
    options: tuple[int, bool],
    needs_grad: bool,
) -> Tensor:
    """The raw op, with autograd above it where a gradient is needed; `options`: window, of_predictions."""
    if needs_grad:
        return _Coherence.apply(backend, options, offsets, present, *embeddings)[0]
    # Here no gradient is enabled, or none of the embeddings requires one: nothing has to be kept from the raw op.
    return engine(backend).window_coherence(embeddings, offsets, present, *options, False)[0]


class _Coherence(torch.autograd.Function):
    """Keeps the embeddings and the number of terms of each mean; the backward pass computes the cosines again."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: str,
        options: tuple[int, bool],
        offsets: Tensor,
        present: Tensor | None,
        *embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        coherence, counts = engine(backend).window_coherence(list(embeddings), offsets, present, *options, True)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(counts)
        ctx.save_for_backward(counts, offsets, present, *embeddings)
        ctx.backend, ctx.options = backend, options
        return coherence, counts

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        counts, offsets, present, *embeddings = ctx.saved_tensors
        if grad is None:  # the coherence was not used
            return (None,) * (4 + len(embeddings))
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # A gradient that silently did not depend on the embeddings would be wrong in a gradient penalty.
            raise RuntimeError(
                "window_coherence: the gradient cannot be differentiated again (got create_graph=True); "
                "backend='reference' can"
            )
        gradient = engine(ctx.backend).window_coherence_backward(
            grad, counts, list(embeddings), offsets, present, *ctx.options
        )
        stacked = len(embeddings) == 1
        return (None, None, None, None, *([gradient] if stacked else gradient.unbind(0)))
