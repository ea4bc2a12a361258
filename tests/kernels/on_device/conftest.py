"""What the tests of the kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from spcl_fast import kernels


@pytest.fixture(autouse=True)
def interpreter_without_warnings() -> Iterator[None]:
    """Interpreted kernels are NumPy, which warns of what a GPU does in silence: Inf - Inf, 0 * Inf."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels run here."""
    return torch.device("cpu" if kernels.is_interpreted() else "cuda")
