"""The raw `self_paced_step` of an engine, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast.ops._engines import acts_as_device, at_most, engine
from spcl_fast.reference import SelfPacedStep, StepTotals

# What the raw op takes after its tensors: measure, scheme, scheme_parameter, groups_are_dialogues, divides_by_weight,
# of_means, label_smoothing, ignore_index, flags
StepOptions = tuple[int, int, float, bool, bool, bool, float, int, bool]


def native_step(
    backend: str,
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
    on_device = acts_as_device(backend)
    if on_device:
        logits = at_most(logits, backend)
    level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
    # The raw op knows no autograd; to detach what has a gradient is a third of the cost of `torch.no_grad`.
    rows = [z.detach() if z.requires_grad else z for z in logits]
    others = (_constant(level), number, _constant(joint), _constant(extra_difficulty), _constant(class_weight), present)
    loss, weight, difficulty, utterance_loss, confidence, spread, gradient, counts, sums = engine(
        backend
    ).self_paced_step(rows, labels, offsets, *others, *options, needs_grad)
    if needs_grad:
        of_loss, has = (logits, present) if joint is None else ([joint], None)
        if on_device:
            loss = _WithUndivided.apply(loss, backend, options[4], gradient, counts, sums, has, *of_loss)
        else:
            loss = _WithGradient.apply(loss, gradient, has, *of_loss)
    return SelfPacedStep(loss, weight, difficulty, utterance_loss, confidence, spread, StepTotals(counts, sums))


def _constant(value: Tensor | None) -> Tensor | None:
    return value.detach() if value is not None and value.requires_grad else value


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
            _refuse_second_derivative()
        gradient, present = ctx.saved_tensors
        num_logits, stacked, dtype = ctx.inputs
        # A plain `loss.backward()` sends 1, which can be read on the host at no cost; a trace cannot read it.
        if tracing or grad_loss.item() != 1.0:
            gradient = gradient * grad_loss
        if gradient.dtype != dtype:
            gradient = gradient.to(dtype)
        return None, None, None, *_of_each(gradient, present, num_logits, stacked)


class _WithUndivided(torch.autograd.Function):
    """The same for a gradient that is not divided by the norm of the loss yet: one launch divides, scales and casts."""

    @staticmethod
    def forward(
        ctx: Any,
        loss: Tensor,
        backend: str,
        divides_by_weight: bool,
        gradient: Tensor,
        counts: Tensor,
        sums: Tensor,
        present: Tensor | None,
        *logits: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(gradient, counts, sums, present)
        first = logits[0]
        ctx.inputs = len(logits), first.shape[0] if first.ndim == 3 else 0, first.dtype
        ctx.options = backend, divides_by_weight
        return loss.detach()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            _refuse_second_derivative()
        gradient, counts, sums, present = ctx.saved_tensors
        num_logits, stacked, dtype = ctx.inputs
        backend, divides_by_weight = ctx.options
        gradient = engine(backend).self_paced_step_backward(gradient, grad_loss, counts, sums, divides_by_weight, dtype)
        return (None,) * 7 + _of_each(gradient, present, num_logits, stacked)


def _of_each(gradient: Tensor, present: Tensor | None, num_logits: int, stacked: int) -> tuple[Tensor, ...]:
    """The gradient of each of the logits, from that of their sum; `stacked` is M, or 0 for separate ones."""
    if stacked:
        shared = gradient.expand(stacked, -1, -1)
        return (shared if present is None else torch.where(present[..., None], shared, 0.0),)
    if present is None:
        return (gradient,) * num_logits
    return tuple(torch.where(has[:, None], gradient, 0.0) for has in present)


def _refuse_second_derivative() -> None:
    # A gradient that silently did not depend on the logits would be wrong in a gradient penalty.
    raise RuntimeError(
        "self_paced_step: the gradient cannot be differentiated again (got create_graph=True); backend='reference' can"
    )
