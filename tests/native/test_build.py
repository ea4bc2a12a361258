"""The build: what it records, what it leaves out of the binaries, and what it says when something is missing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import spcl_fast
from spcl_fast import _arrays, _build, _native

pytestmark = pytest.mark.host_only

ROOT = Path(__file__).resolve().parents[2]


def test_the_build_information_is_that_of_this_version() -> None:
    assert spcl_fast.__version__ == _build.VERSION
    assert int(_build.TORCH_TARGET_VERSION, 16) == (2 << 56) | (11 << 48)
    assert "-ffp-contract=off" in _build.CXX_FLAGS
    assert "fast-math" not in _build.CXX_FLAGS
    assert (_build.CUDA is not False) == _native.CUDA_LIBRARY.is_file()
    assert _arrays.instruction_set() in _build.ISA


@pytest.mark.parametrize(
    "artefact", [_native.LIBRARY, Path(_arrays.__file__), Path(_build.__file__)], ids=lambda p: p.name
)
def test_no_path_of_this_machine_is_built_in(artefact: Path) -> None:
    content = artefact.read_bytes()
    torch_spec = importlib.util.find_spec("torch")
    assert torch_spec is not None
    assert str(ROOT).encode() not in content
    assert str(Path(torch_spec.origin or "").parent).encode() not in content


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CXX": "no-such-compiler"}, "spcl_fast: no C++ compiler found (no-such-compiler)"),
        ({"SPCL_FAST_BUILD_TYPE": "Fast"}, "spcl_fast: SPCL_FAST_BUILD_TYPE must be one of Release"),
    ],
)
def test_a_build_that_cannot_start_says_why_in_one_line(environment: dict[str, str], message: str) -> None:
    run = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in run.stderr
