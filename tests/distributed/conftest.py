"""`run_processes` for every test here: `processes.run`, by its place and not by a package that could be another's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def run_processes() -> Callable[..., list[Any]]:
    """`run(world_size, function, *args)`: what the function returns in each process of a gloo group, by rank."""
    spec = importlib.util.spec_from_file_location("processes", Path(__file__).with_name("processes.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Callable[..., list[Any]] = module.run
    return run
