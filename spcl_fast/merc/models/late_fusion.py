"""Late fusion: every modality is encoded and classified alone, and the logits are added."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.models.encoders import encode, make_encoder
from spcl_fast.merc.models.options import require_sizes


class LateFusion(nn.Module):
    """One encoder and one linear head a modality (SPCL, arXiv 2605.21565, its late-fusion backbone).

    Args:
        feature_sizes: modality -> F, at least one; their order is the order of the logits.
        num_classes: C, at least 1.
        encoder: "gru" or "transformer".
        hidden: width of the encoders.
        dropout: probability, in [0, 1).

    Raises:
        ValueError: no modality, no class, an unknown encoder.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models import LateFusion
        >>> model = LateFusion({"text": 6, "audio": 4}, num_classes=3, hidden=8)
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
    ) -> None:
        super().__init__()
        require_sizes("LateFusion", feature_sizes, num_classes)
        self.modalities = tuple(feature_sizes)
        # Lists, not mappings: a modality such as "text.glove" has a name that no parameter can bear.
        encoders = [make_encoder("LateFusion", encoder, size, hidden, dropout) for size in feature_sizes.values()]
        self.encoders = nn.ModuleList(encoders)
        self.heads = nn.ModuleList(nn.Linear(e.out_size, num_classes) for e in encoders)

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
            >>> from spcl_fast.merc.models import LateFusion
            >>> model = LateFusion({"text": 6, "audio": 4}, num_classes=3, hidden=8)
            >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
            >>> logits = model({"text": torch.randn(4, 6), "audio": torch.randn(4, 4)}, batch)
            >>> sum(logits.values()).argmax(-1).shape  # the joint prediction of every utterance
            torch.Size([4])
        """
        encoded = encode(self.encoders, [features[m] for m in self.modalities], batch)
        return {m: head(x) for m, head, x in zip(self.modalities, self.heads, encoded, strict=True)}
