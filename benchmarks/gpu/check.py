"""The whole command: build or load, then the parts in their order, the files after each of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import build, child, machine, part_bench, part_sanitize, part_tests, record
from .bench import BENCHMARKS
from .budget import Budget
from .record import FAILED, NOT_RUN, PARTS, Check, Report

RESULTS = child.ROOT / "benchmarks" / "results"
TOTAL_S = 570.0
PASSED_CODE, FAILED_CODE, NO_DEVICE_CODE = 0, 1, 77  # 77 is what a test that cannot run gives to automake


@dataclass(frozen=True)
class Options:
    """What to run. `names` are benchmarks, none for all; `commit` is for a checkout without git."""

    parts: tuple[str, ...] = PARTS
    names: tuple[str, ...] = ()
    quick: bool = False
    total_s: float = TOTAL_S
    folder: Path = RESULTS
    commit: str = ""
    rebuild: bool = False


def run(options: Options, show: Callable[[str], object] = print) -> int:
    """Runs the parts and gives the exit code: 1 only where something failed, 77 where there is no device."""
    reason = machine.why_no_device()
    if reason is not None:
        report = Report({}, "", checks=planned(options.parts, options.names, reason))
        show(f"GPU check: {reason}\n{report.summary()}\nNothing was written.")
        return NO_DEVICE_CODE
    around = machine.describe() | ({"commit": options.commit} if options.commit else {})
    report = Report(around, datetime.now(UTC).isoformat(timespec="seconds"), options.quick)
    show("\n".join(["GPU check", *(f"  {key:<18} {value}" for key, value in around.items())]))
    old = record.read(options.folder)
    budget = Budget(options.total_s, options.parts)
    try:
        built, off = build.load_or_build(budget, options.rebuild)
    except Exception as error:  # a fault of this program takes no part along: each then says what is off
        built, off = [_broken("build", "build or load", error)], {}
    for check in built:
        show(check.line)
    report.checks += built
    for part in (part for part in PARTS if part in options.parts):
        budget.start(part)
        show(f"\n{part} ({budget.left_s:.0f} s)")
        try:
            _run_part(part, report, budget, off, options, show)
        except Exception as error:
            report.checks.append(_broken(part, "the whole part", error))
            show(report.checks[-1].line)
        paths = record.write(options.folder, _content(report, old, options))
    show(f"\n{report.summary()}")
    for path in paths:
        show(f"Written: {path}")
    return FAILED_CODE if report.has_failed else PASSED_CODE


def _run_part(
    part: str,
    report: Report,
    budget: Budget,
    off: Mapping[str, str | None],
    options: Options,
    show: Callable[[str], object],
) -> None:
    if part == "tests":
        report.checks += part_tests.run(budget, off, show, options.quick)
    elif part == "bench":
        part_bench.run(report, budget, options.names, off, show)
    else:
        report.checks += part_sanitize.run(budget, off, show)


def _broken(part: str, name: str, error: Exception) -> Check:
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Check(part, name, FAILED, reason, details="".join(traceback.format_exception(error)))


def _content(report: Report, old: Mapping[str, Any] | None, options: Options) -> dict[str, Any]:
    done = {check.part for check in report.checks}
    new = report.as_json()
    return new if old is None else record.merged(new, old, [part for part in PARTS if part in done])


def planned(parts: Sequence[str], names: Sequence[str], reason: str) -> list[Check]:
    """All that would run, as not run."""
    of_part = {
        "tests": [
            "spcl-fast doctor",
            *(part_tests.title_of(*run) for run in part_tests.PYTEST),
            *(f"{name}, {backend}" for name, backend in part_tests.OWN),
        ],
        "bench": list(names or BENCHMARKS),
        "sanitize": [f"{tool}, {backend}" for tool, backend in part_sanitize.RUNS],
    }
    checks = [Check("build", "build or load", NOT_RUN, reason)]
    return checks + [Check(part, name, NOT_RUN, reason) for part in parts for name in of_part[part]]
