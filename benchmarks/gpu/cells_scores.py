"""modality_scores on a device, forward and backward: M = 3 modalities, C = 7 classes, four scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spcl_fast import ops, reference

from .. import bench_modality_scores as scores
from .. import bench_modality_scores_backward as gradients
from ..agreement import Expected
from ..harness import Call, Cell, left_out
from ..providers import modality_scores as forms
from ..providers.floors import autograd_floor
from ..sizes import name_of, name_of_dtype, repeated
from .contenders import MANY, ONE_ALONE, SMALL, compiles, eager, floors, ours, require_device_memory
from .measure import GpuSettings

OP = "modality_scores"
PLAIN = (forms.gather, forms.topk, forms.one_hot, forms.unrolled)
# The first is how one would write it, the second what suits a compiler.
COMPILED = (forms.gather, forms.unrolled)


def exactly(form: Callable[..., forms.Scores]) -> Callable[..., forms.Scores]:
    """A form on half precision in float32, as the op computes it."""

    def upcast(z: Tensor, y: Tensor) -> forms.Scores:
        return form(forms.exact(z), y)

    return upcast


def build_cell(T: int, dtype: torch.dtype, settings: GpuSettings) -> Cell:
    """Forward, into memory that is there already."""
    # Inputs, the outputs of the reference in float64, and ours; the plain forms take three times their input.
    require_device_memory(T * (3 * 7 * dtype.itemsize * (2 if T >= MANY else 6) + 12 * 8 + 12 * 8), settings)
    z, y, copies = scores.make_problem(T, dtype, settings.device)
    exact = reference.modality_scores(z.double(), y)._asdict()
    expected = Expected({name: repeated(x, copies, 1) for name, x in exact.items()}, scores.TOLERANCES)
    z, y = repeated(z, copies, 1), repeated(y, copies, 0)
    traffic = scores.traffic_of(z)

    def call(form: Callable[..., forms.Scores]) -> Call:
        return lambda: form(z, y)

    many = T >= MANY
    contenders = [*ours(OP, partial(scores.filling, z, y), settings, "out=")]
    contenders += eager({f.__name__: partial(call, exactly(f)) for f in PLAIN[: 1 if many else None]})
    if many:
        contenders.append(left_out("eager", "all other forms", ONE_ALONE))
    else:
        compile_all = {f.__name__: lambda compiled, f=f: call(compiled(exactly(f))) for f in COMPILED}
        contenders += compiles(compile_all, settings)
    small = T <= SMALL
    contenders += [] if small else floors(traffic, settings)
    size = {"T": T, "M": scores.M, "C": scores.C, "dtype": name_of_dtype(dtype)}
    return Cell(_name(T, dtype), size, contenders, expected, None if small else traffic)


def build_backward(T: int, settings: GpuSettings) -> Cell:
    """Forward and backward, every result new memory."""
    require_device_memory(T * 2000, settings)
    problem = gradients.make_problem(T, settings.device)

    def make(backend: str) -> Call:
        function = lambda z, y: ops.modality_scores(z, y, backend=backend)._asdict()  # noqa: E731
        return gradients.by_autograd(function, problem)

    contenders = [*ours(OP, make, settings, "autograd", needs_grad=True)]
    plain: tuple[Callable[..., Any], ...] = (forms.gather_kept, forms.topk, forms.one_hot, forms.unrolled)
    contenders += eager({f"{f.__name__}, autograd": partial(gradients.by_autograd, f, problem) for f in plain})
    contenders += compiles(
        {"unrolled, autograd": lambda compiled: gradients.by_autograd(compiled(forms.unrolled), problem)}, settings
    )
    small, traffic = T <= SMALL, gradients.traffic_of(T)
    contenders += [autograd_floor([problem.logits], True, (1,))] if small else floors(traffic, settings)
    size = {"T": T, "M": scores.M, "C": scores.C, "dtype": "float32"}
    name = f"{name_of(T)}, forward and backward"
    return Cell(name, size, contenders, problem.expected, None if small else traffic)


def _name(T: int, dtype: torch.dtype) -> str:
    return f"{name_of(T)}, {name_of_dtype(dtype)}"


def cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """What is promised comes first."""
    sizes = [(100_000, torch.float32), (1000, torch.float32)]
    if not settings.quick:
        sizes = [(10_000_000, torch.float32), (10_000_000, torch.bfloat16)]
        sizes += [(T, torch.float32) for T in (1000, 100_000_000, 1_000_000, 100_000)]
    return {_name(T, dtype): partial(build_cell, T, dtype, settings) for T, dtype in sizes}


def backward_cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """A batch, and a corpus."""
    sizes = (1000,) if settings.quick else (1_000_000, 1000)
    return {f"{name_of(T)}, forward and backward": partial(build_backward, T, settings) for T in sizes}
