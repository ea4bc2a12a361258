"""Loads the compiled libraries, or builds them with what the machine has.

First what lies in `spcl_fast/` is tried. What is missing there, or does not load, is built: by `setup.py` where CMake
and pybind11 are installed, or else by calling g++ and nvcc on the sources that CMake would take. Triton needs no build.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import child, machine
from .budget import Budget
from .record import FAILED, NOT_RUN, PASSED, Check

PACKAGE = child.ROOT / "spcl_fast"
TREE = child.ROOT / "build" / "gpu_check"
CPU, CUDA = "libspcl_fast.so", "libspcl_fast_cuda.so"
NAMES = {"cpu": CPU, "cuda": CUDA}
BUILT_WITH = {"setuptools": 77, "pybind11": 3}  # what pyproject.toml asks for; with an older one CMake never starts
LONGEST_S = 240.0  # of one way to build
PROBE = """
import json
import torch
from spcl_fast import backends
if torch.cuda.is_available():
    torch.cuda.init()  # with it is known for which GPU the library must be built
found = {}
for name in ("cpu", "cuda", "triton"):
    try:
        found[name] = backends.why_not(name)
    except ValueError as error:
        found[name] = str(error)
print("PROBE" + json.dumps(found))
"""


def why_off(limit_s: float = 120.0) -> dict[str, str | None]:
    """Of every compiled backend the reason it is off, None where it is on; looked at in a process of its own."""
    done = child.run([sys.executable, "-c", PROBE], limit_s)
    found = re.search(r"PROBE(\{.*\})", done.output)
    if found is None:
        return dict.fromkeys(("cpu", "cuda", "triton"), child.crashed(done))
    return json.loads(found[1])


def load_or_build(budget: Budget, rebuild: bool = False) -> tuple[list[Check], dict[str, str | None]]:
    """A check for every build that was tried and every backend, and why those that stay off are off."""
    off = dict.fromkeys(NAMES, "to be built again") if rebuild else why_off(budget.left_s)
    checks: list[Check] = []
    how: dict[str, str] = {}
    ways = (*([_with_cmake] if has_cmake() else []), _directly)
    for way in ways:  # what the first leaves off, the second tries
        missing = [name for name in NAMES if off[name] is not None]
        if not missing:
            break
        reason = why_no_build(missing)
        if reason:
            checks.append(Check("build", "build", NOT_RUN, reason))
            break
        if rebuild and way is ways[0]:
            for name in missing:
                (PACKAGE / NAMES[name]).unlink(missing_ok=True)
        checks.append(way(missing, min(budget.left_s, LONGEST_S)))
        off = why_off(budget.left_s)
        how |= dict.fromkeys(missing, checks[-1].name)
    for name, reason_off in off.items():
        details = how.get(name, "loaded as it was found")
        if name in NAMES and name not in how and reason_off is None and _is_stale(PACKAGE / NAMES[name]):
            details += "; some source is newer than it: delete it, or build again with --rebuild"
        # A backend that did not come although its build was tried is a fault; one that could not be tried is not.
        status = PASSED if reason_off is None else FAILED if name in how else NOT_RUN
        checks.append(Check("build", f"backend {name}", status, reason_off or "", details=details))
    return checks, off


def _is_stale(library: Path) -> bool:
    sources = (child.ROOT / "csrc").rglob("*")
    return any(path.stat().st_mtime > library.stat().st_mtime for path in sources if path.is_file())


def _with_cmake(missing: Sequence[str], limit_s: float) -> Check:
    number = str(machine.describe().get("compute_capability", "")).replace(".", "")
    only = {"SPCL_FAST_CUDA_ARCHITECTURES": f"{number}-real"} if number else {}  # what is here, and no others
    done = child.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], limit_s, {**only, **os.environ})
    return _outcome("built with CMake", done)


def _directly(missing: Sequence[str], limit_s: float) -> Check:
    start = time.monotonic()
    tools = {"cxx": _compiler() or "", "nvcc": machine.find_cuda_tool("nvcc") or ""}
    TREE.mkdir(parents=True, exist_ok=True)
    device = machine.describe()
    wanted = [direct_commands(name, torch_folder(), tools, device) for name in missing]
    compile_all = [command for commands, _ in wanted for command in commands]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        ended = list(pool.map(lambda command: child.run(command, limit_s), compile_all))
    for _, link in wanted if all(done.code == 0 for done in ended) else ():
        ended.append(child.run(link, limit_s))
    failed = next((done for done in ended if done.code != 0), None)
    if failed is not None:
        return _outcome("built without CMake", failed)
    if "cuda" in missing:
        record_build(str(device.get("nvcc", "unknown")), str(device.get("compute_capability", "")).replace(".", ""))
    return Check("build", "built without CMake", PASSED, seconds=time.monotonic() - start)


def record_build(nvcc: str, number: str, path: Path = PACKAGE / "_build.py") -> None:
    """Says in `_build.py` what the CUDA library is built for; what CMake has written of the others is kept."""
    target = from_cmake("SPCL_TORCH_TARGET_VERSION")[0]
    text = path.read_text() if path.exists() else ""
    if not text:
        flags = " ".join(["-O3 -DNDEBUG", *from_cmake("SPCL_CXX_FLAGS")])
        known = {"VERSION": machine.own_version(), "TORCH_VERSION": machine.version_of("torch")}
        known |= {"TORCH_TARGET_VERSION": target, "COMPILER": "unknown", "CXX_FLAGS": flags, "BUILD_TYPE": "Release"}
        lines = [f'{name} = "{value}"' for name, value in known.items()]
        text = "\n".join(['"""What the compiled libraries were built with; written by the build."""', "", *lines])
        text += '\nISA = ("unknown",)\n'
    kept = [line for line in text.splitlines() if not line.startswith("CUDA")]
    words = f'("{number}-real",)' if number else "()"
    path.write_text("\n".join([*kept, f'CUDA = "{nvcc}"', f"CUDA_ARCHITECTURES = {words}", ""]))


def _outcome(name: str, done: child.Done) -> Check:
    if done.code == 0:
        return Check("build", name, PASSED, seconds=done.seconds)
    status, reason = (NOT_RUN, "out of time") if done.code is None else (FAILED, child.crashed(done))
    return Check("build", name, status, reason, done.seconds, done.output[-child.KEPT :])


def why_no_build(missing: Sequence[str]) -> str:
    """The tool that the build lacks, or nothing."""
    if _compiler() is None:
        return "no C++ compiler is found"
    if "cuda" in missing and machine.find_cuda_tool("nvcc") is None:
        return "nvcc is not found"
    return ""


def has_cmake() -> bool:
    """Whether the usual build can run: it makes the NumPy module too, which needs pybind11."""
    if _tool("cmake") is None or not all(map(importlib.util.find_spec, ("pybind11", "setuptools"))):
        return False
    return all(machine.at_least(package, version) for package, version in BUILT_WITH.items())


def _tool(name: str) -> str | None:
    folders = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=folders)


def _compiler() -> str | None:
    return next(filter(None, map(_tool, [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++"])), None)


def torch_folder() -> Path:
    """Where torch is installed."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def toolkit_of(nvcc: str) -> Path:
    """The folder of the CUDA toolkit, which the compiler itself knows: the program may be a script elsewhere."""
    printed = child.run([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull], 20).output
    found = re.search(r"TOP=(.+)", printed)
    return Path(found[1].strip() if found else Path(nvcc).resolve().parents[1]).resolve()


def sources(name: str) -> list[Path]:
    """What CMake compiles into the library of a backend."""
    csrc = child.ROOT / "csrc"
    if name == "cpu":
        return sorted([*csrc.glob("cpu/*.cpp"), *csrc.glob("torch/*.cpp")])
    checks = from_cmake("check_sources") or ["csrc/torch/inputs.cpp"]  # what the checks of a call need on any device
    return sorted([*csrc.glob("cuda/*.cu"), *csrc.glob("torch/cuda/*.cpp"), *(child.ROOT / name for name in checks)])


def from_cmake(variable: str) -> list[str]:
    """The words that CMakeLists.txt sets a variable to: they stand there alone."""
    text = (child.ROOT / "CMakeLists.txt").read_text()
    found = re.search(rf"^\s*set\({variable}\s+([^)]*)\)", text, re.MULTILINE)
    return found[1].split() if found else []


def cuda_definitions() -> list[str]:
    """Those of the CUDA library in CMakeLists.txt."""
    text = (child.ROOT / "CMakeLists.txt").read_text()
    found = re.search(r"target_compile_definitions\(spcl_fast_cuda PRIVATE ([^)]*)\)", text)
    return found[1].split() if found else ["SPCL_CUDA", "USE_CUDA"]


def direct_commands(
    name: str, torch: Path, tools: Mapping[str, str], device: Mapping[str, object]
) -> tuple[list[list[str]], list[str]]:
    """The commands that compile the sources, and the one that links them.

    Args:
        name: "cpu" or "cuda".
        torch: its folder.
        tools: the programs "cxx" and "nvcc".
        device: `compute_capability` of the device to build for; without it the compiler's choice.
    """
    target = from_cmake("SPCL_TORCH_TARGET_VERSION")[0]
    common = ["-std=c++20", "-O3", "-DNDEBUG", f"-DTORCH_TARGET_VERSION={target}", f"-I{child.ROOT / 'csrc'}"]
    host = ["-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-Wno-psabi", *from_cmake("SPCL_CXX_FLAGS")]
    common += ["-isystem", str(torch / "include")]
    libraries = [f"-L{torch / 'lib'}", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10", "-Wl,--as-needed"]
    if name == "cuda":
        toolkit = toolkit_of(tools["nvcc"])
        common += [*(f"-D{word}" for word in cuda_definitions()), "-isystem", str(toolkit / "include")]
        libraries += [
            *(f"-L{toolkit / lib}" for lib in ("lib64", "lib")),
            "-lcudart_static",
            "-ldl",
            "-lrt",
            "-lpthread",
        ]
    compile_all, objects = [], []
    for source in sources(name):
        target_file = TREE / f"{name}_{'_'.join(source.relative_to(child.ROOT).parts)}.o"
        objects.append(str(target_file))
        of = [*common, "-c", str(source), "-o", str(target_file)]
        if source.suffix == ".cu":
            number = str(device.get("compute_capability", "")).replace(".", "")
            arch = [f"-gencode=arch=compute_{number},code=sm_{number}"] if number else []
            passed_on = [flag for word in host for flag in ("-Xcompiler", word)]
            compile_all.append([tools["nvcc"], *of, "-ccbin", tools["cxx"], *arch, *passed_on])
        else:
            compile_all.append([tools["cxx"], *of, *host])
    link = [tools["cxx"], "-shared", "-o", str(PACKAGE / NAMES[name]), *objects, *libraries, "-Wl,--exclude-libs,ALL"]
    return compile_all, link
