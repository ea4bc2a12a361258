"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor


class Problem(NamedTuple):
    logits: Tensor
    labels: Tensor
    offsets: Tensor


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan() -> Iterator[None]:
    """A kernel that skips an element shows: deterministic mode fills what `torch.empty` gives with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["reference", "cpu"], scope="module")
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of a module that asks for it runs on each backend, which all ops called in it prefer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPCL_FAST_BACKEND", request.param)
        yield request.param


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small tensors gain nothing from more, and lose much on a machine that is busy."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """Random logits, labels and ragged dialogues; `lengths` may hold zeros."""

    def make(
        lengths: tuple[int, ...] = (7, 1, 0, 12, 4),
        M: int = 3,
        C: int = 6,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        scale: float = 2.0,
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        T = sum(lengths)
        logits = (scale * torch.randn(M, T, C, generator=generator, dtype=torch.float64)).to(dtype)
        labels = torch.randint(C, (T,), generator=generator)
        return Problem(logits, labels, torch.tensor([0, *lengths]).cumsum(0))

    return make


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real feature files; tests that need it are skipped where there is none."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("SPCL_FAST_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set SPCL_FAST_DATA to the folder that holds it")
    return folder
