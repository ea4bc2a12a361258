"""Compiles every kernel without a GPU, for the NVIDIA targets named here: `python -m spcl_fast.kernels.ahead_of_time`.

What does not compile, or spills registers, shows before it meets a GPU.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spcl_fast._options import NUMBERS, POLYNOMIAL_OF_CURML
from spcl_fast.kernels import INTERPRET, is_interpreted

TARGETS = (80, 90)
DTYPES = ("fp32", "bf16")
ONCE = "--once"
M = 3  # modalities of the tensors that are compiled for
_POINTERS = {"labels": "i64", "offsets": "i64", "running": "i64", "given": "i64", "counts": "i64", "present": "i1"}
_POINTERS |= {"partial_counts": "i64", "result_counts": "i64", "norm": "i64"}
_POINTERS |= dict.fromkeys(("terms", "sums", "longer", "windows", "coherence", "of_coherence", "partial_sums"), "fp64")
_POINTERS |= dict.fromkeys(("loss", "confidence", "entropy", "margin", "spread", "weight", "difficulty"), "fp32")
_POINTERS |= dict.fromkeys(("utterance_loss", "scales", "norms", "coefficients", "grad_loss", "grad_margin"), "fp32")
_POINTERS |= dict.fromkeys(("grad_confidence", "grad_entropy", "class_weight", "extra_difficulty", "result"), "fp32")
_ROWS = ("logits", "embeddings")  # M pointers, with strides of their own
_STRIDES = {"row_strides": ("i32",) * M, "column_strides": ("constexpr",) * M, "grad_strides": (("i32", "i32"),) * 4}
_LONG = ("T", "D", "count", "threshold_bits", "parameter_bits", "smoothing_bits", "modality_stride", "half", "size")


class Variant(NamedTuple):
    """A kernel with the constants it is compiled for; a pointer given as None is an argument that is missing."""

    module: str
    kernel: str
    constants: dict[str, Any]

    @property
    def name(self) -> str:
        """The kernel and what sets it apart from others."""
        marks = [f"{key}={value}" for key, value in self.constants.items() if key.isupper() and key != "REAL"]
        return f"{self.kernel} {' '.join(marks)}".strip()


class Compiled(NamedTuple):
    """What a variant came to; None where the tools that tell are missing."""

    name: str
    dtype: str
    target: int
    registers: int | None
    spilled_bytes: int | None
    shared_bytes: int


def variants() -> Iterator[Variant]:
    """Every kernel, with and without what it has to loop over."""
    small = {"ROWS": 64, "COLUMNS": 8, "ONLY_TILE": True}
    large = {"ROWS": 1, "COLUMNS": 1024, "ONLY_TILE": False}
    for tile in (small, large):
        yield Variant("modality_scores", "modality_scores_fwd_kernel", {"HAS_RIVALS": True, **tile})
    for tile in (small, {**large, "COLUMNS": 512}):
        yield Variant("modality_scores", "modality_scores_bwd_kernel", tile)
    yield Variant("_offsets", "offsets_fwd_kernel", {"BLOCK": 1024})
    for of_predictions, tile in ((False, {"ROWS": 4, "COLUMNS": 256}), (True, {"ROWS": 64, "COLUMNS": 8})):
        options: dict[str, Any] = {"OF_PREDICTIONS": of_predictions, **tile}
        for kernel in ("coherence_few_fwd_kernel", "coherence_few_bwd_kernel"):
            yield Variant("_coherence_few", kernel, options)
        for kernel in ("norms", "fwd", "coefficients", "bwd"):
            yield Variant("_coherence_many", f"coherence_many_{kernel}_kernel", options)
    for of_gradients in (False, True):
        options = {"OF_GRADIENTS": of_gradients, "ROWS": 128}
        if not of_gradients:
            options["counts"] = None
        yield Variant("_window_sums", "window_sums_by_row_kernel", options)
        for is_first in (True, False):
            yield Variant("_window_sums", "window_sums_double_kernel", {"IS_FIRST": is_first, **options})
        options = {key: value for key, value in options.items() if key != "counts"}
        yield Variant("_window_sums", "window_sums_take_kernel", options)
    for tile in (small, large):
        for is_smoothed in (False, True):
            options = {"IS_SMOOTHED": is_smoothed, "joint": None, **tile}
            yield Variant("_step_rows", "self_paced_step_rows_kernel", options)
    spread = {"OF_MEANS": False, "MODALITIES": 4, "ROWS": 256}
    yield Variant("_step_totals", "self_paced_step_spread_kernel", spread)
    parts = {"COUNTS": 5, "SUMS": 3}
    weighed = {"SELECTS_ALL": False, "threshold": None, "ROWS": 128, "COLUMNS": 8, **parts}
    schemes = [number for name, number in NUMBERS.items() if name != "spld"]
    for scheme, measure in [*((n, 0) for n in (*schemes, POLYNOMIAL_OF_CURML)), (0, 1), (0, 2), (8, 3)]:
        options = {"SCHEME": scheme, "MEASURE": measure, **weighed}
        yield Variant("_step_totals", "self_paced_step_weigh_kernel", options)
    totals = {"DIVIDES_BY_WEIGHT": True, "FLAGS": True, "BLOCK": 64, "WIDTH": 16, **parts}
    yield Variant("_step_totals", "self_paced_step_totals_kernel", totals)
    yield Variant("_step_totals", "self_paced_step_bwd_kernel", {"BLOCK": 1024})


def compile_variant(variant: Variant, dtype: str, target: int) -> Compiled:
    """Compiles a kernel for logits or embeddings of `dtype`, "fp32" for one, on the architecture sm_`target`."""
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget

    if is_interpreted():
        raise RuntimeError(f"kernels that are interpreted cannot be compiled: {INTERPRET} is set")
    kernel = getattr(importlib.import_module(f"spcl_fast.kernels.{variant.module}"), variant.kernel)
    given = {"REAL": tl.float32, "per_source": 1, **variant.constants}
    signature: dict[str, Any] = {}
    constants: dict[Any, Any] = {}
    for place, parameter in enumerate(kernel.params):
        name = parameter.name
        signature[name] = "constexpr" if name in given else _type_of(name, variant, dtype)
        if name in given:
            constants[(place,)] = given[name]
        elif name == "column_strides":
            constants |= {(place, m): 1 for m in range(M)}
    source = triton.compiler.ASTSource(kernel, signature, constants)
    done = triton.compile(source, target=GPUTarget("cuda", target, 32))
    registers, spilled = _resources(done.asm["cubin"])
    return Compiled(variant.name, dtype, target, registers, spilled, done.metadata.shared)


def _type_of(name: str, variant: Variant, dtype: str) -> Any:
    if name in _ROWS:
        return (f"*{dtype}",) * M
    if name in _STRIDES:
        return _STRIDES[name]
    if name == "gradient":  # of the step it is in the dtype of the loss
        return "*fp32" if variant.module == "_step_totals" or variant.module == "_step_rows" else f"*{dtype}"
    if name == "result" and variant.kernel == "self_paced_step_bwd_kernel":
        return f"*{dtype}"
    if name == "result" and variant.constants.get("OF_GRADIENTS"):
        return "*fp64"
    if name in _POINTERS:
        return f"*{_POINTERS[name]}"
    return "i64" if name in _LONG else "i32"


def _resources(binary: bytes) -> tuple[int | None, int | None]:
    """Registers of a thread and bytes it keeps in local memory, read from the compiled kernel."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.is_file():
        return None, None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        done = subprocess.run([str(tool), "-res-usage", file.name], capture_output=True, text=True, check=False)
    found = re.search(r"REG:(\d+).*?STACK:(\d+).*?LOCAL:(\d+)", done.stdout)
    return (int(found[1]), int(found[2]) + int(found[3])) if found else (None, None)


def selected(arguments: Sequence[str]) -> Iterator[tuple[Variant, str, int]]:
    """Every variant, dtype and target that the arguments ask for."""
    parts = [part for part in arguments if part != ONCE]
    seen = set()
    for variant in variants():
        if parts and not any(part in variant.name for part in parts):
            continue
        if ONCE in arguments:
            if variant.kernel not in seen:
                seen.add(variant.kernel)
                yield from ((variant, dtype, target) for dtype, target in zip(DTYPES, TARGETS, strict=True))
            continue
        for dtype in DTYPES if _reads_rows(variant) else DTYPES[:1]:
            yield from ((variant, dtype, target) for target in TARGETS)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints a line for each kernel, dtype and target.

    Args:
        arguments: parts of the names of the kernels to compile, all without any; "--once" for a single variant of
            each, one dtype a target.

    Returns:
        The exit code: 1 when one of them does not compile.
    """
    compiled = failed = 0
    print(f"{'registers':>9} {'spilled':>8} {'shared':>8}  target dtype kernel")
    for variant, dtype, target in selected(arguments):
        try:
            done = compile_variant(variant, dtype, target)
        except Exception as error:
            failed += 1
            print(f"FAILED sm_{target} {dtype} {variant.name}: {type(error).__name__}: {error}")
            continue
        compiled += 1
        cells = ["?" if cell is None else cell for cell in (done.registers, done.spilled_bytes, done.shared_bytes)]
        print(f"{cells[0]:>9} {cells[1]:>8} {cells[2]:>8}  sm_{target}  {dtype}  {variant.name}", flush=True)
    print(f"{compiled} compiled, {failed} failed")
    return 1 if failed or not compiled else 0


def _reads_rows(variant: Variant) -> bool:
    """Whether the dtype of the logits is part of a kernel."""
    return not variant.module.startswith(("_window", "_offsets", "_step_totals")) or variant.kernel.endswith(
        "step_bwd_kernel"
    )


if __name__ == "__main__":
    os.environ.pop(INTERPRET, None)
    sys.exit(main(sys.argv[1:]))
