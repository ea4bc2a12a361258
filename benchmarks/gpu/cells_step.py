"""self_paced_step on a device: a batch of IEMOCAP as a training loop has it, and corpora at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from .. import bench_self_paced_step as steps
from ..harness import Call, Cell, left_out
from ..providers import self_paced_step as forms
from ..providers.floors import autograd_floor
from ..sizes import IEMOCAP, MELD, name_of_dtype
from .contenders import MANY, SMALL, compiles, eager, floors, ours, require_device_memory
from .measure import GpuSettings

OP = "self_paced_step"
# bincount and padded wait for the device.
SUMS = {name: sums for name, sums in forms.SUMS.items() if name not in ("bincount", "padded")}
BEST_SUMS = ("index_add", "cumsum", "segment_reduce")


def build_cell(
    name: str,
    lengths: tuple[int, ...],
    C: int,
    backward: bool,
    settings: GpuSettings,
    dtype: torch.dtype = torch.float32,
    copies: int = 1,
) -> Cell:
    """One size in one direction."""
    T = copies * sum(lengths)
    require_device_memory(T * (500 if T >= MANY else 1200), settings)
    problem = steps.make_problem(lengths, C, backward, dtype, copies, settings.device)
    small = T <= SMALL

    def make(backend: str, stacked: bool = False) -> Call:
        return steps.step_call(partial(steps.ours, backend=backend), problem, stacked=stacked, backward=backward)

    def plain(step: forms.Step) -> Call:
        return steps.step_call(step, problem, stacked=True, backward=backward)

    contenders = [*ours(OP, make, settings, "M tensors", needs_grad=backward)]
    if T < MANY:
        sums = {n: s for n, s in SUMS.items() if (small or n in BEST_SUMS)}
        pairs = [(a, b) for a in (forms.SCORES if small else ("logsumexp", "log_softmax")) for b in sums]
        chosen = {f"{a}, {b}": forms.exact(forms.step_of(forms.SCORES[a], sums[b], forms.repeated)) for a, b in pairs}
        contenders += eager({n: partial(plain, step) for n, step in chosen.items()})
        natural = {"log_softmax, index_add": forms.step_of(forms.log_softmax, forms.index_add, forms.searched)}
        if small:
            natural["one_hot, masked_sum"] = forms.step_of(forms.one_hot, forms.masked_sum, forms.searched)
        if dtype == torch.float32:
            compile_all = {n: lambda compiled, step=step: plain(compiled(step)) for n, step in natural.items()}
            contenders += compiles(compile_all, settings)
    else:
        contenders.append(left_out("eager", "all forms", "many times the input does not fit"))
    contenders.append(
        left_out("published", "loops, O(T^2)", "loops on the host, which wait for the device at every step")
    )
    traffic = steps.traffic_of(problem, C, backward)
    if small:
        contenders.append(autograd_floor(problem.logits.unbind(0), backward, (1,)))
    else:
        contenders += floors(traffic, settings)
    size = {"T": T, "D": problem.offsets.shape[0] - 1, "M": steps.M, "C": C, "dtype": name_of_dtype(dtype)}
    return Cell(name, size, contenders, problem.expected, None if small else traffic)


def cells(settings: GpuSettings) -> dict[str, Callable[[], Cell]]:
    """What is promised comes first."""
    both = "forward and backward"
    found: dict[str, Callable[[], Cell]] = {}

    def add(name: str, lengths: tuple[int, ...], C: int, backward: bool, dtype: torch.dtype, copies: int = 1) -> None:
        found[name] = partial(build_cell, name, lengths, C, backward, settings, dtype, copies)

    add(f"IEMOCAP batch, {both}", IEMOCAP, 6, True, torch.float32)
    if settings.quick:
        return found
    corpus = 1000 * IEMOCAP
    add(f"T=1e6, {both}", corpus, 6, True, torch.float32)
    add(f"T=1e7, {both}", corpus, 6, True, torch.float32, 10)
    add("IEMOCAP batch, forward", IEMOCAP, 6, False, torch.float32)
    add(f"T=1e6, {both}, bfloat16", corpus, 6, True, torch.bfloat16)
    add(f"MELD batch, {both}", MELD, 7, True, torch.float32)
    add(f"T=1e8, {both}", corpus, 6, True, torch.float32, 100)
    return found
