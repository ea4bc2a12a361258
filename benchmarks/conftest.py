"""The options of `test_contenders.py`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: the cells and the compiled forms of the full run; `--op`: the benchmarks to collect."""
    parser.addoption("--full", action="store_true", help="All sizes, dtypes and compiled forms; takes long.")
    parser.addoption("--op", action="append", help="A benchmark by its name, may be repeated; all without it.")
