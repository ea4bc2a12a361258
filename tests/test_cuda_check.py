"""The check of the CUDA sources: what it reads from the tools, and what the emulation promises."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "cuda_check"


def module(name: str) -> ModuleType:
    """One of the tool's own modules, which import each other by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOL))
        spec = importlib.util.spec_from_file_location(f"cuda_check_{name}", TOOL / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, loaded)
        spec.loader.exec_module(loaded)
        sys.modules.pop("libraries", None)
    return loaded


USAGE = """
Fatbin elf code:
================
arch = sm_90

Resource usage:
 Common:
  GLOBAL:0
 Function _Z5cleanv:
  REG:43 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:608 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _Z7spilledv:
  REG:255 STACK:8 SHARED:0 LOCAL:0 CONSTANT[0]:608 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
DISASSEMBLY = """
	.section	.text._Z5cleanv,"ax",@progbits
.text._Z5cleanv:
        /*0010*/                   LDG.E.EF.128 R12, desc[UR4][R2.64] ;
        /*0020*/              @!P0 LDG.E R4, desc[UR4][R2.64] ;
        /*0030*/                   STG.E.64 desc[UR4][R2.64], R4 ;
        /*0040*/                   LDGSTS.E.BYPASS.128 [R5], desc[UR4][R2.64] ;
	.section	.text._Z7spilledv,"ax",@progbits
.text._Z7spilledv:
        /*0010*/                   STL [R1], R12 ;
        /*0020*/                   LDL R12, [R1] ;
"""


def test_the_resources_of_every_kernel_are_read():
    clean, spilled = module("kernels").parse_usage(USAGE)
    assert (clean.name, clean.architecture, clean.registers, clean.shared, clean.stack) == (
        *("_Z5cleanv", "sm_90"),
        *(43, 1024, 0),
    )
    assert clean.fault is None
    assert "8 bytes" in spilled.fault


def test_what_kernels_do_to_memory_is_read():
    counts = module("kernels").parse_instructions(DISASSEMBLY)
    assert counts["_Z5cleanv"] == {"LDG.128": 1, "LDG": 1, "STG.64": 1, "LDGSTS.128": 1}
    assert counts["_Z7spilledv"] == {"STL": 1, "LDL": 1}


def test_local_memory_and_narrow_loads_are_faults():
    kernels = module("kernels")
    clean = kernels.parse_usage(USAGE)[0]
    local = clean._replace(instructions=kernels.parse_instructions(DISASSEMBLY)["_Z7spilledv"])
    assert local.fault == "2 instructions touch local memory"
    bound = clean._replace(name="_Zself_paced_weights_fwd_kernel")
    assert bound.fault == "memory limits it, and it has no load of 16 bytes"
    assert bound._replace(instructions=kernels.parse_instructions(DISASSEMBLY)["_Z5cleanv"]).fault is None


def test_names_of_kernels_are_shortened():
    full = "void spcl::on_device::(anonymous namespace)::scores_kernel<spcl::Float16, 7, (spcl::Scheme)2>(char const*)"
    assert module("kernels").shortened(full) == "scores_kernel<Float16, 7, (Scheme)2>"


def test_every_barrier_is_found(tmp_path):
    (tmp_path / "op.cu").write_text(
        "  __syncthreads();\n// __syncthreads();\n  __syncwarp();\n  if (__syncthreads_or(x)) {}\n"
        "  __syncthreads();  // between blocks: all before the ticket\n"
    )
    found = list(module("barriers").find(tmp_path))
    assert [(barrier.place, barrier.is_unseen) for barrier in found] == [
        *(("op.cu:1", False), ("op.cu:3", False), ("op.cu:4", False)),
        ("op.cu:5", True),
    ]


@pytest.mark.parametrize(("fails_in", "missed"), [("2", True), (None, False)])
def test_a_barrier_is_missed_when_one_order_fails(tmp_path, fails_in, missed):
    barriers = module("barriers")
    (tmp_path / "op.cu").write_text("__syncthreads();\n")
    (tmp_path / "test_op_cuda.py").touch()
    (tmp_path / "test_other_cuda.py").touch()
    seen = []

    def passes(files, environment):
        seen.append((files, environment["SPCL_CUDA_ON_CPU_SKIP"]))
        return environment["SPCL_CUDA_ON_CPU_ORDER"] != fails_in

    assert barriers.is_missed(next(barriers.find(tmp_path)), tmp_path, passes) is missed
    assert all(entry == ([tmp_path / "test_op_cuda.py"], "op.cu:1") for entry in seen)


def test_an_unknown_part_is_refused():
    done = subprocess.run(
        [sys.executable, TOOL], env={**os.environ, "PART": "everything"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "PART must be ci, all or one of compile, emulate" in done.stdout


@pytest.fixture(scope="module")
def emulation(tmp_path_factory):
    """The C++ test of the emulation, compiled."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C++ compiler: {compiler}")
    program = tmp_path_factory.mktemp("emulation") / "cuda_on_cpu_test"
    flags = ["-std=c++20", "-O1", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    source = ROOT / "csrc" / "tests" / "cuda_on_cpu_test.cpp"
    command = [compiler, *flags, "-DSPCL_CUDA_ON_CPU", "-I", ROOT / "csrc", source, "-o", program]
    subprocess.run(command, check=True)
    return program


@pytest.mark.parametrize("order", ["forward", "reverse", "1"])
def test_the_emulation_keeps_what_it_promises(emulation, order):
    done = subprocess.run(
        [emulation], env={"SPCL_CUDA_ON_CPU_ORDER": order}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_emulation_shows_every_barrier_that_is_missing(emulation):
    header = ROOT / "csrc" / "cuda"
    places = [b for b in module("barriers").find(header) if b.path.name == "reduce.h" and not b.is_unseen]
    assert len(places) == 3
    for barrier in places:
        outcomes = [
            subprocess.run(
                [emulation],
                env={"SPCL_CUDA_ON_CPU_ORDER": order, "SPCL_CUDA_ON_CPU_SKIP": barrier.place},
                stdout=subprocess.DEVNULL,
                check=False,
            ).returncode
            for order in ("forward", "reverse")
        ]
        assert any(outcomes), f"nothing fails without the barrier at {barrier.place}"
