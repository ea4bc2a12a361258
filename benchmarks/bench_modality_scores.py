"""modality_scores: the best plain PyTorch, `torch.compile` and ours, beside the machine's bandwidth.

Steady: the outputs lie in memory that an earlier call touched. Fresh: every call allocates them, page faults
included, as the allocator has it; a 48 MB output then costs as much as computing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from spcl_fast import backends, ops, reference
from spcl_fast.ops import ModalityScores

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Settings
from .providers import modality_scores as forms
from .providers.compiled import compiled
from .providers.floors import copy_floor, read_floor

M, C = 3, 7
TOLERANCES = {
    "loss": Tolerance(2e-6, 2e-6),
    "confidence": Tolerance(1e-7, 3e-6),
    "entropy": Tolerance(3e-6),
    "margin": Tolerance(2e-6),
}
COMPILED = {"natural": forms.gather, "one-hot": forms.one_hot, "class-unrolled": forms.unrolled}


def _eager(z: Tensor, y: Tensor, threads: tuple[int, ...]) -> Iterator[Contender]:
    for form in (forms.gather, forms.topk, forms.one_hot, forms.unrolled):

        def make(form: Callable[[Tensor, Tensor], forms.Scores] = form) -> Call:
            return lambda: form(z, y)

        yield Contender("eager", form.__name__, make, threads=threads, group="fresh")
    yield Contender("eager", "gather", lambda: forms.steady_gather(z, y), threads=threads, group="steady")


def _compiled(z: Tensor, y: Tensor, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    for name in list(COMPILED)[1:2] if settings.quick else COMPILED:

        def fresh(name: str = name) -> Call:
            function = compiled(COMPILED[name])
            return lambda: function(z, y)

        def steady(name: str = name) -> Call:
            function = compiled(forms.steady(COMPILED[name]))
            out = {output: torch.zeros(M, z.shape[1]) for output in forms.OUTPUTS}
            return lambda: function(z, y, out)

        for group, make in (("fresh", fresh), ("steady", steady)):
            yield Contender("compile", name, make, threads=threads, group=group, may_fail=True)


def _ours(z: Tensor, y: Tensor, threads: tuple[int, ...]) -> Iterator[Contender]:
    note = f"backend {backends.choose('modality_scores', None, z.device, needs_grad=False)}"

    def fresh() -> Call:
        return lambda: ops.modality_scores(z, y)._asdict()

    def steady() -> Call:
        out = ModalityScores(*(torch.zeros(M, z.shape[1]) for _ in forms.OUTPUTS))
        return lambda: ops.modality_scores(z, y, out=out)._asdict()

    yield Contender("ours", "allocating", fresh, "ours", threads, "fresh", note=note)
    yield Contender("ours", "out=", steady, "ours", threads, "steady", note=note)


def build_cell(T: int, settings: Settings) -> Cell:
    """One number of utterances, with everybody who competes on it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(M, T, C, generator=generator)
    labels = torch.randint(C, (T,), generator=generator)
    expected = Expected(reference.modality_scores(logits.double(), labels)._asdict(), TOLERANCES)
    threads = (settings.threads,)
    traffic = T * (4 * M * C + 8 + 4 * 4 * M)  # logits and labels are read once, four scores written once
    contenders = [*_eager(logits, labels, threads)]
    if settings.compile:
        contenders += _compiled(logits, labels, threads, settings)
    contenders += _ours(logits, labels, threads)
    contenders += [copy_floor(traffic, threads), *read_floor(traffic, threads)]
    return Cell(f"T=1e{len(str(T)) - 1}", {"T": T, "M": M, "C": C, "dtype": "float32"}, contenders, expected, traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A corpus, and a large one."""
    return [partial(build_cell, T, settings) for T in ((100_000,) if settings.quick else (100_000, 1_000_000))]
