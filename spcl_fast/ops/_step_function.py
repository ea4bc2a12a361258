"""The compiled `self_paced_step` and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast.reference import SelfPacedStep, StepTotals

# What the raw op takes after its tensors: scheme, divides_by_weight, of_means, label_smoothing, ignore_index, flags
StepOptions = tuple[int, bool, bool, float, int, bool]


def native_step(
    logits: list[Tensor],
    labels: Tensor,
    offsets: Tensor,
    threshold: Tensor | float | None,
    joint: Tensor | None,
    extra_difficulty: Tensor | None,
    class_weight: Tensor | None,
    present: Tensor | None,
    options: StepOptions,
    needs_grad: bool,
) -> SelfPacedStep:
    """The raw op, with autograd above it where a gradient is needed. The raw op checks what it is given."""
    level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
    others = (level, number, joint, extra_difficulty, class_weight, present)
    with torch.no_grad():  # the raw op knows no autograd, whatever of its inputs requires a gradient
        loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums = (
            torch.ops.spcl_fast.self_paced_step.default(logits, labels, offsets, *others, *options, needs_grad)
        )
    if needs_grad:
        of_loss = logits if joint is None else [joint]
        loss = _WithGradient.apply(loss, gradient, present if joint is None else None, *of_loss)
    return SelfPacedStep(loss, weight, difficulty, utterance_loss, confidence, spread, StepTotals(counts, sums))


class _WithGradient(torch.autograd.Function):
    """The loss as a function of logits of which it is known what gradient `[T, C]` it has in their sum.

    The forward pass of the step wrote that gradient; the backward pass scales it. Every modality receives the same
    tensor, the joint logits being the sum of theirs; a missing one receives zeros. What the loss alone needs goes
    through here, and nothing else: every further input or output of a Function costs a microsecond or two.
    """

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradient: Tensor, present: Tensor | None, *logits: Tensor) -> Tensor:
        ctx.save_for_backward(gradient, present)
        first = logits[0]
        ctx.inputs = len(logits), first.shape[0] if first.ndim == 3 else 0, first.dtype
        return loss.detach()  # cheaper than the view that returning an input makes

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        tracing = torch.compiler.is_compiling()
        if torch.is_grad_enabled() and not tracing:
            # A gradient that silently did not depend on the logits would be wrong in a gradient penalty.
            raise RuntimeError(
                "self_paced_step: the gradient cannot be differentiated again (got create_graph=True); "
                "backend='reference' can"
            )
        gradient, present = ctx.saved_tensors
        num_logits, stacked, dtype = ctx.inputs
        # A plain `loss.backward()` sends 1. Reading it costs nothing on the host; a trace cannot read it.
        if tracing or gradient.is_cuda or grad_loss.item() != 1.0:
            gradient = gradient * grad_loss
        if gradient.dtype != dtype:
            gradient = gradient.to(dtype)
        if stacked:
            shared = gradient.expand(stacked, -1, -1)
            return None, None, None, shared if present is None else torch.where(present[..., None], shared, 0.0)
        if present is None:
            return None, None, None, *(gradient,) * num_logits
        return None, None, None, *(torch.where(has[:, None], gradient, 0.0) for has in present)
