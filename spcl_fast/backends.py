"""Which backend a call takes, and why another is off.

A backend is a way to compute an op: "reference" is plain PyTorch, runs everywhere and is the truth; "cpu" is
the compiled library. `backend=None` takes the fastest that can do the call. A name given as an argument is a
demand: it is taken or refused with the reason. A name in the environment variable SPCL_FAST_BACKEND is a
preference, since it speaks for a whole program: it is taken for every call it can do, and the fastest other one
does the rest. Nothing loads before a call needs it.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch

from spcl_fast import _native

ENVIRONMENT = "SPCL_FAST_BACKEND"
OPS = (
    *("modality_scores", "modality_spread", "window_coherence", "emotion_transitions"),
    *("difficulty_quantile", "select_easiest", "self_paced_weights", "self_paced_step"),
)
# The others are constants of a curriculum.
DIFFERENTIABLE = frozenset({"modality_scores", "window_coherence", "self_paced_step"})

_log = logging.getLogger("spcl_fast")
_missed: set[str] = set()  # backends whose absence has been logged
_chosen: dict[tuple[str, str | None, str | None, str, bool], str] = {}  # by what was asked, with the library on


class _Backend(NamedTuple):
    """What a backend can do. `why_not` gives the reason it is off, or None, and loads what it needs."""

    ops: frozenset[str]
    differentiable: frozenset[str]
    devices: frozenset[str] | None  # None: any
    why_not: Callable[[], str | None]

    def refusal(self, op: str, device_type: str, needs_grad: bool) -> str | None:
        """Why this backend, when it is on, cannot do the call; None when it can."""
        if op not in self.ops:
            return "it does not have this op"
        if self.devices is not None and device_type not in self.devices:
            return f"it runs on {', '.join(sorted(self.devices))} (got a tensor on {device_type})"
        if needs_grad and op not in self.differentiable:
            return "it has no gradient of this op (got logits that require one)"
        return None


# The fastest first: `choose` takes the first that can do the call.
_BACKENDS = {
    "cpu": _Backend(
        ops=frozenset(OPS),
        differentiable=DIFFERENTIABLE,
        devices=frozenset({"cpu"}),
        why_not=lambda: _native.why_not_loaded(),
    ),
    "reference": _Backend(
        ops=frozenset(OPS),
        differentiable=DIFFERENTIABLE,
        devices=None,
        why_not=lambda: None,
    ),
}


def why_not(name: str) -> str | None:
    """The reason the backend `name` is off on this machine; None when it is on.

    Raises:
        ValueError: no backend has this name.
    """
    return _named(name, "").why_not()


def available() -> dict[str, bool]:
    """Every backend, the fastest first, and whether it is on."""
    return {name: why_not(name) is None for name in _BACKENDS}


def choose(op: str, backend: str | None, device: torch.device, *, needs_grad: bool) -> str:
    """The name of the backend that is to do a call.

    Args:
        op: the op, by its name in `spcl_fast.ops`.
        backend: a name; None for that in SPCL_FAST_BACKEND if it can do the call, or else for the fastest
            that can.
        device: where the call's tensors lie.
        needs_grad: whether a gradient has to reach the inputs.

    Returns:
        "cpu" or "reference". Without a name, a library that does not load falls back to the reference, with
        one INFO line in the log "spcl_fast".

    Raises:
        ValueError: an unknown name, or a backend given as an argument that cannot do this call.
        RuntimeError: a backend asked for by name, either way, that is off on this machine.
    """
    environment = os.environ.get(ENVIRONMENT)
    key = (op, backend, environment, device.type, needs_grad)
    if _native.is_loaded() and key in _chosen:  # nothing that the choice depends on can have changed
        return _chosen[key]
    name = _choose(op, backend, environment, device.type, needs_grad)
    if _native.is_loaded():
        _chosen[key] = name
    return name


def _choose(op: str, backend: str | None, environment: str | None, device_type: str, needs_grad: bool) -> str:
    wanted = backend or environment
    if wanted:
        asked = f"{op}: " if backend else f"{op}: {ENVIRONMENT}: "
        chosen = _named(wanted, asked)
        refusal = chosen.refusal(op, device_type, needs_grad)
        if refusal is None:
            reason = chosen.why_not()
            if reason is not None:
                raise RuntimeError(f"{asked}backend {wanted!r} is off: {reason}")
            return wanted
        if backend:
            raise ValueError(f"{asked}backend {wanted!r} cannot do this call: {refusal}")
    for name, candidate in _BACKENDS.items():
        if candidate.refusal(op, device_type, needs_grad) is not None:
            continue
        reason = candidate.why_not()
        if reason is None:
            return name
        if name not in _missed:
            _missed.add(name)
            _log.info("backend %r is off, so a slower one computes its calls: %s", name, reason)
    raise ValueError(f"{op}: no backend has this op")


# Under `torch.compile` the choice is made while tracing, and loading may not be traced. This is the mark of
# torch.compiler.assume_constant_result, which itself would import torch._dynamo: a second at start-up.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _named(name: str, asked: str) -> _Backend:
    if name not in _BACKENDS:
        raise ValueError(f"{asked}backend must be one of {', '.join(map(repr, _BACKENDS))} (got {name!r})")
    return _BACKENDS[name]


class ReportRow(NamedTuple):
    """One line of `report()`."""

    section: str
    name: str
    value: str


def report() -> list[ReportRow]:
    """What is installed, what was built, what loads, who computes which op; for `spcl-fast doctor`."""
    rows = [ReportRow("versions", name, value) for name, value in _versions()]
    rows += [ReportRow("build", name, value) for name, value in _build()]
    rows += [ReportRow("machine", name, value) for name, value in _machine()]
    for name in _BACKENDS:
        reason = why_not(name)
        rows.append(ReportRow("backends", name, "on" if reason is None else f"off: {reason}"))
    reason = _why_not_arrays()
    rows.append(ReportRow("backends", "arrays (NumPy)", "on" if reason is None else f"off: {reason}"))
    rows += [ReportRow("ops", op, _who_computes(op)) for op in OPS]
    return rows


def _versions() -> list[tuple[str, str]]:
    import numpy

    import spcl_fast

    return [
        ("spcl_fast", spcl_fast.__version__),
        ("python", platform.python_version()),
        ("torch", torch.__version__),
        ("numpy", numpy.__version__),
    ]


def _build() -> list[tuple[str, str]]:
    try:
        from spcl_fast import _build as build
    except ImportError:
        return [("libraries", "not built")]
    target = int(build.TORCH_TARGET_VERSION, 16)
    oldest = f"{target >> 56}.{target >> 48 & 0xFF}"
    return [
        ("version", build.VERSION),
        ("torch", f"{build.TORCH_VERSION}, runs on {oldest} and newer"),
        ("compiler", build.COMPILER),
        ("C++ flags", build.CXX_FLAGS),
        ("instruction sets", ", ".join(build.ISA)),
        ("cuda", "yes" if build.CUDA else "no"),
    ]


def _machine() -> list[tuple[str, str]]:
    loaded = _native.why_not_loaded() is None
    return [
        ("platform", f"{sys.platform} {platform.machine()}"),
        ("instruction set", _native.instruction_set() if loaded else "the library is off"),
        ("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
        (ENVIRONMENT, os.environ.get(ENVIRONMENT) or "not set"),
    ]


def _why_not_arrays() -> str | None:
    try:
        from spcl_fast import _arrays  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def _who_computes(op: str) -> str:
    parts = []
    for name, backend in _BACKENDS.items():
        if op in backend.ops and backend.why_not() is None:
            devices = "any device" if backend.devices is None else ", ".join(sorted(backend.devices))
            gradient = "with" if op in backend.differentiable else "without"
            parts.append(f"{name} ({devices}, {gradient} gradient)")
    return "; ".join(parts)
