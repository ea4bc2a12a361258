"""What a call takes of memory at its peak, and how much of that it keeps as its outputs.

tracemalloc does not see what torch allocates, so the kernel is asked: the free pages of the heap go back to it, the
high-water mark of the process starts anew, and after one call the mark says how far the process had grown. Free
pages that the call could otherwise reuse would hide its need. The kernel counts in pages and lazily, so a figure
may be off by some hundred kilobytes; Linux alone can do this.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PROCESS = Path("/proc/self")
MEBIBYTE = 2**20


class Memory(NamedTuple):
    """Bytes that one call added to the process."""

    peak: int
    kept: int  # by what the call returned; none where it filled memory that it was given

    @property
    def workspace(self) -> int:
        """What the call took and gave back."""
        return max(0, self.peak - self.kept)


def of_call(call: Callable[[], Any]) -> Memory | None:
    """The memory of one call, which must not be the first; None where the kernel does not say."""
    try:
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        (PROCESS / "clear_refs").write_text("5")
        before = _status("VmRSS")
        outputs = call()
        peak = _status("VmHWM")
        libc.malloc_trim(0)
        after = _status("VmRSS")
    except (OSError, AttributeError, KeyError):
        return None
    del outputs
    return Memory(max(0, peak - before), max(0, after - before))


def available() -> int | None:
    """Bytes that the machine can give without swapping; None where it does not say."""
    try:
        return _field(Path("/proc/meminfo"), "MemAvailable")
    except (OSError, KeyError):
        return None


def _status(name: str) -> int:
    return _field(PROCESS / "status", name)


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(name)
