"""Measures one cell on a device: agreement first, then time in turns, launches, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..agreement import DisagreementError
from ..harness import Call, Cell, Contender, quantile
from .launches import count
from .own_checks import cannot, capture, is_out_of_memory
from .timing import HostTimer, in_turns

COMPILING_S = 40.0  # what the first form that is compiled may take
NO_FAULT = "not run"  # how the reason begins of who is left out for no fault of its own


@dataclass(frozen=True)
class GpuSettings:
    """What is measured and for how long; `backends` are ours."""

    device: str = "cuda"
    backends: tuple[str, ...] = ("cuda", "triton")
    quick: bool = False
    compile: bool = True
    budget_s: float = 1.2  # of a cell and a way to look

    @property
    def can_graph(self) -> bool:
        """Whether there are graphs to replay."""
        return torch.device(self.device).type == "cuda"


@dataclass
class Bandwidth:
    """What the device copies and reads, in gigabytes per second."""

    copy: float
    read: float


def measure(
    cell: Cell,
    settings: GpuSettings,
    timer: HostTimer,
    bandwidth: Bandwidth,
    left_s: Callable[[], float] = lambda: float("inf"),
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a cell, and the faults of ours. A row without a time says in `off` why it has none.

    Args:
        cell: who competes on what.
        settings: where, and for how long.
        timer: of the device.
        bandwidth: of the device.
        left_s: how much time there is; with little of it nothing is compiled, which may take more.
    """
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    ready: dict[str, tuple[Contender, Call, dict[str, float]]] = {}
    for contender in cell.contenders:
        late = contender.provider == "compile" and not contender.skip and left_s() < COMPILING_S
        reason, call, differences = (f"{NO_FAULT}: out of time", None, {}) if late else _ready(contender, cell)
        name = f"{contender.provider} {contender.group}({contender.form})"
        if call is None:
            rows.append(_row(cell, contender, "", off=reason))
            if contender.role == "ours" and not reason.startswith(NO_FAULT):
                faults.append(f"{cell.name}: {name}: {reason}")
        else:
            ready[name] = contender, call, differences
    if torch.device(settings.device).type == "cuda":
        torch.cuda.empty_cache()
    ways: dict[str, dict[str, Callable[[int], list[float]]]] = {}
    if cell.traffic is not None:
        ways["flushed"] = {n: lambda k, c=c: timer.flushed_us(c, k) for n, (_, c, _) in ready.items()}
    else:
        ways["calls"] = {n: lambda k, c=c: [timer.calls_us(c, k)] for n, (_, c, _) in ready.items()}
        if settings.can_graph:
            graphs, failed = _graphs(cell, ready)
            ways["graph"] = {n: lambda k, c=g.replay: [timer.calls_us(c, k)] for n, g in graphs.items()}
            for name, reason in failed.items():
                rows.append(_row(cell, ready[name][0], "graph", off=reason))
                if ready[name][0].role == "ours":
                    faults.append(f"{cell.name}: {name} in a graph: {reason}")
    for way, looks in ways.items():
        for name, times in (in_turns(looks, settings.budget_s) if looks else {}).items():
            contender, _, differences = ready[name]
            rows.append(_row(cell, contender, way, largest_difference=differences, **_times(times)))
    for row in _looked_into(rows):
        call = ready[f"{row['provider']} {row['group']}({row['form']})"][1]
        row |= count(call, settings.device) | _memory(call, settings.device)
    _compare(rows, cell.traffic, bandwidth)
    return rows, faults


def _looked_into(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whose launches and memory are counted: ours, and the fastest of every rival; a graph has those of its call."""
    timed = sorted((row for row in rows if "p50_us" in row and row["way"] != "graph"), key=lambda row: row["p50_us"])
    best: dict[str, dict[str, Any]] = {}
    for row in timed:
        if row["role"] == "rival":
            best.setdefault(row["provider"], row)
    return [row for row in timed if row["role"] == "ours"] + list(best.values())


def _ready(contender: Contender, cell: Cell) -> tuple[str, Call | None, dict[str, float]]:
    if contender.skip:
        return contender.skip, None, {}
    try:
        call = contender.make()
        outputs = call()
        if contender.role == "floor":
            return "", call, {}
        return "", call, cell.expected.differences(contender.provider, outputs, contender.omits)
    except DisagreementError as error:
        return str(error), None, {}
    except Exception as error:
        if is_out_of_memory(error):
            return f"{NO_FAULT}: out of device memory: {' '.join(str(error).split())[:200]}", None, {}
        if cannot(error):
            return f"{NO_FAULT}: {error}", None, {}
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", None, {}


def _graphs(
    cell: Cell, ready: Mapping[str, tuple[Contender, Call, dict[str, float]]]
) -> tuple[dict[str, torch.cuda.CUDAGraph], dict[str, str]]:
    """A graph of everybody who can be captured, its replay compared like the call; and why the others cannot."""
    graphs, failed = {}, {}
    for name, (contender, call, _) in ready.items():
        try:
            graph, outputs = capture(call)
            graph.replay()
            torch.cuda.synchronize()
            if contender.role != "floor":
                cell.expected.differences(f"{contender.provider}, replayed", outputs, contender.omits)
            graphs[name] = graph
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            torch.cuda.synchronize()
    return graphs, failed


def _row(cell: Cell, contender: Contender, way: str, **more: Any) -> dict[str, Any]:
    return {
        "cell": cell.name,
        **cell.size,
        "provider": contender.provider,
        "form": contender.form,
        "role": contender.role,
        "group": contender.group,
        "way": way,
        "traffic_bytes": cell.traffic,
        "note": contender.note,
        **more,
    }


def _times(times: list[float]) -> dict[str, Any]:
    p20, p50, p80 = (quantile(times, q) for q in (0.2, 0.5, 0.8))
    return {"p20_us": p20, "p50_us": p50, "p80_us": p80, "looks": len(times)}


def _memory(call: Call, device: str) -> dict[str, Any]:
    """What a call asks of the driver after a warm-up, and the most device memory it holds beside its inputs."""
    if torch.device(device).type != "cuda":
        return {}
    stats = torch.cuda.memory_stats
    before, held = stats().get("num_device_alloc", 0), torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return {
        "device_allocations": stats().get("num_device_alloc", 0) - before,
        "peak_bytes": torch.cuda.max_memory_allocated() - held,
    }


def _compare(rows: list[dict[str, Any]], traffic: int | None, bandwidth: Bandwidth) -> None:
    """Adds bandwidths, and to ours how many times as fast it is as the best of every rival."""
    timed = [row for row in rows if "p50_us" in row]
    for row in timed:
        if traffic is not None:
            row["gigabytes_per_second"] = traffic / row["p50_us"] / 1e3
            row["percent_of_copy"] = 100 * row["gigabytes_per_second"] / bandwidth.copy
            row["percent_of_read"] = 100 * row["gigabytes_per_second"] / bandwidth.read
        if row["role"] == "ours":
            best: dict[str, float] = {}
            for other in timed:
                if other["role"] == "rival" and (other["way"], other["group"]) == (row["way"], row["group"]):
                    best[other["provider"]] = min(other["p50_us"], best.get(other["provider"], float("inf")))
            row["against"] = {provider: us / row["p50_us"] for provider, us in best.items()}
