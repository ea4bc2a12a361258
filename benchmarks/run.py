"""Runs benchmarks by name: measures, prints and stores, or refuses to."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from . import instruction_sets, results, scaling, text
from .agreement import DisagreementError
from .harness import Cell, Settings, measure
from .sizes import CellTooLargeError

__all__ = ["QUICK", "DisagreementError", "Settings", "names", "run", "run_one"]

FOLDER = Path(__file__).parent
QUICK = Settings(quick=True, screen_s=0.03, budget_s=1.0, lesser=False)


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
    folder = folder or FOLDER / "results"
    around = results.environment(settings.threads)
    for name in chosen or names():
        module = importlib.import_module(f".bench_{name}", __package__)
        path = run_one(name, module, settings, folder, show, around | {"loadavg": os.getloadavg()})
        show(f"Written: {path}\n")
    show(f"Written: {results.write_csv(folder)}")
    try:
        from . import figures
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        show("No figures: they need matplotlib, install spcl_fast[report]")
        return
    for path in figures.draw(folder):
        show(f"Written: {path}")


def run_one(
    name: str,
    module: ModuleType,
    settings: Settings,
    folder: Path,
    show: Callable[[str], object],
    around: Mapping[str, Any] | None = None,
) -> Path:
    """One benchmark: `module.cells(settings)` gives functions that each build one cell.

    Args:
        name: of the benchmark.
        module: what it consists of.
        settings: how long to look.
        folder: of the result file.
        show: takes what is printed.
        around: the environment, if it has been looked at already.
    """
    around = around or results.environment(settings.threads)
    show(f"{name} on {around['device']}, {around['cores']} core(s), {around['instruction_set']}")
    cells: list[dict[str, Any]] = []
    off, start = [], time.perf_counter()
    for index, build in enumerate(module.cells(settings)):
        try:
            record = _measured(build(), settings)
        except CellTooLargeError as error:
            off.append({"cell": index, "reason": str(error)})
            show(f"cell {index} is left out: {error}\n")
            continue
        show(text.table(record) + "\n")
        cells.append({"index": index, **record})
    if settings.lesser and around["instruction_set"] == "avx512":
        instruction_sets.add_lesser(name, settings, cells)
        for cell in cells:
            if "lesser" in cell:
                show(text.lesser(cell) + "\n")
    points = scaling.sweep(module, settings)
    return results.write(
        folder,
        name,
        {
            "quick": settings.quick,
            "seconds": time.perf_counter() - start,
            "environment": around,
            "cells": cells,
            "off": off,
            "scaling": points,
        },
    )


def _measured(cell: Cell, settings: Settings) -> dict[str, Any]:
    measured = measure(cell, settings)
    results.compare(measured["rows"], cell.traffic)
    return {
        "name": cell.name,
        "size": dict(cell.size),
        "traffic_bytes": cell.traffic,
        "tolerances": cell.expected.record(),
        "loadavg_after": os.getloadavg(),
        **measured,
    }
