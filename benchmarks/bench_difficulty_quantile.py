"""difficulty_quantile: the best plain PyTorch, `torch.compile`, NumPy and ours, beside one read of the input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from spcl_fast import arrays, backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import difficulty_quantile as forms
from .providers.compiled import compiled
from .providers.floors import read_floor

PACE = 0.5  # in the middle, which is hardest for all that look at one side
EAGER = (forms.kthvalue, forms.topk, forms.sort, forms.quantile, forms.nanquantile, forms.bisection)
COMPILED = (forms.bisection, forms.sort)


def build_cell(T: int, settings: Settings) -> Cell:
    """One number of utterances, with everybody who competes on it."""
    x = torch.rand(T, generator=torch.Generator().manual_seed(0))
    rank, host = -(-T // 2), x.numpy()
    expected = Expected({"threshold": reference.difficulty_quantile(x.double(), PACE)}, {"threshold": Tolerance(0.0)})

    def call(function: Callable[..., object], *arguments: object) -> Call:
        return lambda: {"threshold": torch.as_tensor(function(*arguments))}

    contenders = [
        Contender("eager", form.__name__, partial(call, form, x, rank), threads=settings.both_threads) for form in EAGER
    ]
    if settings.compile:
        contenders += [
            Contender(
                "compile",
                form.__name__,
                lambda form=form: call(compiled(form), x, rank),
                threads=settings.both_threads,
                may_fail=True,
            )
            for form in COMPILED[: 1 if settings.quick else None]
        ]
    threads = settings.both_threads
    note = f"backend {backends.choose('difficulty_quantile', None, x.device, needs_grad=False)}"
    contenders += [
        Contender("eager", "np.partition", partial(call, forms.partition, host, rank)),
        Contender(
            "ours", "op", partial(call, ops.difficulty_quantile, x, PACE), "ours", settings.both_threads, note=note
        ),
        Contender("ours", "arrays", partial(call, arrays.difficulty_quantile, host, PACE), "ours", note="serial"),
        *read_floor(4 * T, threads),
    ]
    size = {"T": T, "pace": PACE, "dtype": "float32"}
    return Cell(f"T=1e{len(str(T)) - 1}", size, contenders, expected, 4 * T)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch, a corpus, and large ones."""
    sizes = (1000, 100_000, 1_000_000) + (() if settings.quick else (10_000_000,))
    return [partial(build_cell, T, settings) for T in sizes]


def scaling(T: int) -> tuple[Call, int]:
    """The op, and the bytes it reads at least."""
    x = torch.rand(T, generator=torch.Generator().manual_seed(0))
    return lambda: {"threshold": ops.difficulty_quantile(x, PACE)}, 4 * T
