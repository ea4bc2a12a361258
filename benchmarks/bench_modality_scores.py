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
from .harness import Call, Cell, Contender, Settings, left_out
from .providers import modality_scores as forms
from .providers.compiled import compiled
from .providers.floors import copy_floor, read_floor
from .sizes import (
    BEST_ALONE,
    DTYPES,
    IEMOCAP,
    LARGEST,
    MELD,
    name_of,
    name_of_dtype,
    repeated,
    require_memory,
)

M, C = 3, 7
TOLERANCES = {
    "loss": Tolerance(2e-6, 2e-6),
    "confidence": Tolerance(1e-7, 3e-6),
    "entropy": Tolerance(3e-6),
    "margin": Tolerance(2e-6),
}
COMPILED = {"natural": forms.gather, "one-hot": forms.one_hot, "class-unrolled": forms.unrolled}


def _eager(z: Tensor, y: Tensor, threads: tuple[int, ...]) -> Iterator[Contender]:
    plain = z.shape[1] < LARGEST  # which form is the fastest depends on the dtype, so each has all of them
    for form in (forms.gather, forms.topk, forms.one_hot, forms.unrolled) if plain else (forms.gather,):

        def make(form: Callable[[Tensor, Tensor], forms.Scores] = form) -> Call:
            return lambda: form(forms.exact(z), y)

        yield Contender("eager", form.__name__, make, threads=threads, group="fresh")
    if not plain:
        yield left_out("eager", "all other forms", BEST_ALONE)
    yield Contender("eager", "gather, kept memory", lambda: forms.steady_gather(z, y), threads=threads, group="steady")


def _compiled(z: Tensor, y: Tensor, threads: tuple[int, ...], settings: Settings) -> Iterator[Contender]:
    for name in list(COMPILED)[1:2] if settings.quick else COMPILED:

        def fresh(name: str = name) -> Call:
            function = compiled(COMPILED[name])
            return lambda: function(z, y)

        def steady(name: str = name) -> Call:
            function = compiled(forms.steady(COMPILED[name]))
            out = dict(zip(forms.OUTPUTS, _outputs(z), strict=True))
            return lambda: function(z, y, out)

        for group, make in (("fresh", fresh), ("steady", steady)):
            yield Contender("compile", name, make, threads=threads, group=group, may_fail=True)


def _ours(z: Tensor, y: Tensor, threads: tuple[int, ...]) -> Iterator[Contender]:
    note = f"backend {backends.choose('modality_scores', None, z.device, needs_grad=False)}"

    def fresh() -> Call:
        return lambda: ops.modality_scores(z, y)._asdict()

    def steady() -> Call:
        return filling(z, y)

    yield Contender("ours", "allocating", fresh, "ours", threads, "fresh", note=note)
    yield Contender("ours", "out=", steady, "ours", threads, "steady", note=note)


def _outputs(z: Tensor) -> list[Tensor]:
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    return [torch.zeros(M, z.shape[1], dtype=dtype, device=z.device) for _ in forms.OUTPUTS]


def filling(z: Tensor, y: Tensor, backend: str | None = None) -> Call:
    """The op, into memory that it is given."""
    out = ModalityScores(*_outputs(z))
    return lambda: ops.modality_scores(z, y, out=out, backend=backend)._asdict()


def traffic_of(z: Tensor) -> int:
    """Logits and labels are read once, four scores written once."""
    written = 8 if z.dtype == torch.float64 else 4
    return z.shape[1] * (z.element_size() * M * C + 8 + written * 4 * M)


def make_problem(T: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Tensor, Tensor, int]:
    """Logits and labels; beyond 1e6 utterances so many copies of the first 1e6, and how many."""
    copies = max(1, T // 1_000_000)
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(M, T // copies, C, generator=generator, device=device).to(dtype)
    labels = torch.randint(C, (T // copies,), generator=generator, device=device)
    return logits, labels, copies


def build_cell(name: str, T: int, dtype: torch.dtype, settings: Settings) -> Cell:
    """One number of utterances in one dtype, with everybody who competes on it."""
    if T >= LARGEST:
        require_memory(10_000_000_000)
    logits, labels, copies = make_problem(T, dtype)
    scores = reference.modality_scores(logits.double(), labels)._asdict()
    expected = Expected({k: repeated(x, copies, 1) for k, x in scores.items()}, TOLERANCES)
    logits, labels = repeated(logits, copies, 1), repeated(labels, copies, 0)
    small = T <= 10_000  # then the cost of a call counts, not the memory's bandwidth
    threads = settings.both_threads if small else (settings.threads,)
    traffic = traffic_of(logits)
    plain = dtype == torch.float32 and T < LARGEST
    contenders = [*_eager(logits, labels, threads)]
    if settings.compile and plain:
        contenders += _compiled(logits, labels, threads, settings)
    contenders += _ours(logits, labels, threads)
    if not small:
        contenders += [copy_floor(traffic, threads), *read_floor(traffic, threads)]
    size = {"T": T, "M": M, "C": C, "dtype": name_of_dtype(dtype)}
    return Cell(name, size, contenders, expected, None if small else traffic, None if plain or T >= LARGEST else 2.0)


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch of IEMOCAP and one of MELD, corpora, other dtypes, and what no corpus has reached."""
    sizes = [("IEMOCAP batch", sum(IEMOCAP), torch.float32)]
    if not settings.quick:
        sizes.append(("MELD batch", sum(MELD), torch.float32))
    sizes.append((name_of(100_000), 100_000, torch.float32))
    if not settings.quick:
        sizes.append((name_of(1_000_000), 1_000_000, torch.float32))
        sizes += [(f"{name_of(1_000_000)}, {name_of_dtype(dtype)}", 1_000_000, dtype) for dtype in DTYPES]
        sizes.append((name_of(LARGEST), LARGEST, torch.float32))
    return [partial(build_cell, *size, settings) for size in sizes]


def scaling(T: int) -> tuple[Call, int]:
    """The call of `out=`, and the bytes it reads and writes."""
    logits, labels, copies = make_problem(T)
    logits, labels = repeated(logits, copies, 1), repeated(labels, copies, 0)
    return filling(logits, labels), traffic_of(logits)
