"""What is kept of a benchmark: where it ran, how its rows compare, the files of results."""

from __future__ import annotations

import csv
import io
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from spcl_fast import backends
from spcl_fast.merc.files import write_atomically, write_json

from .providers.floors import bandwidth
from .tables import read_all

SCHEMA = 2


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
        "bandwidth": {f"{n} threads": bandwidth(n) for n in sorted({1, threads})},
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
    A floor in `against` is at most about 1: the fraction of the floor's speed that ours reaches on as many threads;
    `fraction_of_floor` is that of the fastest floor, `floor`.
    `gigabytes_per_second`: the traffic that the op cannot do without, over the median.
    """
    for row in rows:
        if traffic is not None and (row["role"] == "ours" or row["provider"] in ("copy", "read")):
            row["gigabytes_per_second"] = traffic / row["p50_ms"] / 1e6
        rivals = [r for r in rows if r["role"] == "rival" and r["group"] == row["group"]]
        if rivals and row["role"] != "floor":
            row["times_as_fast"] = min(r["p50_ms"] for r in rivals) / row["p50_ms"]
        if row["role"] == "ours":
            floors = _floors(rows, row["threads"])
            fastest: dict[str, float] = {}
            for other in (*rivals, *floors):
                fastest[other["provider"]] = min(other["p50_ms"], fastest.get(other["provider"], float("inf")))
            row["against"] = {provider: ms / row["p50_ms"] for provider, ms in fastest.items()}
            if floors:
                row["floor"] = min(floors, key=lambda r: r["p50_ms"])["provider"]
                row["fraction_of_floor"] = row["against"][row["floor"]]


def _floors(rows: Sequence[dict[str, Any]], threads: int) -> list[dict[str, Any]]:
    floors = [r for r in rows if r["role"] == "floor"]
    return [r for r in floors if r["threads"] == threads] or floors


def write(folder: Path, name: str, result: dict[str, Any]) -> Path:
    """Writes `<folder>/<name>.json`, whole or not at all."""
    path = folder / f"{name}.json"
    write_json(path, {"schema": SCHEMA, "benchmark": name, **result})
    return path


def flat(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for every row of every cell, and of every child process with a lesser instruction set."""
    lines = []
    for name, result in results.items():
        around = result["environment"]
        for cell in result["cells"]:
            lesser = cell.get("lesser", {"rows": [], "instruction_set": None})
            measured = [(around["instruction_set"], row) for row in cell["rows"]]
            measured += [(lesser["instruction_set"], row) for row in lesser["rows"]]
            for isa, row in measured:
                line = {"benchmark": name, "cell": cell["name"], **cell["size"], "instruction_set": isa}
                line |= {k: v for k, v in row.items() if not isinstance(v, dict)}
                line |= {f"against {provider}": ratio for provider, ratio in row.get("against", {}).items()}
                lines.append(line | {"device": around["device"], "torch": around["versions"]["torch"]})
    return lines


def write_csv(folder: Path) -> Path:
    """Writes `<folder>/rows.csv` from all results there; a column that a row does not have is empty."""
    lines = flat(read_all(folder))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for line in lines for k in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    path = folder / "rows.csv"
    write_atomically(path, text.getvalue().encode())
    return path
