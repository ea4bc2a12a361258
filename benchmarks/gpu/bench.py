"""The benchmarks of one process: `python -m benchmarks.gpu.bench NAME... --seconds S [--quick] --report FILE`.

Of the lines of the report, "plan" has all cells in their order, "begins" the one that comes next, "cell" the outcome of
one, "bandwidth" what the device copies and reads, and all others are rows.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch

from ..harness import Cell, quantile
from ..providers.floors import copy_floor, read_floor
from ..sizes import CellTooLargeError
from . import cells_dialogues, cells_hardness, cells_order, cells_scores, cells_step, child
from .measure import Bandwidth, GpuSettings, measure
from .record import FAILED, NOT_RUN, OUT_OF_TIME, PASSED
from .timing import HostTimer, timer_of

# The step first: it is what a training loop calls.
BENCHMARKS: dict[str, Callable[[GpuSettings], dict[str, Callable[[], Cell]]]] = {
    "self_paced_step": cells_step.cells,
    "modality_scores": cells_scores.cells,
    "window_coherence": cells_dialogues.coherence_cells,
    "difficulty_quantile": cells_order.quantile_cells,
    "emotion_transitions": cells_dialogues.transition_cells,
    "modality_scores_backward": cells_scores.backward_cells,
    "select_easiest": cells_order.select_cells,
    "self_paced_weights": cells_order.weight_cells,
    "multiview_hardness": cells_hardness.cells,
}
COPIED = 1 << 30  # bytes of the array that is copied, so twice as many are moved
COMPILED = 2  # cells of a benchmark in which plain forms are compiled too
LEAST_CELL_S = 4.0  # with less time left no cell is begun


def bandwidth(timer: HostTimer, copied: int = COPIED) -> Bandwidth:
    """Medians of a copy and of the fastest way to read."""

    def gigabytes_per_second(contenders: Sequence[Any]) -> float:
        best = 0.0
        for contender in contenders:
            call = contender.make()
            call()
            timer.flushed_us(call, 15)  # the clocks of an idle device are low
            best = max(best, 2 * copied / quantile(timer.flushed_us(call, 15), 0.5) / 1e3)
        return best

    copy = gigabytes_per_second([copy_floor(2 * copied, (1,), timer.device)])
    return Bandwidth(copy, gigabytes_per_second(read_floor(2 * copied, (1,), timer.device)))


def plan_of(names: Sequence[str], settings: GpuSettings) -> list[tuple[str, str, Callable[[], Cell]]]:
    """Name, cell and how to build it: of every benchmark the first cell, then of each the second, and so on.

    What the time does not allow is then what matters least. Compiling takes longest, so only the first two do it.
    """
    plain = replace(settings, compile=False)
    of_names = []
    for name in names:
        both = zip(BENCHMARKS[name](settings).items(), BENCHMARKS[name](plain).values(), strict=True)
        cells = [(cell, build if rank < COMPILED else without) for rank, ((cell, build), without) in enumerate(both)]
        of_names.append([(name, cell, build) for cell, build in cells])
    return [entry for rank in zip_longest(*of_names) for entry in rank if entry is not None]


def run(
    names: Sequence[str],
    settings: GpuSettings,
    seconds: float,
    say: Callable[[dict[str, Any]], object],
    first: int = 0,
    copied: int = COPIED,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measures the cells of the plan from the `first`, as many as the time allows, and says at once what it finds."""
    end = clock() + seconds
    plan = plan_of(names, settings)
    say({"plan": [[name, cell] for name, cell, _ in plan]})
    timer = timer_of(settings.device)
    speed = bandwidth(timer, copied)
    say({"bandwidth": {"copy_gigabytes_per_second": speed.copy, "read_gigabytes_per_second": speed.read}})
    for name, cell, build in plan[first:]:
        start = clock()
        status, reason = NOT_RUN, OUT_OF_TIME
        if end - start >= LEAST_CELL_S:
            say({"begins": [name, cell]})
            try:
                rows, faults = measure(build(), settings, timer, speed, lambda: end - clock())
                for row in rows:
                    say({"op": name, **row})
                has_ours = any(row["role"] == "ours" and "p50_us" in row for row in rows)
                status = FAILED if faults else PASSED if has_ours else NOT_RUN
                reason = "; ".join(faults) or ("" if has_ours else _why_not_ours(rows))
            except (CellTooLargeError, torch.OutOfMemoryError) as error:
                reason = str(error).splitlines()[0]
            gc.collect()
            if torch.device(settings.device).type == "cuda":
                torch.cuda.empty_cache()
        say({"cell": [name, cell], "outcome": {"status": status, "reason": reason, "seconds": clock() - start}})


def _why_not_ours(rows: Sequence[dict[str, Any]]) -> str:
    reasons = [row["off"] for row in rows if row["role"] == "ours"]
    return "; ".join(reason.removeprefix("not run: ") for reason in reasons) or "no backend of ours is asked for"


def main() -> None:
    """Reports the cells of the benchmarks that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", choices=BENCHMARKS)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--first", type=int, default=0, help="cells of the plan that are passed over")
    parser.add_argument("--report", required=True)
    arguments = parser.parse_args()
    settings = GpuSettings(arguments.device, quick=arguments.quick)
    run(arguments.names, settings, arguments.seconds, lambda line: child.say(arguments.report, line), arguments.first)
    child.say(arguments.report, {"status": PASSED, "reason": ""})


if __name__ == "__main__":
    main()
