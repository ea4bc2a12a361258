"""The part "bench": all benchmarks in one process, another one after a crash; then the counters of the hardware."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import child, counters, machine
from .bench import BENCHMARKS, LEAST_CELL_S
from .budget import Budget
from .record import FAILED, NOT_RUN, OUT_OF_TIME, PASSED, Check, Report
from .text import row_line

PART = "bench"
COUNTERS_S = 45.0  # what Nsight Compute may take, kept back from the benchmarks
START_S = 8.0  # what a process takes before its first cell, and may be late


def run(
    report: Report, budget: Budget, names: Sequence[str], off: Mapping[str, str | None], show: Callable[[str], object]
) -> None:
    """Adds the rows, the counters and the checks to the report."""
    chosen = [name for name in BENCHMARKS if name in (names or BENCHMARKS)]
    kept = 0.0 if report.quick else min(COUNTERS_S, 0.2 * budget.left_s)
    first = 0
    while True:
        seconds = budget.left_s - kept
        if seconds < START_S + LEAST_CELL_S:
            checks, first = [Check(PART, ", ".join(chosen), NOT_RUN, OUT_OF_TIME)], None
        else:
            command = child.module("bench", *chosen, "--seconds", f"{seconds - START_S:.1f}", "--first", str(first))
            whole, lines = child.reporting(PART, "benchmarks", command + (["--quick"] if report.quick else []), seconds)
            checks, first = of_lines(whole, lines, first, report)
        for check in checks:
            show(check.line)
        report.checks += checks
        if first is None:
            break
    for row in report.rows:
        show(row_line(row))
    for backend in ("cuda", "triton"):
        check = count(report, backend, budget, off.get(backend))
        show(check.line)
        report.checks.append(check)


def of_lines(
    whole: Check, lines: Sequence[dict[str, Any]], first: int, report: Report
) -> tuple[list[Check], int | None]:
    """The checks of the cells from the `first` on, and where to go on after a crash; rows are added to the report.

    The cell in which the process ended has failed. One that the time did not allow was not run, and says so.
    """
    plan: list[tuple[str, str]] = []
    outcomes: dict[tuple[str, str], dict[str, Any]] = {}
    begun: tuple[str, str] | None = None
    for line in lines:
        if "plan" in line:
            plan = [(name, cell) for name, cell in line["plan"]]
        elif "begins" in line:
            begun = (line["begins"][0], line["begins"][1])
        elif "outcome" in line:
            outcomes[line["cell"][0], line["cell"][1]] = line["outcome"]
        elif "bandwidth" in line:
            where = {"op": "device", "cell": "1 GiB", "provider": "copy and read", "form": "", "role": "floor"}
            report.rows.append({**where, "way": "flushed", **line["bandwidth"]})
        else:
            report.rows.append(line)
    if not plan:  # it ended before it began
        return [whole], None
    rest = plan[first:]
    checks = [Check(PART, ": ".join(key), **outcomes[key]) for key in rest if key in outcomes]
    silent = [key for key in rest if key not in outcomes]
    if whole.status != FAILED:
        checks += [Check(PART, ": ".join(key), NOT_RUN, whole.reason or OUT_OF_TIME) for key in silent]
        return checks, None
    at = begun if begun in silent else None
    checks.append(Check(PART, ": ".join(at or ("benchmarks",)), FAILED, whole.reason, whole.seconds, whole.details))
    if at is not None:
        return checks, plan.index(at) + 1 if at != plan[-1] else None
    checks += [Check(PART, ": ".join(key), NOT_RUN, "its process ended before it") for key in silent]
    return checks, None


def count(report: Report, backend: str, budget: Budget, reason: str | None) -> Check:
    """Counters of every kernel of a backend."""
    name = f"hardware counters, {backend}"
    ncu = machine.find_cuda_tool("ncu")
    if report.quick:
        return Check(PART, name, NOT_RUN, "a quick look")
    if reason is not None:
        return Check(PART, name, NOT_RUN, f"backend {backend!r} is off: {reason}")
    if ncu is None:
        return Check(PART, name, NOT_RUN, "Nsight Compute (ncu) is not found")
    if not budget.allows(START_S):
        return Check(PART, name, NOT_RUN, OUT_OF_TIME)
    done = child.run(counters.command(ncu, child.module("every_op", backend, "--large")), budget.left_s)
    rows = counters.parse(done.output)
    report.counters += [{"backend": backend, **row} for row in rows]
    if rows and done.code == 0:
        return Check(PART, name, PASSED, seconds=done.seconds, details=f"{len(rows)} kernels")
    return Check(PART, name, NOT_RUN, counters.why_nothing(done.code, done.output), done.seconds)
