"""Scaling of difficulties that have no scale in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spcl_fast import _distributed
from spcl_fast._state import KeepsDtypes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class MinMax(KeepsDtypes):
    """Scales to [0, 1] by the smallest and largest finite values: of the batch, or of all training so far.

    NaN stays NaN, +Inf becomes 1 and -Inf 0; where all finite values are equal they become 0. With a group the values
    are those of the batch over all its processes.
    """

    range: Tensor

    def __init__(self, *, running: bool = False) -> None:
        super().__init__()
        self.running = running
        # The largest of (-x, x) so far, so that one maximum serves both ends.
        self.register_buffer("range", torch.full((2,), -torch.inf, dtype=torch.float64))

    def forward(self, values: Tensor, process_group: ProcessGroup | None = None) -> Tensor:
        """Values of any shape, scaled."""
        finite = values.isfinite()
        ends = torch.stack([torch.where(finite, -values, -torch.inf), torch.where(finite, values, -torch.inf)])
        ends = ends.flatten(1).double()
        # On the device of the values: a scale that remembers nothing serves all devices.
        ends = torch.cat([ends, ends.new_full((2, 1), -torch.inf)], 1).amax(1)
        ends = _distributed.all_max(ends, process_group)
        if self.running:
            ends = torch.maximum(ends, self.range)
            if self.training:
                self.range.copy_(ends)
        low, high = -ends[0], ends[1]
        low = torch.where(low.isfinite(), low, 0.0)  # without a finite value, +Inf less +Inf would be NaN
        width = torch.where(high > low, high - low, 1.0)
        return ((values - low) / width).clamp(0, 1).to(values.dtype)


def standardised(values: Tensor, process_group: ProcessGroup | None = None) -> Tensor:
    """Less their mean, over their standard deviation (divided by n); 0 where that is 0.

    NaN and Inf stay, and do not count.
    """
    finite = values.isfinite()
    x = torch.where(finite, values, 0.0).double()
    n, total = _distributed.all_sum(torch.stack([finite.sum().double(), x.sum()]), process_group)
    n = n.clamp(min=1)
    mean = total / n
    distance = torch.where(finite, x - mean, 0.0)
    error, squares = _distributed.all_sum(torch.stack([distance.sum(), (distance**2).sum()]), process_group) / n
    mean = mean + error  # what rounding took from it, without which equal values would lie apart from their mean
    deviation = (squares - error**2).clamp(min=0).sqrt()
    scaled = (values.double() - mean) / torch.where(deviation > 0, deviation, 1.0)
    return torch.where(deviation > 0, scaled, torch.where(finite, 0.0, scaled)).to(values.dtype)


def ranked(values: Tensor, process_group: ProcessGroup | None = None) -> Tensor:
    """The share of the other values that lie below, in [0, 1], ties by index; NaN stays NaN and does not count."""
    if process_group is not None:
        raise ValueError("normalize='rank' must be without a process group (got one): ranks would need all the scores")
    known = ~values.isnan()
    order = values.argsort(stable=True)  # NaN last
    place = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
    others = (known.sum() - 1).clamp(min=1)
    return torch.where(known, (place / others).to(values.dtype), values)


#: normalize -> what a combination applies to each of its terms
NORMALIZE: dict[str, Callable[..., Tensor]] = {"minmax": MinMax(), "zscore": standardised, "rank": ranked}
