"""Tests of the CUDA kernels by their raw ops: on a GPU, or emulated on the CPU (`make cuda-check`)."""

from __future__ import annotations

import pytest
import torch

from spcl_fast import _native


@pytest.fixture(autouse=True, scope="session")
def _needs_cuda_kernels() -> None:
    reason = _native.why_not_loaded()
    if reason is not None:
        pytest.skip(f"the library is off: {reason}")
    is_emulated = _native.instruction_set() == "CUDA on the CPU"
    if not is_emulated and torch.get_default_device().type != "cuda":
        pytest.skip("needs --device cuda, or --library with the emulated CUDA sources (make cuda-check)")
