"""The raw `modality_scores` of an engine, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast.ops._engines import engine
from spcl_fast.reference import ModalityScores


def native_scores(
    backend: str, logits: list[Tensor], labels: Tensor, present: Tensor | None, ignore_index: int, needs_grad: bool
) -> ModalityScores:
    """The raw op, with autograd above it where a gradient is needed. The raw op checks what it is given."""
    if needs_grad:
        return ModalityScores(*_Scores.apply(backend, ignore_index, labels, present, *logits))
    with torch.no_grad():  # logits with requires_grad under no_grad must not reach the raw op's autograd
        slab = engine(backend).modality_scores(logits, labels, present, ignore_index)
    return ModalityScores(*slab.unbind(0))


class _Scores(torch.autograd.Function):
    """Keeps the logits alone: the backward pass computes their softmax again, for less than reading it would cost."""

    @staticmethod
    def forward(
        ctx: Any, backend: str, ignore_index: int, labels: Tensor, present: Tensor | None, *logits: Tensor
    ) -> tuple[Tensor, ...]:
        slab = engine(backend).modality_scores(list(logits), labels, present, ignore_index)
        ctx.set_materialize_grads(False)  # None for a score that is not used: no work is done for it
        ctx.save_for_backward(labels, present, *logits)
        ctx.backend, ctx.ignore_index = backend, ignore_index
        # Not unbind, whose results autograd takes for views of one another and refuses to change in place.
        return torch.unsafe_chunk(slab.flatten(0, 1), 4)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        labels, present, *logits = ctx.saved_tensors
        if all(gradient is None for gradient in gradients):
            return (None,) * (4 + len(logits))
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # A gradient that silently did not depend on the logits would be wrong in a gradient penalty.
            raise RuntimeError(
                "modality_scores: the gradient cannot be differentiated again (got create_graph=True); "
                "backend='reference' can"
            )
        slab = engine(ctx.backend).modality_scores_backward(logits, labels, present, ctx.ignore_index, *gradients)
        return (None, None, None, None, *(slab.unbind(0) if logits[0].ndim == 2 else (slab,)))
