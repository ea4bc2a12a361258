"""Times contenders against each other in one process, in turns, after each has proved that it is right.

pytest-benchmark runs one contender to its end before the next one starts, so that a machine that slows down
slows one of them alone; hence a loop of our own:

1. Every contender is built and called under each of its thread counts, and its outputs are compared with the
   float64 reference. One that disagrees stops the benchmark before anything is timed (`agreement.DisagreementError`).
2. Screening: a short look at every variant (form and thread count). The best two variants of a rival go on; of
   anything else the best thread count of every form, and of a wrapper that of what it wraps.
3. Final: in every round each finalist has one block of calls, and the round starts one finalist later than the
   last. A block sets the thread count, makes one call that is not timed (torch's pool may have to change its
   size, and the caches to hold the contender's data), then times single calls. A rival's faster variant stands
   for it, by the median of the final.

The garbage collector is off while calls are timed, and a result is dropped before the next call starts.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .agreement import Expected

Outputs = Mapping[str, Tensor | Sequence[Tensor]]
Call = Callable[[], Outputs]

BLOCK_S = 0.02  # of timed calls
MOST_CALLS_A_BLOCK = 100


@dataclass(frozen=True)
class Settings:
    """How long to look. `quick` also asks for fewer and smaller cells."""

    quick: bool = False
    threads: int = field(default_factory=torch.get_num_threads)
    screen_s: float = 0.1
    budget_s: float = 8.0
    least_rounds: int = 5
    compile: bool = True

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


@dataclass(frozen=True)
class Cell:
    """One size of input and who competes on it. `traffic` is the fewest bytes read and written."""

    name: str
    size: Mapping[str, Any]
    contenders: Sequence[Contender]
    expected: Expected
    traffic: int | None = None


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
    before = torch.get_num_threads()
    collecting = gc.isenabled()
    try:
        variants, off = _built(cell)
        gc.collect()
        gc.disable()
        for variant in variants:
            _screen(variant, settings)
        finalists = _finalists(variants)
        rounds = _final(finalists, settings)
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()
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
    standing = _standing(finalists)
    rows = [v.row() | _overhead(v, standing) for v in standing]
    return {"rounds": rounds, "rows": rows, "screened": screened, "off": off}


def _built(cell: Cell) -> tuple[list[Variant], list[dict[str, str]]]:
    variants, off = [], []
    for contender in cell.contenders:
        for threads in contender.threads:
            torch.set_num_threads(threads)
            try:
                call = contender.make()
                outputs = call()
            except Exception as error:
                if not contender.may_fail:
                    raise
                reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                off.append({"provider": contender.provider, "form": contender.form, "reason": reason})
                continue
            name = f"{contender.provider} ({contender.form}; {threads} thread(s); {cell.name})"
            differences = {} if contender.role == "floor" else cell.expected.differences(name, outputs, contender.omits)
            variants.append(Variant(contender, threads, call, differences))
    return variants, off


def _timed(call: Call) -> float:
    start = time.perf_counter_ns()
    outputs = call()
    taken = time.perf_counter_ns() - start
    del outputs
    return 1e-9 * taken


def _screen(variant: Variant, settings: Settings) -> None:
    torch.set_num_threads(variant.threads)
    variant.call()
    times = [_timed(variant.call)]
    while len(times) < 3 or sum(times) < settings.screen_s:
        times.append(_timed(variant.call))
    variant.screened = statistics.median(times)


def _finalists(variants: Sequence[Variant]) -> list[Variant]:
    best: dict[tuple[str, ...], list[Variant]] = {}
    for v in sorted(variants, key=lambda v: v.screened):
        best.setdefault(_key(v.contender), []).append(v)
    wrapped = {found[0].wraps for key, found in best.items() if key[0] == "ours"}
    for key, found in best.items():
        if key[0] == "wrapper":
            best[key] = [v for v in found if v.wraps in wrapped]
    return [v for key, found in best.items() for v in found[: 2 if key[0] == "rival" else 1]]


def _standing(finalists: Sequence[Variant]) -> list[Variant]:
    best: dict[tuple[str, ...], Variant] = {}
    for v in sorted(finalists, key=lambda v: statistics.median(v.times)):
        best.setdefault(_key(v.contender), v)
    return list(best.values())


def _overhead(wrapper: Variant, standing: Sequence[Variant]) -> dict[str, float]:
    """What a wrapper adds: the median over the rounds, so that a slow spell touches both or neither."""
    if wrapper.contender.role != "wrapper":
        return {}
    ours = next(v for v in standing if v.contender.role == "ours" and v.wraps == wrapper.wraps)
    added = (w - o for w, o in zip(wrapper.of_round, ours.of_round, strict=True))
    return {"overhead_us": 1e6 * statistics.median(added)}


def _key(contender: Contender) -> tuple[str, ...]:
    """What has one row: a rival as a whole, every form of the others."""
    own = () if contender.role == "rival" else (contender.form,)
    return (contender.role, contender.group, contender.provider, *own)


def _final(finalists: Sequence[Variant], settings: Settings) -> int:
    """Times the finalists in turns until the budget is spent; returns the rounds."""
    rounds, start = 0, time.perf_counter()
    while rounds < settings.least_rounds or time.perf_counter() - start < settings.budget_s:
        first = rounds % len(finalists)
        for variant in (*finalists[first:], *finalists[:first]):
            torch.set_num_threads(variant.threads)
            if variant.screened < BLOCK_S:
                variant.call()
            calls = min(MOST_CALLS_A_BLOCK, max(1, int(BLOCK_S / variant.screened)))
            block = [_timed(variant.call) for _ in range(calls)]
            variant.of_round.append(statistics.median(block))
            variant.times += block
        gc.collect()
        rounds += 1
    return rounds
