"""The benchmarks and own checks of a GPU, tried on the host: who competes, who is refused, what is predicted."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
from pathlib import Path

import pytest
import torch

from spcl_fast import ops
from spcl_fast.cli import bench as command

ROOT = Path(__file__).resolve().parents[1]
RUN = command.load_benchmarks(ROOT)


def part(name: str):
    return importlib.import_module(f"{RUN.__package__}.{name}")


bench, own, measure, timing = (part(f"gpu.{name}") for name in ("bench", "own_checks", "measure", "timing"))
SETTINGS = measure.GpuSettings("cpu", ("cpu", "abacus"), compile=False, budget_s=0.0)


@pytest.fixture(autouse=True)
def ordinary_algorithms(uninitialised_memory_is_nan):
    """As users run."""
    torch.use_deterministic_algorithms(False)


def cell(name):
    cells = {
        "scores": lambda: part("gpu.cells_scores").build_cell(12_000, torch.bfloat16, SETTINGS),
        "backward": lambda: part("gpu.cells_scores").build_backward(50, SETTINGS),
        "coherence": lambda: part("gpu.cells_dialogues").build_coherence(130, torch.float32, True, SETTINGS),
        "transitions": lambda: part("gpu.cells_dialogues").build_transitions(30, SETTINGS),
        "quantile": lambda: part("gpu.cells_order").build_quantile(12_001, SETTINGS),
        "select": lambda: part("gpu.cells_order").build_select(51, SETTINGS),
        "weights": lambda: part("gpu.cells_order").build_weights("spld", 300, SETTINGS),
        "step": lambda: part("gpu.cells_step").build_cell("tiny", (4, 1, 9, 3), 6, True, SETTINGS, copies=2),
    }
    return cells[name]()


def run(monkeypatch, cells, **more):
    monkeypatch.setattr(bench, "BENCHMARKS", {"op": lambda settings: cells})
    lines = []
    bench.run(["op"], SETTINGS, 60.0, lines.append, copied=1 << 16, **more)
    outcomes = {line["cell"][1]: line["outcome"] for line in lines if "outcome" in line}
    return [line for line in lines if "op" in line], outcomes


@pytest.mark.parametrize(
    "name", ["scores", "backward", "coherence", "transitions", "quantile", "select", "weights", "step"]
)
def test_everybody_in_a_cell_agrees_and_is_timed(monkeypatch, name):
    rows, outcomes = run(monkeypatch, {name: lambda: cell(name)})
    assert outcomes[name]["status"] == "passed", outcomes
    timed = [row for row in rows if "p50_us" in row]
    assert {"cpu", "eager"} <= {row["provider"] for row in timed}
    assert all(0 < row["p20_us"] <= row["p50_us"] <= row["p80_us"] for row in timed)
    mine = next(row for row in timed if row["provider"] == "cpu")
    assert mine["against"]["eager"] > 0
    assert mine["launches_reason"] == "not run: no CUDA device"
    assert ("percent_of_copy" in mine) == (mine["way"] == "flushed") == (mine["T"] > 10_000)
    (abacus,) = (row for row in rows if row["provider"] == "abacus")
    assert abacus["off"].startswith("not run: ")


def lying(name, role):
    honest = cell(name)

    def make(contender):
        def made():
            call = contender.make()
            return lambda: {key: x + 1 if key == "threshold" else x for key, x in call().items()}

        return made

    contenders = [
        dataclasses.replace(c, make=make(c)) if c.role == role and not c.skip else c for c in honest.contenders
    ]
    return dataclasses.replace(honest, contenders=contenders)


@pytest.mark.parametrize(("role", "status"), [("ours", "failed"), ("rival", "passed")])
def test_nobody_is_timed_who_disagrees_and_ours_has_failed(monkeypatch, role, status):
    rows, outcomes = run(monkeypatch, {"lie": lambda: lying("quantile", role)})
    wrong = [row for row in rows if row["role"] == role and row["provider"] in ("cpu", "eager")]
    assert wrong
    assert all("differs from the float64 reference" in row["off"] and "p50_us" not in row for row in wrong)
    assert outcomes["lie"]["status"] == status
    assert ("threshold differs" in outcomes["lie"]["reason"]) == (status == "failed")


def test_what_the_time_or_the_memory_does_not_allow_is_not_run(monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 30.0
        return now[0]

    def too_large():
        raise part("sizes").CellTooLargeError("takes 99.0 GB of device memory")

    _, outcomes = run(monkeypatch, {"large": too_large, "late": lambda: cell("select")}, clock=clock)
    assert {name: (o["status"], o["reason"]) for name, o in outcomes.items()} == {
        "large": ("not run", "takes 99.0 GB of device memory"),
        "late": ("not run", "out of time"),
    }


def test_with_little_time_left_nothing_is_compiled():
    settings = dataclasses.replace(SETTINGS, compile=True)
    problem = part("gpu.cells_scores").build_cell(40, torch.float32, settings)
    speed = measure.Bandwidth(1.0, 1.0)
    rows, faults = measure.measure(problem, settings, timing.timer_of("cpu"), speed, lambda: 5.0)
    assert {row["off"] for row in rows if row["provider"] == "compile"} == {"not run: out of time"}
    assert {row["provider"] for row in rows if "p50_us" in row} == {"cpu", "eager"}
    assert faults == []


def test_promised_cells_come_first_and_names_are_those_of_the_cells():
    plan = bench.plan_of(list(bench.BENCHMARKS), measure.GpuSettings())
    assert [name for name, _, _ in plan[: len(bench.BENCHMARKS)]] == list(bench.BENCHMARKS)
    assert len({(name, cell) for name, cell, _ in plan}) == len(plan)
    quick = bench.plan_of(list(bench.BENCHMARKS), measure.GpuSettings(quick=True))
    assert len(bench.BENCHMARKS) <= len(quick) < len(plan) / 2


def test_turns_begin_one_later_in_every_round():
    order, now = [], [0.0]

    def clock():
        now[0] += 0.2
        return now[0]

    looks = {name: (lambda n, name=name: order.append(name) or [1e6] * n) for name in "abc"}
    times = timing.in_turns(looks, 1.0, clock=clock)
    assert "".join(order[3:12]) == "abcbcacab"
    assert {len(found) for found in times.values()} == {len(order[3:]) // 3}


def test_launches_are_counted_by_the_call():
    count = part("gpu.launches").of_events
    wait, launch = ("DeviceType.CPU", "cudaStreamSynchronize"), ("DeviceType.CPU", "cudaLaunchKernel")
    events = [("DeviceType.CUDA", "step_kernel"), launch, wait, ("DeviceType.CUDA", "Memset (Device)")] * 4
    found = count([*events, ("DeviceType.CPU", "cudaDeviceSynchronize")], 4, own_waits=1)
    assert found == {"launches": 2, "kernels": {"step_kernel": 1, "Memset (Device)": 1}, "host_syncs": 1}
    assert count([launch], 4) == {"launches_reason": "not run: the profiler saw nothing on the device"}


def test_own_checks_pass_on_the_host_and_say_how_much_they_saw():
    found = own.outcome("agreement", "cpu", "cpu")
    assert (found["status"], found["reason"]) == ("passed", "")
    assert found["details"]["cases"].keys() == set(RUN_OPS)
    assert own.outcome("agreement", "abacus", "cpu")["status"] == "not run"


RUN_OPS = (
    *("modality_scores", "modality_spread", "window_coherence", "emotion_transitions"),
    *("difficulty_histogram", "difficulty_quantile", "select_easiest", "self_paced_weights", "self_paced_step"),
    *("super_loss", "multiview_hardness"),
)


def test_own_checks_find_a_planted_fault_and_leave_out_what_is_refused(monkeypatch):
    honest = ops.self_paced_weights

    def planted(x, threshold, *, scheme, **more):
        if scheme == "spld":
            raise ValueError("self_paced_weights: backend 'cpu' cannot do this call: it does not rank")
        weight = honest(x, threshold, scheme=scheme, **more)
        return weight + (scheme == "linear") * 1e-4

    monkeypatch.setattr(ops, "self_paced_weights", planted)
    found = own.outcome("agreement", "cpu", "cpu")
    assert found["status"] == "failed"
    assert found["reason"].startswith("1 of ")
    assert "self_paced_weights (linear): DisagreementError" in found["reason"]
    assert found["details"]["left out"] == [
        "self_paced_weights (spld): left out: self_paced_weights: backend 'cpu' cannot do this call: it does not rank"
    ]


def test_repeats_find_a_bit_that_changes(monkeypatch):
    seen = []

    def planted(x, pace, *, backend):
        seen.append(x)
        return torch.tensor(1.0 if len(seen) % 50 else -1.0)

    monkeypatch.setattr(own, "every_case", lambda device: (c for c in part("gpu.cases")._order(device)))
    assert own.outcome("repeats", "cpu", "cpu")["status"] == "passed"
    monkeypatch.setattr(ops, "difficulty_quantile", planted)
    found = own.outcome("repeats", "cpu", "cpu")
    assert "threshold: other bits" in found["reason"]
    nan = torch.tensor([float("nan"), 0.0])
    own.require_same_bits("x", nan, nan.clone())
    with pytest.raises(AssertionError, match="1 byte"):
        own.require_same_bits("x", nan, torch.tensor([float("nan"), -0.0]))


def test_the_end_of_large_inputs_is_looked_at(monkeypatch):
    addresses = part("gpu.addresses")
    monkeypatch.setattr(addresses, "PAST", 40_000)
    monkeypatch.setattr(addresses, "TAIL", 20)
    for function, _ in addresses.LOOKS.values():
        function("cpu", "cpu")
    honest = ops.self_paced_weights
    monkeypatch.setattr(ops, "self_paced_weights", lambda x, *a, **k: honest(x.flip(0), *a, **k))
    with pytest.raises(AssertionError, match="at the end"):
        addresses.weights("cpu", "cpu")


TARGETS = json.loads((ROOT / "benchmarks" / "gpu_predictions.json").read_text())


@pytest.mark.parametrize("target", TARGETS["targets"], ids=lambda t: f"{t['op']}, {t['cell']}, {t['way']}")
def test_a_prediction_is_of_a_cell_and_above_its_floors(target):
    plan = {(name, cell) for name, cell, _ in bench.plan_of(list(bench.BENCHMARKS), measure.GpuSettings())}
    assert (target["op"], target["cell"]) in plan
    of = TARGETS["device"]
    least = of["multiprocessors"] * 4 * of["clock_gigahertz"] * 1e9
    assert of["warp_instructions_per_second"] == pytest.approx(least)
    assert target["predicted_us"] >= 1.08 * target["bytes"] / of["copy_gigabytes_per_second"] / 1e3
    assert target["predicted_us"] >= 1.08 * target["warp_instructions"] / of["warp_instructions_per_second"] * 1e6


def test_predicted_bytes_are_those_that_the_cells_count():
    scores, steps, transitions = (
        part("bench_modality_scores"),
        part("bench_self_paced_step"),
        part("bench_emotion_transitions"),
    )
    found = {(t["op"], t["cell"]): t["bytes"] for t in TARGETS["targets"]}
    for dtype in ("float32", "bfloat16"):
        z = torch.empty(3, 10, 7, dtype=getattr(torch, dtype))
        assert found["modality_scores", f"T=1e7, {dtype}"] == 1_000_000 * scores.traffic_of(z)
        width = 3 * 256 * z.element_size() + 4
        assert found["window_coherence", f"T=1e6, {dtype}, forward"] == 1_000_000 * width
    batch = steps.make_problem(part("sizes").IEMOCAP, 6, True)
    assert found["self_paced_step", "IEMOCAP batch, forward and backward"] == steps.traffic_of(batch, 6, True)
    assert found["self_paced_step", "T=1e6, forward and backward"] == 1000 * steps.traffic_of(batch, 6, True)
    assert found["difficulty_quantile", "T=1e8"] == part("gpu.cells_order").READS * 4 * 10**8
    T = torch.empty(10)
    hardness = part("bench_multiview_hardness")
    for dtype in ("float32", "bfloat16"):
        inputs = hardness.problem(10_000, getattr(torch, dtype))
        assert found["multiview_hardness", f"T=1e5, {dtype}"] == 10 * hardness.traffic_of(inputs)
    assert found["emotion_transitions", "D=1e6"] == 10**6 * transitions.traffic_of(T, T, torch.empty(2))


def test_the_table_says_not_run_until_there_is_a_result(monkeypatch, tmp_path):
    tables = part("tables")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    lines = tables.gpu().splitlines()
    assert len(lines) == 2 + len(TARGETS["targets"])
    assert all(line.count("not run") == 6 for line in lines[2:])
    key = {"op": "modality_scores", "cell": "T=1e7, float32", "way": "flushed", "form": "out="}
    rows = [
        {**key, "provider": "cuda", "p50_us": 350.4, "percent_of_copy": 93.2, "launches": 1.0},
        {**key, "provider": "eager", "p50_us": 9000.0},
        {**key, "provider": "eager", "p50_us": 8000.0},
        {**key, "provider": "triton", "off": "not run: no triton"},
        {"op": "device", "cell": "1 GiB", "way": "flushed", "copy_gigabytes_per_second": 2990.4},
    ]
    machine = {"device": "a GPU", "torch": "2.11"}
    (tmp_path / "gpu_check.json").write_text(json.dumps({"rows": rows, "machine": machine}))
    assert tables.gpu().endswith("|\n\nMeasured on a GPU with torch 2.11: a copy moves 2,990 GB/s there.")
    (line,) = (line for line in tables.gpu().splitlines() if "| 354 µs |" in line)
    assert line.endswith("| 354 µs | 350 µs | not run | 8.0 ms | not run | 93 % | 1 |")


class PretendedCuda:
    """Streams and graphs by name: what waits is refused in the mode for it, and in a capture."""

    def __init__(self, monkeypatch):
        self.current, self.mode, self.captures, self.capturing = "here", "default", 0, False
        for name in ("stream", "graph", "set_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self)
        monkeypatch.setattr(torch.cuda, "Stream", lambda: self)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "a graph")
        monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: setattr(self, "mode", mode))

    def wait_stream(self, other):
        pass

    @contextlib.contextmanager
    def stream(self, stream):
        yield

    @contextlib.contextmanager
    def graph(self, graph):
        self.captures, self.capturing, self.current = self.captures + 1, True, "that of captures"
        yield  # torch leaves its stream current where a capture fails
        self.capturing, self.current = False, "here"

    def set_stream(self, stream):
        self.current = "here"

    def wait(self):
        if self.mode == "error" or self.capturing:
            raise RuntimeError("called a synchronizing CUDA operation")


def test_what_waits_is_refused_before_its_capture_and_a_failed_capture_leaves_the_stream(monkeypatch):
    cuda = PretendedCuda(monkeypatch)
    assert own.capture(lambda: {"x": 1}) == ("a graph", {"x": 1})
    with pytest.raises(RuntimeError, match="synchronizing"):
        own.capture(cuda.wait)
    assert (cuda.captures, cuda.mode, cuda.current) == (1, "default", "here")

    def not_captured():
        assert not cuda.capturing, "not now"

    with pytest.raises(AssertionError, match="not now"):
        own.capture(not_captured)
    assert (cuda.captures, cuda.mode, cuda.current) == (2, "default", "here")


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("aoti_torch_empty_strided(dim, ...) API call failed at csrc/torch/new_tensor.h, line 45"), True),
        (RuntimeError("step: offsets must be [D + 1] (got [])"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_too_little_memory_is_no_fault_however_torch_says_it(error, is_so):
    assert own.is_out_of_memory(error) is is_so
