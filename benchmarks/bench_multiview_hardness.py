"""multiview_hardness: utterance by utterance, the best plain PyTorch, `torch.compile` and ours, beside a read.

Three modalities, of which one is missing in the mean and one is there at least; 256 features, hidden and crossed units
each. A batch of 16 dialogues has some 1,000 utterances, a corpus 100,000. Reconstruction and target are needed only
where a modality is missing: the bytes that are counted, and read by the floor, are those that the op cannot do without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from spcl_fast import backends, ops, reference

from .agreement import Expected, Tolerance
from .harness import Call, Cell, Contender, Outputs, Settings, left_out
from .providers import multiview_hardness as forms
from .providers.compiled import compiled
from .providers.floors import read_floor
from .sizes import name_of, name_of_dtype

M, F = 3, 256
LONGEST_LOOP = 1_000  # utterances
# The scaling pulls nearly equal parts apart: hence the wider tolerance of the hardness.
TOLERANCES = {"hardness": Tolerance(1e-5), "direct": Tolerance(0, 1e-6), "information": Tolerance(1e-5)}


def problem(T: int, dtype: torch.dtype) -> forms.Inputs:
    """Reconstructions near their targets, and units that differ in how spread they are."""
    g = torch.Generator().manual_seed(0)
    target = torch.randn(M, T, F, generator=g)
    reconstruction = target + torch.rand(M, T, 1, generator=g) * torch.randn(M, T, F, generator=g)
    hidden, crossed = ((0.5 + torch.rand(M, T, 1, generator=g)) * torch.randn(M, T, F, generator=g) for _ in range(2))
    present = torch.rand(M, T, generator=g) < 0.5
    present[torch.randint(M, (T,), generator=g), torch.arange(T)] = True
    kinds = (reconstruction, target, hidden, crossed)
    return forms.Inputs(*(part.to(dtype) for part in kinds), present)


def traffic_of(inputs: forms.Inputs) -> int:
    """Rows that have to be read, flags, and three numbers an utterance."""
    T, missing = inputs.present.shape[1], int((~inputs.present).sum())
    return (2 * M * T + 2 * missing) * F * inputs.hidden.element_size() + T * (M + 12)


def exact_of(inputs: forms.Inputs) -> dict[str, torch.Tensor]:
    """The reference in float64, a slice at a time: all at once it would take many times the memory of the inputs."""
    T, step = inputs.present.shape[1], 10_000
    slices = [inputs.rows(begin, begin + step) for begin in range(0, T, step)]
    doubles = [forms.Inputs(*(part.double() for part in own[:4]), own.present) for own in slices]
    scaling = reference.multiview_hardness(*doubles[0]).scaling
    for own in doubles[1:]:
        scaling = ops.merged_scaling(scaling, reference.multiview_hardness(*own).scaling)
    results = [reference.multiview_hardness(*own, scaling=scaling) for own in doubles]
    return {name: torch.cat([getattr(result, name) for result in results]) for name in TOLERANCES}


def _call(form: Callable[[forms.Inputs], tuple[torch.Tensor, ...]], inputs: forms.Inputs) -> Call:
    def call() -> Outputs:
        return dict(zip(TOLERANCES, form(inputs), strict=True))

    return call


def _rivals(inputs: forms.Inputs, settings: Settings) -> Iterator[Contender]:
    threads, T = settings.both_threads, inputs.present.shape[1]
    for name, parts in forms.PARTS.items():
        if name == "loop" and T > LONGEST_LOOP:
            yield left_out("published", name, f"a call takes {T // LONGEST_LOOP} times that of T={LONGEST_LOOP}")
            continue
        make = partial(_call, forms.hardness_of(parts), inputs)
        if name == "loop":
            yield Contender("published", name, make, threads=(1,))
        else:
            yield Contender("eager", name, make, threads=threads)
    if settings.compile:

        def fused() -> Call:
            return _call(compiled(forms.hardness_of(forms.formulas)), inputs)

        yield Contender("compile", "formulas", fused, threads=threads, may_fail=True)


def build_cell(T: int, dtype: torch.dtype, settings: Settings) -> Cell:
    """One number of utterances in one dtype, with everybody who competes on it."""
    inputs = problem(T, dtype)
    note = f"backend {backends.choose('multiview_hardness', None, inputs.hidden.device, needs_grad=False)}"
    traffic, threads = traffic_of(inputs), settings.both_threads
    contenders = [
        *_rivals(inputs, settings),
        Contender("ours", "op", lambda: _call(lambda x: ops.multiview_hardness(*x)[:3], inputs), "ours", note=note),
        *read_floor(traffic, threads),
    ]
    size = {"T": T, "M": M, "F": F, "dtype": name_of_dtype(dtype)}
    return Cell(
        f"{name_of(T)}, {name_of_dtype(dtype)}", size, contenders, Expected(exact_of(inputs), TOLERANCES), traffic
    )


def cells(settings: Settings) -> list[Callable[[], Cell]]:
    """A batch and a corpus, or a tenth of it."""
    dtypes = (torch.float32, torch.bfloat16)
    sizes = [(10_000 if settings.quick else 100_000, dtype) for dtype in dtypes]
    if not settings.quick:
        sizes += [(1_000, dtype) for dtype in dtypes]
    return [partial(build_cell, *size, settings) for size in sizes]


def scaling(T: int) -> tuple[Call, int]:
    """The call on float32, and the bytes it reads and writes."""
    inputs = problem(T, torch.float32)
    return _call(lambda x: ops.multiview_hardness(*x)[:3], inputs), traffic_of(inputs)
