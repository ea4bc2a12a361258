"""GCNII, arXiv 2007.02133: graph convolutions that keep a part of their first input and of themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.models.dialogue_graph import DialogueGraph, build_graph
from spcl_fast.merc.models.dropout import Dropout
from spcl_fast.merc.models.encoders import encode, make_encoder

__all__ = ["GCNII", "GraphEncoder"]


class GCNII(nn.Module):
    """Linear and ReLU, then layers of the variant with separate weights for what is new and what is kept.

    With P = D^-1/2 A D^-1/2, h_0 = relu(x W + b) and theta = log(1 + lambda / l), layer l = 1, 2, .. is

        h_l = relu(theta [P h, h_0] W_l + (1 - theta) ((1 - alpha) P h + alpha h_0)),   h = dropout(h_{l-1})

    All of it but the ReLU is linear in P h and h_0, so the parts that do not depend on the weights are added to them
    first: theta W_l + (1 - theta) [(1 - alpha) I, alpha I].

    Args:
        size: F of the nodes.
        hidden: H.
        layers: at least 0.
        decay: lambda; the larger, the more a layer changes.
        alpha: share of h_0.
        dropout: probability, in [0, 1).

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.dialogue_graph import build_graph
        >>> from spcl_fast.merc.models.gcnii import GCNII
        >>> nodes = torch.randn(4, 2, 5)  # T, M, F
        >>> graph = build_graph(nodes, DialogueBatch.from_lists([[0, 0, 0], [0]]))
        >>> GCNII(5, 8)(nodes, graph).shape
        torch.Size([4, 2, 8])
    """

    def __init__(
        self,
        size: int,
        hidden: int,
        *,
        layers: int = 2,
        decay: float = 0.5,
        alpha: float = 0.1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.alpha, self.dropout = alpha, Dropout(dropout)
        self.thetas = [math.log(decay / layer + 1) for layer in range(1, layers + 1)]
        self.first = nn.Linear(size, hidden)
        self.weights = nn.ParameterList(torch.empty(2 * hidden, hidden) for _ in range(layers))
        for weight in self.weights:
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    def forward(self, nodes: Tensor, graph: DialogueGraph) -> Tensor:
        """Nodes `[T, M, F]` to `[T, M, H]`.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.dialogue_graph import build_graph
            >>> from spcl_fast.merc.models.gcnii import GCNII
            >>> graph = build_graph(torch.randn(0, 2, 5), DialogueBatch.from_lists([[]]))
            >>> GCNII(5, 8)(torch.zeros(0, 2, 5), graph).shape
            torch.Size([0, 2, 8])
        """
        first = self.first(nodes).relu()
        kept, hidden = first.flatten(0, 1), first
        for theta, weight in zip(self.thetas, self.weights, strict=True):
            moved = graph.propagate(self.dropout(hidden)).flatten(0, 1)
            identity = torch.eye(first.shape[-1], dtype=weight.dtype, device=weight.device)
            shares = torch.cat([identity * (1 - self.alpha), identity * self.alpha])
            new, old = (theta * weight + (1 - theta) * shares).chunk(2)
            hidden = torch.addmm(kept @ old, moved, new).relu().view_as(first)
        return self.dropout(hidden)


class GraphEncoder(nn.Module):
    """What MMGCN and MM-DFN begin with: an encoder a modality, the graph of its output, and GCNII over it.

    Args:
        owner: in whose name errors are said.
        feature_sizes: modality -> F, at least one.
        hidden: width H of the encoders and of the graph.
        encoder: of `encoders.ENCODERS`, whose output is not dropped, so that the edges are weighed from whole nodes.
        dropout: of the nodes and inside GCNII, in [0, 1).
        layers: of GCNII, at least 0.
        decay: lambda of GCNII, positive.
        alpha: of GCNII, in [0, 1].

    Raises:
        ValueError: an unknown encoder, an option out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.gcnii import GraphEncoder
        >>> encode = GraphEncoder("MMGCN", {"text": 6, "audio": 4}, 8)
        >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
        >>> encode([torch.randn(4, 6), torch.randn(4, 4)], batch).shape  # T, M, and the encoder's 16 with the graph's 8
        torch.Size([4, 2, 24])
    """

    def __init__(
        self,
        owner: str,
        feature_sizes: Mapping[str, int],
        hidden: int,
        *,
        encoder: str = "gru",
        dropout: float = 0.5,
        layers: int = 2,
        decay: float = 0.5,
        alpha: float = 0.1,
    ) -> None:
        super().__init__()
        if layers < 0:
            raise ValueError(f"{owner}: layers must be at least 0 (got {layers})")
        if not 0 < decay < math.inf:
            raise ValueError(f"{owner}: decay must be positive and finite (got {decay})")
        if not 0 <= alpha <= 1:
            raise ValueError(f"{owner}: alpha must lie in [0, 1] (got {alpha})")
        encoders = [make_encoder(owner, encoder, size, hidden, 0.0) for size in feature_sizes.values()]
        size = encoders[0].out_size
        self.encoders, self.dropout = nn.ModuleList(encoders), Dropout(dropout)
        self.graph = GCNII(size, hidden, layers=layers, decay=decay, alpha=alpha, dropout=dropout)
        self.out_size = size + hidden

    def forward(self, features: Sequence[Tensor], batch: DialogueBatch) -> Tensor:
        """M features `[T, F]` to `[T, M, out_size]`: every node beside what the graph makes of it.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.gcnii import GraphEncoder
            >>> encode = GraphEncoder("MMGCN", {"text": 6}, 8)
            >>> encode([torch.zeros(0, 6)], DialogueBatch.from_lists([[]])).shape
            torch.Size([0, 1, 24])
        """
        nodes = encode(self.encoders, features, batch).transpose(0, 1)
        graph = build_graph(nodes, batch)
        nodes = self.dropout(nodes)
        return torch.cat([nodes, self.graph(nodes, graph)], dim=-1)
