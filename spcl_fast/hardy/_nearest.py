"""Exact nearest neighbours of every row among all others, in bounded memory.

Blocks of products give a lower bound of every distance, which leaves few candidates a row; these are measured again in
float64, from the differences. Where the bounds do not show that nothing else can be as near, whatever might be is
measured. So the order does not depend on blocks, threads or how products are rounded, and equal rows are equally far.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPARE = 6  # candidates beyond those wanted, so that few rows are measured twice
TILE = 1024  # rows of a block of products
IN_CACHE = 1 << 17  # numbers of a block of differences


def nearest(points: Tensor, k: int) -> Tensor:
    """The k nearest others of every row, by Euclidean distance, ties by index.

    Args:
        points: float64[N, F], finite.
        k: from 1 to N - 1.

    Returns:
        int64[N, k], the nearest first.
    """
    N, device = len(points), points.device
    group = torch.unique(points, dim=0, return_inverse=True)[1]
    U = int(group.max()) + 1
    if U == N:
        return _nearest_distinct(points, k)[0]
    # Of equal rows, one stands for all in the search; groups are numbered by their first rows, as ties go by index.
    members = _members(group, U, k + 1)
    order = members[:, 0].argsort()
    members, group = members[order], order.argsort()[group]
    near = torch.arange(U, device=device)[:, None]
    squared = torch.zeros(U, 1, dtype=points.dtype, device=device)
    if U > 1:
        others, distances = _nearest_distinct(points[members[:, 0]], min(k, U - 1))
        near, squared = torch.cat([near, others], 1), torch.cat([squared, distances], 1)
    # Any k + 1 groups hold the k nearest among their first k + 1 rows: one of them may be the query.
    result = torch.empty(N, k, dtype=torch.int64, device=device)
    width = near.shape[1] * (k + 1)
    for rows in torch.arange(N, device=device).split(max(1, TILE * TILE // width)):
        to, index = members[near[group[rows]]].flatten(1).sort(1)
        distance = squared[group[rows]].repeat_interleave(k + 1, 1).gather(1, index)
        distance.masked_fill_((to == N) | (to == rows[:, None]), math.inf)
        result[rows] = to.gather(1, distance.argsort(dim=1, stable=True)[:, :k])
    return result


def _members(group: Tensor, count: int, most: int) -> Tensor:
    """The first `most` rows of each group, int64[count, most]; where it has fewer, the number of all rows."""
    N, device = len(group), group.device
    sizes = torch.bincount(group, minlength=count)
    place = torch.arange(most, device=device)
    index = (sizes.cumsum(0) - sizes)[:, None] + place
    rows = group.argsort(stable=True)[index.clamp(max=N - 1)]
    return rows.masked_fill(place >= sizes[:, None], N)


def _nearest_distinct(points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The same for rows of which none are equal, and their squared distances, in any unit."""
    N = len(points)
    points = _scaled(points)
    screen = _Screen(points)
    count = min(N - 1, k + SPARE)
    highest, candidates = screen.candidates(count)
    candidates = candidates.sort(1).values
    squared = squared_distances(points, torch.arange(N, device=points.device), candidates)
    squared, order = squared.sort(dim=1, stable=True)
    squared, found = squared[:, :k].contiguous(), candidates.gather(1, order[:, :k])
    if count < N - 1:
        farthest = squared[:, -1]
        for rows in (farthest >= highest).nonzero()[:, 0].split(max(1, TILE * TILE // N)):
            found[rows], squared[rows] = _measured(points, rows, screen.bounds(rows) <= farthest[rows, None], k)
    return found, squared


def squared_distances(points: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Of `rows`, `[n]`, to `others`, `[n, c]`: float64[n, c]. Each depends on its two rows alone, bit by bit."""
    found = torch.empty(others.shape, dtype=points.dtype, device=points.device)
    step = max(1, IN_CACHE // max(1, others.shape[1] * points.shape[1]))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        to = others[block]
        difference = points.index_select(0, to.reshape(-1)).view(*to.shape, -1)
        difference -= points[rows[block], None]
        found[block] = difference.square_().sum(-1)
    return found


def _measured(points: Tensor, rows: Tensor, near: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of each of `rows` among those that `near`, bool[n, N], has True, and their squared distances."""
    query, other = near.nonzero().T
    distance = squared_distances(points, rows[query], other[:, None])[:, 0]
    order = distance.argsort(stable=True)
    order = order[query[order].argsort(stable=True)]  # by row, then distance, then index
    first = near.sum(1).cumsum(0) - near.sum(1)
    order = order[first[:, None] + torch.arange(k, device=rows.device)]
    return other[order], distance[order]


def _scaled(points: Tensor) -> Tensor:
    """Times a power of two, which changes no order and no digit: the largest is in [1/2, 1)."""
    least, most = points.aminmax()
    _, exponent = math.frexp(max(-float(least), float(most)))
    half = exponent // 2  # the whole power may be beyond all numbers
    return points * 0.5**exponent if abs(exponent) < 1000 else points * 0.5**half * 0.5 ** (exponent - half)


class _Screen:
    """Lower bounds of squared distances, in float32 where its products keep their digits.

    `|x - y|^2 = |x|^2 + |y|^2 - 2 x.y` of rows moved to about their mean, where numbers are small. With u half the
    distance of 1 to the next number, and |x| |y| at most (|x|^2 + |y|^2) / 2, it is wrong by a share of |x|^2 + |y|^2:
    at most 6 u for the rows, F u / (1 - F u) for the products, 8 u for the sums; and what is measured in float64 by
    less than 4 F + 16 of its u.
    """

    def __init__(self, points: Tensor) -> None:
        F = points.shape[1]
        exact = torch.get_float32_matmul_precision() == "highest" and F < 1 << 17
        # On a GPU float32 may stand for TF32.
        dtype = torch.float32 if exact and points.device.type == "cpu" else torch.float64
        centred = points - points.mean(0)
        self.centred = centred.to(dtype)
        u, u_measured = (torch.finfo(x).eps / 2 for x in (dtype, torch.float64))
        slack = (1.01 * F + 16) * u + (4 * F + 16) * u_measured
        norms = torch.linalg.vector_norm(centred, dim=1).square()
        self.share = ((1 - slack) * norms - 4 * F * torch.finfo(dtype).tiny).to(dtype)  # the last for what underflows

    def _block(self, rows: Tensor | slice, columns: slice) -> Tensor:
        bounds = torch.addmm(self.share[columns], self.centred[rows], self.centred[columns].T, alpha=-2)
        return bounds.add_(self.share[rows][:, None])

    def bounds(self, rows: Tensor) -> Tensor:
        """`[n, N]`, of a row to itself infinite."""
        bounds = self._block(rows, slice(None))
        bounds[torch.arange(len(rows), device=rows.device), rows] = math.inf
        return bounds

    def candidates(self, count: int) -> tuple[Tensor, Tensor]:
        """Of each row the `count` with the lowest bounds, int64[N, count], and the highest of these bounds, `[N]`."""
        N, device = len(self.centred), self.centred.device
        lowest = torch.full((N, count), math.inf, dtype=self.centred.dtype, device=device)
        found = torch.zeros((N, count), dtype=torch.int64, device=device)
        tiles = [slice(start, min(start + TILE, N)) for start in range(0, N, TILE)]
        for i, rows in enumerate(tiles):
            for columns in tiles[i:]:
                block = self._block(rows, columns)
                if rows == columns:
                    block.fill_diagonal_(math.inf)
                else:  # the bounds of a pair serve both of its rows
                    _keep_lowest(lowest, found, columns, block.T.contiguous(), rows.start)
                _keep_lowest(lowest, found, rows, block, columns.start)
        return lowest.amax(1).double(), found


def _keep_lowest(lowest: Tensor, found: Tensor, rows: slice, block: Tensor, first: int) -> None:
    """Takes the bounds of `rows` to the columns from `first` on among the lowest of each row."""
    count = lowest.shape[1]
    value, index = block.topk(min(count, block.shape[1]), dim=1, largest=False, sorted=False)
    value, index = torch.cat([lowest[rows], value], 1), torch.cat([found[rows], index + first], 1)
    lowest[rows], kept = value.topk(count, dim=1, largest=False, sorted=False)
    found[rows] = index.gather(1, kept)
