"""Attention within dialogues, for many modalities and experts at once, and the linear layers that go with it."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from spcl_fast.batch import DialogueBatch

__all__ = ["CrossAttentions", "DialogueLayout", "ExpertBlock", "Linears"]


class Linears(nn.Module):
    """`count` linear layers side by side, in one product: `[count, N, size]` to `[count, N, out_size]`.

    Each begins as `torch.nn.Linear` does: weights and biases uniform within 1 / sqrt(size).

    Args:
        count: number of layers, at least 1.
        size: features in, at least 1.
        out_size: features out, at least 1.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy.attention import Linears
        >>> Linears(3, size=4, out_size=2)(torch.zeros(3, 5, 4)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(self, count: int, size: int, out_size: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(size)
        self.weight = nn.Parameter(torch.empty(count, size, out_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, out_size).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """`[count, N, out_size]` of `[count, N, size]`; N may be 0.

        Example:
            >>> import torch
            >>> from spcl_fast.hardy.attention import Linears
            >>> Linears(1, size=4, out_size=2)(torch.zeros(1, 0, 4)).shape
            torch.Size([1, 0, 2])
        """
        return torch.baddbmm(self.bias, x, self.weight)


class DialogueLayout(NamedTuple):
    """Where the T utterances of a batch stand when its dialogues are padded to `[D, L]`, in which attention works.

    Attributes:
        rows: `int64[T]`, the place of each utterance in `[D L]`.
        dialogue: `int64[T]`, the dialogue of each.
        shape: D and L, the length of the longest dialogue.

    Example:
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.hardy.attention import DialogueLayout
        >>> layout = DialogueLayout.of(DialogueBatch.from_lists([[0, 2, 1], [1]]))
        >>> layout.rows.tolist(), layout.shape
        ([0, 1, 2, 3], (2, 3))
    """

    rows: Tensor
    dialogue: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, batch: DialogueBatch) -> Self:
        """The layout of a batch, however that was padded itself; waits for a device that alone knows the lengths.

        Example:
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.hardy.attention import DialogueLayout
            >>> DialogueLayout.of(DialogueBatch.from_lists([])).shape
            (0, 0)
        """
        D, lengths = batch.num_dialogues, batch.lengths
        L = int((lengths if batch.host_lengths is None else batch.host_lengths).max()) if D else 0
        dialogue = torch.repeat_interleave(lengths, output_size=batch.num_utterances)
        position = torch.arange(batch.num_utterances, device=dialogue.device) - batch.offsets[dialogue]
        return cls(dialogue * L + position, dialogue, (D, L))

    def attend(self, projected: Tensor, keys: Tensor, heads: int) -> Tensor:
        """Scaled dot-product attention of G groups, each utterance over the keys of its own dialogue.

        Args:
            projected: `[G, T, 3 F]`, queries, keys and values of every utterance.
            keys: `bool[G, T]`, whose keys are looked at; the padding never is.
            heads: a divisor of F.

        Returns:
            `[G, T, F]`; zeros, with zero gradients, where the dialogue has no key. What stands in a key or value that
            is not looked at must be finite.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.hardy.attention import DialogueLayout
            >>> layout = DialogueLayout.of(DialogueBatch.from_lists([[0, 2], [1]]))
            >>> projected = torch.tensor([[[0.0, 0.0, 4.0], [0.0, 0.0, 2.0], [0.0, 0.0, 1.0]]])  # G = 1, F = 1
            >>> layout.attend(projected, torch.tensor([[True, True, False]]), heads=1).flatten().tolist()
            [3.0, 3.0, 0.0]
        """
        G, T, width = projected.shape
        D, L = self.shape
        if not G or not T:
            return projected.new_zeros(G, T, width // 3)
        padded = projected.new_zeros(G, D * L, width).index_copy(1, self.rows, projected)
        real = keys.new_zeros(G, D * L).index_copy(1, self.rows, keys).view(G * D, L)
        some = real.any(1)
        # A softmax over nothing would be NaN, so such a dialogue looks at its first place, and what it sees is dropped.
        real[:, 0] |= ~some
        query, key, value = padded.view(G * D, L, 3, heads, -1).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None, :])
        seen = seen.transpose(1, 2).reshape(G, D * L, width // 3).index_select(1, self.rows)
        return torch.where(some.view(G, D).index_select(1, self.dialogue)[..., None], seen, 0.0)


class ExpertBlock(nn.Module):
    """One block of every expert: attention and a perceptron behind it, added to the input, without a norm.

    As in the published network (HARDY-MER, arXiv 2508.06800, code): `a = attention(x)`, out `x + a + perceptron(a)`.

    Args:
        experts: their number E, at least 1.
        size: width F, a multiple of heads.
        heads: of the attention.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.hardy.attention import DialogueLayout, ExpertBlock
        >>> layout = DialogueLayout.of(DialogueBatch.from_lists([[0, 2, 1], [1]]))
        >>> block = ExpertBlock(experts=3, size=8, heads=2)
        >>> block(torch.randn(3, 2, 4, 8), torch.ones(3, 2, 4, dtype=torch.bool), layout).shape
        torch.Size([3, 2, 4, 8])
    """

    def __init__(self, experts: int, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = Linears(experts, size, 3 * size)
        self.first, self.second = Linears(experts, size, size), Linears(experts, size, size)

    def forward(self, x: Tensor, keys: Tensor, layout: DialogueLayout) -> Tensor:
        """`[E, S, T, F]` to the same, for S sequences an expert; `keys`, `bool[E, S, T]`, says whom it looks at.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.hardy.attention import DialogueLayout, ExpertBlock
            >>> layout = DialogueLayout.of(DialogueBatch.from_lists([]))
            >>> keys = torch.ones(1, 1, 0, dtype=torch.bool)
            >>> ExpertBlock(experts=1, size=2, heads=1)(torch.zeros(1, 1, 0, 2), keys, layout).shape
            torch.Size([1, 1, 0, 2])
        """
        E, S, T, F = x.shape
        projected = self.project(x.reshape(E, S * T, F)).view(E * S, T, 3 * F)
        seen = layout.attend(projected, keys.reshape(E * S, T), self.heads).view(E, S * T, F)
        return x + (seen + self.second(gelu(self.first(seen)))).view(E, S, T, F)


class CrossAttentions(nn.Module):
    """Both attentions of every pair of modalities, added up: `CA(m<-n) + CA(n<-m)`, query m, keys n.

    As in the published network (HARDY-MER, arXiv 2508.06800, code): attention, linear, a perceptron added to it; an
    utterance is a key where either modality is there.

    Args:
        modalities: their number M, at least 1; the pairs are (0, 1), (0, 2), .., (1, 2), ...
        size: width F, a multiple of heads.
        heads: of the attention.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.hardy.attention import CrossAttentions, DialogueLayout
        >>> layout = DialogueLayout.of(DialogueBatch.from_lists([[0, 2, 1], [1]]))
        >>> cross = CrossAttentions(modalities=3, size=8, heads=2)
        >>> cross(torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool), layout).shape
        torch.Size([3, 4, 8])
    """

    def __init__(self, modalities: int, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        pairs = torch.combinations(torch.arange(modalities)).T  # [2, P]
        # The queries of the 2 P attentions, and whose keys they look at.
        self.queries: Tensor
        self.others: Tensor
        self.register_buffer("queries", pairs.flatten(), persistent=False)
        self.register_buffer("others", pairs.flip(0).flatten(), persistent=False)
        count = 2 * pairs.shape[1]
        self.query, self.key_value = Linears(count, size, size), Linears(count, size, 2 * size)
        self.out = Linears(count, size, size)
        self.first, self.second = Linears(count, size, size), Linears(count, size, size)

    def forward(self, hidden: Tensor, present: Tensor, layout: DialogueLayout) -> Tensor:
        """`[P, T, F]` of `hidden`, `[M, T, F]`, where `present`, `bool[M, T]`, says which modality is there.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.hardy.attention import CrossAttentions, DialogueLayout
            >>> layout = DialogueLayout.of(DialogueBatch.from_lists([[1]]))
            >>> one = CrossAttentions(modalities=1, size=2, heads=1)  # has no pair
            >>> one(torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool), layout).shape
            torch.Size([0, 1, 2])
        """
        queries, others = hidden[self.queries], hidden[self.others]
        projected = torch.cat([self.query(queries), self.key_value(others)], dim=-1)
        seen = self.out(layout.attend(projected, present[self.queries] | present[self.others], self.heads))
        crossed = seen + self.second(gelu(self.first(seen)))
        P = len(self.queries) // 2
        return crossed[:P] + crossed[P:]
