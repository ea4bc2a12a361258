"""`make gpu-check` as far as it goes without a GPU: outcomes, files, time, children, build commands, what tools say."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spcl_fast.cli import bench as command

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = f"{command.load_benchmarks(ROOT).__package__}.gpu"


def part(name: str):
    return importlib.import_module(f"{PACKAGE}.{name}")


check, child, counters = part("check"), part("child"), part("counters")
part_bench, part_tests, record, sanitizer = part("part_bench"), part("part_tests"), part("record"), part("sanitizer")
Check = record.Check
MACHINE = {"device": "a GPU", "torch": "2", "triton": "3", "commit": "abc"}


def test_without_a_device_nothing_runs_nothing_is_written_and_the_code_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--results", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 77, done.stdout + done.stderr
    assert re.search(r"^0 passed, 0 failed, \d\d not run$", done.stdout, re.MULTILINE)
    for name in (
        "pytest --device cuda --backends triton tests/ops",
        "graph, triton",
        "self_paced_step",
        "racecheck, cuda",
    ):
        assert re.search(rf"not run: \w+, {name}: no CUDA device", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_benchmark_is_refused_by_both_commands(capsys):
    main = part("__main__").main
    with pytest.raises(SystemExit) as refused:
        main(["sorting"])
    assert refused.value.code == 2
    assert "no benchmark is named sorting: there are self_paced_step" in capsys.readouterr().err
    from spcl_fast import cli

    for arguments, message in (
        (["bench", "sorting", "--device", "cuda"], "no benchmark of a GPU is named sorting"),
        (["bench", "--device", "abacus"], "--device must be cpu or cuda"),
    ):
        with pytest.raises(SystemExit) as refused:
            cli.main(arguments)
        assert refused.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(("status", "reason"), [("passed", "why"), ("failed", ""), ("not run", ""), ("skipped", "x")])
def test_an_outcome_without_its_reason_cannot_be_made(status, reason):
    with pytest.raises(ValueError, match=r"reason|status"):
        Check("tests", "x", status, reason)


def test_time_left_over_by_a_part_goes_to_the_next():
    now = [0.0]
    shares = part("budget").SHARES
    budget = part("budget").Budget(110.0, ("tests", "bench", "sanitize"), lambda: now[0])
    assert budget.left_s == pytest.approx(100.0)  # the rest is for the files
    budget.start("tests")
    assert budget.left_s == pytest.approx(100 * shares["tests"] / sum(shares.values()))
    now[0] = 10.0  # it took less
    budget.start("bench")
    assert budget.left_s == pytest.approx(90 * shares["bench"] / (shares["bench"] + shares["sanitize"]))
    now[0] = 98.0  # it took more
    budget.start("sanitize")
    assert budget.left_s == pytest.approx(2.0)
    assert budget.allows(2.0)
    assert not budget.allows()
    now[0] = 200.0
    assert budget.left_s == 0


def test_a_check_without_time_is_not_run_and_not_started():
    now = [0.0]
    budget = part("budget").Budget(10.0, ("tests",), lambda: now[0])
    budget.start("tests")
    now[0] = 9.0
    found = part_tests.own_check("agreement", "cpu", budget, None)
    assert (found.status, found.reason) == ("not run", "out of time")
    off = part_tests.own_check("agreement", "cuda", budget, "no nvcc")
    assert (off.status, off.reason) == ("not run", "backend 'cuda' is off: no nvcc")
    runs = [part_tests.run_pytest(*run, budget, {"cuda": "no nvcc"}) for run in part_tests.PYTEST]
    assert {c.status for c in runs} == {"not run"}
    assert {c.reason for c in runs if "backends cuda" in c.name} == {"backend 'cuda' is off: no nvcc"}
    assert {c.reason for c in runs if "backends cuda" not in c.name} == {"out of time"}


def test_a_child_is_killed_with_its_children_at_the_limit(tmp_path):
    late = tmp_path / "late.py"
    late.write_text("import pathlib, time\ntime.sleep(3)\npathlib.Path(__file__).with_name('late').touch()\n")
    script = f"import subprocess, sys; subprocess.run([sys.executable, {str(late)!r}])"
    start = time.monotonic()
    done = child.run([sys.executable, "-c", script], 0.8)
    assert done.code is None
    assert time.monotonic() - start < 2.5
    time.sleep(max(0.0, 3.5 - (time.monotonic() - start)))
    assert not (tmp_path / "late").exists()


def test_a_child_that_dies_has_failed_and_one_that_reports_is_believed(tmp_path):
    def reporting(script):
        found, rows = child.reporting("tests", "x", [sys.executable, "-c", script], 20)
        return found.status, found.reason, rows

    say = "import sys, json; say = lambda x: open(sys.argv[-1], 'a').write(json.dumps(x) + chr(10));"
    unfinished = say + "say({'op': 1}); open(sys.argv[-1], 'a').write('{\"op\": 2, \"p'); raise SystemExit('killed')"
    assert reporting(unfinished) == ("failed", "exit code 1: killed", [{"op": 1}])
    assert reporting("import os; print('oh', flush=True); os._exit(7)") == ("failed", "exit code 7: oh", [])
    status, reason, rows = reporting(say + "say({'op': 1}); say({'status': 'not run', 'reason': 'no memory'})")
    assert (status, reason, rows) == ("not run", "no memory", [{"op": 1}])
    # "passed" and then a crash is no pass
    assert reporting(say + "say({'status': 'passed', 'reason': ''}); raise SystemExit('gone')")[0] == "failed"


@pytest.mark.parametrize(
    ("code", "output", "status", "reason"),
    [
        (0, "....\n4 passed in 1.00s", "passed", ""),
        (0, "....\n4 passed, 2 skipped in 1.00s", "passed", ""),
        (0, "ss\n2 skipped in 1.00s", "not run", "no test passed"),
        (1, "..F\n1 failed, 2 passed in 1.00s", "failed", "1 failed, 2 passed in 1.00s"),
        (
            4,
            "error: unrecognized arguments: --device",
            "failed",
            "error: unrecognized arguments: --device",
        ),
        (4, "ERROR: usage: x\n  file: y\n  rootdir: /z", "failed", "ERROR: usage: x"),
        (5, "no tests ran", "not run", "no test is collected"),
        (None, "..s..  [ 40%]\n...", "not run", "out of time after 9 s, 7 passed"),
        (None, "..F..  [ 40%]\n", "failed", "1 failed, then out of time after 9 s, 4 passed"),
        (2, "...\n!!! out of time !!!\n3 passed in 9.00s", "not run", "out of time: 3 passed in 9.00s"),
        (
            2,
            ".F\n!!! out of time !!!\n1 failed, 1 passed in 9.00s",
            "failed",
            "out of time: 1 failed, 1 passed in 9.00s",
        ),
        (2, "ERROR collecting x\n1 error in 9.00s", "failed", "1 error in 9.00s"),
    ],
)
def test_the_end_of_pytest(code, output, status, reason):
    found = part_tests.of_pytest("pytest", child.Done(code, output, 9.0))
    assert (found.status, found.reason) == (status, reason)


def test_without_pytest_the_part_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    budget = part("budget").Budget(100.0, ("tests",))
    found = part_tests.run_pytest("tests/ops", ("cuda",), budget, {})
    assert (found.status, found.reason) == ("not run", "pytest is missing")


def test_files_that_need_hypothesis_are_found():
    found = {path.name for path in part_tests.files_that_import("hypothesis", ["tests/ops"])}
    assert {"test_step_properties.py", "test_window_coherence_properties.py"} <= found
    assert "test_modality_spread.py" not in found


CLEAN = "========= COMPUTE-SANITIZER\nevery op ran: cuda: modality_scores 6\n"
INVALID = """========= Invalid __global__ write of size 4 bytes
=========     at spcl::modality_scores_fwd_kernel<float, 7>(...)+0x1a0
=========     by thread (255,0,0) in block (1,0,0)
========= ERROR SUMMARY: 3 errors
"""
RACE = """========= Error: Race reported between Write access at step_fwd_kernel+0x140
=========     and Read access at step_fwd_kernel+0xe0 [4 hazards]
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
REFUSED = "========= Error: Device not supported. Please refer to the documentation\n"
NO_ERRORS = "========= ERROR SUMMARY: 0 errors\n"
NO_RACES = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"


@pytest.mark.parametrize(
    ("tool", "code", "output", "status", "reason"),
    [
        ("memcheck", 0, CLEAN + NO_ERRORS, "passed", ""),
        ("racecheck", 0, CLEAN + NO_RACES, "passed", ""),
        ("memcheck", 9, CLEAN + INVALID, "failed", "3 fault.*Invalid __global__ write .* at spcl::modality"),
        ("racecheck", 9, CLEAN + RACE, "failed", "1 fault.*Race reported .* and Read access at step_fwd_kernel"),
        ("memcheck", 1, REFUSED + NO_ERRORS, "not run", "memcheck refuses: Error: Device not supported"),
        ("memcheck", None, "========= COMPUTE-SANITIZER\n", "not run", "out of time"),
        ("racecheck", 139, NO_RACES, "failed", "to their end"),  # the tool saw nothing in a program that died
        ("memcheck", 0, CLEAN, "not run", "no summary"),
        ("memcheck", 1, CLEAN + NO_ERRORS, "failed", "exit code 1"),
    ],
)
def test_what_compute_sanitizer_says(tool, code, output, status, reason):
    found = sanitizer.verdict(tool, code, output)
    assert found["status"] == status
    assert re.search(reason, found["reason"])
    Check("sanitize", tool, **found)  # can be recorded


def test_counters_of_nsight_compute():
    head = '"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"'
    lines = [
        '"0","7","step_fwd_kernel","gpu__time_duration.sum","ns","5,120"',
        '"0","7","step_fwd_kernel","dram__bytes_read.sum","Mbyte","1.5"',
        '"1","7","other_kernel","gpu__time_duration.sum","us","7"',
        '"1","7","other_kernel","smsp__inst_executed.sum","inst","n/a"',
    ]
    rows = counters.parse("\n".join(["==PROF== Connected", "every op ran", head, *lines, "==PROF== Disconnected"]))
    assert rows == [
        {"kernel": "step_fwd_kernel", "microseconds": 5.12, "bytes_read": 1.5e6},
        {"kernel": "other_kernel", "microseconds": 7.0, "warp_instructions": None},
    ]
    assert counters.parse("==ERROR== ERR_NVGPUCTRPERM - no permission") == []
    said = "==PROF== x\n==ERROR== ERR_NVGPUCTRPERM - no\n==PROF== end"
    assert counters.why_nothing(1, said) == "ERR_NVGPUCTRPERM - no"


def report(*checks, rows=(), **more):
    return record.Report({**MACHINE, **more}, "2026-01-01T00:00:00+00:00", checks=list(checks), rows=list(rows))


def test_the_two_files_hold_every_check_and_row(tmp_path):
    row = {
        "op": "x",
        "cell": "T=1e3",
        "provider": "cuda",
        "p50_us": 3.0,
        "against": {"eager": 2.5},
        "kernels": {"k": 1},
    }
    content = report(Check("tests", "a", "passed"), Check("bench", "b", "not run", "out of time"), rows=[row]).as_json()
    paths = record.write(tmp_path, content)
    assert [path.name for path in paths] == ["gpu_check.json", "gpu_check.csv"]
    assert record.read(tmp_path) == json.loads(paths[0].read_text()) == content
    assert content.keys() == {"schema", "check", "date", "quick", "machine", "checks", "rows", "counters"}
    assert all(
        c.keys() == {"part", "name", "status", "reason", "seconds", "details", "date"} for c in content["checks"]
    )
    lines = list(csv.DictReader(paths[1].read_text().splitlines()))
    assert [line["kind"] for line in lines] == ["check", "check", "row"]
    assert (lines[2]["against eager"], lines[2]["commit"], lines[1]["reason"]) == ("2.5", "abc", "out of time")


def test_a_run_of_one_part_keeps_the_others_of_the_same_commit_and_device():
    old = report(Check("build", "b", "passed"), Check("tests", "t", "passed"), rows=[{"op": "x"}]).as_json()
    new = report(Check("build", "b", "passed"), Check("sanitize", "s", "failed", "race"))
    both = record.merged(new.as_json(), old, ["sanitize"])
    assert [c["name"] for c in both["checks"]] == ["b", "t", "s"]
    assert both["rows"] == old["rows"]
    again = record.merged(report(Check("bench", "x", "passed")).as_json(), old, ["bench"])
    assert again["rows"] == []
    for other in ({"commit": "def"}, {"device": "another"}, {"commit": "unknown"}):
        alone = dataclasses.replace(new, machine={**MACHINE, **other}).as_json()
        assert record.merged(alone, old | {"machine": {**MACHINE, "commit": "abc"}}, ["sanitize"]) == alone


@pytest.mark.parametrize(("outcome", "code"), [("passed", 0), ("not run", 0), ("failed", 1)])
def test_the_whole_command_on_a_pretended_device(monkeypatch, tmp_path, outcome, code):
    ran = []

    def pretended(name):
        def run(*arguments):
            ran.append(name)
            return [Check(name, "x", outcome, "" if outcome == "passed" else "why")]

        return run

    monkeypatch.setattr(check.machine, "why_no_device", lambda: None)
    monkeypatch.setattr(check.machine, "describe", lambda: MACHINE)
    monkeypatch.setattr(check.build, "load_or_build", lambda *_: ([Check("build", "b", "passed")], {}))
    monkeypatch.setattr(check.part_tests, "run", pretended("tests"))
    monkeypatch.setattr(check.part_sanitize, "run", pretended("sanitize"))
    monkeypatch.setattr(check.part_bench, "run", lambda r, *_: r.checks.extend(pretended("bench")()))
    shown = []
    assert check.run(check.Options(folder=tmp_path, commit="named"), shown.append) == code
    assert ran == ["tests", "bench", "sanitize"]
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert result["machine"]["commit"] == "named"
    assert [c["part"] for c in result["checks"]] == ["build", "tests", "bench", "sanitize"]
    assert f"3 {outcome}" in shown[-3] or outcome == "passed"


def test_a_fault_of_a_part_takes_no_other_along_and_everything_is_written(monkeypatch, tmp_path):
    def broken(*_):
        raise KeyError("a small mistake")

    monkeypatch.setattr(check.machine, "why_no_device", lambda: None)
    monkeypatch.setattr(check.machine, "describe", lambda: MACHINE)
    monkeypatch.setattr(check.build, "load_or_build", broken)
    monkeypatch.setattr(check.part_tests, "run", broken)
    monkeypatch.setattr(check.part_sanitize, "run", lambda *_: [Check("sanitize", "x", "passed")])
    monkeypatch.setattr(check.part_bench, "run", lambda report, *_: report.rows.append({"op": "x"}) or broken())
    assert check.run(check.Options(folder=tmp_path), lambda line: None) == 1
    result = json.loads((tmp_path / "gpu_check.json").read_text())
    assert {c["name"]: c["status"] for c in result["checks"]} == {
        "build or load": "failed",
        "the whole part": "failed",
        "x": "passed",
    }
    assert {c["reason"] for c in result["checks"]} == {"KeyError: 'a small mistake'", ""}
    assert [row["op"] for row in result["rows"]] == ["x"]
    assert (tmp_path / "gpu_check.csv").exists()


LINES = [
    {"plan": [["step", "a"], ["scores", "b"], ["step", "c"]]},
    {"bandwidth": {"copy_gigabytes_per_second": 1.0, "read_gigabytes_per_second": 2.0}},
    {"begins": ["step", "a"]},
    {"op": "step", "cell": "a", "provider": "cuda"},
    {"cell": ["step", "a"], "outcome": {"status": "passed", "reason": "", "seconds": 1.0}},
    {"begins": ["scores", "b"]},
]


def test_a_crash_is_that_of_its_cell_and_the_next_process_goes_on_behind_it():
    found = report()
    checks, first = part_bench.of_lines(Check("bench", "x", "failed", "exit code -11"), LINES, 0, found)
    assert [(c.name, c.status) for c in checks] == [("step: a", "passed"), ("scores: b", "failed")]
    assert first == 2
    assert [row["op"] for row in found.rows] == ["device", "step"]
    late = Check("bench", "x", "not run", "out of time after 9 s")
    checks, first = part_bench.of_lines(late, LINES, 0, found)
    assert [(c.name, c.status) for c in checks[1:]] == [("scores: b", "not run"), ("step: c", "not run")]
    assert first is None
    checks, first = part_bench.of_lines(Check("bench", "x", "failed", "no driver"), [], 0, found)
    assert ([c.reason for c in checks], first) == (["no driver"], None)
