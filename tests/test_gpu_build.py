"""How `make gpu-check` loads or builds the libraries: commands, what they are built for, what is tried after what."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from spcl_fast.cli import bench as command

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = f"{command.load_benchmarks(ROOT).__package__}.gpu"


def part(name: str):
    return importlib.import_module(f"{PACKAGE}.{name}")


build, machine, record = part("build"), part("machine"), part("record")
Check = record.Check


def test_the_build_without_cmake_takes_the_sources_and_words_of_cmake(tmp_path):
    text = (ROOT / "CMakeLists.txt").read_text()
    ops = re.search(r"set\(SPCL_OPS\s+([^)]*)\)", text)[1].split()
    named = {name for name in re.findall(r"csrc/(?:cpu|torch)/\w+\.cpp", text) if "$" not in name}
    named |= {f"csrc/{folder}/{op}.cpp" for folder in ("cpu", "torch") for op in ops}
    assert {str(path.relative_to(ROOT)) for path in build.sources("cpu")} == named
    assert build.from_cmake("SPCL_TORCH_TARGET_VERSION") == ["0x020b000000000000"]
    assert build.from_cmake("NO_SUCH_VARIABLE") == []
    commands, link = build.direct_commands("cpu", Path("/torch"), {"cxx": "g++"}, {})
    assert len(commands) == len(named)
    assert {"-ffp-contract=off", "-std=c++20", "-DTORCH_TARGET_VERSION=0x020b000000000000"} <= set(commands[0])
    assert "-DUSE_CUDA" not in commands[0]
    assert link.index("-Wl,--no-as-needed") < link.index("-ltorch_cpu")
    assert link[link.index("-o") + 1].endswith("spcl_fast/libspcl_fast.so")


def test_the_cuda_library_is_built_for_the_device_by_nvcc_and_linked_statically(monkeypatch, tmp_path):
    toolkit = tmp_path / "cuda"
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho '#$ TOP={toolkit}' >&2\n")
    nvcc.chmod(0o755)
    kernel, glue = ROOT / "csrc" / "cuda" / "x.cu", ROOT / "csrc" / "torch" / "inputs.cpp"
    monkeypatch.setattr(build, "sources", lambda name: [kernel, glue])
    tools = {"cxx": "/usr/bin/g++", "nvcc": str(nvcc)}
    (device, host), link = build.direct_commands("cuda", Path("/torch"), tools, {"compute_capability": "9.0"})
    assert (device[0], host[0]) == (str(nvcc), "/usr/bin/g++")
    assert "-gencode=arch=compute_90,code=sm_90" in device
    assert device[device.index("-ccbin") + 1] == "/usr/bin/g++"
    assert device[device.index("-fPIC") - 1] == "-Xcompiler"
    for words in (device, host):
        assert {f"-D{name}" for name in build.cuda_definitions()} <= set(words)
        assert {"-DUSE_CUDA", "-DSPCL_CUDA", str(toolkit / "include"), "/torch/include"} <= set(words)
    assert {"-lcudart_static", f"-L{toolkit}/lib64", "-L/torch/lib"} <= set(link)
    assert link[link.index("-o") + 1].endswith("spcl_fast/libspcl_fast_cuda.so")


def test_a_library_that_loads_is_not_built_and_a_missing_tool_is_named(monkeypatch):
    budget = part("budget").Budget(100.0, ("tests",))
    monkeypatch.setattr(build, "why_off", lambda _: {"cpu": None, "cuda": "is not built", "triton": "no triton"})
    monkeypatch.setattr(build.machine, "find_cuda_tool", lambda name: None)
    checks, off = build.load_or_build(budget)
    assert {c.name: (c.status, c.reason) for c in checks} == {
        "build": ("not run", "nvcc is not found"),
        "backend cpu": ("passed", ""),
        "backend cuda": ("not run", "is not built"),
        "backend triton": ("not run", "no triton"),
    }
    assert off["cuda"] == "is not built"
    monkeypatch.setattr(build, "why_no_build", lambda missing: "")
    monkeypatch.setattr(build, "has_cmake", lambda: True)
    tried = []
    monkeypatch.setattr(build, "_with_cmake", lambda m, _: tried.append(m) or Check("build", "cmake", "failed", "no"))
    monkeypatch.setattr(build, "_directly", lambda m, _: tried.append(m) or Check("build", "direct", "passed"))
    checks, _ = build.load_or_build(budget)
    assert tried == [["cuda"], ["cuda"]]
    assert {c.name: c.status for c in checks}["backend cuda"] == "failed"  # its build was tried


def test_a_probe_says_of_every_backend_whether_it_is_on():
    off = build.why_off()
    assert off.keys() == {"cpu", "cuda", "triton"}
    assert off["cpu"] is None
    assert off["cuda"] is None or any(words in off["cuda"] for words in ("cuda", "CPU build", "driver"))


def built_with(path: Path):
    spec = importlib.util.spec_from_file_location("as_written", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_build_without_cmake_says_what_for(tmp_path):
    path = tmp_path / "_build.py"
    build.record_build("13.0.88", "90", path)
    found = built_with(path)
    assert (found.CUDA, found.CUDA_ARCHITECTURES) == ("13.0.88", ("90-real",))
    assert int(found.TORCH_TARGET_VERSION, 16) == (2 << 56) | (11 << 48)
    assert {"VERSION", "TORCH_VERSION", "COMPILER", "CXX_FLAGS", "BUILD_TYPE", "ISA"} <= set(vars(found))
    path.write_text('VERSION = "7"\nISA = ("avx2",)\nCUDA = False\nCUDA_ARCHITECTURES = ()\n')
    build.record_build("13.0.88", "", path)
    found = built_with(path)
    assert (found.VERSION, found.ISA, found.CUDA, found.CUDA_ARCHITECTURES) == ("7", ("avx2",), "13.0.88", ())


@pytest.mark.parametrize(("version", "can"), [("77.0.1", True), ("65.5.0", False), ("none", False)])
def test_cmake_is_not_tried_with_tools_that_pyproject_refuses(monkeypatch, version, can):
    text = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{name}>={number}' in text for name, number in build.BUILT_WITH.items())
    monkeypatch.setattr(build, "_tool", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(machine, "version_of", lambda name: version if name == "setuptools" else "3.0.1")
    assert build.has_cmake() is can


def test_the_sources_name_what_the_oldest_torch_has():
    """Of torch's macros one came after 2.11; nothing else is written in two ways."""
    files = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu")]
    late = [path.name for path in files if "STABLE_TORCH_ERROR_CODE_CHECK" in path.read_text()]
    assert late == ["check.h"]
