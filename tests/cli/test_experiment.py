"""`spcl-fast experiment` as a user meets it: from a YAML file to a results file and a report."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from spcl_fast.cli import main
from spcl_fast.merc.npz import write_npz
from spcl_fast.merc.results import read_results
from spcl_fast.merc.synthetic import make_synthetic

STUDY = """
data: {A: {file: a.npz, modalities: "text,audio"}}
backbones: {late_fusion: {hidden: 4, epochs: 2}}
curricula: {none: [{}], spcl: [{threshold: 0.4}], random_utterances: spcl}
search: {backbone: late_fusion, seeds: 1}
parts: [{part: main, data: [A], backbones: [late_fusion], curricula: [none, spcl, random_utterances], seeds: 2}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_npz(folder / "a.npz", make_synthetic("meld-like", dialogues={"train": 6, "dev": 3, "test": 3}))
    (folder / "study.yaml").write_text(STUDY)
    return folder


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


def test_experiment_makes_what_is_missing_and_the_report_reads_it(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.delenv("SPCL_FAST_DATA", raising=False)  # then the folder of the study
    results = tmp_path / "new" / "results.jsonl"
    code, out, err = run(capsys, "experiment", folder / "study.yaml", "--out", results, "--processes", 1)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 8 + 1
    assert lines[0].startswith("1/")
    assert "late_fusion, none, seed 1000: dev weighted F1" in lines[0]
    assert lines[7].startswith("8/8 ")
    assert len(read_results(results).rows) == 8

    code, out, _ = run(capsys, "experiment", folder / "study.yaml", "--out", results, "--processes", 1)
    assert (code, len(out.splitlines())) == (0, 1)  # nothing is left

    code, out, err = run(capsys, "report", results, "--out", tmp_path / "report", "--no-pictures")
    assert (code, err) == (0, "")
    assert "spcl" in (tmp_path / "report" / "report.md").read_text().lower()


def test_experiment_stops_in_time(capsys, folder, tmp_path):
    results = tmp_path / "results.jsonl"
    arguments = ("experiment", folder / "study.yaml", "--out", results, "--processes", 1, "--minutes", 0)
    code, out, _ = run(capsys, *arguments)
    assert (code, out.splitlines()) == (0, [f"Results: {results}; nothing was made yet"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "lost.yaml: cannot be read (No such file or directory)"),
        ("data: [", "must be YAML"),
        (STUDY.replace("a.npz", "b.npz"), "b.npz: no such file"),
        (STUDY.replace("text,audio", "text,smell"), "smell"),
        (STUDY.replace("hidden: 4", "hidden: -4"), "hidden must be at least 1 (got -4)"),
    ],
)
def test_experiment_refuses_in_one_line(capsys, folder, tmp_path, text, message):
    path = folder / "lost.yaml"
    if text is not None:
        path = tmp_path / "other.yaml"
        path.write_text(text)
    code, out, err = run(capsys, "experiment", path, "--out", tmp_path / "r.jsonl", "--data", folder)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "r.jsonl").exists()


def test_experiment_refuses_a_damaged_results_file(capsys, folder, tmp_path):
    results = tmp_path / "r.jsonl"
    results.write_text('{"version": 2}\n')
    code, _, err = run(capsys, "experiment", folder / "study.yaml", "--out", results)
    assert code == 2
    assert "line 1: version must be 1" in err
    assert results.read_text() == '{"version": 2}\n'


def test_experiment_says_what_failed_and_does_not_try_it_again(capsys, folder, tmp_path):
    (tmp_path / "hot.yaml").write_text("""
data: {A: {file: a.npz, modalities: "text,audio"}}
backbones: {hot: {hidden: 4, epochs: 2, learning_rate: 1.e+30}}
curricula: {none: [{}]}
search: {backbone: hot, seeds: 0}
parts: [{part: main, data: [A], backbones: [hot], curricula: [none], seeds: 1}]
""")
    results = tmp_path / "r.jsonl"
    arguments = ("experiment", tmp_path / "hot.yaml", "--data", folder, "--out", results, "--processes", 1)
    code, out, _ = run(capsys, *arguments)
    assert code == 1
    assert "FAILED A, hot, none, seed 0: " in out
    assert "1 run(s) failed and have no score" in out
    (row,) = read_results(results).rows
    assert (row["test"], row["data"], bool(row["error"])) == (None, "A", True)
    code, out, _ = run(capsys, *arguments)
    assert (code, len(out.splitlines())) == (0, 1)
    run(capsys, "report", results, "--out", tmp_path / "report", "--no-pictures")
    assert "1 run(s) failed and have no score (seeds 0)" in (tmp_path / "report" / "report.md").read_text()


def test_experiment_ends_in_silence(folder, tmp_path):
    command = [sys.executable, "-m", "spcl_fast", "experiment", str(folder / "study.yaml"), "--data", str(folder)]
    options = ["--out", str(tmp_path / "r.jsonl"), "--processes", "2"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_experiment_that_is_ended_leaves_no_process_behind(folder, tmp_path):
    text = STUDY.replace("epochs: 2", "epochs: 100000")
    (tmp_path / "long.yaml").write_text(text)
    command = [sys.executable, "-m", "spcl_fast", "experiment", str(tmp_path / "long.yaml")]
    options = ["--out", str(tmp_path / "r.jsonl"), "--data", str(folder), "--processes", "1"]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        workers: list[int] = []
        for _ in range(600):
            workers = children(process.pid)
            if workers and process.poll() is None:
                break
            time.sleep(0.1)
        assert workers
        process.send_signal(signal.SIGKILL)
        process.wait()
    for _ in range(300):
        if not any(is_running(pid) for pid in workers):
            return
        time.sleep(0.1)
    raise AssertionError(f"{workers} still run")


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(x) for x in file.read().split()]


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
