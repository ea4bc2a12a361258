"""How long the parts may take: what one leaves over, the next may use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

SHARES: Mapping[str, float] = {"tests": 3.0, "bench": 5.0, "sanitize": 2.0}
LEAST_S = 3.0  # a check that cannot have as much is not started
RESERVE_S = 10.0  # for the files and the summary


class Budget:
    """Shares out `total_s` from now on."""

    def __init__(self, total_s: float, parts: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + total_s - min(RESERVE_S, 0.1 * total_s)
        self._waiting = list(parts)
        self._part_end = self._end

    def start(self, part: str) -> None:
        """The part begins: its share is of what is left, among those that have not begun."""
        shares = {name: SHARES[name] for name in self._waiting}
        left = max(0.0, self._end - self._clock())
        self._part_end = self._clock() + left * shares[part] / sum(shares.values())
        self._waiting.remove(part)

    @property
    def left_s(self) -> float:
        """Of the part that runs; before the first, of all."""
        return max(0.0, self._part_end - self._clock())

    def allows(self, seconds: float = LEAST_S) -> bool:
        """Whether there is time to start something that takes so long."""
        return self.left_s >= seconds
