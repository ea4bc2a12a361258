"""The part "bench": every benchmark in a process of its own, then the counters of the hardware."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import child, counters, machine
from .bench import BENCHMARKS
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
    for index, name in enumerate(chosen):
        seconds = (budget.left_s - kept) / (len(chosen) - index)
        checks = one(report, name, seconds, show)
        for check in checks:
            show(check.line)
        report.checks += checks
    for backend in ("cuda", "triton"):
        check = count(report, backend, budget, off.get(backend))
        show(check.line)
        report.checks.append(check)


def one(report: Report, name: str, seconds: float, show: Callable[[str], object]) -> list[Check]:
    """One benchmark: its rows go to the report, a check for every cell is returned."""
    if seconds < START_S + 2:
        return [Check(PART, name, NOT_RUN, OUT_OF_TIME)]
    command = child.module("bench", name, "--seconds", f"{seconds - START_S:.1f}")
    command += ["--quick"] if report.quick else []
    whole, lines = child.reporting(PART, name, command, seconds)
    show(f"{name}:")
    checks = of_lines(name, whole, lines, report)
    for row in report.rows:
        if row["op"] == name:
            show(row_line(row))
    return checks


def of_lines(name: str, whole: Check, lines: Sequence[dict[str, Any]], report: Report) -> list[Check]:
    """The checks of a benchmark's cells; its rows are added to the report.

    A cell that said nothing was not run, with the reason of the process: its end, or its time.
    """
    plan: list[str] = []
    outcomes: dict[str, dict[str, Any]] = {}
    for line in lines:
        if "plan" in line:
            plan = [cell for _, cell in line["plan"]]
        elif "outcome" in line:
            outcomes[line["cell"][1]] = line["outcome"]
        elif "bandwidth" in line:
            report.rows.append(
                {
                    "op": name,
                    "cell": "bandwidth",
                    "provider": "device",
                    "role": "floor",
                    "form": "",
                    "way": "flushed",
                    **line["bandwidth"],
                }
            )
        else:
            report.rows.append(line)
    checks = [Check(PART, f"{name}, {cell}", **outcomes[cell]) for cell in plan if cell in outcomes]
    silent = [cell for cell in plan if cell not in outcomes]
    if whole.status == FAILED:
        at = f" (in {silent[0]})" if silent else ""
        checks.append(Check(PART, name, FAILED, whole.reason + at, whole.seconds, whole.details))
    elif whole.status == NOT_RUN and not plan:
        checks.append(whole)
    reason = OUT_OF_TIME if whole.status == NOT_RUN else "its process ended before it"
    checks += [Check(PART, f"{name}, {cell}", NOT_RUN, reason) for cell in silent]
    return checks


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
