"""Times contenders against each other in one process, in turns, after each has proved that it is right.

pytest-benchmark runs one contender to its end before the next one starts, so that a machine that slows down
slows one of them alone; hence a loop of our own:

1. Every contender is built and called under each of its thread counts, and its outputs are compared with the
   float64 reference. One that disagrees stops the benchmark before anything is timed (`agreement.DisagreementError`).
   A rival that takes too long for one call is named with the reason and goes no further.
2. Screening: a short look at every variant (form and thread count). The best two variants of a rival go on, the
   second where it is close; of ours and of the floors every thread count; of a wrapper the best one.
3. Final: in every round each finalist has one block of calls, and the round starts one finalist later than the
   last. A block sets the thread count, makes one call that is not timed (torch's pool may have to change its
   size, and the caches to hold the contender's data), then times single calls. A rival's faster variant stands
   for it, by the median of the final.
4. One more call of whoever stands, to see its memory (`memory.py`).

The garbage collector is off while calls are timed, and a result is dropped before the next call starts.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import memory
from .agreement import Expected

Outputs = Mapping[str, Tensor | Sequence[Tensor]]
Call = Callable[[], Outputs]

BLOCK_S = 0.02  # of timed calls
MOST_CALLS_A_BLOCK = 100
CLOSE = 1.5  # a rival's second variant this many times as slow as its best has no chance in the final
LONGEST_BUDGETS = 3  # rounds that are asked for at least are not waited for beyond so many budgets


@dataclass(frozen=True)
class Settings:
    """How long to look. `quick` also asks for fewer and smaller cells."""

    quick: bool = False
    threads: int = field(default_factory=torch.get_num_threads)
    screen_s: float = 0.06
    budget_s: float = 5.0
    least_rounds: int = 5
    longest_call_s: float = 5.0
    compile: bool = True
    memory: bool = True
    lesser: bool = True  # ours with the lesser instruction set too, in a child process

    @property
    def both_threads(self) -> tuple[int, ...]:
        """One thread and all: what is tried where the input is small."""
        return tuple(sorted({1, self.threads}))


@dataclass(frozen=True)
class Contender:
    """One way to compute an op.

    role: "rival" is what we must beat, "ours" what we measure, "wrapper" ours inside something of ours (its
    difference to ours is shown), "floor" what nothing can beat. A floor computes nothing and is not compared.
    make: builds what it needs and returns the call to time; runs under the thread count of the variant.
    group: contenders are compared within one, such as "fresh" and "steady" for outputs.
    omits: outputs of the op that it does not give.
    may_fail: a failure to build is recorded as such and does not stop the benchmark.
    skip: why it does not compete at this size; it is not built, and the reason is recorded.
    """

    provider: str
    form: str
    make: Callable[[], Call]
    role: str = "rival"
    threads: tuple[int, ...] = (1,)
    group: str = ""
    omits: frozenset[str] = frozenset()
    may_fail: bool = False
    note: str = ""
    skip: str = ""


def left_out(provider: str, form: str, reason: str) -> Contender:
    """Who does not compete at this size, and why."""

    def make() -> Call:
        raise AssertionError(f"{provider} ({form}) is left out")

    return Contender(provider, form, make, skip=reason)


@dataclass(frozen=True)
class Cell:
    """One size of input and who competes on it.

    traffic: the fewest bytes read and written.
    budget_s: seconds of the final, instead of the settings'.
    """

    name: str
    size: Mapping[str, Any]
    contenders: Sequence[Contender]
    expected: Expected
    traffic: int | None = None
    budget_s: float | None = None


@dataclass
class Variant:
    """A contender under one thread count, with the times of its calls in seconds."""

    contender: Contender
    threads: int
    call: Call
    differences: dict[str, float]
    screened: float = float("nan")
    times: list[float] = field(default_factory=list)
    of_round: list[float] = field(default_factory=list)  # the median of each block
    memory: memory.Memory | None = None

    def row(self) -> dict[str, Any]:
        """What the result file holds of it."""
        of = self.contender
        p20, p50, p80 = (1e3 * quantile(self.times, q) for q in (0.2, 0.5, 0.8))
        return {
            "provider": of.provider,
            "form": of.form,
            "role": of.role,
            "group": of.group,
            "threads": self.threads,
            "p20_ms": p20,
            "p50_ms": p50,
            "p80_ms": p80,
            "calls": len(self.times),
            "peak_bytes": None if self.memory is None else self.memory.peak,
            "workspace_bytes": None if self.memory is None else self.memory.workspace,
            "note": of.note,
            "largest_difference": self.differences,
        }

    @property
    def wraps(self) -> tuple[str, str, int]:
        """What a wrapper has in common with that of ours which it wraps."""
        return self.contender.group, self.contender.form, self.threads


def quantile(times: Sequence[float], q: float) -> float:
    """The nearest of the measured times."""
    ordered = sorted(times)
    return ordered[round(q * (len(ordered) - 1))]


def measure(cell: Cell, settings: Settings) -> dict[str, Any]:
    """All figures of one cell: `rows`, what was `screened`, and what is `off`.

    Raises:
        DisagreementError: a contender does not compute what the reference computes; nothing has been timed then.
    """
    with _undisturbed():
        variants, off = _built(cell, settings)
        _tidy()
        for variant in variants:
            _screen(variant, settings)
        finalists = _finalists(variants)
        rounds = time_in_turns(finalists, settings, cell.budget_s)
        standing = _standing(finalists)
        for variant in standing if settings.memory else ():
            torch.set_num_threads(variant.threads)
            variant.memory = memory.of_call(variant.call)
    screened = [
        {
            "provider": v.contender.provider,
            "form": v.contender.form,
            "group": v.contender.group,
            "threads": v.threads,
            "p50_ms": 1e3 * v.screened,
        }
        for v in sorted(variants, key=lambda v: v.screened)
    ]
    rows = [v.row() | _overhead(v, standing) for v in standing]
    return {"rounds": rounds, "rows": rows, "screened": screened, "off": off}


def measure_alone(variants: Sequence[Variant], settings: Settings, budget_s: float) -> None:
    """Times these and no others in turns, after a short look at each; compares nothing."""
    with _undisturbed():
        for variant in variants:
            _screen(variant, settings)
        time_in_turns(variants, settings, budget_s)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage collector meanwhile; the thread count as it was afterwards."""
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    gc.disable()
    _tidy()
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()


def _tidy() -> None:
    """Collects garbage, and lets the next time look at newer objects alone: torch's modules hold a million."""
    gc.collect()
    gc.freeze()


def thread_counts(contender: Contender, settings: Settings) -> tuple[int, ...]:
    """Those it asks for; ours and the floors are always shown on one thread and on all."""
    both = settings.both_threads if contender.role in ("ours", "floor") else ()
    return tuple(sorted({*contender.threads, *both}))


def _built(cell: Cell, settings: Settings) -> tuple[list[Variant], list[dict[str, str]]]:
    variants, off = [], []

    def leave_out(contender: Contender, reason: str) -> None:
        off.append({"provider": contender.provider, "form": contender.form, "reason": reason})

    for contender in cell.contenders:
        if contender.skip:
            leave_out(contender, contender.skip)
            continue
        call: Call | None = None
        for threads in thread_counts(contender, settings):
            torch.set_num_threads(threads)
            try:
                if call is None or contender.role == "rival":  # a compiler may have put the thread count into its code
                    call = contender.make()
                taken, outputs = _timed(call)
            except Exception as error:
                if not contender.may_fail:
                    raise
                leave_out(contender, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
                continue
            name = f"{contender.provider} ({contender.form}; {threads} thread(s); {cell.name})"
            differences = {} if contender.role == "floor" else cell.expected.differences(name, outputs, contender.omits)
            del outputs
            if contender.role == "rival" and taken > settings.longest_call_s:
                taken = _timed(call)[0]  # the first call may have compiled something
                if taken > settings.longest_call_s:
                    leave_out(contender, f"takes {taken:.1f} s a call, more than {settings.longest_call_s:g} s")
                    continue
            variants.append(Variant(contender, threads, call, differences))
    return variants, off


def _timed(call: Call) -> tuple[float, Outputs]:
    start = time.perf_counter_ns()
    outputs = call()
    return 1e-9 * (time.perf_counter_ns() - start), outputs


def _screen(variant: Variant, settings: Settings) -> None:
    torch.set_num_threads(variant.threads)
    variant.call()
    times = [_timed(variant.call)[0]]
    while sum(times) < settings.screen_s or (len(times) < 3 and sum(times) < 1.0):
        times.append(_timed(variant.call)[0])
    variant.screened = statistics.median(times)


def _finalists(variants: Sequence[Variant]) -> list[Variant]:
    best: dict[tuple[object, ...], list[Variant]] = {}
    for v in sorted(variants, key=lambda v: v.screened):
        best.setdefault(_key(v), []).append(v)
    ours = {v.wraps for key, found in best.items() if key[0] == "ours" for v in found}
    finalists = []
    for key, found in best.items():
        if key[0] == "wrapper":
            found = [v for v in found if v.wraps in ours]
        seconds = [v for v in found[1:2] if key[0] == "rival" and v.screened < CLOSE * found[0].screened]
        finalists += found[:1] + seconds
    return finalists


def _standing(finalists: Sequence[Variant]) -> list[Variant]:
    best: dict[tuple[object, ...], Variant] = {}
    for v in sorted(finalists, key=lambda v: statistics.median(v.times)):
        best.setdefault(_key(v), v)
    return list(best.values())


def _overhead(wrapper: Variant, standing: Sequence[Variant]) -> dict[str, float]:
    """What a wrapper adds: the median over the rounds, so that a slow spell touches both or neither."""
    if wrapper.contender.role != "wrapper":
        return {}
    ours = next(v for v in standing if v.contender.role == "ours" and v.wraps == wrapper.wraps)
    added = (w - o for w, o in zip(wrapper.of_round, ours.of_round, strict=True))
    return {"overhead_us": 1e6 * statistics.median(added)}


def _key(variant: Variant) -> tuple[object, ...]:
    """What has one row: a rival as a whole, every form of a wrapper, also every thread count of ours and of a floor."""
    of = variant.contender
    own = {
        "wrapper": (of.form,),
        "ours": (of.form, variant.threads),
        "floor": (variant.threads,),
    }.get(of.role, ())
    return (of.role, of.group, of.provider, *own)


def time_in_turns(variants: Sequence[Variant], settings: Settings, budget_s: float | None = None) -> int:
    """Times variants that have been screened until the budget is spent; returns the rounds."""
    budget = settings.budget_s if budget_s is None else min(budget_s, settings.budget_s)
    rounds, start = 0, time.perf_counter()

    def more() -> bool:
        spent = time.perf_counter() - start
        few = rounds < settings.least_rounds and spent < LONGEST_BUDGETS * budget
        return rounds == 0 or few or spent < budget

    while more():
        first = rounds % len(variants)
        for variant in (*variants[first:], *variants[:first]):
            torch.set_num_threads(variant.threads)
            if variant.screened < BLOCK_S:
                variant.call()
            calls = min(MOST_CALLS_A_BLOCK, max(1, int(BLOCK_S / variant.screened)))
            block = [_timed(variant.call)[0] for _ in range(calls)]
            variant.of_round.append(statistics.median(block))
            variant.times += block
        gc.collect()
        rounds += 1
    return rounds
