"""DialogueRNN, in both directions and over all modalities in one loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spcl_fast.merc.models.recurrence import emotion_states, party_states
from spcl_fast.merc.models.timeline import Timeline

__all__ = ["DialogueRNN"]


class DialogueRNN(nn.Module):
    """One bidirectional DialogueRNN (arXiv 1811.00405) a modality: features `[T, F]` to emotions `[M, T, 2 emotion]`.

    A dialogue has a global state, every speaker a party state, and what is felt an emotion state. At an utterance the
    global unit reads the utterance and the speaker's state; the party unit of the speaker alone reads the utterance
    and the context, the mean of the global states so far under a softmax of a learned score (the "simple" attention of
    the published code); the emotion unit reads what the speaker has become. All units are gated (`recurrence`), all
    states begin at zero, and an unknown speaker is met for the first time at each utterance (`Timeline`).

    Args:
        sizes: F of every modality.
        hidden: width H of global and party states.
        emotion: width E of an emotion state.
        dropout: probability, in [0, 1), that a number of a new state is dropped, for the next steps too.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.dialogue_rnn import DialogueRNN
        >>> from spcl_fast.merc.models.timeline import Timeline
        >>> rnn = DialogueRNN([6, 4], hidden=8, emotion=5, dropout=0.5)
        >>> time = Timeline(DialogueBatch.from_lists([[0, 2, 1], [1]], speakers=[[0, 1, 0], [0]]))
        >>> rnn([torch.randn(4, 6), torch.randn(4, 4)], time).shape
        torch.Size([2, 4, 10])
    """

    def __init__(self, sizes: Sequence[int], hidden: int, emotion: int, dropout: float) -> None:
        super().__init__()
        self.hidden, self.emotion, self.dropout = hidden, emotion, dropout
        G, H, E = 2 * len(sizes), hidden, emotion
        # Of a modality both directions, of a direction the global and the party unit. Drawn by the number of features,
        # not by that of states as usual in such units: many features would hold the gates open or shut.
        self.inputs = nn.ParameterList(uniform(size, 2, size, 6 * H) for size in sizes)
        self.input_biases = nn.ParameterList(uniform(H, 2, 1, 6 * H) for _ in sizes)
        # The global units of all groups, then the party units.
        self.reads = uniform(H, 2 * G, H, 3 * H)
        self.states = uniform(H, 2 * G, H, 3 * H)
        self.state_biases = uniform(H, 2 * G, 1, 3 * H)
        self.score = uniform(H, G, H, 1)
        self.emotion_inputs = uniform(E, G, H, 3 * E)
        self.emotion_input_biases = uniform(E, G, 1, 3 * E)
        self.emotion_states = uniform(E, G, E, 3 * E)
        self.emotion_biases = uniform(E, G, 1, 3 * E)

    def forward(self, features: Sequence[Tensor], timeline: Timeline) -> Tensor:
        """The emotion states `[M, T, 2 emotion]` of the T utterances, forward beside backward.

        Args:
            features: `[T, F]` of every modality.
            timeline: of the batch of these T utterances.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.dialogue_rnn import DialogueRNN
            >>> from spcl_fast.merc.models.timeline import Timeline
            >>> time = Timeline(DialogueBatch.from_lists([[0, 2, 1], []]))
            >>> DialogueRNN([6], hidden=8, emotion=5, dropout=0.0)([torch.randn(3, 6)], time).shape
            torch.Size([1, 3, 10])
        """
        M, T, H, E = len(features), timeline.rows.shape[1], self.hidden, self.emotion
        rows = timeline.rows.flatten()
        parts = [
            torch.baddbmm(bias, x.index_select(0, rows).view(2, T, x.shape[1]), weight)
            for x, weight, bias in zip(features, self.inputs, self.input_biases, strict=True)
        ]
        inputs = torch.stack(parts).view(2 * M, T, 2, 3 * H).permute(2, 0, 1, 3)
        parties = party_states(
            *(inputs, self.reads, self.states, self.state_biases, self.score, timeline),
            self._keep(inputs, 4 * M, T, H),
        )
        felt = torch.baddbmm(self.emotion_input_biases, parties, self.emotion_inputs)
        emotions = emotion_states(
            *(felt, self.emotion_states, self.emotion_biases, timeline), self._keep(felt, 2 * M, T, E)
        )
        both = emotions.view(M, 2, T, E).gather(2, timeline.places[:, :, None].expand(M, 2, T, E))
        return both.transpose(1, 2).flatten(2)

    def _keep(self, like: Tensor, *shape: int) -> Tensor | None:
        if not (self.training and self.dropout):
            return None
        return like.new_empty(shape).bernoulli_(1 - self.dropout).div_(1 - self.dropout)


def uniform(fan_in: int, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))
