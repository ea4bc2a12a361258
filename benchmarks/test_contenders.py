"""The same cells and contenders in pytest-benchmark: `pytest benchmarks --benchmark-only [--full] [--op NAME]`.

For who lives in that tool, its statistics and its `--benchmark-compare`. The suite has a harness of its own beside it,
since pytest-benchmark runs one contender to its end before the next one starts, and a ratio is to be believed only
when the contenders alternate within one run.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from spcl_fast.cli.bench import load_benchmarks

run = load_benchmarks(Path(__file__).resolve().parents[1])
harness = importlib.import_module(f"{run.__package__}.harness")
sizes = importlib.import_module(f"{run.__package__}.sizes")

# What torch.compile imports is not ours to answer for.
pytestmark = pytest.mark.filterwarnings("default")


@cache
def _cells(op: str, full: bool) -> list[Any]:
    return importlib.import_module(f"{run.__package__}.bench_{op}").cells(_settings(full))


def _settings(full: bool) -> Any:
    return run.Settings() if full else run.QUICK


@lru_cache(maxsize=1)  # the parameters are in the order of the cells, and a large one fills the memory
def _cell(op: str, index: int, full: bool) -> Any:
    try:
        return _cells(op, full)[index]()
    except sizes.CellTooLargeError as error:
        return str(error)


def _contenders(ops: Sequence[str], full: bool) -> Iterator[Any]:
    for op in ops:
        for index in range(len(_cells(op, full))):
            cell = _cell(op, index, full)
            for number, contender in enumerate([] if isinstance(cell, str) else cell.contenders):
                named = [cell.name, contender.provider, contender.group, contender.form]
                for threads in harness.thread_counts(contender, _settings(full)):
                    name = "-".join(part.replace(" ", "_") for part in (op, *named, f"{threads}t") if part)
                    yield pytest.param(op, index, number, threads, full, id=name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a contender and thread count."""
    full, ops = metafunc.config.getoption("full"), metafunc.config.getoption("op") or run.names()
    metafunc.parametrize(("op", "index", "number", "threads", "full"), list(_contenders(ops, full)))


def test_contender(benchmark: Any, op: str, index: int, number: int, threads: int, full: bool) -> None:
    """Agrees with the float64 reference, and is timed only then."""
    cell = _cell(op, index, full)
    contender = cell.contenders[number]
    if contender.skip:
        pytest.skip(contender.skip)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        try:
            call = contender.make()
            outputs = call()
        except Exception as error:
            if not contender.may_fail:
                raise
            pytest.skip(f"cannot be built here: {type(error).__name__}")
        if contender.role != "floor":
            cell.expected.differences(contender.form, outputs, contender.omits)
        del outputs
        benchmark.group = f"{op}: {cell.name}"
        benchmark.extra_info.update(size=dict(cell.size), threads=threads, role=contender.role)
        benchmark(call)
    finally:
        torch.set_num_threads(before)
