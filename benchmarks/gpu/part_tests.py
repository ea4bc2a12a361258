"""The part "tests": doctor, pytest, and the checks of our own; several at a time, each in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import child
from .budget import Budget
from .own_checks import CHECKS
from .record import FAILED, NOT_RUN, OUT_OF_TIME, PASSED, Check

PART = "tests"
AT_ONCE = 6  # small kernels of several processes hardly meet on a device; hosts of one have the cores
OF_DEVICE = ("cuda", "triton")
# Each in a process of its own, so that neither a crash nor a slow one takes the others along; what a GPU alone can show
# comes first.
PYTEST = (
    *(("tests/device", ("cuda",)), ("tests/device", ("triton",)), ("tests/device", ("reference",))),
    *(("tests/ops", ("cuda",)), ("tests/ops", ("triton",)), ("tests/ops", ("reference",))),
)
INTERRUPTED, NOTHING_COLLECTED = 2, 5  # pytest's exit codes
LATE_S = 10.0  # what pytest may need for its last test and the summary
KEPT = 16000  # characters of its output that are kept
# The plain backends have to agree, and no more.
OWN = (
    *((name, backend) for backend in OF_DEVICE for name in CHECKS),
    ("agreement", "reference"),
    ("agreement", "cpu"),
)


def run(
    budget: Budget, off: Mapping[str, str | None], show: Callable[[str], object], quick: bool = False
) -> list[Check]:
    """All checks of the part.

    Args:
        budget: what is left of the part's time.
        off: why a compiled backend is off, by its name; None for one that is on.
        show: takes a line as soon as a check is over.
        quick: without the hundred repeats and the large addresses.
    """
    jobs: list[Callable[[], list[Check]]] = [lambda: [doctor(budget)]]
    for folder, names in PYTEST:
        jobs.append(lambda folder=folder, names=names: [run_pytest(folder, names, budget, off)])
    for name, backend in OWN:
        if not (quick and name in ("repeats", "addresses")):
            jobs.append(lambda name=name, backend=backend: [own_check(name, backend, budget, off.get(backend))])
    checks: list[Check] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(lambda job: job(), jobs):
            for check in found:
                show(check.line)
            checks += found
    return checks


def doctor(budget: Budget) -> Check:
    """`spcl-fast doctor`, whose output is kept."""
    name = "spcl-fast doctor"
    missing = [package for package in ("typer", "rich") if importlib.util.find_spec(package) is None]
    if missing:
        return Check(PART, name, NOT_RUN, f"{', '.join(missing)} is missing")
    if not budget.allows():
        return Check(PART, name, NOT_RUN, OUT_OF_TIME)
    done = child.run([sys.executable, "-m", "spcl_fast", "doctor"], budget.left_s)
    if done.code == 0:
        return Check(PART, name, PASSED, seconds=done.seconds, details=done.output)
    if done.code is None:
        return Check(PART, name, NOT_RUN, OUT_OF_TIME, done.seconds)
    return Check(PART, name, FAILED, child.crashed(done), done.seconds, done.output[-child.KEPT :])


def own_check(name: str, backend: str, budget: Budget, reason: str | None) -> Check:
    """One of `own_checks.py` on one backend; `reason` is why the backend is off."""
    title = f"{name}, {backend}"
    if reason is not None:
        return Check(PART, title, NOT_RUN, f"backend {backend!r} is off: {reason}")
    if not budget.allows():
        return Check(PART, title, NOT_RUN, OUT_OF_TIME)
    device = "cpu" if backend == "cpu" else "cuda"
    return child.reporting(PART, title, child.module("own_checks", name, backend, "--device", device), budget.left_s)[0]


def title_of(folder: str, backends: Sequence[str]) -> str:
    """What one run of pytest is called."""
    return f"pytest --device cuda --backends {','.join(backends)} {folder}"


def run_pytest(folder: str, backends: Sequence[str], budget: Budget, off: Mapping[str, str | None]) -> Check:
    """`pytest --device cuda` on a folder; files that need a package that is missing are left out by name."""
    name = title_of(folder, backends)
    if importlib.util.find_spec("pytest") is None:
        return Check(PART, name, NOT_RUN, "pytest is missing")
    if not (child.ROOT / folder).is_dir():
        return Check(PART, name, NOT_RUN, "the folder is missing")
    for backend in backends:
        if off.get(backend) is not None:
            return Check(PART, name, NOT_RUN, f"backend {backend!r} is off: {off[backend]}")
    if not budget.allows():
        return Check(PART, name, NOT_RUN, OUT_OF_TIME)
    left_out = [] if importlib.util.find_spec("hypothesis") else files_that_import("hypothesis", [folder])
    limit_s = budget.left_s
    options = ["-q", "-rfE", "--tb=short", "-p", "no:cacheprovider", "--maxfail=20", "--device", "cuda"]
    options += ["-W", "default::UserWarning"]  # those of torch about the device are none of ours
    options += ["--backends", ",".join(backends), "--seconds", f"{max(0.6 * limit_s, limit_s - LATE_S):.0f}"]
    ignored = [f"--ignore={path}" for path in left_out]
    done = child.run([sys.executable, "-m", "pytest", *options, *ignored, folder], limit_s)
    found = of_pytest(name, done)
    if left_out and found.status == PASSED:
        found.details = f"{found.details}; hypothesis is missing, so without {', '.join(p.name for p in left_out)}"
    return found


def files_that_import(package: str, folders: Sequence[str]) -> list[Path]:
    """The test files that have a line which imports it."""
    line = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
    files = [path for folder in folders for path in sorted((child.ROOT / folder).rglob("test_*.py"))]
    return [path for path in files if line.search(path.read_text())]


def of_pytest(name: str, done: child.Done) -> Check:
    """The outcome of a run of pytest; what was skipped stands in the details and is not called passed."""
    lines = done.output.strip().splitlines() or ["no output"]
    counted = next((line.strip("= ") for line in reversed(lines) if re.search(r"\d+ (passed|failed|error)", line)), "")
    kept = done.output[-KEPT:]
    if done.code is None:  # dots of what passed, letters of what did not, and the percentage
        progress = "".join(re.findall(r"^([.FEsxX]+)(?:\s+\[\s*\d+%\])?$", done.output, re.MULTILINE))
        reason = f"{OUT_OF_TIME} after {done.seconds:.0f} s, {progress.count('.')} passed"
        if "F" in progress or "E" in progress:
            faults = progress.count("F") + progress.count("E")
            return Check(PART, name, FAILED, f"{faults} failed, then {reason}", done.seconds, kept)
        return Check(PART, name, NOT_RUN, reason, done.seconds, kept)
    if done.code == INTERRUPTED and OUT_OF_TIME in done.output:
        status = FAILED if re.search(r"\d+ (failed|error)", counted) else NOT_RUN
        return Check(PART, name, status, f"{OUT_OF_TIME}: {counted or 'no test ended'}", done.seconds, kept)
    if done.code == NOTHING_COLLECTED:
        return Check(PART, name, NOT_RUN, "no test is collected", done.seconds, kept)
    if done.code != 0:
        error = next((line for line in lines if re.match(r"(E\s|ERROR|.*\berror:)", line)), "")
        return Check(PART, name, FAILED, counted or error[:300] or child.crashed(done), done.seconds, kept)
    passed = re.search(r"(\d+) passed", counted)
    if not passed:  # all of them skipped
        return Check(PART, name, NOT_RUN, counted or "no test passed", done.seconds, kept)
    return Check(PART, name, PASSED, seconds=done.seconds, details=counted)
