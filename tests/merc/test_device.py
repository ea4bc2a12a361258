"""Where a run takes place, and why it cannot take place elsewhere; decided without a GPU."""

from __future__ import annotations

import pytest
import torch

from spcl_fast.merc.device import describe, find_device
from spcl_fast.merc.stopwatch import Stopwatch


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    """A torch that says it was built for CUDA and finds so many GPUs, or why it finds none."""

    def pretend(count: int, error: str | None = None) -> None:
        def init() -> None:
            if error is not None:
                raise RuntimeError(error)

        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    return pretend


def test_auto_is_the_gpu_where_there_is_one(gpus) -> None:
    gpus(0)
    assert find_device("auto") == torch.device("cpu")
    gpus(2)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda", 0)
    assert find_device("cuda:1") == find_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_a_gpu_that_is_not_there_is_an_error_with_the_reason(gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(2)
    with pytest.raises(ValueError, match=r"device cuda:2: this machine has 2 GPU\(s\), numbered from 0"):
        find_device("cuda:2")
    gpus(0)
    with pytest.raises(ValueError, match="device cuda: torch finds no GPU"):
        find_device("cuda")
    gpus(0, "Found no NVIDIA driver on your system.\n Please check")
    with pytest.raises(ValueError, match=r"device cuda: Found no NVIDIA driver on your system\. Please check"):
        find_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(ValueError, match=r"device cuda: torch .* is a CPU build"):
        find_device("cuda")


@pytest.mark.parametrize("name", ["abacus", "meta"])
def test_what_is_no_device_to_compute_on_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"device {name}: "):
        find_device(name)


def test_a_gpu_is_described_by_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Model X")
    assert describe(torch.device("cuda", 1)) == "cuda:1 (Model X)"
    assert describe(torch.device("cpu")) == "cpu"


def test_a_stopwatch_adds_up_what_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch:
            pass
    assert watch.seconds() == watch.seconds() == 2.5


def test_a_stopwatch_adds_nothing_of_a_backward_pass_that_has_one_end_of_the_way_alone() -> None:
    watch = Stopwatch(torch.device("cpu"))
    early = torch.ones(8, requires_grad=True) * 2
    late = early.exp().sum()
    watch.between(late, early)
    early.sum().backward(retain_graph=True)
    assert watch.seconds() == 0
    apart = torch.ones(8, requires_grad=True).exp().sum()
    watch.between(apart, early)
    apart.backward()
    assert watch.seconds() == 0
    late.backward()
    assert watch.seconds() > 0


def test_a_stopwatch_on_a_gpu_waits_when_it_is_read_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            done.append(f"record on {stream}")

        def synchronize(self) -> None:
            done.append("wait")

        def elapsed_time(self, end: Event) -> float:
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    watch = Stopwatch(torch.device("cuda", 1))
    for _ in range(2):
        with watch:
            pass
    assert done == ["record on the stream of cuda:1"] * 4
    assert watch.seconds() == 0.5
    assert done[4:] == ["wait"] * 2
    assert watch.seconds() == 0.5
