"""Checks that need no pytest: `python -m benchmarks.gpu.own_checks CHECK BACKEND [--device cuda] --report FILE`.

- agreement: every case against the float64 reference.
- syncs: every call under `torch.cuda.set_sync_debug_mode("error")`, with no memory asked of the driver after a warm-up.
- graph: every call captured in a CUDA graph; a replay gives the bits of the eager call.
- repeats: a hundred calls give the same bits, and those that only read do not change what they read.
- addresses: more than 2^31 elements (`addresses.py`).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spcl_fast import backends

from . import child
from .cases import Case, every_case
from .record import FAILED, NOT_RUN, PASSED

REPEATS = 100
SHOWN = 10  # faults that are listed


def cannot(error: Exception) -> bool:
    """Whether a call was refused by name because the backend does not have it: nothing is wrong then."""
    return isinstance(error, ValueError) and "cannot do this call" in str(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory; before torch 2.13 the library knows no more than whose call failed."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("aoti_torch_empty_strided", "out of memory")
    )


class NothingToCheckError(Exception):
    """The backend, or the machine, cannot do what the check needs; the message says why."""


def cases_of(backend: str, device: str) -> Iterator[Case]:
    """Those that the backend can do.

    Raises:
        NothingToCheckError: it is off, or can do none.
    """
    found = False
    for case in every_case(device):
        try:
            backends.choose(case.op, backend, torch.device(device), needs_grad=case.needs_grad)
        except ValueError as error:  # it cannot do this call
            reason: Exception = error
            continue
        except RuntimeError as error:
            raise NothingToCheckError(str(error)) from error
        found = True
        yield case
    if not found:
        raise NothingToCheckError(str(reason))


def agreement(backend: str, device: str) -> Iterator[tuple[str, str]]:
    """Name and fault (or nothing) of every case."""
    for case in cases_of(backend, device):
        yield _tried(case, lambda case=case: case.expected.differences(backend, case.make(backend)()))


def syncs(backend: str, device: str) -> Iterator[tuple[str, str]]:
    """As above; a call that waits for the device raises."""

    def look(case: Case) -> None:
        call = case.make(backend)
        call()
        torch.cuda.synchronize()
        before = torch.cuda.memory_stats().get("num_device_alloc", 0)
        without_waiting(call)
        added = torch.cuda.memory_stats().get("num_device_alloc", 0) - before
        if added:
            raise AssertionError(f"{added} allocation(s) of the driver after a warm-up")

    for case in cases_of(backend, device):
        yield _tried(case, lambda case=case: look(case))


def graph(backend: str, device: str) -> Iterator[tuple[str, str]]:
    """As above; outputs of a replay, which were overwritten before it, against those of an eager call."""

    def look(case: Case) -> None:
        call = case.make(backend)
        eager = {name: x.clone() for name, x in _flat(call())}
        captured, recorded = capture(call)
        for _, x in _flat(recorded):
            x.zero_() if not x.is_floating_point() else x.fill_(float("nan"))
        captured.replay()
        torch.cuda.synchronize()
        for name, x in _flat(recorded):
            require_same_bits(name, eager[name], x)

    for case in cases_of(backend, device):
        yield _tried(case, lambda case=case: look(case))


def repeats(backend: str, device: str) -> Iterator[tuple[str, str]]:
    """As above; each of a hundred calls against the first."""

    def look(case: Case) -> None:
        call = case.make(backend)
        first = {name: x.clone() for name, x in _flat(call())}
        for _ in range(REPEATS - 1):
            for name, x in _flat(call()):
                require_same_bits(name, first[name], x)

    for case in cases_of(backend, device):
        yield _tried(case, lambda case=case: look(case))


def addresses(backend: str, device: str) -> Iterator[tuple[str, str]]:
    """As above, of large inputs."""
    from .addresses import look

    yield from look(backend, device)


def capture(call: Callable[[], Mapping[str, Any]]) -> tuple[torch.cuda.CUDAGraph, Mapping[str, Any]]:
    """The call as a CUDA graph, and the outputs that a replay fills.

    What waits for the device is refused before the capture: one that fails leaves torch's allocator in its midst, which
    then gives no memory back, and another stream current.

    Raises:
        RuntimeError: it waits, or cannot be captured.
    """
    here, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        call()
        call()
        without_waiting(call)
    here.wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(captured):
            outputs = call()
    finally:
        torch.cuda.set_stream(here)
    return captured, outputs


def without_waiting(call: Callable[[], object]) -> None:
    """A call in which it is a RuntimeError to make the host wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def require_same_bits(name: str, one: Tensor, other: Tensor) -> None:
    """Raises AssertionError where two tensors differ in a bit; NaN equals itself."""
    if one.shape != other.shape or one.dtype != other.dtype:
        raise AssertionError(f"{name}: {one.dtype} {tuple(one.shape)} became {other.dtype} {tuple(other.shape)}")
    bits = [x.contiguous().reshape(-1).view(torch.uint8) for x in (one, other)]
    if not torch.equal(*bits):
        raise AssertionError(f"{name}: other bits in {int((bits[0] != bits[1]).sum())} byte(s)")


def _flat(outputs: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by a name, those in tuples too."""
    for name, value in outputs.items():
        if isinstance(value, Tensor):
            yield name, value.detach()
        elif isinstance(value, Sequence):
            for index, x in enumerate(value):
                yield f"{name}[{index}]", x.detach()


LEFT_OUT = "left out: "  # how a fault begins that is none


def _tried(case: Case, look: Callable[[], object]) -> tuple[str, str]:
    name = f"{case.op} ({case.name})"
    try:
        look()
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        return name, f"{LEFT_OUT}{text}" if cannot(error) else f"{type(error).__name__}: {text}"
    return name, ""


CHECKS = {f.__name__: f for f in (agreement, syncs, graph, repeats, addresses)}


def outcome(check: str, backend: str, device: str) -> dict[str, Any]:
    """What is reported of a check."""
    try:
        found = list(CHECKS[check](backend, device))
    except NothingToCheckError as error:
        return {"status": NOT_RUN, "reason": str(error)}
    left_out = [f"{name}: {fault}" for name, fault in found if fault.startswith(LEFT_OUT)]
    looked = [(name, fault) for name, fault in found if not fault.startswith(LEFT_OUT)]
    faults = [f"{name}: {fault}" for name, fault in looked if fault]
    cases = Counter(name.partition(" ")[0] for name, _ in looked)
    details = {"cases": dict(cases), "faults": faults[:SHOWN], "left out": left_out}
    if not looked:
        return {"status": NOT_RUN, "reason": "; ".join(left_out), "details": details}
    reason = f"{len(faults)} of {len(looked)} cases: {faults[0]}" if faults else ""
    return {"status": FAILED if faults else PASSED, "reason": reason, "details": details}


def main() -> None:
    """Reports one check of one backend."""
    parser = argparse.ArgumentParser()
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("backend")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--report", required=True)
    arguments = parser.parse_args()
    child.say(arguments.report, outcome(arguments.check, arguments.backend, arguments.device))


if __name__ == "__main__":
    main()
