"""What nothing can beat: the machine's bandwidth, and what autograd itself takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..harness import Call, Contender

PAST_CACHES = 1 << 29  # bytes, more than caches hold


def copy_floor(traffic: int, threads: tuple[int, ...], device: str = "cpu") -> Contender:
    """A plain copy that reads and writes `traffic` bytes in all, so as many as the op cannot do without."""

    def make() -> Call:
        source = torch.ones(traffic // 8, device=device)  # written, or every page of it would be the one page of zeros
        target = torch.ones_like(source)
        return lambda: {"target": target.copy_(source)}

    return Contender("copy", "Tensor.copy_, same bytes in all", make, "floor", threads)


def read_floor(traffic: int, threads: tuple[int, ...], device: str = "cpu") -> list[Contender]:
    """Reads `traffic` bytes and writes nothing, in several ways; which is the fastest differs by machine."""

    @cache
    def source() -> Tensor:
        return torch.ones(traffic // 4, device=device)

    def contender(form: str, read: Callable[[Tensor], Tensor]) -> Contender:
        def make() -> Call:
            x = source()
            return lambda: {"target": read(x)}

        return Contender("read", form, make, "floor", threads)

    return [contender("Tensor.sum, same bytes", torch.sum), contender("Tensor.amax, same bytes", torch.amax)]


def bandwidth(threads: int) -> dict[str, float]:
    """What the machine's memory copies and reads, in gigabytes per second: the best of a few looks past the caches."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return {
            "copy_gigabytes_per_second": _best((copy_floor(PAST_CACHES, (threads,)),)),
            "read_gigabytes_per_second": _best(read_floor(PAST_CACHES, (threads,))),
        }
    finally:
        torch.set_num_threads(before)


def _best(contenders: Sequence[Contender]) -> float:
    shortest = float("inf")
    for contender in contenders:
        call = contender.make()
        for _ in range(6):
            start = time.perf_counter()
            call()
            shortest = min(shortest, time.perf_counter() - start)
    return PAST_CACHES / shortest / 1e9


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
