"""What the tests of the kernels share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from spcl_fast import kernels


@pytest.fixture(autouse=True)
def interpreter_without_warnings() -> Iterator[None]:
    """Interpreted kernels are NumPy, which warns of what a GPU does in silence: Inf - Inf, the maximum of NaN."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        yield


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels run here."""
    return torch.device("cpu" if kernels.is_interpreted() else "cuda")
