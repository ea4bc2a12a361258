"""The network of HARDY-MER: teacher and student are of this one kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spcl_fast.batch import DialogueBatch
from spcl_fast.hardy.attention import CrossAttentions, DialogueLayout, ExpertBlock
from spcl_fast.merc.models.dropout import Dropout
from spcl_fast.merc.models.options import require_sizes

__all__ = ["HardyNetwork", "HardyOutput"]


class HardyOutput(NamedTuple):
    """What the network says of T utterances.

    Attributes:
        logits: modality -> `[T, C]`; the joint is their sum. That of a missing modality is what the others say in its
            place.
        reconstruction: modality -> `[T, F_m]`, of all modalities; none in the first stage.
        hidden: `[M, T, hidden]`, the encoded modalities, those that are missing included; None where it was not asked
            for.
        crossed: `[P, T, hidden]`, `CA(m<-n) + CA(n<-m)` of every pair of modalities; None as `hidden`.

    Example:
        >>> from spcl_fast.hardy.network import HardyOutput
        >>> HardyOutput(logits={}, reconstruction={}).crossed is None
        True
    """

    logits: dict[str, Tensor]
    reconstruction: dict[str, Tensor]
    hidden: Tensor | None = None
    crossed: Tensor | None = None


class HardyNetwork(nn.Module):
    """Experts shared by the modalities, a classifier and a decoder (HARDY-MER, arXiv 2508.06800, code).

    Every modality is brought to `hidden` by a linear layer and encoded within its dialogue by experts, one a modality,
    each of `blocks` transformer blocks. In the first stage modality m passes its own expert, and its head classifies
    what comes out. In the second stage it passes all of them, and their outputs are summed; what is missing is
    zero from here on; all modalities side by side, `x`, become `y = x + dropout(relu(linear(x)))`, which is classified
    and decoded to the features of all modalities (hidden M -> 4 hidden -> sum F_m).

    The published classifier is one linear layer on `y`. That is the sum of one linear layer a modality on its part of
    `y`, which is how it is written here: one head a modality, the joint being their sum. The published code has heads
    of their own for the first stage and forgets them; here the first stage trains those of the second.

    Args:
        feature_sizes: modality -> F, at least one; their order is the order of the logits.
        num_classes: C, at least 1.
        hidden: width, a multiple of `heads`; 256 is published.
        blocks: of every expert, at least 1; 4 is published.
        heads: of every attention; 2 is published.
        dropout: probability, in [0, 1), of the linear layers before the experts and before the classifier.
        cross_attention: whether the network has the cross attentions, which the teacher needs for the mutual
            information between modalities, and nobody else.

    Raises:
        ValueError: no modality, no class, a number out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.hardy.network import HardyNetwork
        >>> model = HardyNetwork({"text": 6, "audio": 4}, num_classes=3, hidden=8, blocks=1)
        >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
        >>> features = {"text": torch.randn(4, 6), "audio": torch.randn(4, 4)}
        >>> out = model(features, batch, torch.tensor([[True] * 4, [False] * 4]))  # text alone
        >>> {modality: tuple(x.shape) for modality, x in out.reconstruction.items()}
        {'text': (4, 6), 'audio': (4, 4)}
    """

    def __init__(
        self,
        feature_sizes: Mapping[str, int],
        num_classes: int,
        *,
        hidden: int = 256,
        blocks: int = 4,
        heads: int = 2,
        dropout: float = 0.5,
        cross_attention: bool = False,
    ) -> None:
        super().__init__()
        require_sizes("HardyNetwork", feature_sizes, num_classes)
        for name, value in (("hidden", hidden), ("blocks", blocks), ("heads", heads)):
            if value < 1:
                raise ValueError(f"HardyNetwork: {name} must be at least 1 (got {value})")
        if hidden % heads:
            raise ValueError(f"HardyNetwork: hidden must be a multiple of heads, {heads} (got {hidden})")
        self.modalities = tuple(feature_sizes)
        self.hidden = hidden
        self._sizes = list(feature_sizes.values())
        M = len(feature_sizes)
        self.inputs = nn.ModuleList(nn.Linear(size, hidden) for size in self._sizes)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(ExpertBlock(M, hidden, heads) for _ in range(blocks))
        self.mix = nn.Linear(M * hidden, M * hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, num_classes) for _ in range(M))
        self.decoder = nn.Sequential(
            nn.Linear(M * hidden, 4 * hidden), nn.ReLU(), nn.Linear(4 * hidden, sum(self._sizes))
        )
        self.cross = CrossAttentions(M, hidden, heads) if cross_attention else None

    def forward(
        self,
        features: Mapping[str, Tensor],
        batch: DialogueBatch,
        present: Tensor | None = None,
        *,
        first_stage: bool = False,
        crossed: bool = False,
    ) -> HardyOutput:
        """Classifies and reconstructs; what is said of a dialogue depends on it alone.

        Args:
            features: modality -> `float32[T, F]`; T may be 0. What is missing is not looked at, whatever stands there.
            batch: the dialogues of these T utterances.
            present: `bool[M, T]`, which modality of which utterance is there; None: all are. An utterance without any
                gets the logits and the reconstruction that every such utterance gets.
            first_stage: each modality through its own expert to its own head; nothing is reconstructed.
            crossed: whether to return `hidden` and `crossed`, of which a missing modality is a part (its features
                taken as zeros), as in the published code.

        Raises:
            KeyError: a modality without features.
            ValueError: features or `present` that do not have T rows; `crossed` of a network without cross attention.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.hardy.network import HardyNetwork
            >>> sizes = {"text": 6, "audio": 4}
            >>> model = HardyNetwork(sizes, num_classes=3, hidden=8, blocks=1, cross_attention=True)
            >>> features = {"text": torch.randn(2, 6), "audio": torch.randn(2, 4)}
            >>> out = model(features, DialogueBatch.from_lists([[0, 2]]), crossed=True)
            >>> out.hidden.shape, out.crossed.shape
            (torch.Size([2, 2, 8]), torch.Size([1, 2, 8]))
        """
        T, M = batch.num_utterances, len(self.modalities)
        values = [features[m] for m in self.modalities]
        for x in values:
            if len(x) != T:
                raise ValueError(f"HardyNetwork: features must have {T} rows (got shape {tuple(x.shape)})")
        if present is None:
            present = torch.ones(M, T, dtype=torch.bool, device=batch.labels.device)
        elif present.shape != (M, T):
            raise ValueError(f"HardyNetwork: present must have shape {(M, T)} (got {tuple(present.shape)})")
        if crossed and self.cross is None:
            raise ValueError("HardyNetwork: crossed needs a network with cross_attention=True")
        layout = DialogueLayout.of(batch)
        encoded = self._encode(values, present, layout, first_stage=first_stage, missing=crossed)
        pairs = self.cross(encoded, present, layout) if crossed and self.cross is not None else None
        seen = torch.where(present[..., None], encoded, 0.0)
        hidden = encoded if crossed else None
        if first_stage:
            return HardyOutput(self._classify(seen), {}, hidden, pairs)
        x = seen.transpose(0, 1).flatten(1)
        y = x + self.dropout(self.mix(x).relu())
        decoded = self.decoder(y).split(self._sizes, dim=1)
        logits = self._classify(y.view(T, M, self.hidden).unbind(1))
        return HardyOutput(logits, dict(zip(self.modalities, decoded, strict=True)), hidden, pairs)

    def _encode(
        self, values: list[Tensor], present: Tensor, layout: DialogueLayout, *, first_stage: bool, missing: bool
    ) -> Tensor:
        """`[M, T, hidden]`; a modality that the whole batch lacks may be left at zero, unless `missing` asks for it."""
        M, T = present.shape
        used = list(range(M))
        if not (missing or first_stage) and present.device.type == "cpu":  # elsewhere one would have to wait for it
            used = present.any(1).nonzero().flatten().tolist()
        if not used:
            return values[0].new_zeros(M, T, self.hidden)
        clean = [torch.where(present[m][:, None], values[m], 0.0) for m in used]
        x = self.dropout(torch.stack([self.inputs[m](v) for m, v in zip(used, clean, strict=True)]))  # [S, T, hidden]
        keys = present[used]
        if first_stage:
            x, keys = x[:, None], keys[:, None]
        else:
            x, keys = x.expand(M, *x.shape), keys.expand(M, *keys.shape)
        for block in self.blocks:
            x = block(x, keys, layout)
        if first_stage:
            return x[:, 0]
        summed = x.sum(0)
        if len(used) == M:
            return summed
        return summed.new_zeros(M, T, self.hidden).index_copy(0, torch.tensor(used), summed)

    def _classify(self, parts: Tensor | tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {m: head(x) for m, head, x in zip(self.modalities, self.heads, parts, strict=True)}
