"""The Triton kernels without a GPU: interpreted, compiled ahead of time, and out of the way."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spcl_fast import kernels

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(Path(__file__).parent.joinpath("on_device").glob("test_*.py"))
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: Triton decides when it is imported whether it interprets, for every user of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRITON_", "PYTEST_"))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={**clean, **environment})


@needs_triton
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem.removeprefix("test_"))
def test_kernels_agree_with_the_reference_when_interpreted(file: Path) -> None:
    # COLUMNS: a failure is shown in full
    arguments = ("-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", str(file))
    done = run(*arguments, TRITON_INTERPRET="1", COLUMNS="200")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@needs_triton
def test_kernels_compile_ahead_of_time_and_spill_nothing() -> None:
    done = run("-m", "spcl_fast.kernels.ahead_of_time", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[1:-1]]
    names = {line[5] for line in lines}
    for op in ("modality_scores", "coherence_few", "coherence_many", "self_paced_step"):
        assert {f"{op}_fwd_kernel", f"{op}_rows_kernel"} & names
        assert f"{op}_bwd_kernel" in names
    assert {line[3] for line in lines} == {"sm_80", "sm_90"}
    assert all(line[1] in ("0", "?") for line in lines), done.stdout


@needs_triton
def test_a_kernel_that_does_not_compile_is_told_and_fails() -> None:
    code = """
import sys
from spcl_fast.kernels import ahead_of_time
wrong = ahead_of_time.Variant("_offsets", "offsets_fwd_kernel", {"BLOCK": 3})
ahead_of_time.variants = lambda: iter([wrong])
sys.exit(ahead_of_time.main())
"""
    done = run("-c", code)
    assert done.returncode == 1, done.stderr
    assert "FAILED sm_80 fp32 offsets_fwd_kernel" in done.stdout
    assert "0 compiled, 2 failed" in done.stdout


def test_kernels_are_no_package_of_their_own() -> None:
    """A root folder of that name would shadow another package."""
    assert "kernels" not in sys.modules
    assert importlib.util.find_spec("kernels") is None


def test_importing_the_package_or_asking_why_not_loads_no_triton() -> None:
    code = """
import sys, spcl_fast, spcl_fast.kernels as kernels
before = kernels.why_not()
print(sorted({"triton", "kernels"} & set(sys.modules)))
"""
    assert run("-c", code).stdout.strip() == "[]"


def test_why_not_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(kernels.INTERPRET, raising=False)
    assert "no GPU driver" in (kernels.why_not() or "")
    monkeypatch.setenv(kernels.INTERPRET, "1")
    assert kernels.why_not() is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert kernels.why_not() == "triton is not installed"
    monkeypatch.delitem(vars(kernels), "modality_scores", raising=False)
    with pytest.raises(ImportError, match="modality_scores needs Triton: triton is not installed"):
        kernels.modality_scores  # noqa: B018


@needs_triton
def test_the_name_of_an_op_is_its_function_whatever_was_imported_first() -> None:
    code = """
from spcl_fast.kernels.self_paced_step import SCALED
import spcl_fast.kernels.window_coherence
from spcl_fast import kernels
print(all(callable(getattr(kernels, name)) for name in kernels.__all__))
"""
    done = run("-c", code)
    assert done.stdout.strip() == "True", done.stderr


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kernels.nothing  # noqa: B018
