"""`make cuda-check`: what can be known of the CUDA and Triton kernels without a GPU.

PART=ci        compile for one architecture, resources, disassembly, the emulated tests in one order
PART=all       the default: every part below, for every architecture, in every order
PART=compile   compile the CUDA sources; no spill, no stack, no local memory, 16 bytes a load where memory is the limit
PART=emulate   the tests of the ops on the CUDA sources emulated on the CPU, in three orders of the threads
PART=sanitize  the same once under AddressSanitizer and UndefinedBehaviorSanitizer
PART=barriers  every barrier left out in turn: a test has to fail
PART=triton    the Triton kernels in the interpreter, and compiled ahead of time
PART=load      the CUDA library registered by a CUDA build of torch, which CUDA_TORCH_PYTHON names (a Python with one)

A part that something is missing for is "not run", and says what.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import barriers
import kernels
import libraries

ROOT = libraries.ROOT
ARCHITECTURES = "80-real;90-real"
NEWER = "100-real;120-real"  # where nvcc knows them
TESTS = ("tests/ops", "tests/native", "tests/cuda")
ON_ALL_CORES = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")


class NotRunError(Exception):
    """Something that a part needs is missing."""


def say(text: str) -> None:
    """Prints at once, also into a pipe."""
    print(text, flush=True)


def run_pytest(files: list[str], environment: dict[str, str], *options: str, quiet: bool = False) -> bool:
    """Whether the tests pass; a crash and a test that never ends do not."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *files]
    output = subprocess.DEVNULL if quiet else None
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            check=False,
            timeout=600 if quiet else None,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def compiled(architectures: str = ARCHITECTURES) -> list[str]:
    """Compiles, and looks at what came out."""
    nvcc = libraries.find_nvcc()
    if nvcc is None:
        raise NotRunError("no nvcc was found")
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    if architectures == ARCHITECTURES and "compute_120" in known:
        architectures = f"{architectures};{NEWER}"
    library = libraries.native(architectures)
    try:
        found = kernels.read(library)
    except FileNotFoundError as missing:
        say(f"compiled for {architectures}; resources and disassembly: not run: {missing} is missing")
        return []
    say(kernels.table(found))
    if not found:
        return ["no kernel was compiled"]
    return [f"{kernels.readable([k.name])[0]} ({k.architecture}): {k.fault}" for k in found if k.fault]


def emulated(orders: tuple[str, ...] = ("forward", "reverse", "1"), tests: tuple[str, ...] = TESTS) -> list[str]:
    """The tests of the ops on the CUDA sources, emulated."""
    options = (f"--library={libraries.emulated()}", "--backends=cpu", *ON_ALL_CORES)
    return [
        f"tests fail when threads take their turns in the order {order!r}"
        for order in orders
        if not run_pytest([*tests], {"SPCL_CUDA_ON_CPU_ORDER": order}, *options)
    ]


def sanitized() -> list[str]:
    """The same under the sanitizers."""
    compiler = os.environ.get("CXX", "g++")
    preload = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    environment = {
        "LD_PRELOAD": " ".join(preload),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    library = f"--library={libraries.emulated(sanitize=True)}"
    passed = run_pytest(
        [*TESTS], environment, library, "--backends=cpu", "--capture=sys", "-k", "not compile", *ON_ALL_CORES
    )
    return [] if passed else ["tests fail under the sanitizers"]


def barriers_left_out() -> list[str]:
    """Every barrier is needed, and a test knows."""
    library = f"--library={libraries.emulated()}"
    sources, tests = ROOT / "csrc" / "cuda", ROOT / "tests" / "cuda"
    places = list(barriers.find(sources))
    say(f"{len(places)} barriers")

    def passes(files: list[Path], environment: dict[str, str]) -> bool:
        return run_pytest([str(file) for file in files], environment, library, "-x", quiet=True)

    if not passes(sorted(tests.glob("test_*.py")), {}):
        return ["the tests fail with every barrier in place"]
    faults = []
    for barrier in places:
        if barrier.is_unseen:
            say(f"  {barrier.place}: not run: it orders what the emulation orders without it")
            continue
        missed = barriers.is_missed(barrier, tests, passes)
        say(f"  {barrier.place}: {'a test fails without it' if missed else 'NO TEST FAILS WITHOUT IT'}")
        if not missed:
            faults.append(f"no test fails without the barrier at {barrier.place}")
    return faults


def triton() -> list[str]:
    """The Triton kernels in the interpreter, and compiled ahead of time."""
    try:
        import triton as _  # noqa: F401
    except ImportError:
        raise NotRunError("triton is not installed") from None
    faults = [] if run_pytest(["tests/kernels"], {}) else ["tests of the Triton kernels fail"]
    command = [sys.executable, "-m", "spcl_fast.kernels.ahead_of_time"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        faults.append("a Triton kernel does not compile ahead of time")
    return faults


def loaded() -> list[str]:
    """A CUDA build of torch loads the library and knows its kernels."""
    python = os.environ.get("CUDA_TORCH_PYTHON")
    if not python:
        raise NotRunError("CUDA_TORCH_PYTHON does not name a Python that has a CUDA build of torch")
    if libraries.find_nvcc() is None:
        raise NotRunError("no nvcc was found")
    script = Path(__file__).parent / "load.py"
    own = ROOT / "spcl_fast" / "libspcl_fast.so"
    done = subprocess.run([python, script, own, libraries.native("90-real")], check=False)
    return [] if done.returncode == 0 else ["the CUDA library does not load"]


def in_short() -> list[str]:
    """What every change is held to: one architecture, one order."""
    faults = emulated(("reverse",), ("tests/ops", "tests/cuda"))
    try:
        return faults + compiled("90-real")
    except NotRunError as reason:
        say(f"cuda-check: compile: not run: {reason}")
        return faults


PARTS: dict[str, Callable[[], list[str]]] = {
    "compile": compiled,
    "emulate": emulated,
    "sanitize": sanitized,
    "barriers": barriers_left_out,
    "triton": triton,
    "load": loaded,
}


def main() -> int:
    """The exit code: 1 if a part failed, 2 for a part that nobody knows."""
    wanted = os.environ.get("PART") or "all"
    parts = {"ci": in_short} if wanted == "ci" else PARTS if wanted == "all" else {wanted: PARTS.get(wanted)}
    summary, failed = [], False
    for name, part in parts.items():
        if part is None:
            say(f"cuda-check: PART must be ci, all or one of {', '.join(PARTS)} (got {name!r})")
            return 2
        say(f"== {name} ==")
        start = time.monotonic()
        try:
            faults = part()
            outcome = "passed" if not faults else "FAILED: " + "; ".join(faults)
            failed |= bool(faults)
        except NotRunError as reason:
            outcome = f"not run: {reason}"
        summary.append(f"{name:9} {time.monotonic() - start:6.0f} s  {outcome}")
    say("\n".join(["", "cuda-check", *summary]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
