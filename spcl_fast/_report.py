"""What is installed, what was built, what loads, who computes which op: the rows of `backends.report`."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

import torch

from spcl_fast import _native, backends

Row = tuple[str, str, str]


def rows() -> list[Row]:
    """Section, name and value of every line."""
    found = [("versions", *row) for row in _versions()]
    found += [("build", *row) for row in _build()]
    found += [("machine", *row) for row in _machine()]
    found += [("machine", *row) for row in _gpus()]
    for name in backends.available():
        reason = backends.why_not(name)
        found.append(("backends", name, "on" if reason is None else f"off: {reason}"))
    reason = _why_not_arrays()
    found.append(("backends", "arrays (NumPy)", "on" if reason is None else f"off: {reason}"))
    found += [("ops", f"{op} on {device}", _who_computes(op, device)) for op in backends.OPS for device in _DEVICES]
    return found


_DEVICES = ("cpu", "cuda")


def _versions() -> list[tuple[str, str]]:
    import numpy

    import spcl_fast

    if torch.version.hip is not None:
        toolkit = f"ROCm {torch.version.hip}"
    else:
        toolkit = "CPU only" if torch.version.cuda is None else f"CUDA {torch.version.cuda}"
    return [
        ("spcl_fast", spcl_fast.__version__),
        ("python", platform.python_version()),
        ("torch", torch.__version__),
        ("torch is built for", toolkit),
        ("numpy", numpy.__version__),
    ]


def _build() -> list[tuple[str, str]]:
    try:
        from spcl_fast import _build as build
    except ImportError:
        return [("libraries", "not built")]
    target = int(build.TORCH_TARGET_VERSION, 16)
    oldest = f"{target >> 56}.{target >> 48 & 0xFF}"
    cuda, architectures = getattr(build, "CUDA", False), getattr(build, "CUDA_ARCHITECTURES", ())
    return [
        ("version", build.VERSION),
        ("torch", f"{build.TORCH_VERSION}, runs on {oldest} and newer"),
        ("compiler", build.COMPILER),
        ("C++ flags", build.CXX_FLAGS),
        ("instruction sets", ", ".join(build.ISA)),
        ("cuda", f"nvcc {cuda}" if isinstance(cuda, str) else "yes" if cuda else "no"),
        ("cuda architectures", ", ".join(architectures) or "none"),
    ]


def _machine() -> list[tuple[str, str]]:
    loaded = _native.why_not_loaded() is None
    return [
        ("platform", f"{sys.platform} {platform.machine()}"),
        ("instruction set", _native.instruction_set() if loaded else "the library is off"),
        ("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores"),
        (backends.ENVIRONMENT, os.environ.get(backends.ENVIRONMENT) or "not set"),
    ]


def _gpus() -> list[tuple[str, str]]:
    if not torch.cuda.is_available():
        return [("gpu", "none that torch can use")]
    found = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        capability = f"capability {gpu.major}.{gpu.minor}, " if torch.version.hip is None else ""
        memory = f"{gpu.total_memory / 2**30:.0f} GiB"
        found.append((f"cuda:{index}", f"{gpu.name}, {capability}{memory}"))
    version = _driver_version() if torch.version.hip is None else 0
    if version:
        found.append(("gpu driver", f"runs CUDA up to {version // 1000}.{version % 1000 // 10}"))
    return found


def _driver_version() -> int:
    """Of CUDA, as 1000 times its version, which torch does not tell; 0 where the driver does not either."""
    version = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return version.value


def _why_not_arrays() -> str | None:
    try:
        from spcl_fast import _arrays  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


def _who_computes(op: str, device: str) -> str:
    """The backend that a call without `backend=` takes, and why not one of those before it."""
    differentiable = op in backends.DIFFERENTIABLE
    try:
        name, passed_over = backends.choice(op, None, torch.device(device), differentiable)
    except (RuntimeError, ValueError) as error:  # SPCL_FAST_BACKEND names one that is off, or none
        return f"none: {error}"
    text = f"{name}, with gradient" if differentiable else name
    reasons = [
        # The reason a backend is off stands among the backends, and that one is for another device needs no saying.
        f"{other} is off" if reason.startswith("off: ") else f"{other}: {reason}"
        for other, reason in passed_over.items()
        if not reason.startswith("it runs on")
    ]
    if op in ("self_paced_step", "self_paced_weights"):
        ranked = backends.choice(op, None, torch.device(device), differentiable, ranks=True)[0]
        reasons += [] if ranked == name else [f"scheme 'spld': {ranked}"]
    return f"{text} ({'; '.join(reasons)})" if reasons else text
