"""Fixtures shared by all tests, and the grid they run on: a device and its backends.

`--device cuda` creates every tensor of a test on the GPU and runs the backends of that device; what belongs to the
host alone (`host_only`, and the folders that test nothing else) is skipped by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

BACKENDS = {"cpu": ["reference", "cpu"], "cuda": ["reference", "cuda", "triton"]}
HOST_FOLDERS = ("native", "cli", "corpus", "merc", "report", "distributed", "integrations", "extras")
HOST_FILES = (
    *("test_balance", "test_batch", "test_benchmark_parts", "test_benchmarks", "test_cuda_check", "test_gpu_bench"),
    *("test_gpu_build", "test_gpu_check", "test_import", "test_readme", "test_hardy_trainer", "test_lessons"),
)


class Problem(NamedTuple):
    logits: Tensor
    labels: Tensor
    offsets: Tensor


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("spcl_fast")
    group.addoption("--device", choices=sorted(BACKENDS), default="cpu", help="where the tensors of the tests lie")
    group.addoption("--backends", metavar="NAMES", help="backends to test, by commas; default: those of the device")
    group.addoption("--seconds", type=float, help="no test is begun later; what has failed until then is still shown")
    group.addoption("--library", metavar="PATH", help="library that defines the ops, in place of libspcl_fast.so")


def pytest_configure(config: pytest.Config) -> None:
    from spcl_fast import _native, backends

    device, library = config.getoption("--device"), config.getoption("--library")
    if library is not None:
        assert not _native.is_loaded()  # the first to load defines the ops
        _native.LIBRARY = Path(library).resolve()
        reason = _native.why_not_loaded()
        if reason is not None:
            raise pytest.UsageError(f"--library: {reason}")
        if _native.acts_as_device:  # and has what a device has: no ranks
            backends._BACKENDS["cpu"] = backends._BACKENDS["cpu"]._replace(ranks=False)
    names = (config.getoption("--backends") or ",".join(BACKENDS[device])).split(",")
    if unknown := [name for name in names if name not in backends.available()]:
        raise pytest.UsageError(f"--backends: no backend is named {', '.join(unknown)}")
    config.stash[_names] = names
    if device == "cuda":
        if not torch.cuda.is_available():
            raise pytest.UsageError(f"--device cuda: torch {torch.__version__} finds no GPU here")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch's deterministic mode asks for
        torch.set_default_device("cuda")  # before any test module makes its constants
        backends.available()  # loads the kernels, for tests that call them as torch.ops


_names = pytest.StashKey[list[str]]()
_start = time.monotonic()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    seconds = item.config.getoption("--seconds")
    if seconds is not None and nextitem is not None and time.monotonic() - _start > seconds:
        item.session.shouldstop = "out of time"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = {mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")}  # by the test itself
    for fixture, scope in (("backend", "module"), ("backend_name", "function")):
        if fixture in metafunc.fixturenames and fixture not in chosen:
            metafunc.parametrize(fixture, metafunc.config.stash[_names], indirect=True, scope=scope)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from spcl_fast import _native

    device, here = config.getoption("--device"), Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        if device != "cpu" and (
            item.get_closest_marker("host_only") or folder in HOST_FOLDERS or item.path.stem in HOST_FILES
        ):
            item.add_marker(pytest.mark.skip(reason="host_only: runs with --device cpu"))
        elif _native.acts_as_device and item.get_closest_marker("host_only"):
            item.add_marker(pytest.mark.skip(reason="host_only: runs with the kernels of the CPU"))
        if device != "cuda" and folder == "device":
            item.add_marker(pytest.mark.skip(reason="needs a GPU: runs with --device cuda"))


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan(request: pytest.FixtureRequest) -> Iterator[None]:
    """A kernel that skips an element shows: deterministic mode fills what `torch.empty` gives with NaN."""
    # On a GPU some of torch's own ops, such as the cumulative sum, have no deterministic form; they may still run.
    torch.use_deterministic_algorithms(True, warn_only=request.config.getoption("--device") != "cpu")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def backend_names(request: pytest.FixtureRequest) -> list[str]:
    """The backends under test, for a test that has to meet them all in one run."""
    return request.config.stash[_names]


@pytest.fixture
def backend_name(request: pytest.FixtureRequest) -> str:
    """Every test that asks for it runs on each backend, by the argument `backend=`."""
    return request.param


@pytest.fixture(scope="module")
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
    """Random logits, labels and ragged dialogues; `lengths` may hold zeros. The same on every device."""

    def make(
        lengths: tuple[int, ...] = (7, 1, 0, 12, 4),
        M: int = 3,
        C: int = 6,
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        scale: float = 2.0,
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        drawn = {"generator": generator, "device": "cpu"}
        T = sum(lengths)
        logits = (scale * torch.randn(M, T, C, **drawn, dtype=torch.float64)).to(dtype)
        labels = torch.randint(C, (T,), **drawn)
        here = torch.get_default_device()
        return Problem(logits.to(here), labels.to(here), torch.tensor([0, *lengths]).cumsum(0))

    return make


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real feature files; tests that need it are skipped where there is none."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("SPCL_FAST_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set SPCL_FAST_DATA to the folder that holds it")
    return folder
