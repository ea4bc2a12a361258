"""What nothing can beat: the machine's bandwidth, and what autograd itself takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..harness import Call, Contender


def copy_floor(traffic: int, threads: tuple[int, ...]) -> Contender:
    """A plain copy that reads and writes `traffic` bytes in all, so as many as the op cannot do without."""

    def make() -> Call:
        source = torch.ones(traffic // 8)  # written, or every page of it would be the one page of zeros
        target = torch.ones_like(source)
        return lambda: {"target": target.copy_(source)}

    return Contender("copy", "Tensor.copy_, same bytes in all", make, "floor", threads)


def read_floor(traffic: int, threads: tuple[int, ...]) -> list[Contender]:
    """Reads `traffic` bytes and writes nothing, in several ways; which is the fastest differs by machine."""

    def contender(form: str, read: Callable[[Tensor], Tensor]) -> Contender:
        def make() -> Call:
            source = torch.ones(traffic // 4)
            return lambda: {"target": read(source)}

        return Contender("read", form, make, "floor", threads)

    return [contender("Tensor.sum, same bytes", torch.sum), contender("Tensor.amax, same bytes", torch.amax)]


class _NoOp(torch.autograd.Function):
    """Computes nothing in either direction."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *logits: Tensor) -> Tensor:
        """A loss of anything."""
        ctx.save_for_backward(gradient)
        return gradient.new_empty(())

    @staticmethod
    def backward(ctx: Any, *of_loss: Tensor) -> Any:
        """A gradient that was there before."""
        (gradient,) = ctx.saved_tensors
        return None, *[gradient] * (len(ctx.needs_input_grad) - 1)


def autograd_floor(logits: Sequence[Tensor], backward: bool, threads: tuple[int, ...]) -> Contender:
    """A no-op `autograd.Function` over the same inputs."""

    def make() -> Call:
        z = [x.detach().clone().requires_grad_(backward) for x in logits]
        gradient = torch.zeros_like(logits[0])

        def call() -> dict[str, Any]:
            loss = _NoOp.apply(gradient, *z)
            return {"gradient": torch.autograd.grad(loss, z)} if backward else {"loss": loss}

        return call

    return Contender("no-op", "autograd.Function that computes nothing", make, "floor", threads)
