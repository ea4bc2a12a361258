"""Late fusion: every modality is encoded and classified alone, and the logits are added."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from spcl_fast.batch import DialogueBatch


class GRUEncoder(nn.Module):
    """Linear, ReLU, dropout, bidirectional GRU over the dialogue, dropout: `[T, F]` to `[T, 2 hidden]`."""

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(size, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.out_size = 2 * hidden

    def forward(self, x: Tensor, batch: DialogueBatch) -> Tensor:
        """Encodes each dialogue from both ends; packed, so that no direction starts in the padding."""
        x = batch.pad(self.dropout(self.project(x).relu()))
        if not batch.num_utterances:
            return x.new_zeros(0, self.out_size)
        _, (_, steps) = batch.layout
        # Packing asks for lengths on the host, longest first. Its own sorting would wait for the device; the same
        # stable order on either side needs nothing of the other. An empty dialogue counts as one step of zeros:
        # packing takes none, and nobody reads the result.
        lengths = batch.lengths.cpu() if batch.host_lengths is None else batch.host_lengths
        longest_first = lengths.sort(descending=True, stable=True).values.clamp(min=1)
        order = batch.lengths.argsort(descending=True, stable=True)
        packed, _ = self.gru(pack_padded_sequence(x.index_select(0, order), longest_first, batch_first=True))
        padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=steps)
        return self.dropout(batch.flatten(padded.index_select(0, order.argsort())))


class TransformerEncoder(nn.Module):
    """The published one: two transformer layers at the raw feature size, then linear to `hidden`.

    The number of heads is the first of 5..14 that divides the feature size, else 1. The published code lets
    padding take part in the attention; here it is masked. What the paper leaves open follows the defaults of
    `torch.nn.TransformerEncoderLayer`; there is no positional encoding.
    """

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        heads = next((n for n in range(5, 15) if size % n == 0), 1)
        layer = nn.TransformerEncoderLayer(size, heads, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.project = nn.Linear(size, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out_size = hidden

    def forward(self, x: Tensor, batch: DialogueBatch) -> Tensor:
        """Encodes each dialogue, every utterance looking at all of its own dialogue."""
        if not batch.num_utterances:
            return self.project(x)
        real = batch.pad(torch.ones_like(batch.labels, dtype=torch.bool))
        # A dialogue without utterances attends to one row of zeros: a softmax over nothing would be NaN.
        real[:, 0] = True
        encoded = self.encoder(batch.pad(x), src_key_padding_mask=~real)
        return self.dropout(self.project(batch.flatten(encoded)))


ENCODERS: dict[str, type[GRUEncoder] | type[TransformerEncoder]] = {
    "gru": GRUEncoder,
    "transformer": TransformerEncoder,
}


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
        if encoder not in ENCODERS:
            raise ValueError(f"LateFusion: encoder must be one of {', '.join(ENCODERS)} (got {encoder!r})")
        if not feature_sizes:
            raise ValueError("LateFusion: at least one modality is needed (got none)")
        if num_classes < 1:
            raise ValueError(f"LateFusion: num_classes must be at least 1 (got {num_classes})")
        self.modalities = tuple(feature_sizes)
        # Lists, not mappings: a modality such as "text.glove" has a name that no parameter can bear.
        encoders = [ENCODERS[encoder](size, hidden, dropout) for size in feature_sizes.values()]
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
        return {
            m: head(encode(features[m], batch))
            for m, encode, head in zip(self.modalities, self.encoders, self.heads, strict=True)
        }
