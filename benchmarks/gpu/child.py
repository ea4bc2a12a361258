"""Child processes: a check in one of its own, with a limit, and what it says when it is over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .record import FAILED, NOT_RUN, OUT_OF_TIME, Check

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "benchmarks.gpu"
KEPT = 4000  # characters of the output that are kept


class Done(NamedTuple):
    """How a process ended: `code` is None when its time ran out."""

    code: int | None
    output: str
    seconds: float


def run(command: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None) -> Done:
    """Runs a command in the root of the checkout; at the limit, it and all its children are killed."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that the children of the child can be killed with it
        )
        try:
            code: int | None = process.wait(max(0.1, limit_s))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        return Done(code, output.read().decode(errors="replace"), time.monotonic() - start)


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package."""
    return [sys.executable, "-m", f"{PACKAGE}.{name}", *arguments]


def reporting(part: str, name: str, command: Sequence[str], limit_s: float) -> tuple[Check, list[dict[str, Any]]]:
    """Runs a module that writes its outcome to the file `--report`, one JSON object a line.

    The last line with a "status" is the outcome, every other line a row. Without an outcome the check has failed, or
    was not run where the time ran out.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report"
        done = run([*command, "--report", str(path)], limit_s)
        lines = _lines(path.read_text(errors="replace")) if path.exists() else []
    rows = [line for line in lines if "status" not in line]
    outcomes = [line for line in lines if "status" in line]
    if done.code is None:
        return Check(part, name, NOT_RUN, f"{OUT_OF_TIME} after {done.seconds:.0f} s", done.seconds), rows
    if outcomes and (done.code == 0 or outcomes[-1]["status"] == FAILED):
        return Check(part, name, seconds=done.seconds, **outcomes[-1]), rows
    return Check(part, name, FAILED, crashed(done), done.seconds, done.output[-KEPT:]), rows


def _lines(text: str) -> list[dict[str, Any]]:
    """The objects of a report, but for a last line that a killed process left unfinished."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def crashed(done: Done) -> str:
    """Why, from the end of the output of a process that said nothing else."""
    last = (done.output.strip().splitlines() or ["no output"])[-1]
    return f"exit code {done.code}: {last[:300]}"


def say(path: str, outcome: Mapping[str, Any]) -> None:
    """A line of the report, there at once: a process that is killed later has still said it."""
    with Path(path).open("a") as file:
        file.write(json.dumps(outcome) + "\n")
