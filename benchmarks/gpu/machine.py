"""Which machine, and which versions; and why there is nothing to do where there is no device."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from .child import ROOT

CUDA_FOLDERS = ("/usr/local/cuda", "/opt/cuda")


def why_no_device() -> str | None:
    """None where torch sees a CUDA device."""
    if torch.version.cuda is None:
        return f"no CUDA device: torch {torch.__version__} is not a build for CUDA"
    if not torch.cuda.is_available():
        return "no CUDA device: torch sees none"
    return None


def describe() -> dict[str, Any]:
    """Device, versions and commit; "unknown" or "none" where something does not say."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda or "none",
        "triton": version_of("triton"),
        "nvcc": nvcc_version(),
        "commit": commit(),
        "device": "none",
    }
    if why_no_device() is None:
        of = torch.cuda.get_device_properties(0)
        found |= {
            "device": of.name,
            "compute_capability": f"{of.major}.{of.minor}",
            "multiprocessors": of.multi_processor_count,
            "memory_bytes": of.total_memory,
            "l2_bytes": getattr(of, "L2_cache_size", None),
            "driver": _first_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
        }
    return found


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def at_least(package: str, major: int) -> bool:
    """Whether an installed package has that major version or a newer one."""
    found = re.match(r"\d+", version_of(package))
    return found is not None and int(found[0]) >= major


def own_version() -> str:
    """Of this checkout."""
    found = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def find_cuda_tool(name: str) -> str | None:
    """A program of the CUDA toolkit: on the path, or where the toolkit usually lies."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), *CUDA_FOLDERS]
    folders = [str(Path(home) / "bin") for home in homes if home]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))


def nvcc_version() -> str:
    """The release of the compiler."""
    nvcc = find_cuda_tool("nvcc")
    if nvcc is None:
        return "none"
    printed = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release [\d.]+, V([\d.]+)", printed)
    return found[1] if found else "unknown"


def commit() -> str:
    """Of the checkout, with "+" where files but the results differ from it; "unknown" without git."""
    git = ["git", "-C", str(ROOT)]
    name = _first_line([*git, "rev-parse", "HEAD"])
    if name == "unknown":
        return name
    but = (".", ":!benchmarks/results", ":!README.md")
    changed = _first_line([*git, "status", "--porcelain", "--untracked-files=no", "--", *but], empty="")
    return name + ("+" if changed else "")


def _first_line(command: list[str], empty: str = "unknown") -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = done.stdout.splitlines()
    return "unknown" if done.returncode else (lines or [empty])[0].strip()
