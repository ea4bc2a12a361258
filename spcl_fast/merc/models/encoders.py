"""Encoders: the context of one modality, from its features `[T, F]` to `[T, out_size]`, each dialogue by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.models.dropout import Dropout
from spcl_fast.merc.models.packed_gru import bidirectional_grus, time_order


class GRUEncoder(nn.Module):
    """Linear, ReLU, dropout, bidirectional GRU over the dialogue, dropout: `[T, F]` to `[T, 2 hidden]`."""

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(size, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.dropout = Dropout(dropout)
        self.out_size = 2 * hidden

    def forward(self, x: Tensor, batch: DialogueBatch) -> Tensor:
        """Encodes each dialogue from both ends; packed, so that no direction starts in the padding."""
        if x.device.type == "cpu":
            return encode([self], [x], batch)[0]
        x = self.dropout(self.project(x).relu())
        if not batch.num_utterances:
            return x.new_zeros(0, self.out_size)
        lengths = batch.lengths.cpu() if batch.host_lengths is None else batch.host_lengths
        batch = _dialogues_first(batch)
        x = batch.pad(x)
        _, (_, steps) = batch.layout
        # Packing asks for lengths on the host, longest first. Its own sorting would wait for the device; the same
        # stable order on either side needs nothing of the other. An empty dialogue counts as one step of zeros:
        # packing takes none, and nobody reads the result.
        longest_first = lengths.sort(descending=True, stable=True).values.clamp(min=1)
        order = batch.lengths.argsort(descending=True, stable=True)
        packed, _ = self.gru(pack_padded_sequence(x.index_select(0, order), longest_first, batch_first=True))
        padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=steps)
        return self.dropout(batch.flatten(padded.index_select(0, order.argsort())))


class TransformerEncoder(nn.Module):
    """The published one: two transformer layers at the raw feature size, then linear to `hidden`.

    The number of heads is the first of 5..14 that divides the feature size, else 1, where it is not given. The
    published code lets padding take part in the attention; here it is masked. What the paper leaves open follows the
    defaults of `torch.nn.TransformerEncoderLayer`, its dropout of 0.1 among them; there is no positional encoding.
    """

    def __init__(self, size: int, hidden: int, dropout: float, heads: int | None = None) -> None:
        super().__init__()
        heads = heads or next((n for n in range(5, 15) if size % n == 0), 1)
        layer = nn.TransformerEncoderLayer(size, heads, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.project = nn.Linear(size, hidden)
        self.dropout = Dropout(dropout)
        self.out_size = hidden

    def forward(self, x: Tensor, batch: DialogueBatch) -> Tensor:
        """Encodes each dialogue, every utterance looking at all of its own dialogue."""
        if not batch.num_utterances:
            return self.project(x)
        batch = _dialogues_first(batch)
        real = batch.pad(torch.ones_like(batch.labels, dtype=torch.bool))
        # A dialogue without utterances attends to one row of zeros: a softmax over nothing would be NaN.
        real[:, 0] = True
        encoded = self.encoder(batch.pad(x), src_key_padding_mask=~real)
        return self.dropout(self.project(batch.flatten(encoded)))


def _dialogues_first(batch: DialogueBatch) -> DialogueBatch:
    """The batch padded to `[D, longest]`, whatever layout and holes it was given with."""
    lengths = batch.lengths if batch.host_lengths is None else batch.host_lengths
    D, L = batch.num_dialogues, int(lengths.max()) if batch.num_dialogues else 0
    dialogue = torch.repeat_interleave(batch.lengths, output_size=batch.num_utterances)
    position = torch.arange(batch.num_utterances, device=dialogue.device) - batch.offsets[dialogue]
    return replace(batch, rows=dialogue * L + position, padded_shape=(D, L))


def encode(encoders: Iterable[nn.Module], features: Iterable[Tensor], batch: DialogueBatch) -> Tensor:
    """The context of all modalities, from their features `[T, F]`: `[M, T, out_size]`.

    On the CPU the GRUs take their steps together, which is why there is a function for all of them. They have to be
    of one kind, one width and one dropout.

    Raises:
        ValueError: features that do not have T rows.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.encoders import encode, make_encoder
        >>> encoders = [make_encoder("own", "gru", size, hidden=8, dropout=0.5) for size in (6, 4)]
        >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
        >>> encode(encoders, [torch.randn(4, 6), torch.randn(4, 4)], batch).shape
        torch.Size([2, 4, 16])
    """
    encoders, features = list(encoders), list(features)
    for x in features:
        if len(x) != batch.num_utterances:
            raise ValueError(f"encode: features must have {batch.num_utterances} rows (got shape {tuple(x.shape)})")
    grus = [e for e in encoders if isinstance(e, GRUEncoder)]
    if len(grus) < len(encoders) or features[0].device.type != "cpu":
        return torch.stack([e(x, batch) for e, x in zip(encoders, features, strict=True)])
    projected = torch.stack([e.dropout(e.project(x).relu()) for e, x in zip(grus, features, strict=True)])
    order = time_order(batch.lengths)
    return grus[0].dropout(bidirectional_grus([e.gru for e in grus], projected, order))


#: name -> encoder
ENCODERS: dict[str, type[GRUEncoder] | type[TransformerEncoder]] = {
    "gru": GRUEncoder,
    "transformer": TransformerEncoder,
}


def make_encoder(
    owner: str, name: str, size: int, hidden: int, dropout: float, *, heads: int | None = None
) -> GRUEncoder | TransformerEncoder:
    """An encoder of `ENCODERS` by its name; `heads` is of the transformer alone.

    Raises:
        ValueError: an unknown name, said in the name of `owner`.

    Example:
        >>> from spcl_fast.merc.models.encoders import make_encoder
        >>> make_encoder("LateFusion", "gru", size=6, hidden=8, dropout=0.5).out_size
        16
    """
    if name not in ENCODERS:
        raise ValueError(f"{owner}: encoder must be one of {', '.join(ENCODERS)} (got {name!r})")
    if name == "transformer":
        return TransformerEncoder(size, hidden, dropout, heads)
    return GRUEncoder(size, hidden, dropout)
