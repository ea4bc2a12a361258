"""MMGCN: a graph over all utterances and modalities of a dialogue, and one head a modality."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.models.gcnii import GraphEncoder
from spcl_fast.merc.models.options import require_sizes

__all__ = ["MMGCN"]


class MMGCN(nn.Module):
    """Encoders, GCNII over the graph of the dialogue, linear heads (arXiv 2107.06779; as SPCL's backbone 2605.21565).

    It does not tell speakers apart, as SPCL's code does not: `batch.speakers` is not read.

    Args:
        feature_sizes: modality -> F, at least one; their order is the order of the logits.
        num_classes: C, at least 1.
        encoder: "gru" or "transformer", whose output is not dropped: the graph drops what it reads.
        hidden: width H of the encoders and of the graph.
        dropout: probability, in [0, 1).
        layers: of GCNII, at least 0.
        decay: lambda of GCNII, positive.
        alpha: of GCNII, in [0, 1].

    Raises:
        ValueError: no modality, no class, an unknown encoder, an option out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models import MMGCN
        >>> model = MMGCN({"text": 6, "audio": 4}, num_classes=3, hidden=8)
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
        layers: int = 2,
        decay: float = 0.5,
        alpha: float = 0.1,
    ) -> None:
        super().__init__()
        require_sizes("MMGCN", feature_sizes, num_classes)
        self.modalities = tuple(feature_sizes)
        self.encode = GraphEncoder(
            "MMGCN", feature_sizes, hidden, encoder=encoder, dropout=dropout, layers=layers, decay=decay, alpha=alpha
        )
        # A list, not a mapping: a modality such as "text.glove" has a name that no parameter can bear.
        self.heads = nn.ModuleList(nn.Linear(self.encode.out_size, num_classes) for _ in feature_sizes)

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
            >>> from spcl_fast.merc.models import MMGCN
            >>> model = MMGCN({"text": 6, "audio": 4}, num_classes=3, hidden=8)
            >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
            >>> logits = model({"text": torch.randn(4, 6), "audio": torch.randn(4, 4)}, batch)
            >>> sum(logits.values()).argmax(-1).shape  # the joint prediction of every utterance
            torch.Size([4])
        """
        nodes = self.encode([features[m] for m in self.modalities], batch).unbind(1)
        return {m: head(x) for m, head, x in zip(self.modalities, self.heads, nodes, strict=True)}
