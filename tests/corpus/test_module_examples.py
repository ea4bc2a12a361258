"""The examples of names that are found in their modules alone, which tests/test_doctests.py does not reach."""

from __future__ import annotations

import doctest
import importlib

import pytest

pytest.importorskip("pyarrow")


@pytest.mark.parametrize("name", ["atomic", "checksum", "place"])
def test_examples_run(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"spcl_fast.corpus.{name}")
    failed, tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (failed, tried > 2) == (0, True)
