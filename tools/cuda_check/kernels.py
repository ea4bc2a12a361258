"""What the compiled kernels take and do: registers, shared memory, spills; and how they touch memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from libraries import find_nvcc

#: kernels that memory limits, by a pattern of their names: each has to load 16 bytes at a time
BANDWIDTH_BOUND = (
    *(r"modality_scores_[fb]wd_kernel", r"coherence_embeddings_[fb]wd_kernel", r"order_statistic_pass_kernel"),
    *(r"difficulty_histogram_fwd_kernel", r"multiview_hardness_fwd_kernel"),
    *(r"self_paced_weights_fwd_kernel", r"self_paced_step_fwd_kernel\w*FixedRows", r"self_paced_step_bwd_kernel"),
)
_ARCHITECTURE = re.compile(r"^arch = (sm_\w+)")
_FUNCTION = re.compile(r"^\s*Function (\w+):")
_USED = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
_SECTION = re.compile(r"^\s*\.section\s+\.text\.(\w+)|^\.text\.(\w+):")
_INSTRUCTION = re.compile(r"\b(LDGSTS|LDG|STG|LDL|STL|LDS|STS)((?:\.\w+)*)")


class Kernel(NamedTuple):
    """One kernel for one architecture.

    Registers a thread; bytes of static shared memory, of stack (where spilled registers go) and of local memory; how
    often its instructions touch memory, by kind and width.
    """

    name: str
    architecture: str
    registers: int
    shared: int
    stack: int
    local: int
    instructions: Counter[str]

    @property
    def wide_loads(self) -> int:
        """Loads of 16 bytes from memory, into registers or past them into shared memory."""
        return self.instructions["LDG.128"] + self.instructions["LDGSTS.128"]

    @property
    def fault(self) -> str | None:
        """Why this kernel is not accepted; None when it is."""
        if self.stack or self.local:
            return f"spills, or arrays in local memory: {self.stack + self.local} bytes"
        if touching := self.instructions["LDL"] + self.instructions["STL"]:
            return f"{touching} instructions touch local memory"
        is_bound = any(re.search(pattern, self.name) for pattern in BANDWIDTH_BOUND)
        if is_bound and not self.wide_loads:
            return "memory limits it, and it has no load of 16 bytes"
        return None


def find_tool(name: str) -> str | None:
    """A tool of the CUDA toolkit, or the copy that comes with Triton."""
    nvcc = find_nvcc()
    folders = [str(Path(nvcc).resolve().parent)] if nvcc else []
    try:
        import triton

        folders.append(str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin"))
    except ImportError:
        pass
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]))


def parse_usage(text: str) -> list[Kernel]:
    """The kernels of a `cuobjdump -res-usage`."""
    kernels: list[Kernel] = []
    architecture = name = ""
    for line in text.splitlines():
        if found := _ARCHITECTURE.match(line):
            architecture = found[1]
        elif found := _FUNCTION.match(line):
            name = found[1]
        elif name and (found := _USED.search(line)):
            registers, stack, shared, local = map(int, found.groups())
            kernels.append(Kernel(name, architecture, registers, shared, stack, local, Counter()))
            name = ""
    return kernels


def parse_instructions(text: str) -> dict[str, Counter[str]]:
    """What the kernels of an `nvdisasm -c` do to memory, by their names."""
    counts: dict[str, Counter[str]] = {}
    current: Counter[str] | None = None
    for line in text.splitlines():
        if function := _SECTION.match(line):
            current = counts.setdefault(function[1] or function[2], Counter())
        elif current is not None and (found := _INSTRUCTION.search(line)):
            widths = [part for part in found[2].split(".") if part in ("64", "128")]
            current[".".join([found[1], *widths])] += 1
    return counts


def read(library: Path) -> list[Kernel]:
    """Every kernel of a library, for each architecture in it.

    Raises:
        FileNotFoundError: cuobjdump or nvdisasm is missing.
    """
    cuobjdump, nvdisasm = find_tool("cuobjdump"), find_tool("nvdisasm")
    if not cuobjdump or not nvdisasm:
        raise FileNotFoundError("cuobjdump or nvdisasm (they come with the CUDA toolkit, and with Triton)")
    usage = subprocess.run([cuobjdump, "-res-usage", library], check=True, capture_output=True, text=True).stdout
    instructions: dict[tuple[str, str], Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cuobjdump, "-xelf", "all", library.resolve()], cwd=folder, check=True, capture_output=True)
        for cubin in sorted(Path(folder).glob("*.cubin")):
            architecture = re.search(r"sm_\w+?(?=\.)", cubin.name)
            done = subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True)
            for name, counts in parse_instructions(done.stdout).items():
                instructions[name, architecture[0] if architecture else ""] = counts
    return [k._replace(instructions=instructions[k.name, k.architecture]) for k in parse_usage(usage)]


def readable(names: list[str]) -> list[str]:
    """Mangled names in the words of the source: the kernel and its template arguments."""
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=False)
    return [shortened(full) for full in done.stdout.splitlines()] if done.returncode == 0 else names


def shortened(full: str) -> str:
    """`void spcl::...::kernel<float, 7>(...)` as `kernel<float, 7>`."""
    full = re.sub(r"\(\w[\w ]*\)(?=\d)|\(anonymous namespace\)::|\w+::", "", full)
    found = re.search(r"(\w+_kernel(?:<.*>)?)\(", full)
    return found[1] if found else full


def table(kernels: list[Kernel]) -> str:
    """A line for each kernel and what it takes."""
    names = readable([kernel.name for kernel in kernels])
    width = max(map(len, names), default=0)
    lines = [f"{'kernel':{width}}  arch    registers  shared  stack  16-byte loads and stores"]
    for name, k in sorted(zip(names, kernels, strict=True)):
        wide = f"{k.wide_loads} and {k.instructions['STG.128']}"
        lines.append(f"{name:{width}}  {k.architecture:6}  {k.registers:9}  {k.shared:6}  {k.stack:5}  {wide}")
    return "\n".join(lines)
