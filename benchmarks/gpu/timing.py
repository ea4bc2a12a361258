"""The time of calls on a device, by its own events; on the host by a clock, so that all of this can be tried there.

Three ways to look at a call:

- flushed: other data are read into the L2 cache before every call, which is timed alone. For what the memory binds.
- calls: many calls after each other, as a training loop makes them; the time of one, what Python and the launches take
  included. For what is small.
- graph: the same of replays of a CUDA graph that holds one call.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

BLOCK_S = 0.02
FEWEST, MOST = 3, 200  # rounds, and calls of a block
LONGEST = 3  # budgets that the fewest rounds are waited for
LEAST_FLUSH = 256 << 20


class HostTimer:
    """For a try without a device."""

    def __init__(self, device: str) -> None:
        self.device = device

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def flushed_us(self, call: Callable[[], object], n: int) -> list[float]:
        """The time of each of n calls in microseconds."""
        return [self.calls_us(call, 1) for _ in range(n)]

    def calls_us(self, call: Callable[[], object], n: int) -> float:
        """The time of one of n calls made after each other."""
        start = time.perf_counter()
        for _ in range(n):
            call()
        return 1e6 * (time.perf_counter() - start) / n


class DeviceTimer(HostTimer):
    """By CUDA events.

    The buffer that fills L2 is as large as several caches, and read: lines that were written would go back to memory
    while the call is timed.
    """

    def __init__(self, device: str) -> None:
        super().__init__(device)
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
        self._buffer = torch.zeros(max(LEAST_FLUSH, 3 * cache) // 4, device=device)

    def synchronize(self) -> None:
        """Waits for the device."""
        torch.cuda.synchronize(self.device)

    def flushed_us(self, call: Callable[[], object], n: int) -> list[float]:
        """The time of each of n calls in microseconds; the launch of a call hides behind the flush before it."""
        events = [(_event(), _event()) for _ in range(n)]
        for start, end in events:
            self._buffer.sum()
            start.record()
            call()
            end.record()
        self.synchronize()
        return [1e3 * start.elapsed_time(end) for start, end in events]

    def calls_us(self, call: Callable[[], object], n: int) -> float:
        """The time of one of n calls made after each other: of the host or of the device, whichever is longer."""
        start, end = _event(), _event()
        self.synchronize()
        start.record()
        for _ in range(n):
            call()
        end.record()
        self.synchronize()
        return 1e3 * start.elapsed_time(end) / n


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def timer_of(device: str) -> HostTimer:
    """What measures on this device."""
    return DeviceTimer(device) if torch.device(device).type == "cuda" else HostTimer(device)


def in_turns(
    looks: dict[str, Callable[[int], list[float]]], budget_s: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Times of everybody in microseconds, a block each in every round, and each round starts one later.

    Args:
        looks: by name, a function that makes n calls and returns their times.
        budget_s: of all rounds; three are made at least, unless they take three times as long.
        clock: in seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in looks}
    a_call = {name: min(look(2)) for name, look in looks.items()}  # the first may have to warm up
    names, start, rounds = list(looks), clock(), 0
    while rounds == 0 or (rounds < FEWEST and clock() - start < LONGEST * budget_s) or clock() - start < budget_s:
        first = rounds % len(names)
        for name in (*names[first:], *names[:first]):
            n = min(MOST, max(1, int(BLOCK_S * 1e6 / max(a_call[name], 1e-3))))
            times[name] += looks[name](n)
        rounds += 1
    return times
