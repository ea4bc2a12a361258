"""window_coherence: the best plain PyTorch, `torch.compile` and ours, beside the time it takes to read the input.

Three modalities of 256 features, dialogues of 50 utterances, windows of five; float32 and bfloat16; forward alone,
into memory that an earlier call touched, and forward with backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from spcl_fast import backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Outputs, Settings
from .providers import window_coherence as forms
from .providers.compiled import compiled
from .providers.floors import read_floor

M, F, LENGTH = 3, 256, 50
COMPILED = ("products", "sum_of_units", "normalised_einsum", "cosine_similarity")
# A product of halves in their own precision is off by their precision: such a form is refused.
TOLERANCES = {torch.float32: Tolerance(5e-7), torch.bfloat16: Tolerance(5e-7)}
GRADIENT = {torch.float32: Tolerance(1e-8, 1e-4), torch.bfloat16: Tolerance(1e-7, 2e-2)}


def coherence_call(form: Callable[[Tensor], Tensor], e: Tensor, weight: Tensor | None) -> Call:
    """The call to time: the coherence, and the gradient of its weighted sum."""
    leaf = e if weight is None else e.detach().clone().requires_grad_()

    def call() -> Outputs:
        coherence = form(leaf)
        if weight is None:
            return {"coherence": coherence}
        return {"coherence": coherence, "gradient": torch.autograd.grad(coherence, leaf, weight)[0]}

    return call


def _rivals(e: Tensor, dialogue: Tensor, weight: Tensor | None, settings: Settings) -> Iterator[Contender]:
    threads = (settings.threads,)
    for name, cosines in forms.COSINES.items():
        if name == "bmm" and e.dtype != torch.float32:
            continue  # in half precision, beyond the tolerance

        def eager(cosines: forms.Cosines = cosines) -> Call:
            form = forms.coherence_of(cosines)
            return coherence_call(lambda x: form(x, dialogue), e, weight)

        yield Contender("eager", name, eager, threads=threads)
    for name in COMPILED[: (1 if settings.quick else None)] if settings.compile else ():

        def fused(name: str = name) -> Call:
            form = compiled(forms.coherence_of(forms.COSINES[name]))
            return coherence_call(lambda x: form(x, dialogue), e, weight)

        yield Contender("compile", name, fused, threads=threads, may_fail=True)


def _ours(e: Tensor, offsets: Tensor, weight: Tensor | None, threads: tuple[int, ...]) -> Contender:
    note = f"backend {backends.choose('window_coherence', None, e.device, needs_grad=weight is not None)}"

    def make() -> Call:
        out = torch.zeros(e.shape[1]) if weight is None else None
        return coherence_call(lambda x: ops.window_coherence(x, offsets, out=out), e, weight)

    return Contender("ours", "out=" if weight is None else "autograd", make, "ours", threads, note=note)


def build_cell(T: int, dtype: torch.dtype, backward: bool, settings: Settings) -> Cell:
    """One number of utterances in one dtype, with everybody who competes on it."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(1, T, F, generator=generator)
    e = (0.5 * common + torch.randn(M, T, F, generator=generator)).to(dtype)
    offsets = torch.arange(0, T + LENGTH, LENGTH).clamp(max=T)
    dialogue = torch.arange(T) // LENGTH
    weight = torch.randn(T, generator=generator) if backward else None

    exact = e.double().requires_grad_(backward)
    coherence = reference.window_coherence(exact, offsets)
    outputs = {"coherence": coherence.detach()}
    if weight is not None:
        outputs["gradient"] = torch.autograd.grad(coherence, exact, weight.double())[0]
    expected = Expected(outputs, {"coherence": TOLERANCES[dtype], "gradient": GRADIENT[dtype]})

    threads = (settings.threads,)
    traffic = T * (M * F * e.element_size() * (3 if backward else 1) + 4)  # read once; or twice, and written once
    contenders = [
        *_rivals(e, dialogue, weight, settings),
        _ours(e, offsets, weight, threads),
        *read_floor(traffic, threads),
    ]
    word = str(dtype).removeprefix("torch.")
    name = f"T=1e{len(str(T)) - 1}, {word}, {'forward and backward' if backward else 'forward'}"
    size = {"T": T, "D": len(offsets) - 1, "M": M, "F": F, "W": 5, "dtype": word}
    return Cell(name, size, contenders, expected, traffic)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch and a corpus, or a tenth of it."""
    kinds = [(dtype, backward) for backward in (False, True) for dtype in (torch.float32, torch.bfloat16)]
    sizes = [(10_000 if settings.quick else 100_000, *kind) for kind in kinds]
    if not settings.quick:
        sizes += [(1_000, torch.float32, backward) for backward in (False, True)]
    return [partial(build_cell, *size, settings) for size in sizes]


def scaling(T: int) -> tuple[Call, int]:
    """The call of `out=` on float32 embeddings, and the bytes it reads and writes."""
    e = torch.randn(M, T, F, generator=torch.Generator().manual_seed(0))
    offsets = torch.arange(0, T + LENGTH, LENGTH).clamp(max=T)
    out = torch.zeros(T)
    return lambda: {"coherence": ops.window_coherence(e, offsets, out=out)}, T * (4 * M * F + 4)
