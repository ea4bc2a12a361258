"""Which backend a call takes, and why another is off.

A backend is a way to compute an op: "reference" is plain PyTorch, runs everywhere and is the truth; "cpu" is
the compiled library, "cuda" the same in CUDA C++, "triton" three of the ops in Triton, for NVIDIA without nvcc
and for AMD. `backend=None` takes the fastest that can do the call. A name given as an argument is a demand: it is
taken or refused with the reason. A name in the environment variable SPCL_FAST_BACKEND is a preference, since it
speaks for a whole program: it is taken for every call it can do, and the fastest other one does the rest. Nothing
loads before a call needs it. What is installed, and who computes what, is in `spcl_fast._report`.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from spcl_fast import _native

__all__ = ["DIFFERENTIABLE", "ENVIRONMENT", "OPS", "ReportRow", "available", "choose", "report", "why_not"]

ENVIRONMENT = "SPCL_FAST_BACKEND"
OPS = (
    *("modality_scores", "modality_spread", "window_coherence", "emotion_transitions"),
    *("difficulty_histogram", "difficulty_quantile", "select_easiest", "self_paced_weights", "self_paced_step"),
    *("super_loss", "multiview_hardness"),
)
# The others are constants of a curriculum.
DIFFERENTIABLE = frozenset({"modality_scores", "window_coherence", "self_paced_step", "super_loss"})
IN_TRITON = frozenset({"modality_scores", "window_coherence", "self_paced_step"})

_log = logging.getLogger("spcl_fast")
_missed: set[str] = set()  # backends whose absence has been logged
_chosen: dict[tuple[object, ...], str] = {}  # by what was asked, with the library on
# The mapping behind `os.environ`, which raises and catches an error for a variable that is not there: in the middle of
# a training step that takes ten microseconds.
_variables: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_VARIABLE = ENVIRONMENT if _variables is os.environ else os.environ.encodekey(ENVIRONMENT)


class _Backend(NamedTuple):
    """What a backend can do.

    `why_not` gives the reason it is off, or None, and loads what it needs; `why_not_on` the reason it is off on one
    device, as soon as that has started.
    """

    ops: frozenset[str]
    differentiable: frozenset[str]
    devices: frozenset[str] | None  # None: any
    ranks: bool  # whether it has the weights that rank difficulties, those of "spld"
    why_not: Callable[[], str | None]
    why_not_on: Callable[[torch.device], str | None] = lambda device: None

    def off(self, device: torch.device) -> str | None:
        """Why it is off for tensors on this device; None when it is on."""
        return self.why_not() or self.why_not_on(device)

    def refusal(self, op: str, device_type: str, needs_grad: bool, ranks: bool = False) -> str | None:
        """Why this backend, when it is on, cannot do the call; None when it can."""
        if op not in self.ops:
            return "it does not have this op"
        if self.devices is not None and device_type not in self.devices:
            return f"it runs on {', '.join(sorted(self.devices))} (got a tensor on {device_type})"
        if needs_grad and op not in self.differentiable:
            return "it has no gradient of this op (got logits that require one)"
        if ranks and not self.ranks:
            return "it does not rank (got scheme 'spld', which on a device is left to the sort of torch)"
        return None


def _why_not_triton() -> str | None:
    try:
        kernels = importlib.import_module("spcl_fast.kernels")
    except ImportError as error:
        return f"spcl_fast.kernels cannot be imported: {' '.join(str(error).split())}"
    reason: str | None = kernels.why_not()
    return reason


_BACKENDS = {
    "cpu": _Backend(
        ops=frozenset(OPS),
        differentiable=DIFFERENTIABLE,
        devices=frozenset({"cpu"}),
        ranks=True,
        why_not=lambda: _native.why_not_loaded(),
    ),
    "cuda": _Backend(
        ops=frozenset(OPS),
        differentiable=DIFFERENTIABLE,
        devices=frozenset({"cuda"}),
        ranks=False,
        why_not=lambda: _native.why_not_cuda(),
        why_not_on=lambda device: _native.why_not_on(device),
    ),
    "triton": _Backend(
        ops=IN_TRITON,
        differentiable=IN_TRITON,
        devices=frozenset({"cuda"}),  # also what a ROCm build of torch calls its devices
        ranks=False,
        why_not=lambda: _why_not_triton(),
    ),
    "reference": _Backend(
        ops=frozenset(OPS),
        differentiable=DIFFERENTIABLE,
        devices=None,
        ranks=True,
        why_not=lambda: None,
    ),
}
# The measured faster one first: `choose` takes the first that can do the call. No GPU has measured "cuda" against
# "triton" yet, so every op has the same order.
_FASTEST_FIRST = dict.fromkeys(OPS, ("cpu", "cuda", "triton", "reference"))
_OFF = "off: "  # how `choice` says that a backend could have done the call


def why_not(name: str) -> str | None:
    """The reason the backend `name` is off on this machine, and on its GPU once that is in use; None when it is on.

    Raises:
        ValueError: no backend has this name.

    Example:
        >>> from spcl_fast import backends
        >>> print(backends.why_not("reference"))  # plain PyTorch is on everywhere
        None
    """
    return _named(name, "").off(torch.device("cuda"))


def available() -> dict[str, bool]:
    """Every backend, and whether it is on.

    Example:
        >>> from spcl_fast import backends
        >>> on = backends.available()
        >>> list(on), on["reference"]
        (['cpu', 'cuda', 'triton', 'reference'], True)
    """
    return {name: why_not(name) is None for name in _BACKENDS}


def choose(op: str, backend: str | None, device: torch.device, *, needs_grad: bool, ranks: bool = False) -> str:
    """The name of the backend that is to do a call.

    Args:
        op: the op, by its name in `spcl_fast.ops`.
        backend: a name; None for that in SPCL_FAST_BACKEND if it can do the call, or else for the fastest
            that can.
        device: where the call's tensors lie.
        needs_grad: whether a gradient has to reach the inputs.
        ranks: whether the weights are those of "spld".

    Returns:
        The name of a backend that is on. Without a name, one that is off falls back to the next fastest, with one
        INFO line in the log "spcl_fast".

    Raises:
        ValueError: an unknown name, or a backend given as an argument that cannot do this call.
        RuntimeError: a backend asked for by name, either way, that is off on this machine.

    Example:
        >>> import torch
        >>> from spcl_fast import backends
        >>> backends.choose("self_paced_step", "reference", torch.device("cpu"), needs_grad=True)
        'reference'
        >>> backends.choose("self_paced_step", "triton", torch.device("cpu"), needs_grad=True)
        Traceback (most recent call last):
            ...
        ValueError: self_paced_step: backend 'triton' cannot do this call: it runs on cuda (got a tensor on cpu)
    """
    key = (op, backend, _variables.get(_VARIABLE), device, needs_grad, ranks)
    if _native.is_loaded() and key in _chosen:  # nothing that the choice depends on can have changed
        return _chosen[key]
    name, passed_over = choice(op, backend, device, needs_grad, ranks)
    for other, reason in passed_over.items():
        if reason.startswith(_OFF) and other not in _missed:
            _missed.add(other)
            _log.info("backend %r is off, so a slower one computes its calls: %s", other, reason.removeprefix(_OFF))
    if _native.is_loaded() and (device.type != "cuda" or torch.cuda.is_initialized()):
        _chosen[key] = name
    return name


def choice(
    op: str, backend: str | None, device: torch.device, needs_grad: bool, ranks: bool = False
) -> tuple[str, dict[str, str]]:
    """What `choose` finds, and why it found none of the faster ones, by their names."""
    wanted = backend or os.environ.get(ENVIRONMENT)
    if wanted:
        asked = f"{op}: " if backend else f"{op}: {ENVIRONMENT}: "
        chosen = _named(wanted, asked)
        refusal = chosen.refusal(op, device.type, needs_grad, ranks)
        if refusal is None:
            reason = chosen.off(device)
            if reason is not None:
                raise RuntimeError(f"{asked}backend {wanted!r} is off: {reason}")
            return wanted, {}
        if backend:
            raise ValueError(f"{asked}backend {wanted!r} cannot do this call: {refusal}")
    passed_over: dict[str, str] = {}
    for name in _FASTEST_FIRST.get(op, ()):
        refusal = _BACKENDS[name].refusal(op, device.type, needs_grad, ranks)
        reason = None if refusal is not None else _BACKENDS[name].off(device)
        if refusal is None and reason is None:
            return name, passed_over
        passed_over[name] = refusal or f"{_OFF}{reason}"
    raise ValueError(f"{op}: no backend has this op")


# Under `torch.compile` the choice is made while tracing, and loading may not be traced. This is the mark of
# torch.compiler.assume_constant_result, which itself would import torch._dynamo: a second at start-up.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _named(name: str, asked: str) -> _Backend:
    if name not in _BACKENDS:
        raise ValueError(f"{asked}backend must be one of {', '.join(map(repr, _BACKENDS))} (got {name!r})")
    return _BACKENDS[name]


class ReportRow(NamedTuple):
    """One line of `report()`.

    Example:
        >>> from spcl_fast.backends import ReportRow
        >>> row = ReportRow("backends", "cpu", "on")
        >>> f"{row.name} is {row.value}"
        'cpu is on'
    """

    section: str
    name: str
    value: str


def report() -> list[ReportRow]:
    """What is installed, what was built, what loads, who computes which op; for `spcl-fast doctor`.

    Example:
        >>> from spcl_fast import backends
        >>> sorted({row.section for row in backends.report()})
        ['backends', 'build', 'machine', 'ops', 'versions']
    """
    from spcl_fast import _report

    return [ReportRow(*row) for row in _report.rows()]
