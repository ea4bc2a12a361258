"""self_paced_weights: every scheme in plain PyTorch, in `torch.compile` and in ours, beside a copy.

The difficulties are uniform in [0, 1], the threshold lies in their middle, the groups of "spld" are seven classes; its
gamma lets in some hundred utterances a class above the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from spcl_fast import backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers.compiled import compiled
from .providers.floors import copy_floor
from .providers.self_paced_weights import forms

LEVEL = 0.5
SCHEMES: dict[str, dict[str, float]] = {
    "hard": {},
    "linear": {},
    "logistic": {},
    "log": {},
    "mixture": {"lower": 0.3},
    "polynomial": {"degree": 3.0},
    "spld": {"gamma": 1.0},
}


def build_cell(scheme: str, T: int, settings: Settings) -> Cell:
    """One scheme on one number of difficulties, with everybody who competes on it."""
    generator = torch.Generator().manual_seed(0)
    difficulty = torch.rand(T, generator=generator)
    groups = torch.randint(7, (T,), generator=generator)
    parameters: dict[str, Any] = dict(SCHEMES[scheme])
    if scheme == "spld":
        parameters["groups"] = groups
    weight = reference.self_paced_weights(difficulty.double(), LEVEL, scheme=scheme, **parameters)
    # A root of 1 - rho / lambda keeps half of its digits near lambda in the plain forms.
    tolerance = Tolerance(3e-4 if scheme == "polynomial" else 0.0 if scheme in ("hard", "spld") else 2e-6)
    expected = Expected({"weight": weight}, {"weight": tolerance})
    threads = (settings.threads,)

    def called(function: Callable[..., Any]) -> Callable[[], Call]:
        return lambda: lambda: {"weight": function(difficulty)}

    contenders = []
    for name, form in forms(scheme, LEVEL, SCHEMES[scheme], groups).items():
        contenders.append(Contender("eager", name, called(form), threads=threads))
        if settings.compile and scheme != "spld":  # sorts and shapes that hang on data: nothing to fuse

            def make(form: Callable[..., Any] = form) -> Call:
                function = compiled(lambda rho: form(rho))
                return lambda: {"weight": function(difficulty)}

            contenders.append(Contender("compile", name, make, threads=threads, may_fail=True))
    note = f"backend {backends.choose('self_paced_weights', None, difficulty.device, needs_grad=False)}"
    ours = partial(ops.self_paced_weights, threshold=LEVEL, scheme=scheme, **parameters)
    contenders.append(Contender("ours", "allocating", called(ours), "ours", threads, note=note))
    traffic = T * (8 + (8 if scheme == "spld" else 0))  # difficulty and groups are read once, the weight written once
    contenders.append(copy_floor(traffic, threads))
    return Cell(f"{scheme}, T=1e{len(str(T)) - 1}", {"T": T, "dtype": "float32"}, contenders, expected, traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """Every scheme on a corpus."""
    T = 100_000 if settings.quick else 1_000_000
    return [partial(build_cell, scheme, T, settings) for scheme in SCHEMES]


def scaling(T: int) -> tuple[Call, int]:
    """The usual scheme, and the bytes it reads and writes."""
    difficulty = torch.rand(T, generator=torch.Generator().manual_seed(0))
    return lambda: {"weight": ops.self_paced_weights(difficulty, LEVEL)}, 8 * T
