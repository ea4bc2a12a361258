"""Retrieval of similar utterances: the neighbours of a training fold, found once, and handed out by hardness."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from spcl_fast._options import choice
from spcl_fast._paces import integer
from spcl_fast.hardy._nearest import nearest, squared_distances
from spcl_fast.ops import _check

__all__ = ["NeighbourTable"]

METRICS = ("l2", "cosine")
RERANKS = ("mean_l2", "code")
#: the modalities whose lists the published code joins first, in its order
JOINED_FIRST = ("audio", "visual", "text")
MOST_MODALITIES = 16  # a slot for each of their subsets
OWNER = "NeighbourTable"


class NeighbourTable:
    """The k nearest other utterances of every utterance of a training fold, for every subset of modalities.

    The retrieval of HARDY-MER (arXiv 2508.06800), whose code searches its indices again in every batch; neighbours do
    not change, so `build` finds them once and `gather` only looks them up.

    Of each of the M modalities, the k nearest others by the distance of that modality: Euclidean ("l2"), or that of
    the vectors at length 1 ("cosine", `sqrt(2 - 2 cos)`). The search is exact: distances are float64, computed from
    differences, ties go by index, and neither blocks nor threads change an order. For a subset of available
    modalities the union of their lists is ordered, and its first k are the neighbours:

    - `rerank="mean_l2"` (ours): by the mean of the distances of all M modalities, those that are missing included, as
      a training fold has them; ties by index.
    - `rerank="code"`: the lists one after the other, audio, visual, then text (then others as they came), each
      row where it first stands. With k rows in the first list nothing else is ever reached, as published.

    Rows that are never retrieved, and whose own neighbours are none: those with NaN or Inf in any modality. A vector
    of zeros has no direction: with "cosine" it is neither found in that modality nor has neighbours by it, and lies
    `sqrt(2)` from all others in the mean.

    Made by `build`.

    Attributes:
        modalities: the M names, in the order that `available` has.
        neighbours: k.
        rerank: "mean_l2" or "code".
        num_rows: N, the utterances of the fold.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy import NeighbourTable
        >>> features = {"text": torch.tensor([[1.0, 0], [1, 1], [0, 1]]), "audio": torch.tensor([[0.0], [4], [1]])}
        >>> table = NeighbourTable.build(features, neighbours=1)
        >>> rows, hard = torch.arange(3), torch.ones(3)
        >>> table.gather(rows, hard, torch.tensor([True, False])).tolist()  # by text alone
        [[0, 1], [1, 0], [2, 1]]
        >>> table.gather(rows, hard, torch.tensor([False, True])).tolist()  # by audio alone
        [[0, 2], [1, 2], [2, 0]]
    """

    def __init__(self, modalities: tuple[str, ...], neighbours: int, rerank: str, found: Tensor, keys: Tensor) -> None:
        # found, int64[M, N, k]: the lists, -1 where there is none; keys, float64[M, N, k]: what they are ordered by.
        self.modalities, self.neighbours, self.rerank = modalities, neighbours, rerank
        self.num_rows = found.shape[1]
        self._found, self._keys = found, keys
        # Of the subsets ranked so far: each row k + 1 times, then its neighbours, of which k + 1 in sequence are looked
        # at from any place; and how many neighbours it has.
        self._runs = found.new_empty(0)
        self._windows = found.new_empty(0, neighbours + 1)
        self._counts = found.new_empty(0)
        self._slots: dict[int, int] = {}  # subset, a bit a modality -> its place there
        self._slot = found.new_full((2 ** len(modalities),), -1)
        self._bits = 2 ** torch.arange(len(modalities), device=found.device)[:, None]

    @classmethod
    def build(
        cls,
        features: Mapping[str, Tensor | np.ndarray],
        *,
        neighbours: int = 3,
        metric: Mapping[str, str] | None = None,
        rerank: str = "mean_l2",
        groups: Tensor | None = None,
    ) -> NeighbourTable:
        """Finds the neighbours, on the device of the features, in blocks.

        Args:
            features: modality -> `[N, F_m]`, float16, bfloat16, float32 or float64, the utterances of the training
                fold; N may be 0.
            neighbours: k, at least 1; there are fewer where the fold has no more.
            metric: modality -> "l2" or "cosine"; for those it does not name, cosine where the name begins with "text"
                and L2 else, as published.
            rerank: "mean_l2" or "code".
            groups: `int[N]` on the device of the features: neighbours are sought in a row's own group alone, such as
                among the utterances of its class [ours]; None: among all.

        Returns:
            The table, `N (2 k + 2)` numbers a subset seen and `2 M N k` besides. Building it takes four to five times
            the largest of the features in float64, and some ten megabytes. Deterministic.

        Raises:
            TypeError: features of another type, a k or groups that are no integers.
            ValueError: no modality or more than 16, features of several lengths or devices or without a column, groups
                of another length or device, k below 1, a metric of an unknown modality or name, an unknown rerank.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.hardy import NeighbourTable
            >>> table = NeighbourTable.build({"audio": np.ones((5, 2)), "text": np.eye(5)}, metric={"text": "l2"})
            >>> table.modalities, table.neighbours, table.num_rows
            (('audio', 'text'), 3, 5)
        """
        k = integer(OWNER, "neighbours", neighbours, 1)
        choice(OWNER, "rerank", rerank, RERANKS)
        tensors = _tensors(features)
        names = tuple(tensors)
        metrics = {m: "cosine" if m.startswith("text") else "l2" for m in names}
        for m, kind in (metric or {}).items():
            choice(OWNER, "metric", m, names)
            choice(OWNER, f"metric of {m!r}", kind, METRICS)
            metrics[m] = kind
        usable = torch.stack([x.isfinite().all(1) for x in tensors.values()]).all(0)
        N, device = len(usable), usable.device
        if groups is None:
            among = [usable]
        else:
            _check.tensor(OWNER, "groups", groups, 1, _check.INTEGERS, "integers")
            _check.shaped(OWNER, "groups", groups, (N,), device, "features")
            among = [usable & (groups == group) for group in groups.unique()]
        found = torch.full((len(names), N, k), -1, dtype=torch.int64, device=device)
        for i, (m, x) in enumerate(tensors.items()):
            points, nonzero = _points(x, metrics[m])
            for group in among:
                rows = (group & nonzero).nonzero()[:, 0]
                most = min(k, len(rows) - 1)
                if most > 0:
                    found[i, rows, :most] = rows[nearest(points if len(rows) == N else points[rows], most)]
        if rerank == "mean_l2":
            keys = _mean_distance(tensors, metrics, found)
        else:
            ranks = {name: rank for rank, name in enumerate(JOINED_FIRST)}
            order = sorted(range(len(names)), key=lambda i: ranks.get(_family(names[i]), len(ranks)))
            place = torch.tensor(order, device=device).argsort()[:, None, None] * k
            keys = (place + torch.arange(k, device=device)).expand_as(found).double()
        return cls(names, k, rerank, found, keys)

    def gather(self, rows: Tensor, hardness: Tensor, available: Tensor) -> Tensor:
        """The utterances that stand in for each utterance of a batch, itself and then its neighbours.

        An utterance of hardness h gets `k_t = min(k, floor(h k + 1))` neighbours, so that the harder has the more, the
        nearest first; where these are fewer than k, the query itself fills up in front (arXiv 2508.06800, code).

        Args:
            rows: `int[T]`, any integer dtype, each in [0, N): which utterances of the fold the batch holds.
            hardness: `[T]`, floating point, on the same device: in [0, 1], that of `ops.multiview_hardness`; what is
                beyond counts as the nearer of both.
            available: `bool[M]` for the whole batch, on any device but read on the host; or `bool[M, T]`, the `present`
                of the ops, on that of the table. True where a modality is there. A subset is ranked when it is first
                seen; until all are, a mixed batch on a GPU waits for it.

        Returns:
            `int64[T, k + 1]`, rows of the fold; the first is always the query. Only the query itself, k + 1 times:
            where the hardness is NaN, no modality is available, or a row has no neighbours. Each depends on its own
            utterance alone. Deterministic.

        Raises:
            TypeError: a dtype that is not taken.
            ValueError: shapes that do not fit, two devices, on the host a row out of range.

        Example:
            >>> import torch
            >>> from spcl_fast.hardy import NeighbourTable
            >>> table = NeighbourTable.build({"audio": torch.tensor([[0.0], [1], [3], [7], [15]])})
            >>> hardness = torch.tensor([0.0, 0.5, 1.0, float("nan")])
            >>> table.gather(torch.zeros(4).long(), hardness, torch.tensor([True])).tolist()
            [[0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [0, 0, 0, 0]]
        """
        start = self._start(rows, hardness, available)
        k = self.neighbours
        count = hardness.double().mul(k).add_(1).clamp_(1, k).nan_to_num_(0).long()  # the fold may have fewer
        count = torch.minimum(count, self._counts.index_select(0, start))
        return self._windows.index_select(0, start.mul_(2 * k + 1).add_(count))

    def _start(self, rows: Tensor, hardness: Tensor, available: Tensor) -> Tensor:
        """Where each utterance stands among the rows of all subsets that were ranked; checks what is given."""
        owner = f"{OWNER}.gather"
        _check.tensor(owner, "rows", rows, 1, _check.INTEGERS, "integers")
        _check.tensor(owner, "hardness", hardness, 1, _check.FLOATS, "floating point numbers")
        T, M, device = len(rows), len(self.modalities), self._found.device
        _check.shaped(owner, "rows", rows, (T,), device, "the table")
        _check.shaped(owner, "hardness", hardness, (T,), device, "the table")
        mixed = isinstance(available, Tensor) and available.ndim == 2
        _check.tensor(owner, "available", available, 1 + mixed, (torch.bool,), "booleans")
        rows = rows.long()
        if T and device.type == "cpu":
            least, most = (int(x) for x in rows.aminmax())
            if least < 0 or most >= self.num_rows:
                got = least if least < 0 else most
                raise ValueError(f"{owner}: rows must lie in [0, {self.num_rows}) (got {got})")
        if not mixed:
            if len(available) != M:
                raise ValueError(f"{owner}: available must have shape {(M,)} or {(M, T)} (got {(len(available),)})")
            return rows + self._ranked(sum(2**m for m, there in enumerate(available.tolist()) if there))
        _check.shaped(owner, "available", available, (M, T), device, "the table")
        subset = (available * self._bits).sum(0)
        if len(self._slots) < len(self._slot):
            for code in subset.unique().tolist():
                self._ranked(code)
        return self._slot.index_select(0, subset).mul_(self.num_rows).add_(rows)

    def _ranked(self, subset: int) -> int:
        """Where the rows of a subset begin; ranks it at first."""
        if subset not in self._slots:
            there = [m for m in range(len(self.modalities)) if subset >> m & 1]
            found = self._found[there].transpose(0, 1).flatten(1)
            keys = self._keys[there].transpose(0, 1).flatten(1)
            self._append(_first_of(found, keys, self.neighbours))
            self._slots[subset] = self._slot[subset] = len(self._slots)
        return self._slots[subset] * self.num_rows

    def _append(self, neighbours: Tensor) -> None:
        N, k, device = self.num_rows, self.neighbours, neighbours.device
        own = torch.arange(N, device=device)[:, None].expand(N, k + 1)
        self._runs = torch.cat([self._runs, torch.cat([own, neighbours], 1).flatten()])
        self._windows = self._runs.unfold(0, k + 1, 1) if N else self._windows
        self._counts = torch.cat([self._counts, (neighbours >= 0).sum(1)])


def _first_of(found: Tensor, keys: Tensor, k: int) -> Tensor:
    """The k distinct rows of each list with the lowest keys, ties by index: int64[N, k], -1 where there are fewer."""
    N, width = found.shape
    if width == 0:
        return found.new_full((N, k), -1)
    # By key, then stably by row: of one row the lowest key is the first. Then by key again, ties as they stand.
    keys, order = keys.sort(dim=1, stable=True)
    found, order = found.gather(1, order).sort(dim=1, stable=True)
    keys = keys.gather(1, order)
    again = torch.zeros_like(found, dtype=torch.bool)
    again[:, 1:] = found[:, 1:] == found[:, :-1]
    out = again | (found < 0)
    keys = keys.clamp(max=torch.finfo(keys.dtype).max).masked_fill(out, math.inf)
    return found.masked_fill(out, -1).gather(1, keys.argsort(dim=1, stable=True)[:, :k])


def _mean_distance(features: Mapping[str, Tensor], metrics: Mapping[str, str], found: Tensor) -> Tensor:
    """Of each row to its neighbours in any list, the mean of the distances of all modalities: float64[M, N, k]."""
    M, N, k = found.shape
    others = found.transpose(0, 1).reshape(N, M * k).clamp(min=0)
    rows = torch.arange(N, device=found.device)
    total = torch.zeros(others.shape, dtype=torch.float64, device=found.device)
    for m, x in features.items():
        points, nonzero = _points(x, metrics[m])
        squared = squared_distances(points, rows, others)
        total += torch.where(nonzero[:, None] & nonzero[others], squared, 2.0).sqrt_()
    return (total / M).view(N, M, k).transpose(0, 1).contiguous()


def _points(x: Tensor, metric: str) -> tuple[Tensor, Tensor]:
    """What distances are measured between, float64[N, F], and which rows have a place there, bool[N]."""
    x = x.double()
    if metric == "l2":
        return x, torch.ones(len(x), dtype=torch.bool, device=x.device)
    largest = x.abs().amax(1, keepdim=True)
    nonzero = largest != 0
    x = x / torch.where(nonzero, largest, 1.0)  # so that no square overflows or vanishes
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / torch.where(nonzero, length, 1.0), nonzero[:, 0]


def _tensors(features: Mapping[str, Tensor | np.ndarray]) -> dict[str, Tensor]:
    """The features as tensors of one length on one device."""
    if not isinstance(features, Mapping):
        raise TypeError(f"{OWNER}: features must be a mapping from modalities (got {type(features).__name__})")
    if not 0 < len(features) <= MOST_MODALITIES:
        raise ValueError(f"{OWNER}: features must have 1 to {MOST_MODALITIES} modalities (got {len(features)})")
    found: dict[str, Tensor] = {}
    for m, x in features.items():
        name = f"features[{m!r}]"
        if isinstance(x, np.ndarray):
            x = torch.as_tensor(x if x.flags.writeable else x.copy())
        _check.tensor(OWNER, name, x, 2, _check.FLOATS, "floating point numbers")
        if not x.shape[1]:
            raise ValueError(f"{OWNER}: {name} must have at least one column (got shape {tuple(x.shape)})")
        first = next(iter(found.values()), x)
        _check.shaped(OWNER, name, x, (len(first), x.shape[1]), first.device, "features")
        found[m] = x.detach()
    return found


def _family(name: str) -> str:
    """The modality of `JOINED_FIRST` that a name such as "text_glove" begins with; itself where none."""
    return next((known for known in JOINED_FIRST if name.startswith(known)), name)
