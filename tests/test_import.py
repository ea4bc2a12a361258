"""Importing is inert: nothing is built, no thread starts, and torch stays out until it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import spcl_fast


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_neither_torch_nor_numpy():
    assert run("import sys, spcl_fast; print({'torch', 'numpy'} & set(sys.modules))") == "set()"


def test_importing_arrays_leaves_torch_out():
    assert run("import sys, spcl_fast.arrays; print('torch' in sys.modules)") == "False"
    assert run("import sys, spcl_fast; spcl_fast.arrays; print('torch' in sys.modules)") == "False"


def test_importing_starts_no_thread_and_loads_no_library():
    code = """
import os, torch
threads = len(os.listdir("/proc/self/task"))
from spcl_fast import DialogueBatch, SelfPacedScheduler, backends, ops
print(len(os.listdir("/proc/self/task")) == threads, "libspcl_fast" in open("/proc/self/maps").read())
"""
    assert run(code) == "True False"


@pytest.mark.parametrize("name", spcl_fast.__all__)
def test_every_public_name_is_there(name):
    assert getattr(spcl_fast, name) is not None
    assert name in dir(spcl_fast)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        spcl_fast.nothing  # noqa: B018
