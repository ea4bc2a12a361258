"""The graph of MMGCN and MM-DFN: the M * L nodes of every dialogue, without its [ML, ML] matrix."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from spcl_fast.batch import DialogueBatch

__all__ = ["DialogueGraph", "angular_weight", "build_graph"]

#: keeps the arc cosine away from 1, where its slope is infinite (MMGCN, arXiv 2107.06779, code)
SHRINK = 0.99999


def angular_weight(cosine: Tensor) -> Tensor:
    """The weight 1 - arccos(0.99999 cos) / pi of an edge, in (0, 1) (MMGCN, arXiv 2107.06779).

    Args:
        cosine: float of any shape, in [-1, 1] but for rounding.

    Returns:
        The same shape and dtype. The gradient is finite everywhere; with respect to a node x it is at most
        1 / (pi |x|), because the slope of the arc cosine grows only where the cosine hardly changes.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.models.dialogue_graph import angular_weight
        >>> [round(w, 4) for w in angular_weight(torch.tensor([1.0, 0.0, -1.0])).tolist()]
        [0.9986, 0.5, 0.0014]
    """
    return torch.acos(cosine * SHRINK).mul(-1 / math.pi).add(1)


class DialogueGraph(NamedTuple):
    """D^-1/2 A D^-1/2 of every dialogue of a batch, in the parts that are not zero.

    Node (t, m) is utterance t in modality m. It has an edge to every utterance of its dialogue in m, itself
    included, and to the same utterance in every other modality.

    Attributes:
        within: `[D * M, L, L]`, the weights inside a modality, L the longest dialogue; no meaning in the padding.
        across: `[T, M, M]`, the weights between the modalities of an utterance, 0 on the diagonal.
        scale: `[T, M, 1]`, one over the root of the degree.
        rows: `int64[T * M]`, where each node stands in the D * M * L rows of the padded nodes.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.dialogue_graph import build_graph
        >>> batch = DialogueBatch.from_lists([[0, 0, 0], [0]])
        >>> graph = build_graph(torch.ones(4, 2, 5), batch)  # equal nodes: all edges weigh the same
        >>> graph.propagate(torch.ones(4, 2, 1)).flatten().tolist()  # so that the mean of ones is one
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    within: Tensor
    across: Tensor
    scale: Tensor
    rows: Tensor

    def propagate(self, nodes: Tensor) -> Tensor:
        """D^-1/2 A D^-1/2 times the nodes `[T, M, H]`, which is `[T, M, H]` again.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.dialogue_graph import build_graph
            >>> graph = build_graph(torch.randn(4, 2, 5), DialogueBatch.from_lists([[0, 0, 0], [0]]))
            >>> moved = graph.propagate(torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(4, 1, 1).expand(4, 2, 3))
            >>> moved[3].abs().max().item()  # nothing comes from another dialogue
            0.0
        """
        scaled = nodes * self.scale
        padded = _padded(scaled.flatten(0, 1), self.rows, self.within)
        inside = torch.bmm(self.within, padded).flatten(0, 1).index_select(0, self.rows)
        return torch.baddbmm(inside.view_as(scaled), self.across, scaled) * self.scale


def build_graph(nodes: Tensor, batch: DialogueBatch) -> DialogueGraph:
    """Weighs the edges by the angle between their nodes; differentiable, as in the published code.

    Args:
        nodes: float32 or float64 `[T, M, F]`. A node of zeros has cosine 0 to all, itself included.
        batch: the dialogues of the T utterances; T may be 0, and so may the length of a dialogue. Nothing waits for
            its device if its lengths are known on the host.

    Raises:
        ValueError: nodes that do not have T rows.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.dialogue_graph import build_graph
        >>> nodes = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 2.0]]])  # T = M = F = 2
        >>> graph = build_graph(nodes, DialogueBatch.from_lists([[0, 0]]))
        >>> graph.within[0, 0, 1].item()  # the first modality turns by a right angle from utterance 0 to 1
        0.5
        >>> [round(w, 3) for w in graph.across[:, 0, 1].tolist()]
        [0.5, 0.999]
    """
    if nodes.ndim != 3 or nodes.shape[0] != batch.num_utterances:
        raise ValueError(
            f"build_graph: nodes must have shape [{batch.num_utterances}, M, F] (got {tuple(nodes.shape)})"
        )
    T, M, F = nodes.shape
    lengths = batch.lengths if batch.host_lengths is None else batch.host_lengths
    D, L = batch.num_dialogues, int(lengths.max()) if batch.num_dialogues else 0
    device = batch.offsets.device
    dialogue = torch.repeat_interleave(batch.lengths, output_size=T)
    position = torch.arange(T, device=device) - batch.offsets.index_select(0, dialogue)
    modality = torch.arange(M, device=device)
    rows = ((dialogue[:, None] * M + modality) * L + position[:, None]).flatten()

    square = nodes.square().sum(-1, keepdim=True)
    smallest = torch.finfo(nodes.dtype).tiny
    unit = nodes * (square.clamp(min=smallest).rsqrt() * (square > 0))
    padded = unit.new_zeros(D * M * L, F).index_copy(0, rows, unit.flatten(0, 1)).view(D * M, L, F)
    within = angular_weight(torch.bmm(padded, padded.mT))
    across = angular_weight(torch.bmm(unit, unit.mT)) * (1 - torch.eye(M, dtype=unit.dtype, device=unit.device))

    real = unit.new_zeros(D * M * L).index_fill(0, rows, 1.0).view(D * M, L, 1)
    degree = torch.bmm(within, real).flatten().index_select(0, rows).view(T, M, 1) + across.sum(-1, keepdim=True)
    return DialogueGraph(within, across, degree.rsqrt(), rows)


def _padded(flat: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """`[T * M, H]` to `[D * M, L, H]` with zeros in the padding."""
    size, L, _ = like.shape
    return flat.new_zeros(size * L, flat.shape[1]).index_copy(0, rows, flat).view(size, L, flat.shape[1])
