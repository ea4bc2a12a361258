"""Runs benchmarks by name: measures, prints and stores, or refuses to."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from . import results
from .agreement import DisagreementError
from .harness import Settings, measure

__all__ = ["QUICK", "DisagreementError", "Settings", "names", "run", "run_one"]

FOLDER = Path(__file__).parent
QUICK = Settings(quick=True, screen_s=0.03, budget_s=2.0)


def names() -> list[str]:
    """The benchmarks that there are."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def run(
    chosen: Sequence[str], settings: Settings, folder: Path | None = None, show: Callable[[str], object] = print
) -> None:
    """Runs the benchmarks; of each, prints a table for every cell and then writes the file of results.

    Args:
        chosen: names; none for all.
        settings: how long to look.
        folder: of the result files; None for `results/` beside this file.
        show: takes what is printed, a cell or a line at a time.

    Raises:
        ValueError: there is no benchmark of this name.
        DisagreementError: a contender is wrong; nothing of its cell is shown and nothing of its benchmark stored.
    """
    unknown = [name for name in chosen if name not in names()]
    if unknown:
        raise ValueError(f"no benchmark is named {', '.join(unknown)}: there are {', '.join(names())}")
    load = os.getloadavg()[0]  # before the first benchmark: the second would see the load of the first
    if load > 0.5:
        show(f"The machine is not idle (load {load:.2f}): these figures are no record.")
    for name in chosen or names():
        module = importlib.import_module(f".bench_{name}", __package__)
        path = run_one(name, module, settings, folder or FOLDER / "results", show)
        show(f"Written: {path}\n")


def run_one(name: str, module: ModuleType, settings: Settings, folder: Path, show: Callable[[str], object]) -> Path:
    """One benchmark: `module.cells(settings)` gives functions that each build one cell."""
    around = results.environment(settings.threads)
    show(f"{name} on {around['device']}, {around['cores']} core(s), {around['instruction_set']}")
    cells, start = [], time.perf_counter()
    for build in module.cells(settings):
        cell = build()
        measured = measure(cell, settings)
        results.compare(measured["rows"], cell.traffic)
        record = {
            "name": cell.name,
            "size": dict(cell.size),
            "traffic_bytes": cell.traffic,
            "tolerances": cell.expected.record(),
            "loadavg_after": os.getloadavg(),
            **measured,
        }
        show(results.table(record) + "\n")
        cells.append(record)
    seconds = time.perf_counter() - start
    return results.write(
        folder, name, {"quick": settings.quick, "seconds": seconds, "environment": around, "cells": cells}
    )
