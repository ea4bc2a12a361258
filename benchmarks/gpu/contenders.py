"""What the cells of the GPU benchmarks share: who competes, and what must fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from spcl_fast import backends

from ..harness import Call, Contender
from ..providers.compiled import compiled
from ..providers.floors import copy_floor, read_floor
from ..sizes import CellTooLargeError
from .measure import GpuSettings

SMALL = 10_000  # utterances up to which the cost of a call counts, not the memory's bandwidth
MANY = 50_000_000  # utterances from which one plain form runs and none is compiled
MOST_OF_A_FLOOR = 8_000_000_000  # bytes; its arrays take twice as many
ONE_ALONE = "of the plain forms the one with the least memory runs here"


def ours(
    op: str, make: Callable[[str], Call], settings: GpuSettings, form: str = "op", needs_grad: bool = False
) -> Iterator[Contender]:
    """A contender for every backend of ours; one that is off, or lacks the op, is left out with the reason."""
    for backend in settings.backends:
        skip = ""
        try:
            backends.choose(op, backend, torch.device(settings.device), needs_grad=needs_grad)
        except (ValueError, RuntimeError) as error:
            skip = f"not run: {error}"
        yield Contender(backend, form, partial(make, backend), "ours", skip=skip)


def eager(forms: Mapping[str, Callable[[], Call]]) -> Iterator[Contender]:
    """The plain forms."""
    for name, make in forms.items():
        yield Contender("eager", name, make)


def compiles(forms: Mapping[str, Callable[[Callable[..., Any]], Call]], settings: GpuSettings) -> Iterator[Contender]:
    """Plain forms that are compiled: each makes its call with what it is given, which is `torch.compile`."""
    for name, make in forms.items():
        skip = "" if settings.compile else "not run: it is compiled in the first cells of a benchmark alone"
        yield Contender("compile", name, partial(make, compiled), may_fail=True, skip=skip)


def floors(traffic: int, settings: GpuSettings) -> list[Contender]:
    """A copy and a read of as many bytes; for very many the bandwidth has to do that every run measures."""
    if traffic > MOST_OF_A_FLOOR:
        return []
    return [copy_floor(traffic, (1,), settings.device), *read_floor(traffic, (1,), settings.device)]


def require_device_memory(needed: int, settings: GpuSettings) -> None:
    """Refuses a cell that the device cannot hold now.

    Raises:
        CellTooLargeError: less than that is free.
    """
    if torch.device(settings.device).type != "cuda":
        return
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    if free < needed:
        raise CellTooLargeError(f"takes {needed / 1e9:.1f} GB of device memory, {free / 1e9:.1f} GB are free")
