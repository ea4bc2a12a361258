"""Which backend a call on a GPU takes, and why another is off; decided without one."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spcl_fast import _native, _report, backends, ops

pytestmark = pytest.mark.host_only

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def a_driver_and_no_wish_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPCL_FAST_BACKEND", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "_chosen", {})
    monkeypatch.setattr(backends, "_missed", set())


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch):
    """Turns the backends of a GPU on (None) or off (a reason)."""

    def set_reasons(cuda: str | None, triton: str | None) -> None:
        monkeypatch.setattr(backends, "_chosen", {})
        for name, reason in (("cuda", cuda), ("triton", triton)):
            altered = backends._BACKENDS[name]._replace(why_not=lambda reason=reason: reason)
            monkeypatch.setitem(backends._BACKENDS, name, altered)

    return set_reasons


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A torch that says it is built for CUDA, and nothing tried yet; where the library would lie."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(_native, "CUDA_LIBRARY", tmp_path / "libspcl_fast_cuda.so")
    monkeypatch.setattr(_native, "_cuda_outcome", None)
    return tmp_path / "libspcl_fast_cuda.so"


def chosen(op: str, *, needs_grad: bool = False, backend: str | None = None, ranks: bool = False) -> str:
    return backends.choose(op, backend, GPU, needs_grad=needs_grad, ranks=ranks)


def test_the_order_on_a_gpu_is_cuda_triton_reference(switch) -> None:
    for op in backends.OPS:
        in_triton = "triton" if op in backends.IN_TRITON else "reference"
        for reasons, expected in (
            ((None, None), "cuda"),
            (("no nvcc", None), in_triton),
            ((None, "no triton"), "cuda"),
            (("no nvcc", "no triton"), "reference"),
        ):
            switch(*reasons)
            assert chosen(op, needs_grad=op in backends.DIFFERENTIABLE) == expected, (op, reasons)


def test_the_order_of_an_op_is_its_own(switch, monkeypatch: pytest.MonkeyPatch) -> None:
    switch(None, None)
    monkeypatch.setitem(backends._FASTEST_FIRST, "window_coherence", ("cpu", "triton", "cuda", "reference"))
    assert chosen("window_coherence") == "triton"
    assert chosen("modality_scores") == "cuda"


def test_every_op_ends_in_the_reference() -> None:
    assert backends._FASTEST_FIRST.keys() == set(backends.OPS)
    for order in backends._FASTEST_FIRST.values():
        assert set(order) == set(backends._BACKENDS)
        assert order[-1] == "reference"


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_the_ranks_of_spld_are_left_to_the_reference(switch, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    switch(None, None)
    assert chosen("self_paced_step", needs_grad=True) == "cuda"
    assert chosen("self_paced_step", needs_grad=True, ranks=True) == "reference"
    with pytest.raises(
        ValueError, match=rf"backend '{name}' cannot do this call: it does not rank \(got scheme 'spld'"
    ):
        chosen("self_paced_step", backend=name, ranks=True)
    monkeypatch.setenv("SPCL_FAST_BACKEND", name)
    assert chosen("self_paced_step", ranks=True) == "reference"
    assert chosen("self_paced_step") == name


def test_the_ops_say_that_they_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def choose(op: str, backend: str | None, device: torch.device, *, needs_grad: bool, ranks: bool = False) -> str:
        asked.append((op, ranks))
        return "reference"

    monkeypatch.setattr(backends, "choose", choose)
    problem = torch.rand(2, 3, 4), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3])
    for validate in ("cheap", "full"):
        ops.self_paced_step(*problem, 0.5, scheme="spld", scheme_parameters={"gamma": 1.0}, validate=validate)
    ops.self_paced_step(*problem, 0.5)
    ops.self_paced_weights(torch.rand(3), 0.5, scheme="spld", gamma=1.0, groups=problem[1])
    ops.self_paced_weights(torch.rand(3), 0.5)
    assert set(asked) == {(op, ranks) for op in ("self_paced_step", "self_paced_weights") for ranks in (True, False)}
    assert [ranks for op, ranks in asked if op == "self_paced_step"] == [True] * 3 + [False] * 2


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_a_tensor_on_the_host_is_refused_by_name(switch, name: str) -> None:
    switch(None, None)
    with pytest.raises(ValueError, match=rf"backend '{name}' .*: it runs on cuda \(got a tensor on cpu\)"):
        ops.modality_scores(torch.rand(2, 3, 4), torch.zeros(3, dtype=torch.int64), backend=name)


def test_an_op_that_triton_does_not_have_is_refused_by_name(switch) -> None:
    switch(None, None)
    with pytest.raises(ValueError, match="backend 'triton' cannot do this call: it does not have this op"):
        chosen("emotion_transitions", backend="triton")


def test_each_backend_that_is_off_is_one_line_in_the_log(switch, caplog: pytest.LogCaptureFixture) -> None:
    switch("no nvcc", "no triton")
    with caplog.at_level(logging.INFO, logger="spcl_fast"):
        for op in backends.OPS:
            assert chosen(op) == "reference"
    assert [record.getMessage() for record in caplog.records] == [
        "backend 'cuda' is off, so a slower one computes its calls: no nvcc",
        "backend 'triton' is off, so a slower one computes its calls: no triton",
    ]


def test_a_backend_that_is_off_is_an_error_by_name(switch, monkeypatch: pytest.MonkeyPatch) -> None:
    switch("no nvcc", None)
    with pytest.raises(RuntimeError, match="backend 'cuda' is off: no nvcc"):
        chosen("modality_scores", backend="cuda")
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match="SPCL_FAST_BACKEND: backend 'cuda' is off: no nvcc"):
        chosen("modality_scores")
    host = torch.device("cpu")  # a preference for what a call cannot use is no demand
    assert backends.choose("modality_scores", None, host, needs_grad=False) == "cpu"


def test_the_report_says_who_computes_on_a_gpu(switch) -> None:
    def values() -> dict[str, str]:
        return {row.name: row.value for row in backends.report() if row.section == "ops"}

    switch(None, None)
    assert values()["modality_scores on cuda"] == "cuda, with gradient"
    assert values()["self_paced_step on cuda"] == "cuda, with gradient (scheme 'spld': reference)"
    switch("no nvcc", None)
    assert values()["window_coherence on cuda"] == "triton, with gradient (cuda is off)"
    assert values()["modality_spread on cuda"] == "reference (cuda is off; triton: it does not have this op)"
    assert values()["self_paced_step on cpu"] == "cpu, with gradient"
    assert backends._missed == set()  # a report is no call that fell back


@pytest.mark.parametrize("attribute", ["cuda", "hip"])
def test_a_torch_without_cuda_has_no_cuda_backend(
    cuda_build: Path, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    cuda_build.write_bytes(b"never looked at")
    if attribute == "cuda":
        monkeypatch.setattr(torch.version, "cuda", None)
        assert backends.why_not("cuda") == f"torch {torch.__version__} is a CPU build"
    else:
        monkeypatch.setattr(torch.version, "hip", "7.0")
        assert backends.why_not("cuda") == f"torch {torch.__version__} is a ROCm build, where backend 'triton' computes"


def test_a_cuda_library_that_is_not_there_or_does_not_load_is_a_reason(cuda_build: Path) -> None:
    assert "libspcl_fast_cuda.so is not built" in backends.why_not("cuda")
    _native._cuda_outcome = None
    cuda_build.write_bytes(b"not a library")
    reason = backends.why_not("cuda")
    assert reason.startswith(f"libspcl_fast_cuda.so cannot be used with torch {torch.__version__}: ")
    assert "\n" not in reason
    assert backends.why_not("cuda") == reason


def test_the_cuda_library_needs_the_schemas_of_the_first(
    cuda_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda_build.write_bytes(b"never looked at")
    monkeypatch.setattr(_native, "LIBRARY", tmp_path / "libspcl_fast.so")
    monkeypatch.setattr(_native, "_outcome", None)
    assert "libspcl_fast.so is not built" in backends.why_not("cuda")


def test_threads_load_both_libraries_once_and_in_order(cuda_build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_build.write_bytes(b"a library")
    assert backends.why_not("cpu") is None  # the ops are defined, whatever is loaded below
    loaded: list[str] = []
    together = threading.Barrier(8)
    monkeypatch.setattr(torch.ops, "load_library", lambda path: loaded.append(Path(path).name))
    monkeypatch.setattr(_native, "_outcome", None)

    def use() -> None:
        together.wait()
        assert backends.why_not("cuda") is None

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["libspcl_fast.so", "libspcl_fast_cuda.so"]
    assert not torch.cuda.is_initialized()


def test_the_report_describes_a_gpu_with_what_every_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(name="a GPU", major=9, minor=0, total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    for version in (13000, 0):  # a driver that does not say
        monkeypatch.setattr(_report, "_driver_version", lambda version=version: version)
        values = {row.name: row.value for row in backends.report() if row.section == "machine"}
        assert values["cuda:0"] == "a GPU, capability 9.0, 80 GiB"
        assert values.get("gpu driver") == ("runs CUDA up to 13.0" if version else None)
    monkeypatch.undo()
    assert isinstance(_report._driver_version(), int)
