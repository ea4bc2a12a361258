"""What the steps of a batch show: the utterance itself, and the neighbours that take its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from spcl_fast.batch import DialogueBatch
from spcl_fast.hardy.curriculum import shuffled
from spcl_fast.hardy.network import HardyNetwork
from spcl_fast.hardy.options import HardyOptions
from spcl_fast.hardy.retrieval import NeighbourTable
from spcl_fast.hardy.teacher import Opinion

__all__ = ["Lessons"]

Batches = Callable[[], Iterator[tuple[dict[str, Tensor], DialogueBatch, Tensor]]]


class Lessons:
    """The rows that each of the k + 1 steps of a batch shows, by the hardness of its utterances.

    As in HARDY-MER (arXiv 2508.06800).

    Args:
        teacher: trained, in evaluation mode; what it says is asked for once for every presence, not in every batch.
        features: modality -> `float32[N, F]`, of all rows of the data set.
        fold: `int64[n]`, ascending: the rows of the training fold, among which neighbours are sought.
        batches: (features, batch, rows of the data set) of the whole fold, in its order.
        neighbours: k, at least 1.
        options: `rerank`, `target_source`, `mi_sign`.
        by_lot: whether the hardnesses of a batch are dealt out anew by lot, the control.
        groups: `int64[n]`: neighbours are sought in the own group alone; None: in the whole fold.

    Example:
        >>> import torch
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.hardy import HardyNetwork, HardyOptions
        >>> from spcl_fast.hardy.lessons import Lessons
        >>> features, batch = {"text": torch.eye(3), "audio": torch.eye(3)}, DialogueBatch.from_lists([[0, 1, 0]])
        >>> teacher = HardyNetwork({"text": 3, "audio": 3}, 2, hidden=4, blocks=1, cross_attention=True).eval()
        >>> fold = torch.arange(3)
        >>> lessons = Lessons(teacher, features, fold, lambda: iter([(features, batch, fold)]), 1, HardyOptions())
        >>> lessons.attend(present := torch.ones(2, 3, dtype=torch.bool))
        >>> rows, hardness = lessons.rows(fold, features, present)
        >>> rows[:, 0].tolist(), rows[:, 1].tolist()  # itself, then the nearest; equal distances go by index
        ([0, 1, 2], [1, 0, 0])
    """

    def __init__(
        self,
        teacher: HardyNetwork,
        features: Mapping[str, Tensor],
        fold: Tensor,
        batches: Batches,
        neighbours: int,
        options: HardyOptions,
        *,
        by_lot: bool = False,
        groups: Tensor | None = None,
    ) -> None:
        self._teacher, self._batches, self._options, self._by_lot = teacher, batches, options, by_lot
        self._fold = fold
        self._place = fold.new_zeros(len(next(iter(features.values()))))  # row of the data set -> row of the fold
        self._place[fold] = torch.arange(len(fold), device=fold.device)
        self._table = NeighbourTable.build(
            {m: x.index_select(0, fold) for m, x in features.items()},
            neighbours=neighbours,
            rerank=options.rerank,
            groups=groups,
        )
        self._present: Tensor | None = None
        self._opinion: Opinion | None = None

    def attend(self, present: Tensor) -> None:
        """Takes note of what is there from now on, `bool[M, N]`; asks the teacher where that is another tensor."""
        if self._present is not present:
            self._present, self._opinion = present, Opinion.of(self._teacher, self._batches(), present)

    def rows(self, rows: Tensor, features: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """What the steps show in the place of `rows`, and how hard these are.

        Args:
            rows: `int64[T]`, rows of the data set that are in the fold.
            features: modality -> `float32[T, F]`, theirs.
            present: `bool[M, T]`, theirs.

        Returns:
            `int64[T, k + 1]`, rows of the data set: itself, then the nearest first, with itself in front as often as
            it has fewer than k neighbours; `float[T]`, the hardness that says how many.

        Raises:
            ValueError: nobody has said yet what is there (`attend`).
        """
        if self._opinion is None:
            raise ValueError("Lessons: attend must say what is there before rows are asked for (got no call of it)")
        places = self._place.index_select(0, rows)
        hardness = self._opinion.hardness(
            places,
            list(features.values()),
            present,
            target_source=self._options.target_source,
            mi_sign=self._options.mi_sign,
        )
        if self._by_lot:
            hardness = shuffled(hardness)
        shown = self._table.gather(places, hardness, present)
        return self._fold.index_select(0, shown.flatten()).view(shown.shape), hardness
