"""CurriculumSampler: the pool of an epoch and a draw by weight, beside the best of PyTorch and NumPy.

The order of a shuffled epoch is a permutation by whoever makes it; what differs is how the pool is found and how
weights are obeyed, and this is what is timed here: what the sampler calls, on one epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spcl_fast import _sampling, backends, reference

from .agreement import DisagreementError, Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import curriculum_sampler as forms
from .providers.floors import copy_floor
from .sizes import name_of

PACE = 0.5
POOLS = {
    "topk, mask": forms.topk,
    "kthvalue, mask": forms.kthvalue,
    "sort, mask": forms.sort,
    "bisection, mask": forms.bisect,
    "np.partition, mask": forms.partition,
}
DRAWS = {
    "multinomial": forms.multinomial,
    "exponential keys, topk": forms.keys_topk,
    "exponential keys, sort": forms.keys_sort,
    "exponential keys, np.argpartition": forms.keys_partition,
}
HEAVY = 4.0  # the weight of every second item; the others have 1
SIGMAS = 6.0


def pool_cell(N: int, settings: Settings) -> Cell:
    """The easiest half of so many items, by index."""
    x = torch.randn(N, generator=torch.Generator().manual_seed(0))  # the median has no ties
    rank = -(-N // 2)
    items = _sampling.as_items("bench", N, x, None)
    pool = reference.select_easiest(x, PACE).nonzero().flatten()
    expected = Expected({"pool": pool.double()}, {"pool": Tolerance(0.0)})

    def call(function: Callable[..., np.ndarray], *arguments: object) -> Call:
        return lambda: {"pool": torch.from_numpy(function(*arguments))}

    contenders = [
        Contender("eager", name, partial(call, forms.pool_of(form), x, rank), threads=settings.both_threads)
        for name, form in POOLS.items()
    ]
    note = f"backend {backends.choose('select_easiest', None, x.device, needs_grad=False)}"
    contenders += [
        Contender("ours", "pool", partial(call, _sampling.pool_of_ranks, items, 0, rank), "ours", note=note),
        copy_floor(4 * N + 4 * rank, settings.both_threads),
    ]
    size = {"T": N, "pace": PACE, "dtype": "float32"}
    return Cell(f"{name_of(N)}, pool", size, contenders, expected, 4 * N + 4 * rank)


@dataclass(frozen=True)
class ExpectedDraw:
    """In the place of `Expected`: nothing is drawn twice, nothing without weight, the heavy as often as they should."""

    weights: Tensor
    num_samples: int

    def heavy_items(self) -> tuple[float, float]:
        """How many heavy items a draw has, mean and deviation.

        The items with the smallest exponential keys are those below some t, which takes an item of weight w with the
        probability 1 - exp(-w t); t is such that these sum to the number of samples.
        """
        heavy, light = int((self.weights == HEAVY).sum()), int((self.weights == 1).sum())
        low, high = 0.0, 50.0
        for _ in range(100):
            t = (low + high) / 2
            taken = -heavy * math.expm1(-HEAVY * t) - light * math.expm1(-t)
            low, high = (t, high) if taken < self.num_samples else (low, t)
        share = -math.expm1(-HEAVY * low)
        return heavy * share, math.sqrt(heavy * share * (1 - share))

    def differences(
        self, contender: str, got: Mapping[str, Tensor | Sequence[Tensor]], omits: frozenset[str] = frozenset()
    ) -> dict[str, float]:
        """How far the number of heavy items is from what it should be, in standard deviations."""
        drawn = torch.as_tensor(got["drawn"]).long()
        taken = torch.zeros(len(self.weights), dtype=torch.bool)
        taken[drawn] = True
        if len(drawn) != self.num_samples or int(taken.sum()) != self.num_samples:
            raise DisagreementError(f"{contender}: drawn are {int(taken.sum())} items of {self.num_samples}")
        if bool((taken & (self.weights == 0)).any()):
            raise DisagreementError(f"{contender}: drawn is an item of weight 0")
        mean, deviation = self.heavy_items()
        away = abs(int((taken & (self.weights == HEAVY)).sum()) - mean) / deviation
        if away > SIGMAS:
            raise DisagreementError(f"{contender}: the heavy items are {away:.1f} standard deviations off")
        return {"drawn": away}

    def record(self) -> dict[str, Any]:
        """The tolerance in standard deviations, for the result file."""
        return {"drawn": {"absolute": SIGMAS, "relative": 0.0, "compared_at_ties": True}, "ties": 0}


def draw_cell(N: int, settings: Settings) -> Cell:
    """A tenth of so many items by weight, without replacement, in the order of the draws."""
    weights = torch.ones(N, dtype=torch.float64)
    weights[::2] = HEAVY
    num_samples = N // 10
    draw = _sampling.Draw("easiest", "shuffled", "paper", num_samples, False)
    pool, host = np.arange(N, dtype=np.int32), weights.numpy()

    def ours() -> Call:
        generator = np.random.Generator(np.random.PCG64DXSM(0))
        return lambda: {"drawn": torch.from_numpy(_sampling.weighted_draw("bench", 0, pool, host, draw, generator))}

    def call(function: Callable[[Tensor, int], Tensor], of: Tensor) -> Call:
        return lambda: {"drawn": function(of, num_samples)}

    contenders = [
        Contender("eager", f"{name}, {name_of_dtype}", partial(call, form, of), threads=settings.both_threads)
        for name_of_dtype, of in (("float64", weights), ("float32", weights.float()))
        for name, form in DRAWS.items()
    ]
    contenders.append(Contender("ours", "draw", ours, "ours"))
    size = {"T": N, "num_samples": num_samples, "dtype": "float64"}
    return Cell(f"{name_of(N)}, draw by weight", size, contenders, ExpectedDraw(weights, num_samples))


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A corpus, and a large one."""
    sizes = (1_000_000,) if settings.quick else (1_000_000, 10_000_000)
    return [partial(cell, N, settings) for N in sizes for cell in (pool_cell, draw_cell)]


def scaling(T: int) -> tuple[Call, int]:
    """The pool, and the bytes it reads and writes at least."""
    x = torch.randn(T, generator=torch.Generator().manual_seed(0))
    rank = -(-T // 2)
    items = _sampling.as_items("bench", T, x, None)
    return lambda: {"pool": torch.from_numpy(_sampling.pool_of_ranks(items, 0, rank))}, 4 * T + 4 * rank
