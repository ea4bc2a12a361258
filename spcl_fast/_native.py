"""The compiled torch library: loading it, once and on first use."""

from __future__ import annotations

import threading
from pathlib import Path

import torch

from spcl_fast import _fakes

LIBRARY = Path(__file__).with_name("libspcl_fast.so")

_lock = threading.Lock()
_outcome: str | None = None  # "" once loaded, or why it could not be


def why_not_loaded() -> str | None:
    """None when the library is loaded, which the first call attempts; else the reason, always the same."""
    global _outcome
    if _outcome is None:
        with _lock:
            if _outcome is None:
                _outcome = _load()
    return _outcome or None


def is_loaded() -> bool:
    """Whether the library is loaded; never loads it."""
    return _outcome == ""


def instruction_set() -> str:
    """The instruction set its kernels use on this machine: "avx512", "avx2" or "baseline"."""
    return torch.ops.spcl_fast.instruction_set()


def _load() -> str:
    if not LIBRARY.is_file():
        return f"{LIBRARY.name} is not built; run `make setup`, or `pip install --no-build-isolation -e .`"
    try:
        torch.ops.load_library(str(LIBRARY))
        _fakes.register()
        instruction_set()  # a wrong SPCL_FAST_ISA is found here and not in the middle of a call
    except Exception as error:
        return f"{LIBRARY.name} cannot be used with torch {torch.__version__}: {' '.join(str(error).split())}"
    return ""
