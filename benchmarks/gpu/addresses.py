"""Inputs of more than 2^31 elements: their end must be computed from their end.

Only the last utterances hold anything but a pattern, and they are compared with the reference of a copy of them; an
index of 32 bits would read or write somewhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from spcl_fast import backends, ops, reference

from ..bench_modality_scores import TOLERANCES
from ..bench_self_paced_step import TOLERANCES as STEP
from .cases import on

PAST = 2**31 + 4096
TAIL = 1000
M, C, F = 3, 7, 256


def scores(backend: str, device: str) -> None:
    T = PAST // (M * C) + 1
    z = _patterned((M, T, C), device)
    labels = torch.zeros(T, dtype=torch.int8, device=device)
    labels[-TAIL:] = torch.randint(C, (TAIL,), device=device).to(torch.int8)
    got = ops.modality_scores(z, labels, backend=backend)._asdict()
    exact = reference.modality_scores(z[:, -TAIL:].double(), labels[-TAIL:].long())._asdict()
    on(device, exact, TOLERANCES).differences("tail", {name: x[:, -TAIL:] for name, x in got.items()})


def step(backend: str, device: str) -> None:
    T = (PAST // (M * C) + TAIL) // TAIL * TAIL
    z = _patterned((M, T, C), device)
    labels = torch.zeros(T, dtype=torch.int8, device=device)
    labels[-TAIL:] = torch.randint(C, (TAIL,), device=device).to(torch.int8)
    offsets = torch.arange(0, T + TAIL, TAIL, device=device)  # the last dialogue is the tail
    got = ops.self_paced_step(z, labels, offsets, 0.5, backend=backend)
    ends = torch.tensor([0, TAIL], device=device)
    exact = reference.self_paced_step(z[:, -TAIL:].double(), labels[-TAIL:].long(), ends, 0.5)
    names = ("difficulty", "utterance_loss", "confidence")
    expected = {name: getattr(exact, name) for name in names}
    on(device, expected, STEP).differences("tail", {name: getattr(got, name)[..., -TAIL:] for name in names})


def coherence(backend: str, device: str) -> None:
    T = (PAST // (M * F) + TAIL) // TAIL * TAIL
    e = _patterned((M, T, F), device)
    offsets = torch.arange(0, T + TAIL, TAIL, device=device)
    got = ops.window_coherence(e, offsets, backend=backend)[-TAIL:]
    exact = reference.window_coherence(e[:, -TAIL:].double(), torch.tensor([0, TAIL], device=device))
    difference = float((got.double() - exact).abs().max())
    _require(difference < 1e-6, f"the tail differs by {difference:.3g}")


def quantile(backend: str, device: str) -> None:
    x = torch.ones(PAST, device=device)
    x[-TAIL:] = torch.arange(-TAIL, 0, device=device)  # the smallest lie at the end
    for rank in (1, 17, TAIL):
        got = float(ops.difficulty_quantile(x, (rank - 0.5) / PAST, backend=backend))
        _require(got == rank - 1 - TAIL, f"the value of rank {rank} is {rank - 1 - TAIL}, got {got}")


def select(backend: str, device: str) -> None:
    x = torch.ones(PAST, device=device)
    x[-TAIL:] = -1.0
    taken = ops.select_easiest(x, (TAIL + 2.5) / PAST, backend=backend)
    _require(int(taken.sum()) == TAIL + 3, f"{TAIL + 3} are taken, got {int(taken.sum())}")
    _require(bool(taken[-TAIL:].all() & taken[:3].all()), "the easiest, and the first of those that tie, are taken")


def weights(backend: str, device: str) -> None:
    x = torch.ones(PAST, device=device)
    x[-TAIL:] = 0.25
    weight = ops.self_paced_weights(x, 0.5, scheme="linear", backend=backend)
    _require(bool((weight[-TAIL:] == 0.5).all()), "the weights at the end are 0.5")
    _require(not bool(weight[:-TAIL].any()), "all other weights are 0")


# op -> look, bytes of device memory it takes
LOOKS: dict[str, tuple[Callable[[str, str], None], int]] = {
    "modality_scores": (scores, 15 << 30),
    "self_paced_step": (step, 20 << 30),
    "window_coherence": (coherence, 6 << 30),
    "difficulty_quantile": (quantile, 20 << 30),
    "select_easiest": (select, 24 << 30),
    "self_paced_weights": (weights, 24 << 30),
}


def look(backend: str, device: str) -> Iterator[tuple[str, str]]:
    """Name and fault of every op that the backend has.

    Raises:
        NothingToCheckError: it is off, has none of them, or the device is too small for all of them.
    """
    from .own_checks import LEFT_OUT, NothingToCheckError, is_out_of_memory

    reasons, found = [], False
    for op, (function, needed) in LOOKS.items():
        try:
            backends.choose(op, backend, torch.device(device), needs_grad=False)
        except (ValueError, RuntimeError) as error:
            reasons.append(str(error))
            continue
        free = torch.cuda.mem_get_info()[0]
        if free < needed:
            reasons.append(f"{op}: takes {needed / 1e9:.0f} GB of device memory, {free / 1e9:.0f} GB are free")
            continue
        found = True
        fault = ""
        try:
            function(backend, device)
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            fault = f"{LEFT_OUT}out of device memory: {text}" if is_out_of_memory(error) else text
        torch.cuda.empty_cache()
        yield f"{op} (2^31 elements)", fault
    if not found:
        raise NothingToCheckError("; ".join(reasons))


def _patterned(shape: tuple[int, ...], device: str) -> Tensor:
    """bfloat16, all ones but for the last utterances: random there."""
    x = torch.ones(shape, dtype=torch.bfloat16, device=device)
    x[:, -TAIL:] = torch.randn(shape[0], TAIL, shape[2], device=device).to(x.dtype)
    return x


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
