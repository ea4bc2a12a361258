"""How long a part of a run takes on its device."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import torch
from torch import Tensor


class Stopwatch:
    """Adds up the time spent inside `with watch:`; on a GPU that of its stream, which no measurement makes wait.

    Args:
        device: where the work takes place.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.stopwatch import Stopwatch
        >>> watch = Stopwatch(torch.device("cpu"))
        >>> for _ in range(3):
        ...     with watch:
        ...         product = torch.ones(8, 8) @ torch.ones(8, 8)
        >>> watch.seconds() > 0
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._total = 0.0
        self._started: torch.cuda.Event | float | None = None  # None while it stands
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def _start(self) -> None:
        if self._device.type == "cuda":
            self._started = self._event()
        else:
            self._started = time.perf_counter()

    def _stop(self) -> None:
        started, self._started = self._started, None
        if isinstance(started, float):
            self._total += time.perf_counter() - started
        elif started is not None:  # a backward pass may meet the end of `between` alone
            self._events.append((started, self._event()))

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def between(self, late: Tensor, early: Tensor) -> None:
        """Adds the part of the next backward pass that lies between two tensors, as far as both have a gradient.

        Nothing is added by a pass that begins behind `late`, or ends before `early`.

        Args:
            late: computed from the other.
            early: what is computed before it is none of the watch's business.

        Example:
            >>> import torch
            >>> from spcl_fast.merc.stopwatch import Stopwatch
            >>> watch = Stopwatch(torch.device("cpu"))
            >>> early = torch.ones(8, requires_grad=True) * 2
            >>> late = early.exp().sum()
            >>> watch.between(late, early)
            >>> late.backward()
            >>> watch.seconds() > 0
            True
        """
        if late.grad_fn is not None and early.grad_fn is not None:
            late.grad_fn.register_prehook(lambda _: self._start())
            early.grad_fn.register_prehook(lambda _: self._stop())

    def seconds(self) -> float:
        """What it has measured, in seconds; waits for the device.

        Example:
            >>> import torch
            >>> from spcl_fast.merc.stopwatch import Stopwatch
            >>> Stopwatch(torch.device("cpu")).seconds()  # nothing measured yet
            0.0
        """
        for begin, end in self._events:
            end.synchronize()
            self._total += begin.elapsed_time(end) / 1000
        self._events.clear()
        return self._total
