"""window_coherence and emotion_transitions on a device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from spcl_fast import ops, reference

from .. import bench_emotion_transitions as transitions
from .. import bench_window_coherence as coherence
from ..agreement import Expected
from ..harness import Call, Cell, left_out
from ..providers import emotion_transitions as transition_forms
from ..providers import window_coherence as forms
from ..sizes import name_of, name_of_dtype, repeated
from .contenders import MANY, ONE_ALONE, SMALL, compiles, eager, floors, ours, require_device_memory
from .measure import GpuSettings

M, F, LENGTH, BLOCK = coherence.M, coherence.F, coherence.LENGTH, 100_000
LARGE = 3_000_000  # utterances of 256 features from which no plain form runs
# bincount waits for the device: its result has a size that hangs on the data.
PLAIN_TRANSITIONS = {n: form for n, form in transition_forms.FORMS.items() if not n.endswith("bincount")}


def build_coherence(T: int, dtype: torch.dtype, backward: bool, settings: GpuSettings) -> Cell:
    """Windows of five; beyond 1e5 utterances so many copies of the first 1e5."""
    plain = T < LARGE
    require_device_memory(T * M * F * (dtype.itemsize * (4 if plain else 1) + (12 if plain else 0)), settings)
    copies = max(1, T // BLOCK)
    generator = torch.Generator(settings.device).manual_seed(0)
    common = torch.randn(1, T // copies, F, generator=generator, device=settings.device)
    noise = torch.randn(M, T // copies, F, generator=generator, device=settings.device)
    e = (0.5 * common + noise).to(dtype)
    ends = torch.arange(0, T // copies + LENGTH, LENGTH, device=settings.device).clamp(max=T // copies)
    weight = torch.randn(T // copies, generator=generator, device=settings.device) if backward else None
    exact = e.double().requires_grad_(backward)
    result = reference.window_coherence(exact, ends)
    outputs = {"coherence": repeated(result.detach(), copies, 0)}
    if weight is not None:
        outputs["gradient"] = repeated(torch.autograd.grad(result, exact, weight.double())[0], copies, 1)
        weight = repeated(weight, copies, 0)
    tolerances = {"coherence": coherence.TOLERANCES[dtype], "gradient": coherence.GRADIENT[dtype]}
    del common, noise, exact, result
    e = repeated(e, copies, 1)
    offsets = torch.arange(0, T + LENGTH, LENGTH, device=settings.device).clamp(max=T)
    dialogue = torch.arange(T, device=settings.device) // LENGTH

    def make(backend: str) -> Call:
        out = None if backward else torch.zeros(T, device=settings.device)
        form = lambda x: ops.window_coherence(x, offsets, out=out, backend=backend)  # noqa: E731
        return coherence.coherence_call(form, e, weight)

    def plain_call(form: Callable[[Tensor, Tensor], Tensor]) -> Call:
        return coherence.coherence_call(lambda x: form(x, dialogue), e, weight)

    contenders = [*ours("window_coherence", make, settings, "autograd" if backward else "out=", needs_grad=backward)]
    if plain:
        cosines = {n: f for n, f in forms.COSINES.items() if n != "bmm" or dtype == torch.float32}
        contenders += eager({n: partial(plain_call, forms.coherence_of(f)) for n, f in cosines.items()})
        contenders += compiles(
            {"products": lambda compiled: plain_call(compiled(forms.coherence_of(forms.products)))}, settings
        )
    else:
        contenders.append(left_out("eager", "all forms", "several times the input does not fit"))
    small = T <= SMALL
    traffic = T * (M * F * e.element_size() * (3 if backward else 1) + 4)
    contenders += [] if small else floors(traffic, settings)
    size = {"T": T, "D": len(offsets) - 1, "M": M, "F": F, "W": 5, "dtype": name_of_dtype(dtype)}
    name = _coherence_name(T, dtype, backward)
    return Cell(name, size, contenders, Expected(outputs, tolerances), None if small else traffic)


def _coherence_name(T: int, dtype: torch.dtype, backward: bool) -> str:
    return f"{name_of(T)}, {name_of_dtype(dtype)}, {'forward and backward' if backward else 'forward'}"


def build_transitions(D: int, settings: GpuSettings) -> Cell:
    """So many dialogues of ten utterances in the mean; the counts are those of the call itself."""
    require_device_memory(D * 10 * (600 if D * 10 < MANY else 250), settings)
    problem = transitions.make_problem(D, settings.device)
    T, C = problem[0].shape[0], transitions.C
    exact = reference.emotion_transitions(*problem, C)._asdict()
    expected = Expected({name: x.double() for name, x in exact.items()}, transitions.TOLERANCES)

    def make(backend: str) -> Call:
        return lambda: ops.emotion_transitions(*problem, C, backend=backend)._asdict()

    def call(form: Callable[..., transition_forms.Outputs]) -> Call:
        return lambda: form(*problem, C)

    contenders = [*ours("emotion_transitions", make, settings)]
    if D * 10 < MANY:
        contenders += eager({n: partial(call, form) for n, form in PLAIN_TRANSITIONS.items()})
        best = "sorted, running sums"
        contenders += compiles({best: lambda compiled: call(compiled(PLAIN_TRANSITIONS[best]))}, settings)
    else:
        contenders.append(left_out("eager", "all forms", ONE_ALONE))
    small, traffic = T <= SMALL, transitions.traffic_of(*problem)
    contenders += [] if small else floors(traffic, settings)
    size = {"T": T, "D": D, "C": C, "dtype": "int64"}
    return Cell(_transitions_name(D), size, contenders, expected, None if small else traffic)


def _transitions_name(D: int) -> str:
    return f"D=1e{len(str(D)) - 1}"


def coherence_cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """What is promised comes first."""
    sizes = [(10_000, torch.float32, False), (1000, torch.float32, True)]
    if not settings.quick:
        sizes = [
            *((1_000_000, torch.float32, False), (1_000_000, torch.bfloat16, False), (1000, torch.float32, False)),
            *((100_000, torch.float32, True), (1000, torch.float32, True), (10_000_000, torch.bfloat16, False)),
        ]
    return {_coherence_name(*size): partial(build_coherence, *size, settings) for size in sizes}


def transition_cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """A corpus, a batch, and a very large corpus."""
    sizes = (10_000,) if settings.quick else (1_000_000, 100, 10_000_000)
    return {_transitions_name(D): partial(build_transitions, D, settings) for D in sizes}
