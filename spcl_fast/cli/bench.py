"""`spcl-fast bench`: the benchmark suite, out of the checkout that this package runs from."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

CHECKOUT = Path(__file__).resolve().parents[2]
_NAME = "spcl_fast_benchmarks"  # "benchmarks" is the name of a folder in many a checkout


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Benchmarks; none for all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller sizes: a look, not a record.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of results and figures.  [benchmarks/results]")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda: the benchmarks of `make gpu-check`.")] = "cpu",
) -> None:
    """Time the ops beside their strongest rivals; tables, JSON, CSV, figures. Needs a checkout and a C++ compiler."""
    from spcl_fast.cli.console import refusing

    run = load_benchmarks(CHECKOUT)
    with refusing():
        if device not in ("cpu", "cuda"):
            raise ValueError(f"--device must be cpu or cuda (got {device!r})")
        if device == "cuda":
            raise typer.Exit(_on_gpu(names or [], quick, out))
        try:
            run.run(names or [], run.QUICK if quick else run.Settings(), out, typer.echo)
        except run.DisagreementError as error:
            raise ValueError(str(error)) from error


def _on_gpu(names: list[str], quick: bool, out: Path | None) -> int:
    check = importlib.import_module(f"{_NAME}.gpu.check")
    unknown = [name for name in names if name not in check.BENCHMARKS]
    if unknown:
        there = ", ".join(check.BENCHMARKS)
        raise ValueError(f"no benchmark of a GPU is named {', '.join(unknown)}: there are {there}")
    reason = check.machine.why_no_device()
    if reason is not None:
        raise ValueError(reason)
    options = check.Options(("bench",), tuple(names), quick, folder=out or check.RESULTS)
    return int(check.run(options, typer.echo))


def load_benchmarks(checkout: Path) -> ModuleType:
    """The suite's module `run`.

    Raises:
        typer.BadParameter: the package does not lie in a checkout.
    """
    folder = checkout / "benchmarks"
    if not ((checkout / "pyproject.toml").is_file() and (folder / "run.py").is_file()):
        raise typer.BadParameter("the benchmarks are not installed: run this command from a checkout of spcl_fast")
    if _NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} cannot be imported")
        sys.modules[_NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_NAME])
    return importlib.import_module(f"{_NAME}.run")
