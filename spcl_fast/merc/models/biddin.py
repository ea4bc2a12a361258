"""BiDDIN: a bidirectional DialogueRNN and self attention a modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.models.dialogue_rnn import DialogueRNN, uniform
from spcl_fast.merc.models.dropout import Dropout
from spcl_fast.merc.models.options import require_sizes
from spcl_fast.merc.models.timeline import Timeline

__all__ = ["BiDDIN"]


class BiDDIN(nn.Module):
    """DialogueRNN in both directions, self attention within the dialogue and a head, each modality alone.

    As SPCL (arXiv 2605.21565, code) uses BiDDIN (Zhang et al., ACM Multimedia 2020): emotion states of the raw
    features (`DialogueRNN`), dropout, sinusoidal positions added, multi-head self attention with its input added and
    the sum normalised, a hidden layer as wide, dropout, a linear head. The published code lets padding and other
    dialogues take part in the attention; here they do not. It adds the positions to emotions as they are, which they
    drown; here the emotions are scaled by the root of their width first (arXiv 1706.03762). There is no
    `num_speakers`: a dialogue may have any number of speakers, and an unknown one is a new one at each utterance.

    Args:
        feature_sizes: modality -> F, at least one; their order is the order of the logits.
        num_classes: C, at least 1.
        hidden: width of global and party states (published: 150 both).
        dropout: probability, in [0, 1); of the emotions and of the hidden layer.
        state_dropout: probability, in [0, 1), that a number of a new state is dropped for all that read it. The
            published code has `dropout` here; without, fewer epochs are needed.
        emotion: width of an emotion state; None is two thirds of `hidden` (published: 100 of 150), rounded so that the
            heads divide both directions together.
        heads: of the attention; they divide 2 `emotion`.

    Raises:
        ValueError: no modality, no class, heads that do not divide, a state dropout out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models import BiDDIN
        >>> model = BiDDIN({"text": 6, "audio": 4}, num_classes=3, hidden=8)
        >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]], speakers=[[0, 1, 0], [0]])
        >>> logits = model({"text": torch.randn(4, 6), "audio": torch.randn(4, 4)}, batch)
        >>> {modality: tuple(z.shape) for modality, z in logits.items()}
        {'text': (4, 3), 'audio': (4, 3)}
    """

    def __init__(
        self,
        feature_sizes: Mapping[str, int],
        num_classes: int,
        *,
        hidden: int = 150,
        dropout: float = 0.5,
        state_dropout: float = 0.0,
        emotion: int | None = None,
        heads: int = 4,
    ) -> None:
        super().__init__()
        require_sizes("BiDDIN", feature_sizes, num_classes)
        if emotion is None:
            emotion = heads * max(1, round(2 * hidden / 3 / heads))
        if 2 * emotion % heads:
            raise ValueError(f"BiDDIN: heads must divide twice the emotion width, {2 * emotion} (got {heads})")
        if not 0 <= state_dropout < 1:
            raise ValueError(f"BiDDIN: state_dropout must lie in [0, 1) (got {state_dropout})")
        self.modalities = tuple(feature_sizes)
        self.heads = heads
        self.rnn = DialogueRNN(list(feature_sizes.values()), hidden, emotion, state_dropout)
        self.dropout = Dropout(dropout)
        M, width = len(feature_sizes), 2 * emotion
        self.attention = uniform(width, M, width, 3 * width)  # of queries, keys and values
        self.joined = uniform(width, M, width, width)
        self.hidden, self.hidden_bias = uniform(width, M, width, width), uniform(width, M, 1, width)
        self.head, self.head_bias = uniform(width, M, width, num_classes), uniform(width, M, 1, num_classes)

    def forward(self, features: Mapping[str, Tensor], batch: DialogueBatch) -> dict[str, Tensor]:
        """Logits `[T, C]` of every modality, from its features `[T, F]`.

        Args:
            features: modality -> floating point `[T, F]`, of the dtype of the weights; T may be 0.
            batch: the dialogues of these T utterances, with speakers or without; what is said of one depends on it
                alone.

        Raises:
            KeyError: a modality without features.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models import BiDDIN
            >>> model = BiDDIN({"text": 6}, num_classes=3, hidden=8)
            >>> model({"text": torch.randn(4, 6)}, DialogueBatch.from_lists([[0, 2, 1], [1]]))["text"].shape
            torch.Size([4, 3])
        """
        timeline = Timeline(batch)
        emotions = self.dropout(self.rnn([features[m] for m in self.modalities], timeline))
        # Scaled, as where the sinusoids come from: they are larger than what a gated unit begins with.
        x = emotions * emotions.shape[-1] ** 0.5 + sinusoids(len(timeline.sizes), emotions)[timeline.positions]
        x = F.layer_norm(x + self._attend(x, timeline) @ self.joined, x.shape[-1:])
        x = self.dropout(torch.baddbmm(self.hidden_bias, x, self.hidden).relu())
        return dict(zip(self.modalities, torch.baddbmm(self.head_bias, x, self.head).unbind(), strict=True))

    def _attend(self, x: Tensor, timeline: Timeline) -> Tensor:
        """What each utterance `[M, T, width]` gathers from those of its dialogue, all heads side by side."""
        M, T, width = x.shape
        projected = x @ self.attention
        if T == 0:
            return projected[..., :width]
        D, L = timeline.sizes[0], len(timeline.sizes)
        padded = x.new_zeros(M, D * L, 3 * width).index_copy(1, timeline.slots, projected)
        q, k, v = padded.view(M, D, L, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5).flatten(1, 2).unbind()
        real = torch.zeros(D * L, dtype=torch.bool, device=x.device).index_fill(0, timeline.slots, True)
        mask = real.view(1, D, 1, 1, L).expand(M, D, 1, 1, L).flatten(0, 1)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [M D, heads, L, width / heads]
        return found.transpose(1, 2).reshape(M, D * L, width).index_select(1, timeline.slots)


def sinusoids(length: int, like: Tensor) -> Tensor:
    """Positions 0, 1, ... as sines and cosines of falling frequency, in turn: `[length, width]`."""
    width = like.shape[-1]
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=like.dtype, device=like.device) / width)
    angle = torch.arange(length, dtype=like.dtype, device=like.device)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]
