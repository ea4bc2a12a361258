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
AT_ONCE = 3
OF_DEVICE = ("cuda", "triton")
FOLDERS = ("tests/ops", "tests/device")
NOTHING_COLLECTED = 5  # pytest's exit code
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
    jobs: list[Callable[[], list[Check]]] = [lambda: [doctor(budget)], lambda: run_pytest(budget, off)]
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


def run_pytest(budget: Budget, off: Mapping[str, str | None]) -> list[Check]:
    """`pytest --device cuda`; what needs a backend that is off, or a package that is missing, is left out by name."""
    name = f"pytest --device cuda {' '.join(FOLDERS)}"
    if importlib.util.find_spec("pytest") is None:
        return [Check(PART, name, NOT_RUN, "pytest is missing")]
    folders = [folder for folder in FOLDERS if (child.ROOT / folder).is_dir()]
    left_out = [] if importlib.util.find_spec("hypothesis") else files_that_import("hypothesis", folders)
    checks = [
        Check(PART, f"pytest {path}", NOT_RUN, "hypothesis is missing")
        for path in (str(file.relative_to(child.ROOT)) for file in left_out)
    ]
    checks += [
        Check(PART, f"pytest, backend {backend}", NOT_RUN, f"it is off: {off[backend]}")
        for backend in OF_DEVICE
        if off.get(backend) is not None
    ]
    if not budget.allows():
        return [*checks, Check(PART, name, NOT_RUN, OUT_OF_TIME)]
    on = ["reference", *(backend for backend in OF_DEVICE if off.get(backend) is None)]
    options = ["-q", "--backends", ",".join(on), "-p", "no:cacheprovider", "--maxfail=20", "--device", "cuda"]
    ignored = [f"--ignore={path}" for path in left_out]
    done = child.run([sys.executable, "-m", "pytest", *options, *ignored, *folders], budget.left_s)
    return [*checks, of_pytest(name, done)]


def files_that_import(package: str, folders: Sequence[str]) -> list[Path]:
    """The test files that have a line which imports it."""
    line = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
    files = [path for folder in folders for path in sorted((child.ROOT / folder).rglob("test_*.py"))]
    return [path for path in files if line.search(path.read_text())]


def of_pytest(name: str, done: child.Done) -> Check:
    """The outcome of a run of pytest; what was skipped stands in the details and is not called passed."""
    lines = done.output.strip().splitlines() or ["no output"]
    counted = next((line.strip("= ") for line in reversed(lines) if re.search(r"\d+ (passed|failed|error)", line)), "")
    kept = done.output[-child.KEPT :]
    if done.code is None:  # dots of what passed, letters of what did not, and the percentage
        progress = "".join(re.findall(r"^([.FEsxX]+)(?:\s+\[\s*\d+%\])?$", done.output, re.MULTILINE))
        reason = f"{OUT_OF_TIME} after {done.seconds:.0f} s, {progress.count('.')} passed"
        if "F" in progress or "E" in progress:
            faults = progress.count("F") + progress.count("E")
            return Check(PART, name, FAILED, f"{faults} failed, then {reason}", done.seconds, kept)
        return Check(PART, name, NOT_RUN, reason, done.seconds, kept)
    if done.code == NOTHING_COLLECTED:
        return Check(PART, name, NOT_RUN, "no test is collected", done.seconds, kept)
    if done.code != 0:
        error = next((line for line in lines if re.match(r"(E\s|ERROR|.*\berror:)", line)), "")
        return Check(PART, name, FAILED, counted or error[:300] or child.crashed(done), done.seconds, kept)
    passed = re.search(r"(\d+) passed", counted)
    if not passed:  # all of them skipped
        return Check(PART, name, NOT_RUN, counted or "no test passed", done.seconds, kept)
    return Check(PART, name, PASSED, seconds=done.seconds, details=counted)
