"""Whether the CUDA library has code for the GPU that a call is on; decided with a pretended one."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from spcl_fast import _native, backends

pytestmark = pytest.mark.host_only

GPU = torch.device("cuda", 0)
OFF = (
    "libspcl_fast_cuda.so is built for 80-real, 90, and a GPU has compute capability 7.5; "
    "build it with SPCL_FAST_CUDA_ARCHITECTURES=75-real"
)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """Pretends GPUs by their compute capabilities, or that CUDA has not started, and a library built for 8 and 9."""
    monkeypatch.delenv("SPCL_FAST_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_chosen", {})
    monkeypatch.setattr(backends, "_missed", set())
    monkeypatch.setattr(_native, "_cuda_outcome", "")  # it loads
    without_triton = backends._BACKENDS["triton"]._replace(why_not=lambda: "no triton")
    monkeypatch.setitem(backends._BACKENDS, "triton", without_triton)
    built_for("80-real", "90", monkeypatch=monkeypatch)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def start(*capabilities: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device.index or 0])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")

    start()
    return start


def built_for(*words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spcl_fast._build", SimpleNamespace(CUDA_ARCHITECTURES=words))


def chosen(device: torch.device = GPU, backend: str | None = None) -> str:
    return backends.choose("modality_scores", backend, device, needs_grad=False)


@pytest.mark.parametrize(
    ("words", "runs_on", "not_on"),
    [
        (["80-real"], [(8, 0), (8, 6), (8, 9)], [(7, 5), (9, 0), (12, 0)]),
        (["86-real"], [(8, 6), (8, 9)], [(8, 0)]),
        (["90"], [(9, 0), (10, 0), (12, 1)], [(8, 9)]),
        (["90-virtual"], [(9, 0), (12, 0)], [(8, 9)]),
        (["90a-real", "90a"], [(9, 0)], [(10, 0), (8, 0)]),
        (["100f"], [(10, 0), (10, 3)], [(12, 0), (9, 0)]),
        (["80-real", "90-real", "100-real", "120"], [(8, 0), (9, 0), (10, 3), (12, 0), (13, 0)], [(7, 5), (11, 0)]),
        ([], [(5, 0)], []),  # the build says nothing
        (["native"], [(7, 5)], []),
    ],
    ids=str,
)
def test_what_runs_where(gpus, monkeypatch: pytest.MonkeyPatch, words, runs_on, not_on) -> None:
    built_for(*words, monkeypatch=monkeypatch)
    for capability in runs_on:
        gpus(capability)
        assert _native.why_not_on(GPU) is None, capability
    for capability in not_on:
        gpus(capability)
        assert f"compute capability {capability[0]}.{capability[1]};" in (_native.why_not_on(GPU) or ""), capability


def test_a_gpu_without_code_turns_the_backend_off_with_the_reason(gpus, monkeypatch, caplog) -> None:
    gpus((7, 5))
    assert backends.why_not("cuda") == OFF
    assert not backends.available()["cuda"]
    with caplog.at_level("INFO", logger="spcl_fast"):
        assert chosen() == "reference"
    assert f"backend 'cuda' is off, so a slower one computes its calls: {OFF}" in caplog.text
    with pytest.raises(RuntimeError, match=r"backend 'cuda' is off: libspcl_fast_cuda\.so is built for 80"):
        chosen(backend="cuda")
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match=r"SPCL_FAST_BACKEND: backend 'cuda' is off: .* capability 7\.5"):
        chosen()


def test_the_choice_is_that_of_each_gpu(gpus) -> None:
    gpus((9, 0), (7, 5))
    assert [chosen(torch.device("cuda", index)) for index in (0, 1, 0)] == ["cuda", "reference", "cuda"]


def test_before_cuda_has_started_nothing_is_asked_and_nothing_remembered(gpus) -> None:
    assert backends.why_not("cpu") is None  # the ops are defined
    assert backends.why_not("cuda") is None
    assert chosen() == "cuda"
    gpus((7, 5))
    assert chosen() == "reference"
    assert backends.choose("modality_scores", None, torch.device("cpu"), needs_grad=False) == "cpu"


def test_without_a_driver_there_is_none(gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backends.why_not("cuda") == "no GPU driver is active"
    assert chosen() == "reference"


def test_a_build_that_says_nothing_is_no_reason(gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus((7, 5))
    monkeypatch.setitem(sys.modules, "spcl_fast._build", None)  # an ImportError
    assert _native.cuda_architectures() == ()
    assert backends.why_not("cuda") is None
