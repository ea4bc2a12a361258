"""difficulty_histogram: the plain PyTorch that counts, and ours, beside one read of the input.

The cells named "threshold" are a whole selection: three histograms, as over the processes of a group, beside the op
that has all difficulties at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from spcl_fast import arrays, backends, ops, reference
from spcl_fast.ops import _radix_select

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import difficulty_histogram as forms
from .providers import difficulty_quantile as thresholds
from .providers.compiled import compiled
from .providers.floors import read_floor
from .sizes import name_of

PACE = 0.5
EAGER = (forms.bincount, forms.scatter, forms.histc)


def _numbers(T: int) -> Tensor:
    return torch.rand(T, generator=torch.Generator().manual_seed(0))


def build_cell(T: int, settings: Settings) -> Cell:
    """One number of utterances, counted by the leading digit, with everybody who competes on it."""
    x, prefix = _numbers(T), torch.tensor(0)
    host, threads = x.numpy(), settings.both_threads
    exact = reference.difficulty_histogram(x, prefix, 0).double()
    expected = Expected({"histogram": exact}, {"histogram": Tolerance(0.0)})

    def call(function: Callable[..., object], *arguments: object) -> Call:
        return lambda: {"histogram": torch.as_tensor(function(*arguments))}

    contenders = [Contender("eager", form.__name__, partial(call, form, x), threads=threads) for form in EAGER]
    if settings.compile:
        contenders.append(
            Contender("compile", "scatter", lambda: call(compiled(forms.scatter), x), threads=threads, may_fail=True)
        )
    note = f"backend {backends.choose('difficulty_histogram', None, x.device, needs_grad=False)}"
    contenders += [
        Contender("eager", "np.bincount", partial(call, forms.np_bincount, host)),
        Contender("ours", "op", partial(call, ops.difficulty_histogram, x, prefix, 0), "ours", threads, note=note),
        Contender("ours", "arrays", partial(call, arrays.difficulty_histogram, host, 0, 0), "ours", note="serial"),
        *read_floor(4 * T, threads),
    ]
    return Cell(name_of(T), {"T": T, "level": 0, "dtype": "float32"}, contenders, expected, 4 * T)


def build_threshold(T: int, settings: Settings) -> Cell:
    """A whole selection by histograms."""
    x, rank, threads = _numbers(T), -(-T // 2), settings.both_threads
    exact = reference.difficulty_quantile(x.double(), PACE)
    expected = Expected({"threshold": exact}, {"threshold": Tolerance(0.0)})

    def call(function: Callable[..., Tensor], *arguments: object) -> Call:
        return lambda: {"threshold": function(*arguments)}

    def histograms(x: Tensor) -> Tensor:
        return _radix_select.threshold(_radix_select.count_over(x, None, None), x, PACE)[0]

    contenders = [
        Contender("eager", "kthvalue", partial(call, thresholds.kthvalue, x, rank), threads=threads),
        Contender("fused", "difficulty_quantile", partial(call, ops.difficulty_quantile, x, PACE), threads=threads),
        Contender("ours", "three histograms", partial(call, histograms, x), "ours", threads),
        *read_floor(4 * T, threads),
    ]
    return Cell(f"threshold, {name_of(T)}", {"T": T, "pace": PACE, "dtype": "float32"}, contenders, expected, 4 * T)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch, a corpus, and large ones."""
    sizes = (1000, 1_000_000) + (() if settings.quick else (10_000_000,))
    return [partial(build, T, settings) for T in sizes for build in (build_cell, build_threshold)]


def scaling(T: int) -> tuple[Call, int]:
    """The op, and the bytes it reads at least."""
    x, prefix = _numbers(T), torch.tensor(0)
    return lambda: {"histogram": ops.difficulty_histogram(x, prefix, 0)}, 4 * T
