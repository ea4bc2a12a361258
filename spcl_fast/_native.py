"""The compiled torch libraries: loading them, once and on first use.

The first has the schemas of the ops and their CPU kernels, the second the CUDA kernels of the same ops. Neither is
loaded before it is asked for, and loading starts no CUDA context.
"""

from __future__ import annotations

import threading
from pathlib import Path

import torch

from spcl_fast import _fakes

LIBRARY = Path(__file__).with_name("libspcl_fast.so")
CUDA_LIBRARY = Path(__file__).with_name("libspcl_fast_cuda.so")
CUDA_ON_CPU = "CUDA on the CPU"  # the instruction set of a build that runs the CUDA sources there, for tests

_lock = threading.RLock()  # the second library loads the first
_outcome: str | None = None  # "" once loaded, or why it could not be
_cuda_outcome: str | None = None

#: whether the kernels for the CPU keep the contract of a device (`ops._engines`), since they are those of CUDA
acts_as_device = False


def why_not_loaded() -> str | None:
    """None when the library is loaded, which the first call attempts; else the reason, always the same."""
    global _outcome
    if _outcome is None:
        with _lock:
            if _outcome is None:
                _outcome = _load()
    return _outcome or None


def why_not_cuda() -> str | None:
    """The same of the CUDA library; a reason also where this torch cannot have one."""
    global _cuda_outcome
    if _cuda_outcome is None:
        with _lock:
            if _cuda_outcome is None:
                _cuda_outcome = _load_cuda()
    return _cuda_outcome or None


def is_loaded() -> bool:
    """Whether the library is loaded; never loads it."""
    return _outcome == ""


def instruction_set() -> str:
    """The instruction set its kernels use on this machine: "avx512", "avx2" or "baseline"; or `CUDA_ON_CPU`."""
    return torch.ops.spcl_fast.instruction_set()


def _load() -> str:
    global acts_as_device
    if not LIBRARY.is_file():
        return f"{LIBRARY.name} is not built; run `make setup`, or `pip install --no-build-isolation -e .`"
    try:
        torch.ops.load_library(str(LIBRARY))
        _fakes.register()
        # A wrong SPCL_FAST_ISA is found here and not in the middle of a call.
        acts_as_device = instruction_set() == CUDA_ON_CPU
    except Exception as error:
        return _unusable(LIBRARY, error)
    return ""


def _load_cuda() -> str:
    if torch.version.hip is not None:
        return f"torch {torch.__version__} is a ROCm build, where backend 'triton' computes"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a CPU build"
    if not CUDA_LIBRARY.is_file():
        return f"{CUDA_LIBRARY.name} is not built; it is where the build finds nvcc and a CUDA build of torch"
    reason = why_not_loaded()  # the schemas of the ops are in the first library
    if reason is not None:
        return reason
    try:
        torch.ops.load_library(str(CUDA_LIBRARY))
    except Exception as error:
        return _unusable(CUDA_LIBRARY, error)
    return ""


def _unusable(library: Path, error: Exception) -> str:
    return f"{library.name} cannot be used with torch {torch.__version__}: {' '.join(str(error).split())}"
