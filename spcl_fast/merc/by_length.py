"""Difficulty and weight of the training utterances by the length of their dialogue."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.ops import SelfPacedStep

GROUPS = 8


class ByLength:
    """Means over an epoch, in groups of dialogues of similar length; a sum of probabilities grows with length.

    Args:
        dataset: its training dialogues make the groups: of about equal size, fewer where lengths are alike.
        device: where the steps take place; adding one waits for nothing.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.merc.by_length import ByLength
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 2, "dev": 2, "test": 2})
        >>> by_length = ByLength(corpus, torch.device("cpu"))
        >>> first = torch.arange(corpus.offsets[1])  # the first dialogue
        >>> labels = torch.zeros_like(first)
        >>> step = SelfPacedScheduler(difficulty="loss")(torch.zeros(len(first), 7), labels, ids=first)
        >>> by_length.add(first, step)
        >>> by_length.means()["take_rate"]
        [0.0, nan]
    """

    def __init__(self, dataset: DialogueDataset, device: torch.device) -> None:
        train, lengths = dataset.dialogues("train"), dataset.lengths
        edges = np.unique(np.quantile(lengths[train], np.linspace(0, 1, GROUPS + 1)[1:-1]))
        group = np.searchsorted(edges, lengths)
        used = np.unique(group[train])  # between two edges there may be none
        group = np.searchsorted(used, group).clip(max=len(used) - 1)
        self.length = [float(lengths[train][group[train] == g].mean()) for g in range(len(used))]
        self._group = torch.from_numpy(np.repeat(group, lengths)).to(device)
        # Scored utterances, their weights, those with a finite difficulty, and these difficulties.
        self._sums = torch.zeros(4, len(used), dtype=torch.float64, device=device)

    def clear(self) -> None:
        """Begins another epoch.

        Example:
            >>> import torch
            >>> from spcl_fast.merc.by_length import ByLength
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> corpus = make_synthetic("meld-like", dialogues={"train": 1, "dev": 1, "test": 1})
            >>> ByLength(corpus, torch.device("cpu")).clear()
        """
        self._sums.zero_()

    def add(self, ids: Tensor, step: SelfPacedStep) -> None:
        """Counts a step over the rows `ids` of the data set.

        Example:
            >>> import torch
            >>> from spcl_fast import SelfPacedScheduler
            >>> from spcl_fast.merc.by_length import ByLength
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> by_length = ByLength(make_synthetic("meld-like", dialogues={"train": 1}), torch.device("cpu"))
            >>> one = torch.tensor([0])
            >>> by_length.add(one, SelfPacedScheduler(difficulty="loss")(torch.zeros(1, 2), one, ids=one))
            >>> [round(x, 3) for x in by_length.means()["difficulty"]]  # log 2
            [0.693]
        """
        scored = ~step.utterance_loss.isnan()
        known = step.difficulty.isfinite()
        numbers = torch.stack(
            [scored, torch.where(scored, step.weight, 0.0), known, torch.where(known, step.difficulty, 0.0)]
        )
        self._sums.index_add_(1, self._group.index_select(0, ids), numbers.double())

    def means(self) -> dict[str, list[float]]:
        """Mean length, difficulty and weight of every group, NaN where none was met; waits for the device.

        Example:
            >>> import torch
            >>> from spcl_fast.merc.by_length import ByLength
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> ByLength(make_synthetic("meld-like", dialogues={"train": 1}), torch.device("cpu")).means()["take_rate"]
            [nan]
        """
        scored, weight, known, difficulty = self._sums.cpu()
        return {
            "length": self.length,
            "difficulty": (difficulty / known).tolist(),
            "take_rate": (weight / scored).tolist(),
        }
