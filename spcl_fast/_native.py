"""The compiled torch libraries: loading them, once and on first use.

The first has the schemas of the ops and their CPU kernels, the second the CUDA kernels of the same ops. Neither is
loaded before it is asked for, and loading starts no CUDA context.
"""

from __future__ import annotations

import importlib
import re
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


def why_not_on(device: torch.device) -> str | None:
    """Why the CUDA library cannot run on a GPU: there is none, or it has no code for it; starts no CUDA context.

    The second is known once CUDA has started, and so from the first tensor on a GPU on.
    """
    if not torch.cuda.is_initialized():
        return None if torch.cuda.is_available() else "no GPU driver is active"
    built_for = cuda_architectures()
    major, minor = torch.cuda.get_device_capability(device)
    if not built_for or any(_runs_on(word, major, minor) for word in built_for):
        return None
    name = torch.cuda.get_device_name(device)
    return (
        f"{CUDA_LIBRARY.name} is built for {', '.join(built_for)}, and {name} has compute capability {major}.{minor}; "
        f"build it with SPCL_FAST_CUDA_ARCHITECTURES={major}{minor}-real"
    )


def cuda_architectures() -> tuple[str, ...]:
    """What the CUDA library is built for, in CMake's words; empty where no build says so."""
    try:
        return tuple(importlib.import_module("spcl_fast._build").CUDA_ARCHITECTURES)
    except (ImportError, AttributeError):
        return ()


def _runs_on(word: str, major: int, minor: int) -> bool:
    """Whether code for an architecture runs on a GPU; what is not a number, such as "native", is taken to.

    Machine code runs on the same major number from its minor number on, PTX on everything newer. What is compiled for
    one architecture's own features ("90a") or those of a family ("100f") runs there alone, also as PTX.
    """
    found = re.fullmatch(r"(\d+)(\d)([af]?)(?:-(real|virtual))?", word)
    if found is None:
        return True
    of_major, of_minor, features, kind = int(found[1]), int(found[2]), found[3], found[4]
    if features == "a":
        return (major, minor) == (of_major, of_minor)
    same_major = major == of_major and minor >= of_minor
    return same_major or (kind != "real" and not features and (major, minor) >= (of_major, of_minor))


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
