"""select_easiest: the best plain PyTorch, `torch.compile`, NumPy and ours, beside a copy and a read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from spcl_fast import arrays, backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import difficulty_quantile as thresholds
from .providers import select_easiest as forms
from .providers.compiled import compiled
from .providers.floors import copy_floor, read_floor

PACE = 0.5
FORMS = {
    "argsort": forms.argsort,
    "kthvalue, cumsum": forms.from_threshold(thresholds.kthvalue),
    "topk, cumsum": forms.from_threshold(thresholds.topk),
    "bisection, cumsum": forms.from_threshold(thresholds.bisection),
}
COMPILED = ("bisection, cumsum", "argsort")


def build_cell(T: int, distinct: int, settings: Settings) -> Cell:
    """One number of utterances with so many different difficulties, and everybody who competes on it."""
    x = torch.randint(distinct, (T,), generator=torch.Generator().manual_seed(0)) / distinct
    rank, host = -(-T // 2), x.numpy()
    expected = Expected({"selected": reference.select_easiest(x, PACE).double()}, {"selected": Tolerance(0.0)})

    def call(function: Callable[..., object], *arguments: object) -> Call:
        return lambda: {"selected": torch.as_tensor(function(*arguments))}

    contenders = [
        Contender("eager", name, partial(call, form, x, rank), threads=settings.both_threads)
        for name, form in FORMS.items()
    ]
    if settings.compile:
        contenders += [
            Contender(
                "compile",
                name,
                lambda name=name: call(compiled(FORMS[name]), x, rank),
                threads=settings.both_threads,
                may_fail=True,
            )
            for name in COMPILED[: 1 if settings.quick else None]
        ]
    note = f"backend {backends.choose('select_easiest', None, x.device, needs_grad=False)}"
    contenders += [
        Contender("eager", "np.partition", partial(call, forms.partition, host, rank)),
        Contender("ours", "op", partial(call, ops.select_easiest, x, PACE), "ours", settings.both_threads, note=note),
        Contender("ours", "arrays", partial(call, arrays.select_easiest, host, PACE), "ours", note="serial"),
        copy_floor(5 * T, settings.both_threads),
        *read_floor(5 * T, settings.both_threads),
    ]
    size = {"T": T, "pace": PACE, "distinct": distinct, "dtype": "float32"}
    ties = "" if distinct > T else f", {distinct} values"
    return Cell(f"T=1e{len(str(T)) - 1}{ties}", size, contenders, expected, 5 * T)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch, a corpus, a large one with few and with many ties."""
    sizes = [(100_000, 2**24), (1_000_000, 2**24)]
    if not settings.quick:
        sizes += [(1000, 2**24), (1_000_000, 5), (10_000_000, 2**24)]
    return [partial(build_cell, T, distinct, settings) for T, distinct in sizes]


def scaling(T: int) -> tuple[Call, int]:
    """The op, and the bytes it reads and writes at least."""
    x = torch.rand(T, generator=torch.Generator().manual_seed(0))
    return lambda: {"selected": ops.select_easiest(x, PACE)}, 5 * T
