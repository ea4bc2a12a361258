"""The examples of the modules behind the package's public names."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = ("attention", "curriculum", "lessons", "losses", "network", "options", "teacher", "trainer")


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module_run(name):
    module = importlib.import_module(f"spcl_fast.hardy.{name}")
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert results.attempted
    assert not results.failed
