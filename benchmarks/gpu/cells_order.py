"""difficulty_quantile, select_easiest and self_paced_weights on a device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spcl_fast import ops, reference

from .. import bench_self_paced_weights as weights
from ..agreement import Expected, Tolerance
from ..harness import Call, Cell, Contender
from ..providers import difficulty_quantile as thresholds
from ..providers import select_easiest as selections
from ..providers.self_paced_weights import forms as weight_forms
from ..sizes import name_of
from .contenders import MANY, SMALL, compiles, eager, floors, ours, require_device_memory
from .measure import GpuSettings

PACE = 0.5  # in the middle, which is hardest for all that look at one side
READS = 3  # of a radix selection by 11, 11 and 10 bits
THRESHOLDS = {f.__name__: f for f in (thresholds.kthvalue, thresholds.topk, thresholds.sort, thresholds.bisection)}
SELECTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "argsort": selections.argsort,
    "kthvalue, cumsum": selections.from_threshold(thresholds.kthvalue),
    "bisection, cumsum": selections.from_threshold(thresholds.bisection),
}


def _uniform(T: int, settings: GpuSettings) -> Tensor:
    generator = torch.Generator(settings.device).manual_seed(0)
    return torch.rand(T, generator=generator, device=settings.device)


def _cell(
    name: str,
    size: dict[str, Any],
    contenders: list[Contender],
    expected: Expected,
    traffic: int,
    settings: GpuSettings,
) -> Cell:
    if size["T"] <= SMALL:
        return Cell(name, size, contenders, expected)
    return Cell(name, size, [*contenders, *floors(traffic, settings)], expected, traffic)


def build_quantile(T: int, settings: GpuSettings) -> Cell:
    """The threshold that half of T difficulties do not exceed."""
    require_device_memory(60 * T, settings)
    x, rank = _uniform(T, settings), -(-T // 2)
    expected = Expected({"threshold": x.sort().values[rank - 1].double()}, {"threshold": Tolerance(0.0)})

    def call(function: Callable[..., Tensor], *arguments: Any, **options: Any) -> Call:
        return lambda: {"threshold": function(*arguments, **options)}

    def make(backend: str) -> Call:
        return call(ops.difficulty_quantile, x, PACE, backend=backend)

    contenders = [*ours("difficulty_quantile", make, settings)]
    contenders += eager({name: partial(call, form, x, rank) for name, form in THRESHOLDS.items()})
    if SMALL < T < MANY:
        contenders += compiles({"bisection": lambda compiled: call(compiled(thresholds.bisection), x, rank)}, settings)
    size = {"T": T, "pace": PACE, "dtype": "float32"}
    return _cell(name_of(T), size, contenders, expected, READS * 4 * T, settings)


def build_select(T: int, settings: GpuSettings) -> Cell:
    """The mask of the easier half."""
    require_device_memory(60 * T, settings)
    x, rank = _uniform(T, settings), -(-T // 2)
    expected = Expected({"selected": reference.select_easiest(x, PACE).double()}, {"selected": Tolerance(0.0)})

    def call(function: Callable[..., Tensor], *arguments: Any, **options: Any) -> Call:
        return lambda: {"selected": function(*arguments, **options)}

    def make(backend: str) -> Call:
        return call(ops.select_easiest, x, PACE, backend=backend)

    contenders = [*ours("select_easiest", make, settings)]
    contenders += eager({name: partial(call, form, x, rank) for name, form in SELECTIONS.items()})
    if SMALL < T < MANY:
        form = "bisection, cumsum"
        contenders += compiles({form: lambda compiled: call(compiled(SELECTIONS[form]), x, rank)}, settings)
    size = {"T": T, "pace": PACE, "dtype": "float32"}
    return _cell(name_of(T), size, contenders, expected, (READS * 4 + 4 + 1) * T, settings)  # and read, a mask written


def build_weights(scheme: str, T: int, settings: GpuSettings) -> Cell:
    """One scheme."""
    require_device_memory((200 if scheme == "spld" else 60) * T, settings)
    rho = _uniform(T, settings)
    groups = torch.randint(7, (T,), device=settings.device)
    parameters: dict[str, Any] = {**weights.SCHEMES[scheme], **({"groups": groups} if scheme == "spld" else {})}
    exact = reference.self_paced_weights(rho.double(), weights.LEVEL, scheme=scheme, **parameters)
    near = 3e-4 if scheme == "polynomial" else 0.0 if scheme in ("hard", "spld") else 2e-6

    def call(function: Callable[..., Tensor]) -> Call:
        return lambda: {"weight": function(rho)}

    def make(backend: str) -> Call:
        return call(lambda x: ops.self_paced_weights(x, weights.LEVEL, scheme=scheme, **parameters, backend=backend))

    plain = weight_forms(scheme, weights.LEVEL, weights.SCHEMES[scheme], groups)
    if scheme == "spld":
        plain.pop("spld_by_group")  # it waits for the device
    contenders = [*ours("self_paced_weights", make, settings)]
    contenders += eager({name: partial(call, form) for name, form in plain.items()})
    if scheme in ("hard", "logistic"):
        compile_all = {n: lambda compiled, f=f: call(compiled(lambda x: f(x))) for n, f in plain.items()}
        contenders += compiles(compile_all, settings)
    traffic = T * (16 if scheme == "spld" else 8)
    expected = Expected({"weight": exact}, {"weight": Tolerance(near)})
    size = {"T": T, "dtype": "float32"}
    return _cell(f"{scheme}, {name_of(T)}", size, contenders, expected, traffic, settings)


def quantile_cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """What is promised comes first."""
    sizes = (100_000, 1000) if settings.quick else (100_000_000, 1_000_000, 1000, 10_000_000)
    return {name_of(T): partial(build_quantile, T, settings) for T in sizes}


def select_cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """As of the threshold."""
    sizes = (100_000, 1000) if settings.quick else (100_000_000, 1_000_000, 1000)
    return {name_of(T): partial(build_select, T, settings) for T in sizes}


def weight_cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """The usual scheme, one with an exponential, one with a logarithm, and the one with ranks."""
    kinds = [("hard", 100_000)]
    if not settings.quick:
        kinds = [
            ("hard", 10_000_000),
            ("logistic", 10_000_000),
            ("log", 10_000_000),
            ("spld", 1_000_000),
            ("hard", 1000),
        ]
    return {f"{scheme}, {name_of(T)}": partial(build_weights, scheme, T, settings) for scheme, T in kinds}
