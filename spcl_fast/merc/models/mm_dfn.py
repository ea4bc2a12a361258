"""MM-DFN: the graph of MMGCN, then gates between the modalities of every utterance."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.models.dropout import Dropout
from spcl_fast.merc.models.gcnii import GraphEncoder
from spcl_fast.merc.models.options import require_sizes

__all__ = ["MMDFN", "ModalityGates"]


class ModalityGates(nn.Module):
    """Every modality of an utterance takes from every other, as much as a gate lets through (MM-DFN, arXiv 2203.02385).

        h_i = dropout(relu(W_i x_i + b_i)),   z_ij = sigmoid(W_ij [h_i, h_j, h_i * h_j] + b_ij)
        out_i = sum over j != i of z_ij h_i + (1 - z_ij) h_j

    A modality alone has nobody to take from: out = h.

    Args:
        size: F of the nodes.
        hidden: H.
        num_modalities: M.
        dropout: probability, in [0, 1); SPCL's code has 0.5 here whatever the rest of the model has.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.models.mm_dfn import ModalityGates
        >>> ModalityGates(5, 8, num_modalities=3)(torch.randn(4, 3, 5)).shape  # T, M, F to T, M, H
        torch.Size([4, 3, 8])
    """

    def __init__(self, size: int, hidden: int, num_modalities: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout, M = Dropout(dropout), num_modalities
        pairs = [(i, j) for i in range(M) for j in range(M) if i != j]
        for name, side in (("own", 0), ("other", 1)):
            index = torch.tensor([pair[side] for pair in pairs], dtype=torch.int64, device="cpu")
            self.register_buffer(name, index, persistent=False)
        self.weight = nn.Parameter(torch.empty(M, size, hidden).uniform_(-(size**-0.5), size**-0.5))
        self.bias = nn.Parameter(torch.empty(M, 1, hidden).uniform_(-(size**-0.5), size**-0.5))
        bound = (3 * hidden) ** -0.5  # that of `nn.Linear`, as above
        self.gate_weight = nn.Parameter(torch.empty(len(pairs), 3 * hidden, hidden).uniform_(-bound, bound))
        self.gate_bias = nn.Parameter(torch.empty(len(pairs), 1, hidden).uniform_(-bound, bound))

    def forward(self, nodes: Tensor) -> Tensor:
        """`[T, M, F]` to `[T, M, H]`; what is said of an utterance depends on it alone.

        Example:
            >>> import torch
            >>> from spcl_fast.merc.models.mm_dfn import ModalityGates
            >>> ModalityGates(5, 8, num_modalities=1)(torch.randn(4, 1, 5)).min().item()  # h, after its ReLU
            0.0
        """
        M = nodes.shape[1]
        h = self.dropout(torch.baddbmm(self.bias, nodes.transpose(0, 1), self.weight).relu())
        if M == 1:
            return h.transpose(0, 1)
        own, other = h.index_select(0, self.own), h.index_select(0, self.other)
        z = torch.baddbmm(self.gate_bias, torch.cat([own, other, own * other], dim=-1), self.gate_weight).sigmoid()
        return torch.lerp(other, own, z).unflatten(0, (M, M - 1)).sum(1).transpose(0, 1)


class MMDFN(nn.Module):
    """Encoders, GCNII over the graph of the dialogue, gates, linear heads (arXiv 2203.02385; as SPCL's, 2605.21565).

    It does not tell speakers apart, as SPCL's code does not: `batch.speakers` is not read.

    Args:
        feature_sizes: modality -> F, at least one; their order is the order of the logits.
        num_classes: C, at least 1.
        encoder: "gru" or "transformer", whose output is not dropped: the graph drops what it reads.
        hidden: width H of the encoders, of the graph and of the gates.
        dropout: probability, in [0, 1).
        gate_dropout: probability, in [0, 1), in the gates.
        layers: of GCNII, at least 0.
        decay: lambda of GCNII, positive.
        alpha: of GCNII, in [0, 1].

    Raises:
        ValueError: no modality, no class, an unknown encoder, an option out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models import MMDFN
        >>> model = MMDFN({"text": 6, "audio": 4}, num_classes=3, hidden=8)
        >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
        >>> logits = model({"text": torch.randn(4, 6), "audio": torch.randn(4, 4)}, batch)
        >>> {modality: tuple(z.shape) for modality, z in logits.items()}
        {'text': (4, 3), 'audio': (4, 3)}
    """

    def __init__(
        self,
        feature_sizes: Mapping[str, int],
        num_classes: int,
        *,
        encoder: str = "gru",
        hidden: int = 128,
        dropout: float = 0.5,
        gate_dropout: float = 0.5,
        layers: int = 2,
        decay: float = 0.5,
        alpha: float = 0.1,
    ) -> None:
        super().__init__()
        require_sizes("MMDFN", feature_sizes, num_classes)
        if not 0 <= gate_dropout < 1:
            raise ValueError(f"MMDFN: gate_dropout must lie in [0, 1) (got {gate_dropout})")
        self.modalities = tuple(feature_sizes)
        self.encode = GraphEncoder(
            "MMDFN", feature_sizes, hidden, encoder=encoder, dropout=dropout, layers=layers, decay=decay, alpha=alpha
        )
        self.gates = ModalityGates(self.encode.out_size, hidden, len(feature_sizes), dropout=gate_dropout)
        self.heads = nn.ModuleList(nn.Linear(hidden, num_classes) for _ in feature_sizes)

    def forward(self, features: Mapping[str, Tensor], batch: DialogueBatch) -> dict[str, Tensor]:
        """Logits `[T, C]` of every modality, from its features `[T, F]`.

        Args:
            features: modality -> `float32[T, F]`; T may be 0.
            batch: the dialogues of these T utterances; what is said of one depends on it alone.

        Raises:
            KeyError: a modality without features.
            ValueError: features that do not have T rows.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models import MMDFN
            >>> model = MMDFN({"text": 6, "audio": 4}, num_classes=3, hidden=8)
            >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
            >>> logits = model({"text": torch.randn(4, 6), "audio": torch.randn(4, 4)}, batch)
            >>> sum(logits.values()).argmax(-1).shape  # the joint prediction of every utterance
            torch.Size([4])
        """
        nodes = self.gates(self.encode([features[m] for m in self.modalities], batch)).unbind(1)
        return {m: head(x) for m, head, x in zip(self.modalities, self.heads, nodes, strict=True)}
