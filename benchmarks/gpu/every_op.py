"""Calls every op of a backend once on small ragged inputs: what compute-sanitizer and Nsight Compute look at.

`python -m benchmarks.gpu.every_op BACKEND [--device cuda]`; with `--large` a call of each op that fills the device,
between the marks at which Nsight Compute starts and stops.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import torch

from ..harness import Cell
from . import cells_dialogues, cells_hardness, cells_order, cells_scores, cells_step
from .contenders import SMALL
from .measure import GpuSettings
from .own_checks import NothingToCheckError, cannot, cases_of
from .sanitizer import DONE

MOST_OF_AN_OP = 6  # cases: every dtype and both directions come among the first


def small(backend: str, device: str) -> Counter[str]:
    """How many cases of every op ran; not compared here, which would run kernels of others."""
    ran: Counter[str] = Counter()
    for case in cases_of(backend, device):
        if ran[case.op] >= MOST_OF_AN_OP:
            continue
        try:
            case.make(backend)()
        except ValueError as error:
            if not cannot(error):
                raise
        else:
            ran[case.op] += 1
    torch.cuda.synchronize() if device == "cuda" else None
    return ran


def large(backend: str, device: str, T: int = 1_000_000) -> Counter[str]:
    """One profiled call of every op."""
    ran: Counter[str] = Counter()
    settings = GpuSettings(device, (backend,), compile=False)
    for op, cell in _large_cells(settings, T):
        mine = next(c for c in cell.contenders if c.role == "ours")
        if mine.skip:
            continue
        call = mine.make()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.profiler.start()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.profiler.stop()
        ran[op] += 1
    return ran


def _large_cells(settings: GpuSettings, T: int) -> Iterator[tuple[str, Cell]]:
    T = max(T, SMALL + 1)
    yield "modality_scores", cells_scores.build_cell(T, torch.float32, settings)
    yield "modality_scores", cells_scores.build_cell(T, torch.bfloat16, settings)
    yield "window_coherence", cells_dialogues.build_coherence(T // 4, torch.float32, False, settings)
    yield "emotion_transitions", cells_dialogues.build_transitions(T // 10, settings)
    yield "multiview_hardness", cells_hardness.build(T // 10, torch.float32, settings)
    yield "difficulty_quantile", cells_order.build_quantile(T, settings)
    yield "self_paced_weights", cells_order.build_weights("hard", T, settings)
    lengths = (*islice(cells_step.IEMOCAP, 16),) * max(1, T // 1000)
    yield "self_paced_step", cells_step.build_cell("profiled", lengths, 6, True, settings)


def main() -> None:
    """Runs them and says how many ran."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backend")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    try:
        ran = (large if arguments.large else small)(arguments.backend, arguments.device)
    except NothingToCheckError as error:
        raise SystemExit(f"nothing to run: {error}") from error
    print(f"{DONE}: {arguments.backend}: {', '.join(f'{op} {n}' for op, n in ran.items())}")


if __name__ == "__main__":
    main()
