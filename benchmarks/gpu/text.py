"""Rows of the GPU benchmarks as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def row_line(row: Mapping[str, Any]) -> str:
    """One row of a benchmark for a terminal."""
    name = f"    {row['cell']}: {row['provider']} ({row['form']})"
    if "off" in row:
        return f"{name}: {row['off']}"
    if "p50_us" not in row:
        numbers = ", ".join(f"{key} {row[key]:.0f}" for key in row if key.endswith("gigabytes_per_second"))
        return f"{name}: {numbers}"
    parts = [f"{row['way']} {_time(row['p50_us'])} ({_time(row['p20_us'])} to {_time(row['p80_us'])})"]
    if "percent_of_copy" in row:
        parts.append(f"{row['gigabytes_per_second']:.0f} GB/s, {row['percent_of_copy']:.0f} % of the copy")
    if "launches" in row:
        parts.append(f"{row['launches']:g} launches, {row['host_syncs']:g} waits of the host")
    elif "launches_reason" in row:
        parts.append(f"launches {row['launches_reason']}")
    parts += [f"{ratio:.2f} x {provider}" for provider, ratio in row.get("against", {}).items()]
    return f"{name}: {'; '.join(parts)}"


def _time(us: float) -> str:
    return f"{us:.1f} µs" if us < 100 else f"{us:.0f} µs" if us < 10_000 else f"{us / 1000:.1f} ms"
