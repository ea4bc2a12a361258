"""Ours with a lesser instruction set than the machine has: what the op does on a machine without AVX-512.

The library reads SPCL_FAST_ISA once per process, so a child measures. It runs the same cells with ours, the floors
and the plain PyTorch form that won in the parent, all in turns as ever, so that its ratios too are of one run;
torch keeps the instructions that it chooses itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import results
from .harness import Cell, Settings, measure
from .sizes import LARGEST

LESSER = "avx2"
BUDGET_S = 1.0
CHILD = (
    "import importlib, pathlib, sys; from spcl_fast.cli.bench import load_benchmarks; "
    "suite = load_benchmarks(pathlib.Path(sys.argv[1])).__package__; "
    "importlib.import_module(f'{suite}.instruction_sets').answer()"
)


def add_lesser(name: str, settings: Settings, cells: Sequence[dict[str, Any]]) -> None:
    """Adds `lesser` to the cells of a benchmark that are worth it: float32, and bound by memory.

    Args:
        name: of the benchmark.
        settings: of the run.
        cells: records of the parent; `index` says which of the benchmark's cells each is.

    Raises:
        RuntimeError: the child failed; its last line says why.
    """
    chosen = {
        str(cell["index"]): sorted({(r["provider"], r["form"]) for r in cell["rows"] if r["provider"] == "eager"})
        for cell in cells
        if _is_worth_it(cell)
    }
    if not chosen:
        return
    question = {"name": name, "settings": dataclasses.asdict(settings), "cells": chosen}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parents[1])],
        input=json.dumps(question),
        env={**os.environ, "SPCL_FAST_ISA": LESSER},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name} with {LESSER}: {(done.stderr.splitlines() or ['no reason given'])[-1]}")
    answers = json.loads(done.stdout)
    for cell in cells:
        if str(cell["index"]) in answers:
            cell["lesser"] = {"instruction_set": LESSER, "rows": answers[str(cell["index"])]}


def _is_worth_it(cell: dict[str, Any]) -> bool:
    size = cell["size"]
    floats = size.get("dtype", "float32") == "float32"
    return floats and cell["traffic_bytes"] is not None and size.get("T", 0) < LARGEST


def answer() -> None:
    """What the child does: reads the question, writes rows by cell."""
    question = json.load(sys.stdin)
    settings = Settings(**question["settings"] | {"compile": False, "memory": False, "budget_s": BUDGET_S})
    module = importlib.import_module(f".bench_{question['name']}", __package__)
    builders = module.cells(settings)
    answers = {}
    for index, plain in question["cells"].items():
        cell = _only(builders[int(index)](), {tuple(p) for p in plain})
        rows = measure(cell, settings)["rows"]
        results.compare(rows, cell.traffic)
        answers[index] = rows
    json.dump(answers, sys.stdout)


def _only(cell: Cell, plain: set[tuple[str, ...]]) -> Cell:
    kept = [c for c in cell.contenders if c.role in ("ours", "floor") or (c.provider, c.form) in plain]
    return dataclasses.replace(cell, contenders=kept)
