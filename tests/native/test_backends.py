"""Which backend a call takes: by name, by the environment variable, or the fastest that can do it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from spcl_fast import _native, backends

pytestmark = pytest.mark.host_only

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")


@pytest.fixture(autouse=True)
def no_wish_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPCL_FAST_BACKEND", raising=False)


@pytest.fixture
def no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled library as if it had forward passes alone."""
    without = backends._BACKENDS["cpu"]._replace(differentiable=frozenset())
    monkeypatch.setitem(backends._BACKENDS, "cpu", without)
    monkeypatch.setattr(backends, "_chosen", {})


@pytest.fixture
def missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_native, "LIBRARY", tmp_path / "libspcl_fast.so")
    monkeypatch.setattr(_native, "_outcome", None)
    monkeypatch.setattr(backends, "_missed", set())


def test_the_fastest_backend_that_can_do_the_call_is_taken() -> None:
    assert backends.choose("modality_scores", None, CPU, needs_grad=False) == "cpu"
    assert backends.choose("modality_scores", None, CPU, needs_grad=True) == "cpu"
    assert backends.choose("modality_scores", None, ELSEWHERE, needs_grad=False) == "reference"
    assert backends.choose("modality_scores", None, ELSEWHERE, needs_grad=True) == "reference"
    assert backends.choose("self_paced_step", None, CPU, needs_grad=True) == "cpu"


@pytest.mark.usefixtures("no_gradients")
def test_a_call_that_needs_a_gradient_goes_where_there_is_one() -> None:
    assert backends.choose("modality_scores", None, CPU, needs_grad=False) == "cpu"
    assert backends.choose("modality_scores", None, CPU, needs_grad=True) == "reference"


def test_a_backend_asked_for_by_name_is_taken() -> None:
    assert backends.choose("modality_scores", "cpu", CPU, needs_grad=False) == "cpu"
    assert backends.choose("modality_scores", "reference", CPU, needs_grad=False) == "reference"


def test_the_environment_names_a_backend_and_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", "reference")
    assert backends.choose("modality_scores", None, CPU, needs_grad=False) == "reference"
    assert backends.choose("modality_scores", "cpu", CPU, needs_grad=False) == "cpu"
    monkeypatch.setenv("SPCL_FAST_BACKEND", "")
    assert backends.choose("modality_scores", None, CPU, needs_grad=False) == "cpu"
    monkeypatch.setenv("SPCL_FAST_BACKEND", "fpga")
    with pytest.raises(ValueError, match=r"SPCL_FAST_BACKEND: backend must be one of .* \(got 'fpga'\)"):
        backends.choose("modality_scores", None, CPU, needs_grad=False)


@pytest.mark.parametrize(
    ("op", "device", "needs_grad", "reason"),
    [
        ("modality_spread", CPU, True, "it has no gradient of this op"),
        ("modality_scores", ELSEWHERE, False, r"it runs on cpu \(got a tensor on meta\)"),
        ("modality_entropy", CPU, False, "it does not have this op"),
    ],
)
def test_a_backend_demanded_by_the_argument_that_cannot_do_the_call_is_refused(
    op: str, device: torch.device, needs_grad: bool, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"{op}: backend 'cpu' cannot do this call: {reason}"):
        backends.choose(op, "cpu", device, needs_grad=needs_grad)


@pytest.mark.usefixtures("no_gradients")
def test_a_backend_preferred_by_the_environment_leaves_what_it_cannot_do_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that trains would otherwise be impossible to run with SPCL_FAST_BACKEND=cpu."""
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cpu")
    assert backends.choose("modality_scores", None, CPU, needs_grad=True) == "reference"
    assert backends.choose("modality_scores", None, ELSEWHERE, needs_grad=False) == "reference"
    assert backends.choose("modality_scores", None, CPU, needs_grad=False) == "cpu"


@pytest.mark.parametrize("call", [backends.why_not, lambda name: backends.choose("x", name, CPU, needs_grad=False)])
def test_an_unknown_name_is_refused(call) -> None:
    with pytest.raises(ValueError, match=r"backend must be one of 'cpu', 'cuda', 'triton', 'reference' \(got 'fpga'\)"):
        call("fpga")


@pytest.mark.usefixtures("missing_library")
def test_a_missing_library_falls_back_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="spcl_fast"):
        for _ in range(3):
            assert backends.choose("modality_scores", None, CPU, needs_grad=False) == "reference"
    lines = [record for record in caplog.records if record.name == "spcl_fast"]
    assert [record.levelno for record in lines] == [logging.INFO]
    assert "libspcl_fast.so is not built" in lines[0].getMessage()
    available = backends.available()
    assert (available["cpu"], available["cuda"], available["reference"]) == (False, False, True)


@pytest.mark.usefixtures("missing_library")
def test_a_missing_library_asked_for_by_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"backend 'cpu' is off: .* is not built"):
        backends.choose("modality_scores", "cpu", CPU, needs_grad=False)
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match="SPCL_FAST_BACKEND: backend 'cpu' is off"):
        backends.choose("modality_scores", None, CPU, needs_grad=False)


@pytest.mark.usefixtures("missing_library")
def test_a_library_that_does_not_load_is_a_reason_and_not_a_crash() -> None:
    _native.LIBRARY.write_bytes(b"not a library")
    reason = backends.why_not("cpu")
    assert reason is not None
    assert reason.startswith(f"libspcl_fast.so cannot be used with torch {torch.__version__}: ")
    assert "\n" not in reason


def test_threads_that_load_at_once_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    together = threading.Barrier(8)

    def load() -> str:
        calls.append(1)
        return ""

    def use() -> None:
        together.wait()
        assert _native.why_not_loaded() is None

    monkeypatch.setattr(_native, "_outcome", None)
    monkeypatch.setattr(_native, "_load", load)
    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_import_loads_nothing() -> None:
    code = (
        "import sys, spcl_fast, spcl_fast.ops, torch\n"
        "assert not hasattr(torch.ops.spcl_fast, 'modality_scores')\n"
        "assert 'libspcl_fast' not in open('/proc/self/maps').read()\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "spcl_fast.backends.available()\n"
        "assert hasattr(torch.ops.spcl_fast, 'modality_scores')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_choice_is_made_while_tracing() -> None:
    """In a new process, so that the library loads inside the trace."""
    code = (
        "import torch\n"
        "from spcl_fast import ops\n"
        "f = torch.compile(lambda z, y: ops.modality_scores(z, y).loss, fullgraph=True, backend='aot_eager')\n"
        "z, y = torch.randn(2, 9, 4), torch.randint(4, (9,))\n"
        "assert torch.equal(f(z, y), ops.modality_scores(z, y).loss)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_an_instruction_set_that_is_not_one_turns_the_library_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCL_FAST_ISA", "mmx")
    code = "from spcl_fast import backends; print(backends.why_not('cpu'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'SPCL_FAST_ISA: must be avx512, avx2 or baseline (got "mmx")' in run.stdout


def test_the_report_names_versions_build_and_backends() -> None:
    report = backends.report()
    values = {(row.section, row.name): row.value for row in report}
    assert values["versions", "torch"] == torch.__version__
    assert values["build", "torch"].endswith("runs on 2.11 and newer")
    assert values["machine", "instruction set"] in ("avx512", "avx2", "baseline")
    assert values["backends", "cpu"] == "on"
    assert values["ops", "modality_scores on cpu"] == "cpu, with gradient"
    assert values["ops", "modality_spread on cpu"] == "cpu"
    assert {name for section, name in values if section == "ops"} == {
        f"{op} on {device}" for op in backends.OPS for device in ("cpu", "cuda")
    }
    assert len(values) == len(report)


@pytest.mark.usefixtures("missing_library")
def test_the_report_says_why_a_backend_is_off() -> None:
    values = {(row.section, row.name): row.value for row in backends.report()}
    assert values["backends", "cpu"].startswith("off: libspcl_fast.so is not built")
    assert values["ops", "modality_scores on cpu"] == "reference, with gradient (cpu is off)"


def test_the_report_survives_a_preference_that_nothing_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", "fpga")
    values = {(row.section, row.name): row.value for row in backends.report()}
    assert values["ops", "modality_scores on cpu"].startswith("none: modality_scores: SPCL_FAST_BACKEND: backend must")
