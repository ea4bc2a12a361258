"""The teacher of HARDY-MER: it learns first, and then says how hard the training utterances are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spcl_fast import ops
from spcl_fast.batch import DialogueBatch
from spcl_fast.hardy.losses import classification_loss, mutual_information, reconstruction_loss
from spcl_fast.hardy.network import HardyNetwork
from spcl_fast.hardy.options import HardyOptions
from spcl_fast.merc.config import TrainConfig

__all__ = ["Opinion", "recall_or_train", "train_teacher"]

#: of the mutual information in the first stage (arXiv 2508.06800, code)
INFORMATION_WEIGHT = 0.001
#: beside the seed and the epoch, so that teacher and student draw different numbers
DRAWS = 1
#: fields of `TrainConfig` that a teacher depends on
DECISIVE = (
    *("standardize", "hidden", "dropout", "batch_size", "learning_rate", "weight_decay", "clip", "seed"),
    *("available", "missing", "missing_rate", "teacher_epochs"),
)
#: teachers that a process remembers
REMEMBERED = 8

Batches = Callable[[np.ndarray], Iterator[tuple[dict[str, Tensor], DialogueBatch, Tensor]]]

_taught: OrderedDict[Hashable, dict[str, Tensor]] = OrderedDict()


def train_teacher(
    network: HardyNetwork,
    config: TrainConfig,
    options: HardyOptions,
    dialogues: np.ndarray,
    batches: Batches,
    present: Callable[[int], Tensor],
) -> None:
    """Trains the network in two stages, each of `config.teacher_epochs` epochs, and leaves it in evaluation mode.

    Stage 1, all modalities: the cross entropies of the modalities minus 0.001 times the sum over utterances of the mean
    mutual information of their pairs. Stage 2, what the protocol leaves: cross entropy of the joint and
    `reconstruction_loss`. One Adam for both, gradients clipped by norm; the weights are those of the last epoch, so
    that neither dev nor test is looked at (arXiv 2508.06800, code).

    Args:
        network: with cross attention.
        config: `teacher_epochs`, `seed`, and what Adam asks for.
        options: `target_source`.
        dialogues: `int64[d]`, the training dialogues; their order is drawn from seed and epoch, and dropout as well,
            so the same arguments give the same weights.
        batches: (features, batch, rows of the data set) of some dialogues, in their order.
        present: of an epoch, from 0: `bool[M, N]`, which modality of which row of the data set is there.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.hardy import HardyNetwork, HardyOptions
        >>> from spcl_fast.hardy.teacher import train_teacher
        >>> from spcl_fast.merc.config import TrainConfig
        >>> features, batch = {"text": torch.ones(2, 3), "audio": torch.ones(2, 2)}, DialogueBatch.from_lists([[0, 1]])
        >>> network = HardyNetwork({"text": 3, "audio": 2}, 2, hidden=4, blocks=1, cross_attention=True)
        >>> train_teacher(
        ...     network,
        ...     TrainConfig(model="hardy", teacher_epochs=1),
        ...     HardyOptions(),
        ...     np.array([0]),
        ...     lambda dialogues: iter([(features, batch, torch.arange(2))]),
        ...     lambda epoch: torch.tensor([[True, True], [False, False]]),
        ... )
        >>> network.training
        False
    """
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    network.train()
    for epoch in range(2 * config.teacher_epochs):
        order = np.random.default_rng([config.seed, epoch, DRAWS])
        torch.manual_seed(int(order.integers(2**63)))
        first = epoch < config.teacher_epochs
        here = None if first else present(epoch - config.teacher_epochs)
        for features, batch, rows in batches(order.permutation(dialogues)):
            if here is None:
                out = network(features, batch, first_stage=True, crossed=True)
                assert out.hidden is not None
                assert out.crossed is not None
                information = mutual_information(out.hidden, out.crossed).mean(0).sum()
                unimodal = [classification_loss(z, batch.labels) for z in out.logits.values()]
                loss = torch.stack(unimodal).sum() - INFORMATION_WEIGHT * information
            else:
                there = here.index_select(1, rows)
                out = network(features, batch, there)
                loss = classification_loss(torch.stack(list(out.logits.values())).sum(0), batch.labels)
                loss = loss + reconstruction_loss(
                    out.reconstruction, features, there, target_source=options.target_source
                )
            adam.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            adam.step()
    network.eval()


def recall_or_train(network: HardyNetwork, key: Hashable, train: Callable[[], None]) -> None:
    """Gives the network the weights that this process has trained under this key, or trains it now and remembers.

    The runs of a study differ in what the student does, not in the teacher; the last eight are remembered.

    Args:
        network: gets the weights, and is left in evaluation mode.
        key: all that decides the weights.
        train: trains the network.

    Example:
        >>> from spcl_fast.hardy import HardyNetwork
        >>> from spcl_fast.hardy.teacher import recall_or_train
        >>> network = HardyNetwork({"text": 3, "audio": 2}, 2, hidden=4, blocks=1)
        >>> for _ in range(2):
        ...     recall_or_train(network, "one teacher", lambda: print("trained"))
        trained
    """
    weights = _taught.get(key)
    if weights is None:
        train()
        _taught[key] = {name: x.detach().clone() for name, x in network.state_dict().items()}
        while len(_taught) > REMEMBERED:
            _taught.popitem(last=False)
    else:
        network.load_state_dict(weights)
    network.eval()


@dataclass(frozen=True)
class Opinion:
    """What a teacher that learns no more says of N utterances: all that their hardness is made of.

    Attributes:
        reconstruction: M tensors `[N, F_m]`.
        hidden: `[M, N, hidden]`.
        crossed: `[P, N, hidden]`.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy.teacher import Opinion
        >>> said = Opinion([torch.zeros(3, 2), torch.zeros(3, 5)], torch.zeros(2, 3, 4), torch.zeros(1, 3, 4))
        >>> target, present = [torch.zeros(2, 2), torch.ones(2, 5)], torch.tensor([[True] * 2, [True, False]])
        >>> said.hardness(torch.tensor([0, 2]), target, present).tolist()  # the second has no audio
        [0.5, 0.91...]
    """

    reconstruction: list[Tensor]
    hidden: Tensor
    crossed: Tensor

    @classmethod
    def of(
        cls, network: HardyNetwork, batches: Iterator[tuple[dict[str, Tensor], DialogueBatch, Tensor]], present: Tensor
    ) -> Opinion:
        """Of a network in evaluation mode on these batches, one after another, without gradients.

        Args:
            network: with cross attention.
            batches: (features, batch, rows of the data set).
            present: `bool[M, N]`, over the rows of the data set.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.hardy import HardyNetwork
            >>> from spcl_fast.hardy.teacher import Opinion
            >>> network = HardyNetwork({"text": 3, "audio": 2}, 2, hidden=4, blocks=1, cross_attention=True).eval()
            >>> batch = DialogueBatch.from_lists([[0, 1]])
            >>> features = {"text": torch.ones(2, 3), "audio": torch.ones(2, 2)}
            >>> here = torch.tensor([[True, True], [False, False]])
            >>> Opinion.of(network, iter([(features, batch, torch.arange(2))]), here).crossed.shape
            torch.Size([1, 2, 4])
        """
        parts: list[Any] = []
        with torch.no_grad():
            for features, batch, rows in batches:
                parts.append(network(features, batch, present.index_select(1, rows), crossed=True))
        return cls(
            [torch.cat([part.reconstruction[m] for part in parts]) for m in network.modalities],
            torch.cat([part.hidden for part in parts], dim=1),
            torch.cat([part.crossed for part in parts], dim=1),
        )

    def hardness(
        self, rows: Tensor, target: list[Tensor], present: Tensor, *, target_source: str = "true", mi_sign: int = 1
    ) -> Tensor:
        """`ops.multiview_hardness` of a batch, scaled over it: `[T]` in (0, 1), NaN where it is at fault.

        Args:
            rows: `int64[T]`, which of the N utterances.
            target: M tensors `[T, F_m]`, their features.
            present: `bool[M, T]`.
            target_source: of the op.
            mi_sign: of the op.

        Example:
            >>> import torch
            >>> from spcl_fast.hardy.teacher import Opinion
            >>> said = Opinion([torch.zeros(3, 2)] * 2, torch.zeros(2, 3, 4), torch.zeros(1, 3, 4))
            >>> none = torch.zeros(0, dtype=torch.int64)
            >>> said.hardness(none, [torch.zeros(0, 2)] * 2, torch.zeros(2, 0, dtype=torch.bool)).tolist()
            []
        """
        return ops.multiview_hardness(
            [x.index_select(0, rows) for x in self.reconstruction],
            target,
            self.hidden.index_select(1, rows),
            self.crossed.index_select(1, rows),
            present,
            target_source=target_source,
            mi_sign=mi_sign,
        ).hardness
