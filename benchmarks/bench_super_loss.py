"""super_loss: SciPy on the host, iterations in plain PyTorch and in `torch.compile`, and ours, beside a copy.

The losses are exponential with mean 1 and tau = log 7, so that some lie below the branch point of Lambert's W, where
sigma is e, and some next to it, where a plain iteration in float32 leaves half of the digits of sigma: hence the
tolerance of the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spcl_fast import arrays, backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import super_loss as forms
from .providers.compiled import compiled
from .providers.floors import copy_floor

TAU, LAMBDA = math.log(7), 1.0
SIZES = (1_000, 262_144, 1_000_000)
BYTES = 12  # of a loss that is read, a value and a weight that are written
#: sigma goes like a root next to the branch point, and the value, of which it is the minimum, does not
TOLERANCES = {"value": Tolerance(1e-5, 1e-5), "weight": Tolerance(3e-3)}


def make_losses(T: int) -> Tensor:
    """Losses of float32."""
    return torch.empty(T).exponential_(generator=torch.Generator().manual_seed(0))


def build_cell(T: int, settings: Settings) -> Cell:
    """One number of losses, with everybody who competes on it."""
    loss = make_losses(T)
    exact = reference.super_loss(loss.double(), TAU, regularization=LAMBDA)
    threads = settings.both_threads

    def called(function: Callable[..., Any], *arguments: Any) -> Call:
        def call() -> dict[str, Tensor]:
            value, weight = function(*arguments)
            return {"value": torch.as_tensor(value), "weight": torch.as_tensor(weight)}

        return call

    contenders = [Contender("published", "SciPy's lambertw", partial(called, forms.scipy_lambertw, loss, TAU, LAMBDA))]
    for form in (forms.halley, forms.newton):
        name = form.__name__
        contenders.append(Contender("eager", name, partial(called, form, loss, TAU, LAMBDA), threads=threads))
        if settings.compile:

            def make(form: Callable[..., Any] = form) -> Call:
                function = compiled(lambda l: form(l, TAU, LAMBDA))
                return called(function, loss)

            contenders.append(Contender("compile", name, make, threads=threads, may_fail=True))
    note = f"backend {backends.choose('super_loss', None, loss.device, needs_grad=False)}"
    ours = partial(ops.super_loss, threshold=TAU, regularization=LAMBDA)
    contenders.append(Contender("ours", "op", lambda: called(ours, loss), "ours", threads, note=note))
    on_arrays = partial(arrays.super_loss, threshold=TAU, regularization=LAMBDA)
    contenders.append(Contender("ours", "arrays", lambda: called(on_arrays, loss.numpy()), "ours", note="serial"))
    contenders.append(copy_floor(BYTES * T, threads))
    expected = Expected(exact._asdict(), TOLERANCES)
    return Cell(f"T={T}", {"T": T, "dtype": "float32"}, contenders, expected, BYTES * T)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch, and two corpora."""
    sizes = SIZES[:2] if settings.quick else SIZES
    return [partial(build_cell, T, settings) for T in sizes]


def scaling(T: int) -> tuple[Call, int]:
    """The op, and the bytes it reads and writes."""
    loss = make_losses(T)
    return lambda: ops.super_loss(loss, TAU, regularization=LAMBDA)._asdict(), BYTES * T
