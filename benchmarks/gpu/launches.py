"""What one call starts on the device, as torch's profiler sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "cuStreamSynchronize")
CALLS = 4


def count(call: Callable[[], object], device: str) -> dict[str, Any]:
    """Launches and waits of one call: `launches` (kernels, fills and copies), `kernels` by name, `host_syncs`.

    Where the profiler sees nothing, `launches_reason` says so, and there are no numbers.
    """
    if torch.device(device).type != "cuda":
        return {"launches_reason": "not run: no CUDA device"}
    call()
    try:
        return of_events(_events(call, CALLS), CALLS, _own_waits())
    except RuntimeError as error:
        return {"launches_reason": f"not run: the profiler failed: {str(error).splitlines()[0]}"}


def _events(call: Callable[[], object], calls: int) -> list[tuple[str, str]]:
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(calls):
            call()
    torch.cuda.synchronize()
    return [(str(event.device_type), event.name) for event in profiler.events()]


@cache
def _own_waits() -> int:
    """How often the profiler itself waits, seen when nothing is called."""
    return _waits(_events(lambda: None, 1))


def _waits(events: Iterable[tuple[str, str]]) -> int:
    return sum(where.endswith("CPU") and name in WAITS for where, name in events)


def of_events(events: Sequence[tuple[str, str]], calls: int, own_waits: int = 0) -> dict[str, Any]:
    """The same from the events, each the type of its device and its name; `own_waits` are not the call's."""
    on_device = [name for where, name in events if where.endswith("CUDA")]
    if not on_device:
        return {"launches_reason": "not run: the profiler saw nothing on the device"}
    kernels: dict[str, float] = {}
    for name in on_device:
        kernels[name] = kernels.get(name, 0) + 1 / calls
    return {
        "launches": round(len(on_device) / calls, 2),
        "kernels": {name[:120]: round(n, 2) for name, n in kernels.items()},
        "host_syncs": round(max(0, _waits(events) - own_waits) / calls, 2),
    }
