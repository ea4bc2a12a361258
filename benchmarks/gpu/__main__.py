"""`python -m benchmarks.gpu`, in the root of a checkout: `make gpu-check`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

WRONG_USE = 2


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 nothing failed, 1 something did, 2 wrong use, 77 no CUDA device."""
    missing = [package for package in ("torch", "numpy") if importlib.util.find_spec(package) is None]
    if missing:
        print(f"GPU check: {', '.join(missing)} is not installed for {sys.executable}", file=sys.stderr)
        return WRONG_USE
    from . import check
    from .bench import BENCHMARKS
    from .record import PARTS

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; none for all")
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--seconds", type=float, default=check.TOTAL_S, help="of everything  [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller sizes: a look, not a record")
    parser.add_argument("--results", type=Path, default=check.RESULTS, help="folder of the files  [benchmarks/results]")
    parser.add_argument("--commit", default="", help="of a checkout that has no git")
    parser.add_argument("--rebuild", action="store_true", help="build the libraries although they load")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}: there are {', '.join(BENCHMARKS)}")
    parts = PARTS if options.part == "all" else (options.part,)
    return check.run(
        check.Options(
            parts,
            tuple(options.names),
            options.quick,
            options.seconds,
            options.results,
            options.commit,
            options.rebuild,
        ),
        lambda line: print(line, flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
