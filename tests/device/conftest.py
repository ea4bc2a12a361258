"""Tests of what a GPU alone can show; they run with `--device cuda` and are skipped by name elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from spcl_fast import backends


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Memory that others have taken meanwhile is no fault; torch tells the compiled library of it from 2.13 on."""
    try:
        return (yield)
    except RuntimeError as error:
        if item.path.stem != "test_addresses":
            raise
        if isinstance(error, torch.OutOfMemoryError) or "aoti_torch_empty_strided" in str(error):
            pytest.skip("out of GPU memory")
        raise


def _asked_for(name: str, names: list[str]) -> str:
    if name not in names:
        pytest.skip(f"backend {name!r} is not among --backends")
    reason = backends.why_not(name)
    assert reason is None, reason  # asked for and off is a failure and not a skip
    return name


@pytest.fixture(params=["cuda", "triton"])
def kernels(request: pytest.FixtureRequest, backend_names: list[str]) -> str:
    """A backend with kernels of its own, forward and backward."""
    return _asked_for(request.param, backend_names)


@pytest.fixture(params=["cuda", "triton", "reference"])
def every_backend(request: pytest.FixtureRequest, backend_names: list[str]) -> str:
    """The reference too: it promises the same of the host."""
    return _asked_for(request.param, backend_names)


@pytest.fixture
def without_waiting() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Calls a function after a warm-up call; then whatever makes the host wait for the GPU is an error."""

    def call(run: Callable[[], Any]) -> Any:
        run()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            return run()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    yield call
    torch.cuda.set_sync_debug_mode("default")
