"""Time against the number of utterances, from 1e3 to 1e7: an op whose cost is linear follows its floor.

A benchmark takes part with a function `scaling(T)` that gives the call of ours to time and the fewest bytes it must
read and write, `(call, traffic)`. The call is the one that the cells hold to the reference, on inputs of other sizes,
and fills outputs that it was given where the op can.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from . import memory
from .harness import Call, Contender, Settings, Variant, measure_alone
from .providers.floors import copy_floor

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES = SIZES[:3]
BUDGET_S = 0.6
INPUT_SHARE = 8  # times the traffic must be available as memory: inputs, outputs, the floor's arrays and their making


def sweep(module: ModuleType, settings: Settings) -> list[dict[str, Any]]:
    """The points of a benchmark: ours on one thread and on all, and a copy of as many bytes; none without `scaling`."""
    if not hasattr(module, "scaling"):
        return []
    points: list[dict[str, Any]] = []
    for T in QUICK_SIZES if settings.quick else SIZES:
        there = memory.available()
        if points and there is not None:
            expected = points[-1]["traffic_bytes"] * T / points[-1]["T"]
            if INPUT_SHARE * expected > there:
                break
        points += _at(T, module, settings)
    return points


def _at(T: int, module: ModuleType, settings: Settings) -> list[dict[str, Any]]:
    call, traffic = module.scaling(T)
    floor = copy_floor(traffic, (settings.threads,))
    ours = Contender("ours", "", lambda: call, "ours", settings.both_threads)
    variants = [Variant(ours, threads, call, {}) for threads in ours.threads]
    variants.append(Variant(floor, settings.threads, _made(floor, settings.threads), {}))
    measure_alone(variants, settings, BUDGET_S)
    rows = [v.row() for v in variants]
    kept = ("provider", "threads", "p20_ms", "p50_ms", "p80_ms")
    return [{"T": T, "traffic_bytes": traffic, **{k: row[k] for k in kept}} for row in rows]


def _made(contender: Contender, threads: int) -> Call:
    torch.set_num_threads(threads)
    return contender.make()
