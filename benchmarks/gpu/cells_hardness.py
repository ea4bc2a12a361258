"""multiview_hardness on a device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from spcl_fast import ops

from .. import bench_multiview_hardness as hardness
from ..agreement import Expected
from ..harness import Call, Cell
from ..providers import multiview_hardness as forms
from ..sizes import name_of, name_of_dtype, repeated
from .contenders import SMALL, compiles, eager, floors, ours, require_device_memory
from .measure import GpuSettings

BLOCK = 10_000
PLAIN = {name: form for name, form in forms.PARTS.items() if name != "loop"}  # it waits for every flag


def build(T: int, dtype: torch.dtype, settings: GpuSettings) -> Cell:
    """One modality of three missing; beyond 1e4 utterances so many copies of the first 1e4."""
    M, F = hardness.M, hardness.F
    require_device_memory(T * 4 * M * F * (dtype.itemsize + 12), settings)
    copies = max(1, T // BLOCK)
    first = hardness.problem(T // copies, dtype)
    exact = {name: repeated(x, copies, 0).to(settings.device) for name, x in hardness.exact_of(first).items()}
    inputs = forms.Inputs(*(repeated(part.to(settings.device), copies, 1) for part in first))

    def make(backend: str) -> Call:
        def call() -> dict[str, torch.Tensor]:
            result = ops.multiview_hardness(*inputs, backend=backend)
            return {name: getattr(result, name) for name in exact}

        return call

    def plain_call(form: Callable[[forms.Inputs], tuple[torch.Tensor, ...]]) -> Call:
        return lambda: dict(zip(exact, form(inputs), strict=True))

    contenders = [*ours("multiview_hardness", make, settings)]
    contenders += eager({name: partial(plain_call, forms.hardness_of(form)) for name, form in PLAIN.items()})
    fused = {"formulas": lambda compiled: plain_call(compiled(forms.hardness_of(forms.formulas)))}
    contenders += compiles(fused, settings)
    traffic = copies * hardness.traffic_of(first)
    contenders += [] if T <= SMALL else floors(traffic, settings)
    size = {"T": T, "M": M, "F": F, "dtype": name_of_dtype(dtype)}
    expected = Expected(exact, hardness.TOLERANCES)
    return Cell(f"{name_of(T)}, {name_of_dtype(dtype)}", size, contenders, expected, None if T <= SMALL else traffic)


def cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """A corpus that fills the device, and a batch."""
    sizes = [(100_000, torch.float32), (100_000, torch.bfloat16), (1_000, torch.float32)]
    if settings.quick:
        sizes = sizes[:1]
    return {f"{name_of(T)}, {name_of_dtype(dtype)}": partial(build, T, dtype, settings) for T, dtype in sizes}
