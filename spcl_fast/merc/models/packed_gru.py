"""Bidirectional GRUs over ragged dialogues, for the CPU: only the time steps loop.

torch's own spends most of its time between the matrix products at the size of a batch of dialogues: it walks the
directions one after the other and takes the gradient of the weights step by step. Here all modalities in both
directions are one batched product a step, what the backward pass multiplies is computed for all steps at once, and the
weights get theirs in a single product at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class TimeOrder(NamedTuple):
    """Where the utterances of ragged dialogues stand when all first ones come first, then all second ones, ...

    Attributes:
        rows: `int64[2, T]`, the utterance at each place, forwards and with every dialogue turned around.
        places: `int64[2, T]`, the inverse.
        before: `int64[T - D]`, the place one step earlier of each place that has one; these are the last `T - D`.
        sizes: dialogues that have a first utterance, a second one, ...: a non-increasing list.
    """

    rows: Tensor
    places: Tensor
    before: Tensor
    sizes: list[int]


def time_order(lengths: Tensor) -> TimeOrder:
    """The order of time steps for dialogues of these lengths, `int64[D]` on the host; empty ones are left out.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.models.packed_gru import time_order
        >>> order = time_order(torch.tensor([1, 3]))
        >>> order.rows.tolist(), order.sizes  # the longest dialogue first
        ([[1, 0, 2, 3], [3, 0, 2, 1]], [2, 1, 1])
    """
    lengths = lengths[lengths > 0]
    T, D = int(lengths.sum()), len(lengths)
    rank = torch.empty_like(lengths)
    rank[lengths.argsort(descending=True, stable=True)] = torch.arange(D)
    dialogue = torch.repeat_interleave(lengths)
    step = torch.arange(T) - (lengths.cumsum(0) - lengths)[dialogue]
    steps = torch.stack([step, lengths[dialogue] - 1 - step])
    rows = (steps * D + rank[dialogue]).argsort(1)
    places = torch.empty_like(rows).scatter_(1, rows, torch.arange(T).expand(2, -1))
    sizes = torch.bincount(step)
    before = torch.arange(T - D) if not T else torch.arange(D, T) - sizes[:-1].repeat_interleave(sizes[1:])
    return TimeOrder(rows, places, before, sizes.tolist())


def bidirectional_grus(grus: Sequence[nn.GRU], x: Tensor, order: TimeOrder) -> Tensor:
    """What each of M GRUs, of one layer, two directions and the same sizes, makes of its input.

    Args:
        grus: M of them.
        x: `[M, T, I]`, T may be 0.
        order: of the T utterances.

    Returns:
        `[M, T, 2 H]`, equal to torch's on packed sequences but for rounding; differentiable once.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.models.packed_gru import bidirectional_grus, time_order
        >>> grus = [torch.nn.GRU(6, 4, bidirectional=True) for _ in range(3)]
        >>> bidirectional_grus(grus, torch.randn(3, 5, 6), time_order(torch.tensor([2, 3]))).shape
        torch.Size([3, 5, 8])
    """
    M, T, _ = x.shape
    H = grus[0].hidden_size
    weight_ih, weight_hh, bias_ih, bias_hh = (
        torch.stack([getattr(gru, f"{name}_{direction}") for gru in grus for direction in ("l0", "l0_reverse")])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    packed = x.index_select(1, order.rows.flatten()).view(2 * M, T, x.shape[-1])
    gates = torch.baddbmm(bias_ih.unsqueeze(1), packed, weight_ih.mT)
    states = _Recurrence.apply(gates, weight_hh, bias_hh, order)
    first = torch.arange(2 * M).view(M, 1, 2) * T
    both = states.flatten(0, 1).index_select(0, (first + order.places.T).flatten())
    return both.view(M, T, 2 * H)


class _Recurrence(torch.autograd.Function):
    """`h_t = (1 - z) n + z h`, with `r, z = sigmoid(i + W h + b)` and `n = tanh(i + r (W h + b))` (Cho et al. 2014)."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, order: TimeOrder) -> Tensor:
        G, T, H = *gates.shape[:2], weight.shape[-1]
        states, reset_update = gates.new_empty(G, T, H), gates.new_empty(G, T, 2 * H)
        new, recurrent = gates.new_empty(G, T, H), gates.new_empty(G, T, H)
        transposed, bias = weight.mT.contiguous(), bias.unsqueeze(1)
        before = gates.new_zeros(G, order.sizes[0] if order.sizes else 0, H)
        start = 0
        for size in order.sizes:
            now = slice(start, start + size)
            of_state = torch.baddbmm(bias, before[:, :size], transposed)
            rz = torch.add(gates[:, now, : 2 * H], of_state[..., : 2 * H], out=reset_update[:, now]).sigmoid_()
            u = of_state[..., 2 * H :]
            recurrent[:, now] = u
            n = torch.addcmul(gates[:, now, 2 * H :], rz[..., :H], u, out=new[:, now]).tanh_()
            before = torch.lerp(n, before[:, :size], rz[..., H:], out=states[:, now])
            start += size
        ctx.save_for_backward(states, reset_update, new, recurrent, weight)
        ctx.order = order
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, reset_update, n, u, weight = ctx.saved_tensors
        (grad,), order = grads, ctx.order
        T, H = states.shape[1:]
        r, z = reset_update.split(H, -1)
        before = torch.zeros_like(states)
        first = T - len(order.before)
        before[:, first:] = states.index_select(1, order.before)
        # What the gradient of a state is multiplied with, for the gates r, z and n.
        to_new = (1 - z) * (1 - n * n)
        to_gates = torch.stack([to_new * u * r * (1 - r), (before - n) * z * (1 - z), to_new * r], 2)
        of_states, of_gates = grad.clone(), torch.empty_like(to_gates)
        end, later = T, 0
        product = of_states[:, :0]
        for size in reversed(order.sizes):
            now = slice(end - size, end)
            d = of_states[:, now]
            if later:
                d[:, :later] += torch.addcmul(product, of_states[:, end : end + later], z[:, end : end + later])
            g = torch.mul(to_gates[:, now], d.unsqueeze(2), out=of_gates[:, now])
            if end > size:  # there is an earlier step
                product = torch.bmm(g.flatten(2), weight)
            end, later = end - size, size
        flat = of_gates.flatten(2)
        of_weight = torch.bmm(flat.mT, before)
        of_bias = flat.sum(1)
        of_inputs = torch.stack([*of_gates.unbind(2)[:2], to_new * of_states], 2).flatten(2)
        return of_inputs, of_weight, of_bias, None
