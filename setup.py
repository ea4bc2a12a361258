"""Drives CMake; name, version and metadata stay in pyproject.toml.

    pip install --no-build-isolation -e .      builds in place, under build/, and again only what changed
    pip wheel --no-build-isolation --no-deps . the same in a wheel

Environment variables:

    CXX                         the C++ compiler (default: CMake's choice, c++ or g++)
    CXXFLAGS                    more flags for it
    CMAKE_BUILD_PARALLEL_LEVEL  how many compilations run at a time (default: as many as cores)
    CMAKE_GENERATOR             the build tool (default: Ninja where it is installed, else Make)
    SPCL_FAST_BUILD_TYPE        Release (default), RelWithDebInfo or Debug
    SPCL_FAST_WERROR            1: warnings are errors
    SPCL_FAST_SANITIZE          1: built with ASan and UBSan (`make test-sanitize`)
    SPCL_FORCE_CUDA             1: the CUDA library too, beside any torch; 0: never (default: where torch is a CUDA
                                build and nvcc is found)
    CUDACXX                     the CUDA compiler (default: nvcc on the path, in CUDA_HOME or in /usr/local/cuda)
    SPCL_FAST_CUDA_ARCHITECTURES  what for, in CMake's words (default: 80-real;90-real;100-real;120 where nvcc can)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NoReturn

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
BUILD_TYPES = ("Release", "RelWithDebInfo", "Debug")


def fail(message: str) -> NoReturn:
    """Ends the build with one line instead of a traceback."""
    raise SystemExit(f"spcl_fast: {message}")


def find_tool(name: str) -> str | None:
    """A tool of this Python environment, whether or not the environment is activated, or one on the path."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=path)


def find_package(name: str) -> Path:
    """The folder of an installed package, which is not imported: importing torch takes seconds."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        fail(f"{name} is not installed; install it first, then build with --no-build-isolation")
    return Path(next(iter(spec.submodule_search_locations)))


def find_nvcc() -> str | None:
    """The CUDA compiler."""
    folders = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    candidates = [os.environ.get("CUDACXX"), "nvcc", *(f"{folder}/bin/nvcc" for folder in folders if folder)]
    return next((found for name in candidates if name and (found := find_tool(name))), None)


def torch_is_for_cuda() -> bool:
    """Whether the installed torch is a build for CUDA, as its version.py says."""
    return (
        re.search(r"^cuda\b.*=\s*['\"]", (find_package("torch") / "version.py").read_text(), re.MULTILINE) is not None
    )


def cuda_compiler() -> str | None:
    """The compiler to build the CUDA library with; None: it is not wanted, or cannot be built."""
    forced = os.environ.get("SPCL_FORCE_CUDA")
    if forced == "0" or (forced != "1" and not torch_is_for_cuda()):
        return None
    nvcc = find_nvcc()
    if nvcc is None and forced == "1":
        fail("SPCL_FORCE_CUDA=1, and no nvcc was found; set CUDACXX or CUDA_HOME")
    if nvcc is None:
        print("spcl_fast: torch is a CUDA build, and no nvcc was found: the CUDA library is not built", file=sys.stderr)
    return nvcc


class CMakeBuild(build_ext):
    """One CMake build makes the torch library, the NumPy module and _build.py."""

    def artefacts(self) -> list[str]:
        names = ["libspcl_fast.so", f"_arrays{sysconfig.get_config_var('EXT_SUFFIX')}", "_build.py"]
        return [*names, "libspcl_fast_cuda.so"] if cuda_compiler() else names

    def run(self) -> None:
        cmake = find_tool("cmake") or fail("cmake is not installed (pip install cmake)")
        compiler = os.environ.get("CXX")
        compilers = [compiler] if compiler else ["c++", "g++", "clang++"]
        if not any(map(find_tool, compilers)):
            fail(f"no C++ compiler found ({', '.join(compilers)}); install g++ 11 or newer, or set CXX")
        build_type = os.environ.get("SPCL_FAST_BUILD_TYPE", "Release")
        if build_type not in BUILD_TYPES:
            fail(f"SPCL_FAST_BUILD_TYPE must be one of {', '.join(BUILD_TYPES)} (got {build_type!r})")

        sanitize = os.environ.get("SPCL_FAST_SANITIZE") == "1"
        nvcc = cuda_compiler()
        kind = f"{build_type.lower()}{'-sanitize' if sanitize else ''}{'-cuda' if nvcc else ''}"
        tree = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}-{kind}"
        configure = [
            cmake,
            *("-S", ROOT, "-B", tree),
            f"-DCMAKE_BUILD_TYPE={build_type}",
            f"-DCMAKE_CXX_FLAGS={os.environ.get('CXXFLAGS', '')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={find_package('pybind11') / 'share' / 'cmake' / 'pybind11'}",
            f"-DSPCL_TORCH_DIR={find_package('torch')}",
            f"-DSPCL_TORCH_VERSION={importlib.metadata.version('torch')}",
            f"-DSPCL_VERSION={self.distribution.get_version()}",
            f"-DSPCL_WERROR={'ON' if os.environ.get('SPCL_FAST_WERROR') == '1' else 'OFF'}",
            f"-DSPCL_SANITIZE={'ON' if sanitize else 'OFF'}",
        ]
        if nvcc:
            configure += ["-DSPCL_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
            configure += [f"-DCMAKE_CUDA_ARCHITECTURES={os.environ.get('SPCL_FAST_CUDA_ARCHITECTURES', '')}"]
        if compiler:
            configure.append(f"-DCMAKE_CXX_COMPILER={compiler}")
        ninja = find_tool("ninja")
        if ninja and "CMAKE_GENERATOR" not in os.environ:
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        build = [cmake, "--build", tree]
        if "CMAKE_BUILD_PARALLEL_LEVEL" not in os.environ:
            build += ["--parallel", str(os.cpu_count() or 1)]
        destination = ROOT / "spcl_fast" if self.inplace else Path(self.build_lib).resolve() / "spcl_fast"
        if not nvcc:  # one of an earlier build has other ops than the libraries beside it
            (destination / "libspcl_fast_cuda.so").unlink(missing_ok=True)
        for command in (configure, build, [cmake, "--install", tree, "--prefix", destination]):
            if subprocess.run([str(part) for part in command], check=False).returncode:
                fail(f"{' '.join(map(str, command[:2]))} failed; its messages are above")

    def get_outputs(self) -> list[str]:
        folder = Path(self.build_lib) / "spcl_fast"
        return [] if self.inplace else [str(folder / name) for name in self.artefacts()]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


setup(
    # The one extension that setuptools sees: it makes the wheel a platform wheel.
    ext_modules=[Extension("spcl_fast._arrays", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
