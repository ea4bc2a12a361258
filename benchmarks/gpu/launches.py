"""What one call starts on the device, as torch's profiler sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    from torch.profiler import ProfilerActivity, profile

    call()
    torch.cuda.synchronize()
    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            for _ in range(CALLS):
                call()
        # Left before the device is waited for: a wait of ours would count as one of the call's.
        torch.cuda.synchronize()
        events = [(str(event.device_type), event.name) for event in profiler.events()]
    except RuntimeError as error:
        return {"launches_reason": f"not run: the profiler failed: {str(error).splitlines()[0]}"}
    return of_events(events, CALLS)


def of_events(events: Iterable[tuple[str, str]], calls: int) -> dict[str, Any]:
    """The same from the events, each the type of its device and its name."""
    events = list(events)
    on_device = [name for where, name in events if where.endswith("CUDA")]
    if not on_device:
        return {"launches_reason": "not run: the profiler saw nothing on the device"}
    kernels: dict[str, float] = {}
    for name in on_device:
        kernels[name] = kernels.get(name, 0) + 1 / calls
    # The profiler itself waits once, when it ends.
    waits = max(0, sum(where.endswith("CPU") and name in WAITS for where, name in events) - 1)
    return {
        "launches": round(len(on_device) / calls, 2),
        "kernels": {name[:120]: round(n, 2) for name, n in kernels.items()},
        "host_syncs": round(waits / calls, 2),
    }
