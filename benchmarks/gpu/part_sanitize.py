"""The part "sanitize": compute-sanitizer on every op, without torch's cache of memory, which would hide a fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from . import child, machine, sanitizer
from .budget import Budget
from .record import NOT_RUN, OUT_OF_TIME, Check

PART = "sanitize"
# What Triton makes uses shared memory as its compiler sees fit; out of bounds is what our sources can be blamed for.
RUNS = (*((tool, "cuda") for tool in sanitizer.TOOLS), ("memcheck", "triton"))
AT_ONCE = 5  # all of them: what a tool slows down is the host
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


def run(budget: Budget, off: Mapping[str, str | None], show: Callable[[str], object]) -> list[Check]:
    """A check for every tool and backend."""
    checks: list[Check] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for check in pool.map(lambda pair: one(*pair, budget, off.get(pair[1])), RUNS):
            show(check.line)
            checks.append(check)
    return checks


def one(tool: str, backend: str, budget: Budget, reason: str | None) -> Check:
    """One tool on one backend; `reason` is why the backend is off."""
    name = f"{tool}, {backend}"
    program = machine.find_cuda_tool("compute-sanitizer")
    if reason is not None:
        return Check(PART, name, NOT_RUN, f"backend {backend!r} is off: {reason}")
    if program is None:
        return Check(PART, name, NOT_RUN, "compute-sanitizer is not found")
    if not budget.allows(10.0):
        return Check(PART, name, NOT_RUN, OUT_OF_TIME)
    done = child.run(sanitizer.command(tool, program, child.module("every_op", backend)), budget.left_s, ENVIRONMENT)
    found = sanitizer.verdict(tool, done.code, done.output)
    return Check(PART, name, str(found["status"]), str(found["reason"]), done.seconds, found["details"])
