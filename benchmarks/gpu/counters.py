"""Hardware counters of our kernels by Nsight Compute, where it is installed and may read them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

METRICS: Mapping[str, str] = {
    "gpu__time_duration.sum": "microseconds",
    "dram__bytes_read.sum": "bytes_read",
    "dram__bytes_write.sum": "bytes_written",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "percent_of_dram_peak",
    "smsp__inst_executed.sum": "warp_instructions",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "percent_of_issue_peak",
    "launch__registers_per_thread": "registers",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "percent_of_warps_active",
}
SCALES = {
    **{"nsecond": 1e-3, "ns": 1e-3, "usecond": 1.0, "us": 1.0, "msecond": 1e3, "ms": 1e3},
    **{"byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9},
}


def command(ncu: str, target: list[str]) -> list[str]:
    """How Nsight Compute is called: only between the marks that the target sets, with the clocks as they are."""
    options = ["--csv", "--profile-from-start", "off", "--clock-control", "none", "--metrics", ",".join(METRICS)]
    return [ncu, *options, *target]


def parse(output: str) -> list[dict[str, Any]]:
    """A row for every kernel that was profiled, in their order."""
    lines = output.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        return []
    rows: dict[str, dict[str, Any]] = {}
    for line in csv.DictReader(line for line in lines[start:] if line.startswith('"')):
        row = rows.setdefault(line["ID"], {"kernel": line["Kernel Name"][:160]})
        name = METRICS.get(line["Metric Name"])
        value = line["Metric Value"].replace(",", "")
        if name is not None:
            try:
                row[name] = float(value) * SCALES.get(line["Metric Unit"], 1.0)
            except ValueError:
                row[name] = None  # the counter is not there on this device
    return list(rows.values())


def why_nothing(code: int | None, output: str) -> str:
    """The reason that there are no counters."""
    if code is None:
        return "out of time"
    lines = [re.sub(r"^==\w*==\s*", "", line) for line in output.splitlines() if line.startswith("==")]
    errors = [line for line in lines if "ERR" in line.upper() or "Failed" in line or "No kernels" in line]
    return (errors or lines or output.splitlines() or ["Nsight Compute said nothing"])[-1][:300]
