"""Builds what the checks of the CUDA sources run: the emulated library, and the CUDA library beside any torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "cuda-check"


def find_nvcc() -> str | None:
    """The CUDA compiler: of CUDACXX, on the path, or of the toolkit in CUDA_HOME or /usr/local/cuda."""
    folders = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    candidates = [os.environ.get("CUDACXX"), "nvcc", *(f"{folder}/bin/nvcc" for folder in folders if folder)]
    return next((found for name in candidates if name and (found := shutil.which(name))), None)


def _tool(name: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        raise SystemExit(f"cuda-check: {name} is not installed")
    return found


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"cuda-check: {name} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _build(folder: Path, target: str, options: list[str]) -> Path:
    configure = [
        *(_tool("cmake"), "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}"),
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={_package('pybind11') / 'share' / 'cmake' / 'pybind11'}",
        f"-DSPCL_TORCH_DIR={_package('torch')}",
        f"-DSPCL_TORCH_VERSION={importlib.metadata.version('torch')}",
        *("-DSPCL_VERSION=0", "-DSPCL_WERROR=ON", *options),
    ]
    for command in (configure, [_tool("cmake"), "--build", folder, "--target", target]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{done.stdout}\n{done.stderr}\ncuda-check: building {target} failed")
        (folder / f"{target}.log").write_text(done.stdout + done.stderr)
    return folder / f"lib{target}.so"


def emulated(*, sanitize: bool = False) -> Path:
    """libspcl_fast_cuda_on_cpu.so: the CUDA sources compiled for the CPU."""
    options = ["-DSPCL_CUDA_ON_CPU=ON", f"-DSPCL_SANITIZE={'ON' if sanitize else 'OFF'}"]
    return _build(BUILD / ("sanitized" if sanitize else "emulated"), "spcl_fast_cuda_on_cpu", options)


def native(architectures: str) -> Path:
    """libspcl_fast_cuda.so for the given architectures; its compiler's messages are beside it in a .log."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise SystemExit("cuda-check: no nvcc was found")
    name = architectures.replace(";", "_")
    options = ["-DSPCL_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}", f"-DCMAKE_CUDA_ARCHITECTURES={architectures}"]
    return _build(BUILD / f"native-{name}", "spcl_fast_cuda", options)


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["emulated"]
    for word in wanted:
        print(emulated() if word == "emulated" else emulated(sanitize=True) if word == "sanitized" else native(word))
