"""Gated recurrences over the steps of a timeline, many at once; the steps back are written out by hand.

A *group* is one recurrence with weights of its own: of one modality, in one direction. All groups of a step are one
batched product, and dialogues that have ended take no part (`Timeline`). Autograd would keep some thirty nodes a step
and add up the gradient of every weight step by step; here a step back is a handful of operations, and the gradients
of the weights are one product over all T utterances at the end.

The gated recurrent unit (arXiv 1406.1078, in the form of `torch.nn.GRUCell`), of an input part a and a state part b:

    r = sigmoid(a_r + b_r), z = sigmoid(a_z + b_z), n = tanh(a_n + r b_n), new = (1 - z) n + z state

Input parts stand in the order n, r, z and state parts in the order r, z, n: so the gradients of both are slices of
one tensor, which holds those of n, r, z and b_n.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcl_fast.merc.models.timeline import Timeline

__all__ = ["emotion_states", "party_states"]

_Kept = tuple[Tensor, Tensor, Tensor]


def _unit(a: Tensor, b: Tensor, state: Tensor, new: Tensor) -> _Kept:
    """One step of the unit into `new`; returns what the way back needs."""
    H = state.shape[-1]
    rz = (a[..., H:] + b[..., : 2 * H]).sigmoid_()
    b_n = b[..., 2 * H :]
    n = torch.addcmul(a[..., :H], rz[..., :H], b_n).tanh_()
    torch.lerp(n, state, rz[..., H:], out=new)
    return rz, n, b_n


def _unit_back(grad: Tensor, kept: _Kept, state: Tensor, parts: Tensor) -> Tensor:
    """One step back: the gradients of n, r, z and b_n into `parts`; returns what `state` gets through z alone."""
    (rz, n, b_n), H = kept, state.shape[-1]
    r, z = rz[..., :H], rz[..., H:]
    carried = grad * z
    dn, drz = parts[..., :H], parts[..., H : 3 * H]
    torch.ops.aten.tanh_backward.grad_input(grad - carried, n, grad_input=dn)
    torch.mul(dn, b_n, out=drz[..., :H])
    torch.mul(state - n, grad, out=drz[..., H:])
    torch.ops.aten.sigmoid_backward.grad_input(drz, rz, grad_input=drz)
    torch.mul(dn, r, out=parts[..., 3 * H :])
    return carried


def _steps(sizes: list[int], *tensors: Tensor | None) -> list[tuple[Any, ...]]:
    """Views of every step of tensors `[..., T, features]`; None stays None."""
    return list(zip(*([None] * len(sizes) if x is None else x.split(sizes, -2) for x in tensors), strict=True))


class _Emotions(torch.autograd.Function):
    """The plain recurrence: see `emotion_states`."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, keep: Tensor | None, sizes: list[int]
    ) -> Tensor:
        G, T, E = *inputs.shape[:2], weight.shape[1]
        states, before = inputs.new_empty(G, T, E), inputs.new_zeros(G, T, E)
        kept: list[_Kept] = []
        steps = _steps(sizes, inputs, before, states, keep)
        for t, (a, state, new, mask) in enumerate(steps):
            if t:
                state.copy_(steps[t - 1][2][:, : sizes[t]])
            kept.append(_unit(a, torch.baddbmm(bias, state, weight), state, new))
            if keep is not None:
                new.mul_(mask)
        ctx.save_for_backward(weight, before, keep)
        ctx.kept, ctx.sizes = kept, sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, before, keep = ctx.saved_tensors
        G, T, E = before.shape
        parts = grad.new_empty(G, T, 4 * E)
        later = grad.new_zeros(G, max(ctx.sizes, default=0), E)
        steps = _steps(ctx.sizes, grad, before, parts, keep)
        for t in reversed(range(len(steps))):
            of_state, state, part, mask = steps[t]
            carried = later[:, : ctx.sizes[t]]
            of_state = of_state + carried
            if keep is not None:
                of_state.mul_(mask)
            direct = _unit_back(of_state, ctx.kept[t], state, part)
            torch.baddbmm(direct, part[..., E:], weight.mT, out=carried)
        of_b = parts[..., E:]
        return parts[..., : 3 * E], before.mT @ of_b, of_b.sum(1, keepdim=True), None, None


class _Parties(torch.autograd.Function):
    """The recurrence of global and party states: see `party_states`."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        weight_state: Tensor,
        bias: Tensor,
        query: Tensor,
        keep: Tensor | None,
        previous: list[Tensor],
        following: list[Tensor],
        sizes: list[int],
    ) -> Tensor:
        _, G, T, _ = inputs.shape
        H = weight.shape[1]
        states = inputs.new_zeros(2, G, T + 1, H)  # the global states and those of the speakers; place T stays 0
        read = inputs.new_zeros(3, G, T, H)  # by every step: the global state, its speaker's and the context
        shares = inputs.new_empty(G, T, 1)
        parties = states[1].flatten(0, 1)
        kept: list[_Kept] = []
        last = total = context = read[0, :, :0]
        for t, (a, before, new, mask, share) in enumerate(_steps(sizes, inputs, read, states[:, :, :T], keep, shares)):
            n = sizes[t]
            if t:
                before[0].copy_(last[:, :n])
                before[2].copy_(context[:, :n])
            before[1].copy_(parties.index_select(0, previous[t]).view(G, n, H))
            a = (before[1:].flatten(0, 1) @ weight).view(2, G, n, 3 * H).add_(a).flatten(0, 1)
            state, new = before[:2].flatten(0, 1), new.flatten(0, 1)
            kept.append(_unit(a, torch.baddbmm(bias, state, weight_state), state, new))
            if keep is not None:
                new.mul_(mask)
            last = new[:G]
            score = last @ query
            # The mean of all so far moves to the new state by that state's share of the softmax over them.
            total = torch.logaddexp(total[:, :n], score) if t else score
            torch.exp(score - total, out=share)
            context = torch.lerp(context[:, :n], last, share) if t else last
        ctx.save_for_backward(weight, weight_state, query, keep, states, read, shares)
        ctx.kept, ctx.sizes, ctx.following = kept, sizes, following
        return states[1, :, :T]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, weight_state, query, keep, states, read, shares = ctx.saved_tensors
        _, G, T, H = read.shape
        longest = max(ctx.sizes, default=0)
        parts = grad.new_empty(2, G, T, 4 * H)
        of_score = grad.new_empty(G, T, 1)
        # What later steps ask of a party, at the place where it last spoke, and of the other states of a dialogue.
        of_parties = grad.new_zeros(G, T + 1, H)
        later_last, later_context = grad.new_zeros(2, G, longest, H)
        later_total = grad.new_zeros(G, longest, 1)
        steps = _steps(ctx.sizes, grad, read, states[:, :, :T], keep, shares, parts, of_score, of_parties[:, :T])
        for t in reversed(range(len(steps))):
            of_party, before, new, mask, share, part, of_s, of_p = steps[t]
            n = ctx.sizes[t]
            last, context, total = later_last[:, :n], later_context[:, :n], later_total[:, :n]

            moved = context * share  # of the context after this step, what its new global state gets
            of_share = (context * (new[0] - before[2])).sum(-1, keepdim=True)
            fall = of_share * share * (1 - share)
            torch.addcmul(fall, total, share, out=of_s)
            total.mul_(1 - share).sub_(fall)
            context.sub_(moved)

            of_new = grad.new_empty(2, G, n, H)
            torch.add(last, moved, out=of_new[0]).addcmul_(of_s, query.mT)
            asked = of_parties.flatten(0, 1).index_select(0, ctx.following[t])
            torch.add(of_party, asked.view(G, n, H), out=of_new[1])

            of_new, part = of_new.flatten(0, 1), part.flatten(0, 1)
            if keep is not None:
                of_new.mul_(mask)
            direct = _unit_back(of_new, ctx.kept[t], before[:2].flatten(0, 1), part)
            of_input = part[..., : 3 * H] @ weight.mT
            of_state = torch.baddbmm(direct, part[..., H:], weight_state.mT)
            last.copy_(of_state[:G])
            torch.add(of_state[G:], of_input[:G], out=of_p)
            context.add_(of_input[G:])
        parts = parts.flatten(0, 1)
        of_a, of_b = parts[..., : 3 * H], parts[..., H:]
        return (
            of_a.unflatten(0, (2, G)),
            read[1:].flatten(0, 1).mT @ of_a,
            read[:2].flatten(0, 1).mT @ of_b,
            of_b.sum(1, keepdim=True),
            states[0, :, :T].mT @ of_score,
            None,
            None,
            None,
            None,
        )


def _places(of_direction: Tensor, groups: int, sizes: list[int]) -> list[Tensor]:
    """Of every step, the rows of `[groups, T + 1]` flattened that it asks for; the directions take turns."""
    T = of_direction.shape[1]
    first = torch.arange(groups, device=of_direction.device)[:, None] * (T + 1)
    rows = of_direction.repeat(groups // 2, 1) + first
    return [x.flatten() for x in rows.split(sizes, 1)]


def party_states(
    inputs: Tensor,
    weight: Tensor,
    weight_state: Tensor,
    bias: Tensor,
    query: Tensor,
    timeline: Timeline,
    keep: Tensor | None = None,
) -> Tensor:
    """What every speaker has become by an utterance of theirs: DialogueRNN (arXiv 1811.00405) without its emotions.

    In each of G groups (even ones forward in time, odd ones backward), for the utterance x at step t of a dialogue,
    with p the state in which its speaker was left, zero before they have spoken:

        context c_t = sum over i < t of a_i g_i, a = softmax over those i of g_i . query; zero at t = 0
        global  g_t = unit(x part + p W, g_(t-1))          (the published "simple" attention: no question asked of x)
        party   p'  = unit(x part + c_t W, p)

    Whoever listens stays as they are.

    Args:
        inputs: `[2, G, T, 3H]`, W x + b of the global unit and of the party unit, of n, r, z; T in places.
        weight: `[2G, H, 3H]`, of p in the global units, then of c in the party units; n, r, z.
        weight_state: `[2G, H, 3H]`, of the states; r, z, n.
        bias: `[2G, 1, 3H]`, of the states; r, z, n.
        query: `[G, H, 1]`.
        timeline: of the batch, of T utterances.
        keep: `[2G, T, H]`, factors of the new states (dropout), or None.

    Returns:
        `[G, T, H]`, p' by place. Once differentiable in all tensors but `keep`; deterministic.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.recurrence import party_states
        >>> from spcl_fast.merc.models.timeline import Timeline
        >>> time = Timeline(DialogueBatch.from_lists([[0, 0, 0]], speakers=[[0, 1, 0]]))
        >>> G, T, H = 2, 3, 1
        >>> inputs, none = torch.zeros(2, G, T, 3 * H), torch.zeros(2 * G, H, 3 * H)
        >>> inputs[1, 0, :, 0] = 100.0  # the party's n is 1, and z a half: halfway to 1 at every utterance of theirs
        >>> party_states(inputs, none, none, torch.zeros(2 * G, 1, 3 * H), torch.zeros(G, H, 1), time)[0].T
        tensor([[0.5000, 0.5000, 0.7500]])
    """
    G, sizes = inputs.shape[1], timeline.sizes
    previous, following = (_places(x, G, sizes) for x in (timeline.previous, timeline.following))
    return _Parties.apply(inputs, weight, weight_state, bias, query, keep, previous, following, sizes)


def emotion_states(
    inputs: Tensor, weight: Tensor, bias: Tensor, timeline: Timeline, keep: Tensor | None = None
) -> Tensor:
    """A gated recurrence over the dialogues in each of G groups: e_t = unit(input part, e_(t-1)), zero before.

    Args:
        inputs: `[G, T, 3E]`, of n, r, z; T in places.
        weight: `[G, E, 3E]`, of the states; r, z, n.
        bias: `[G, 1, 3E]`, of the states; r, z, n.
        timeline: of the batch, of T utterances.
        keep: `[G, T, E]`, factors of the new states (dropout), or None.

    Returns:
        `[G, T, E]` by place. Once differentiable in all tensors but `keep`; deterministic.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.recurrence import emotion_states
        >>> from spcl_fast.merc.models.timeline import Timeline
        >>> time = Timeline(DialogueBatch.from_lists([[0, 0, 0]]))
        >>> inputs = torch.tensor([100.0, 0.0, 0.0]).expand(1, 3, 3)  # n is 1, and z a half
        >>> emotion_states(inputs, torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), time).flatten()
        tensor([0.5000, 0.7500, 0.8750])
    """
    return _Emotions.apply(inputs, weight, bias, keep, timeline.sizes)
