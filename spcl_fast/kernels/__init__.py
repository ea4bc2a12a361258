"""The ops in Triton: for machines without nvcc, and for GPUs that are not NVIDIA's.

Functions with the signatures and results of the compiled ops `torch.ops.spcl_fast.*`, so that the same autograd
Functions can be driven by either. They take arguments that the public ops have checked, wait for no device, and
are bitwise the same from call to call.

Triton is imported when the first of them is asked for. Under TRITON_INTERPRET=1, set before that, the kernels run on
the host, thousands of times slower: for tests.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

INTERPRET = "TRITON_INTERPRET"
_HOMES = {
    "modality_scores": ("modality_scores", "modality_scores_out", "modality_scores_backward"),
    "window_coherence": ("window_coherence", "window_coherence_out", "window_coherence_backward"),
    "self_paced_step": ("self_paced_step", "self_paced_step_backward"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # resolved by __getattr__
    "modality_scores",
    "modality_scores_backward",
    "modality_scores_out",
    "self_paced_step",
    "self_paced_step_backward",
    "why_not",
    "window_coherence",
    "window_coherence_backward",
    "window_coherence_out",
]


def why_not() -> str | None:
    """The reason the kernels are off on this machine; None when they run. Does not import Triton."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if is_interpreted():
        return None
    import torch

    if not torch.cuda.is_available():
        return f"no GPU driver is active ({INTERPRET}=1 runs the kernels on the host, for tests)"
    return None


def is_interpreted() -> bool:
    """Whether Triton runs its kernels on the host."""
    return os.environ.get(INTERPRET, "0").lower() in ("1", "true", "on", "y", "yes")


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if importlib.util.find_spec("triton") is None:
        raise ImportError(f"{__name__}.{name} needs Triton: triton is not installed (pip install triton)")
    found = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps the name of an op for its function: importing the module of that name would bind it to the module."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
