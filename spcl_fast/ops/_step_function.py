"""The compiled `self_paced_step` and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast.reference import SelfPacedStep, StepTotals

# What the raw op takes after its tensors: scheme, scheme_parameter, groups_are_dialogues, divides_by_weight, of_means,
# label_smoothing, ignore_index, flags
StepOptions = tuple[int, float, bool, bool, bool, float, int, bool]


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
    if needs_grad:
        loss, weight, difficulty, utterance_loss, confidence, spread, counts, sums = _Step.apply(
            options, labels, offsets, *others, *logits
        )
    else:
        with torch.no_grad():  # a threshold or class weight that is a parameter must not reach the raw op's autograd
            loss, weight, difficulty, utterance_loss, confidence, spread, _, counts, sums = (
                torch.ops.spcl_fast.self_paced_step.default(logits, labels, offsets, *others, *options, False)
            )
    return SelfPacedStep(loss, weight, difficulty, utterance_loss, confidence, spread, StepTotals(counts, sums))


class _Step(torch.autograd.Function):
    """The forward pass writes the gradient `[T, C]` of the loss in the joint logits; the backward pass scales it.

    Every modality receives the same tensor: the joint logits are the sum of theirs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        options: StepOptions,
        labels: Tensor,
        offsets: Tensor,
        level: Tensor | None,
        number: float | None,
        joint: Tensor | None,
        extra_difficulty: Tensor | None,
        class_weight: Tensor | None,
        present: Tensor | None,
        *logits: Tensor,
    ) -> tuple[Tensor, ...]:
        others = (level, number, joint, extra_difficulty, class_weight, present)
        loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums = (
            torch.ops.spcl_fast.self_paced_step.default(list(logits), labels, offsets, *others, *options, True)
        )
        ctx.set_materialize_grads(False)  # else seven tensors of zeros for what has no gradient
        ctx.mark_non_differentiable(weight, difficulty, utterance_loss, confidence, spread, counts, sums)
        ctx.save_for_backward(gradient, present)
        ctx.joint_dtype = None if joint is None else joint.dtype
        ctx.stacked = logits[0].shape[0] if logits[0].ndim == 3 else 0
        ctx.num_logits = len(logits)
        ctx.dtype = logits[0].dtype
        return loss, weight, difficulty, utterance_loss, confidence, spread, counts, sums

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_loss is None:  # the loss was not used
            return (None,) * (9 + ctx.num_logits)
        tracing = torch.compiler.is_compiling()
        if torch.is_grad_enabled() and not tracing:
            # A gradient that silently did not depend on the logits would be wrong in a gradient penalty.
            raise RuntimeError(
                "self_paced_step: the gradient cannot be differentiated again (got create_graph=True); "
                "backend='reference' can"
            )
        gradient, present = ctx.saved_tensors
        # A plain `loss.backward()` sends 1. Reading it costs nothing on the host; a trace cannot read it.
        if tracing or gradient.is_cuda or grad_loss.item() != 1.0:
            gradient = gradient * grad_loss
        if ctx.joint_dtype is not None:
            return (*(None,) * 5, gradient.to(ctx.joint_dtype), *(None,) * (3 + ctx.num_logits))
        if gradient.dtype != ctx.dtype:
            gradient = gradient.to(ctx.dtype)
        if ctx.stacked:
            shared = gradient.expand(ctx.stacked, -1, -1)
            return (*(None,) * 9, shared if present is None else torch.where(present[..., None], shared, 0.0))
        if present is None:
            return (*(None,) * 9, *(gradient,) * ctx.num_logits)
        return (*(None,) * 9, *(torch.where(has[:, None], gradient, 0.0) for has in present))
