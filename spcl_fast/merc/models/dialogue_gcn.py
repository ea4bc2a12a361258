"""DialogueGCN: the window of an utterance as a graph whose edges know who speaks, to whom, and who spoke first."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.models.dropout import Dropout
from spcl_fast.merc.models.encoders import encode, make_encoder
from spcl_fast.merc.models.options import require_sizes
from spcl_fast.merc.models.window_graph import WindowGraph

__all__ = ["DialogueGCN"]


class EdgeAttention(nn.Module):
    """Weights of the edges: what an utterance gives to those of its window, itself included, sums to 1."""

    def __init__(self, modalities: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(modalities, size, size).normal_(0, 1 / size))

    def forward(self, x: Tensor, graph: WindowGraph) -> Tensor:
        """From `[M, N, F]`, weights `[M, B, R, R + 2 window]`: the row gives, the column receives."""
        scores = graph.split(torch.bmm(x, self.weight)) @ graph.around(x).transpose(2, 3)
        return scores.masked_fill(~graph.edges, -torch.inf).softmax(-1)


class RelationalConv(nn.Module):
    """RGCN: the mean over the edges of each relation, through its matrix, which is a sum of bases; root, bias."""

    def __init__(self, modalities: int, size: int, out_size: int, num_relations: int, num_bases: int) -> None:
        super().__init__()
        self.bases = _glorot(modalities, num_bases, size, out_size)
        self.mixture = _glorot(modalities, num_relations, num_bases)
        self.root = _glorot(modalities, size, out_size)
        self.bias = nn.Parameter(torch.zeros(modalities, 1, out_size))

    def forward(self, x: Tensor, graph: WindowGraph) -> Tensor:
        """From `[M, N, F]` to `[M, N, out_size]`."""
        M, num_relations, num_bases = self.mixture.shape
        # The sum over relations and bases, of mixture[r, b] (mean over the edges of r) bases[b], from its cheaper end.
        if num_relations <= num_bases:
            weight = torch.bmm(self.mixture, self.bases.flatten(2)).view(M, -1, self.root.shape[-1])
            table = torch.eye(num_relations, dtype=x.dtype, device=x.device).expand(M, -1, -1)
        else:
            weight, table = self.bases.flatten(1, 2), self.mixture
        rows = F.pad(table, (0, 0, 0, 1)).index_select(1, graph.relations.flatten())  # zeros where there is no edge
        links = rows.unflatten(1, graph.relations.shape) / graph.counts[..., None]
        gathered = (links.transpose(3, 4).flatten(2, 3) @ graph.around(x)).view(M, graph.num_rows, -1)
        return torch.baddbmm(torch.baddbmm(self.bias, x, self.root), gathered, weight)


class WeightedConv(nn.Module):
    """GraphConv: the sum over the edges, times their weights, through one matrix; root, bias."""

    def __init__(self, modalities: int, size: int, out_size: int) -> None:
        super().__init__()
        self.weight = _uniform(size, modalities, size, out_size)
        self.root = _uniform(size, modalities, size, out_size)
        self.bias = _uniform(size, modalities, 1, out_size)

    def forward(self, x: Tensor, weights: Tensor, graph: WindowGraph) -> Tensor:
        """From `[M, N, F]` and the weights of `EdgeAttention` to `[M, N, out_size]`."""
        gathered = graph.add_around(weights.transpose(2, 3) @ graph.split(x))
        return torch.baddbmm(torch.baddbmm(self.bias, x, self.root), gathered, self.weight)


class DialogueGCN(nn.Module):
    """A context encoder, two graph layers and a head for each modality (arXiv 1908.11540, in the form of 2605.21565).

    An utterance is linked with itself, the `window` utterances before and the `window` after it. The first graph
    layer tells 2 S^2 relations apart: speaker of the source, speaker of the target, and whether the source came first
    (an utterance counts as not earlier than itself). The second adds up the neighbours by the attention that they give.
    As in the published code, what an utterance gives sums to 1; in the formula of the paper, what it receives does.
    There is nothing between the two layers, and the head (linear, ReLU, dropout, linear) sees context and graph. The
    graph layers and the head are half as wide as the context, as published (200 and 100). The modalities never
    meet: each has weights of its own, and all are multiplied at once.

    Args:
        feature_sizes: modality -> F, at least one; their order is the order of the logits.
        num_classes: C, at least 1.
        num_speakers: S, speakers that are told apart, at least 1. Later ones count as the last of them, as do
            unknown ones (-1), and all where the batch has no speakers.
        encoder: "gru", or the published "transformer", here of one head.
        hidden: width of the encoder.
        dropout: probability, in [0, 1).
        window: utterances on either side, at least 0.
        num_bases: matrices that those of all relations are mixed of, at least 1.

    Raises:
        ValueError: no modality, no class, an unknown encoder, a number out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.dialogue_gcn import DialogueGCN
        >>> model = DialogueGCN({"text": 6, "audio": 4}, num_classes=3, num_speakers=2, hidden=8)
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
        num_speakers: int = 2,
        encoder: str = "gru",
        hidden: int = 128,
        dropout: float = 0.5,
        window: int = 5,
        num_bases: int = 30,
    ) -> None:
        super().__init__()
        require_sizes("DialogueGCN", feature_sizes, num_classes)
        for name, value, least in (
            ("num_speakers", num_speakers, 1),
            ("window", window, 0),
            ("num_bases", num_bases, 1),
        ):
            if value < least:
                raise ValueError(f"DialogueGCN: {name} must be at least {least} (got {value})")
        self.modalities = tuple(feature_sizes)
        self.num_speakers, self.window = num_speakers, window
        encoders = [
            make_encoder("DialogueGCN", encoder, size, hidden, dropout, heads=1) for size in feature_sizes.values()
        ]
        self.encoders = nn.ModuleList(encoders)
        M, size = len(encoders), encoders[0].out_size
        half = max(1, size // 2)
        self.attention = EdgeAttention(M, size)
        self.relational = RelationalConv(M, size, half, 2 * num_speakers**2, num_bases)
        self.weighted = WeightedConv(M, half, half)
        self.head_context = _uniform(size + half, M, size, half)
        self.head_graph = _uniform(size + half, M, half, half)
        self.head_bias = _uniform(size + half, M, 1, half)
        self.dropout = Dropout(dropout)
        self.out = _uniform(half, M, half, num_classes)
        self.out_bias = _uniform(half, M, 1, num_classes)

    def forward(self, features: Mapping[str, Tensor], batch: DialogueBatch) -> dict[str, Tensor]:
        """Logits `[T, C]` of every modality, from its features `[T, F]`.

        Args:
            features: modality -> `float[T, F]` in the dtype of the model; T may be 0.
            batch: the dialogues of these T utterances; what is said of one depends on it alone.

        Raises:
            KeyError: a modality without features.
            ValueError: features that do not have T rows.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.dialogue_gcn import DialogueGCN
            >>> model = DialogueGCN({"text": 6, "audio": 4}, num_classes=3, num_speakers=2, hidden=8)
            >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]], speakers=[[0, 1, 0], [0]])
            >>> logits = model({"text": torch.randn(4, 6), "audio": torch.randn(4, 4)}, batch)
            >>> sum(logits.values()).argmax(-1).shape  # the joint prediction of every utterance
            torch.Size([4])
        """
        encoded = encode(self.encoders, [features[m] for m in self.modalities], batch)
        graph = WindowGraph(batch, self.window, self.num_speakers)
        context = graph.pad(encoded)
        x = self.weighted(self.relational(context, graph), self.attention(context, graph), graph)
        # One linear layer on [context, graph], without joining them.
        hidden = torch.baddbmm(torch.baddbmm(self.head_bias, context, self.head_context), x, self.head_graph)
        logits = torch.baddbmm(self.out_bias, self.dropout(hidden.relu()), self.out)
        return dict(zip(self.modalities, logits[:, : batch.num_utterances].unbind(), strict=True))


def _glorot(*shape: int) -> nn.Parameter:
    bound = (6 / (shape[-2] + shape[-1])) ** 0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def _uniform(fan_in: int, *shape: int) -> nn.Parameter:
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
