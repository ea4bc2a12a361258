"""What is kept of a benchmark and how it is shown: where it ran, the file of results, the table."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from spcl_fast import backends
from spcl_fast.merc.files import write_json

SCHEMA = 1


def environment(threads: int) -> dict[str, Any]:
    """Versions, build and machine, and how busy the machine was."""
    sections: dict[str, dict[str, str]] = {}
    for row in backends.report():
        sections.setdefault(row.section, {})[row.name] = row.value
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    printed = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout if compiler else ""
    return {
        "versions": sections["versions"] | {"compiler of torch.compile": (printed.splitlines() or ["none"])[0]},
        "build": sections["build"],
        "backends": sections["backends"],
        "device": _processor(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "instruction_set": sections["machine"]["instruction set"],
        "torch_instruction_set": torch.backends.cpu.get_cpu_capability(),
        "loadavg": os.getloadavg(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def compare(rows: Sequence[dict[str, Any]], traffic: int | None) -> None:
    """Adds to every row its speed over the strongest rival of its group, and to ours all that follows from it.

    `times_as_fast`: as the strongest rival; of ours `against` every provider: how many times as fast ours is.
    A floor in `against` is at most about 1: the fraction of the floor's speed that ours reaches.
    `gigabytes_per_second`: the traffic that the op cannot do without, over the median.
    """
    for row in rows:
        peers = [r for r in rows if r["group"] == row["group"] or r["role"] == "floor"]
        rivals = [r for r in peers if r["role"] == "rival"]
        if rivals:
            row["times_as_fast"] = min(r["p50_ms"] for r in rivals) / row["p50_ms"]
        if row["role"] == "ours":
            others = [r for r in peers if r["role"] in ("rival", "floor")]
            row["against"] = {f"{r['provider']}": r["p50_ms"] / row["p50_ms"] for r in others}
        if traffic is not None and (row["role"] == "ours" or row["provider"] == "copy"):
            row["gigabytes_per_second"] = traffic / row["p50_ms"] / 1e6


def write(folder: Path, name: str, result: dict[str, Any]) -> Path:
    """Writes `<folder>/<name>.json`, whole or not at all."""
    path = folder / f"{name}.json"
    write_json(path, {"schema": SCHEMA, "benchmark": name, **result})
    return path


def table(cell: dict[str, Any]) -> str:
    """The rows of one cell, the fastest first, as text."""
    size = ", ".join(f"{k}={v}" for k, v in cell["size"].items())
    rows = sorted(cell["rows"], key=lambda r: (r["group"], r["p50_ms"]))
    names = [f"{r['provider']} {r['group']}".strip() for r in rows]
    forms = [r["form"] + (f" [{r['note']}]" if r["note"] else "") for r in rows]
    wide, wider = (max(map(len, column), default=0) for column in (names, forms))
    lines = [
        f"{cell['name']}: {size}",
        f"  {'':<{wide}}  {'':<{wider}}  threads      p20      p50      p80 ms   x strongest rival",
    ]
    for row, name, form in zip(rows, names, forms, strict=True):
        times = " ".join(f"{_short(row[p]):>8}" for p in ("p20_ms", "p50_ms", "p80_ms"))
        ratio = f"{row['times_as_fast']:.2f}" if "times_as_fast" in row else "-"
        lines.append(f"  {name:<{wide}}  {form:<{wider}}  {row['threads']:>7} {times}      {ratio:>8}{_extra(row)}")
    for row, name, form in zip(rows, names, forms, strict=True):
        if "against" in row:
            against = ", ".join(f"{ratio:.3g} x {other}" for other, ratio in row["against"].items())
            lines.append(f"  {name}, {form}: speed is {against}")
    lines += [f"  off: {o['provider']} ({o['form']}): {o['reason']}" for o in cell["off"]]
    return "\n".join(lines)


def _extra(row: dict[str, Any]) -> str:
    parts = []
    if "gigabytes_per_second" in row:
        parts.append(f"{row['gigabytes_per_second']:.1f} GB/s")
    if "overhead_us" in row:
        parts.append(f"{row['overhead_us']:+.1f} us over the op")
    return f"   ({'; '.join(parts)})" if parts else ""


def _short(ms: float) -> str:
    return f"{ms:.4f}" if ms < 1 else f"{ms:.4g}"
