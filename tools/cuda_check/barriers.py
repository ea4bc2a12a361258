"""Leaves out one barrier of the CUDA sources at a time: a test has to notice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

_BARRIER = re.compile(r"\b__sync(?:threads|warp)\w*\s*\(|\bawait_copies\(\);")
#: how the comment of a barrier begins without which nothing fails in the emulator: one that orders what other blocks
#: see, since it runs blocks one after the other, and one behind an exchange of the warp, which orders memory only there
UNSEEN = ("between blocks", "behind exchanges")
#: in each of these orders threads take their turns; a missing barrier shows in one of them
ORDERS = ("reverse", "forward", "1", "2", "3")


class Barrier(NamedTuple):
    """A barrier by its place: `file.cu:12`, as the emulator knows it."""

    path: Path
    line: int
    is_unseen: bool

    @property
    def place(self) -> str:
        """What SPCL_CUDA_ON_CPU_SKIP takes."""
        return f"{self.path.name}:{self.line}"


def find(folder: Path) -> Iterator[Barrier]:
    """Every barrier and every wait for copies in the sources of a folder; what a comment says is none."""
    for path in sorted(folder.iterdir()):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code, _, comment = line.partition("//")
            if _BARRIER.search(code):
                yield Barrier(path, number, comment.strip().startswith(UNSEEN))


def tests_of(barrier: Barrier, folder: Path) -> list[Path]:
    """The tests that are to notice: those of the ops whose sources are this file or include it.

    A file that no op's sources include is one of an op whose header it includes; else all tests are asked.
    """
    sources = {path.name: _includes(path) for path in barrier.path.parent.iterdir()}
    using = {barrier.path.name, barrier.path.with_suffix(".h").name}
    while more := {name for name, includes in sources.items() if includes & using} - using:
        using |= more
    tests = {path: path.stem.removeprefix("test_").removesuffix("_cuda") for path in sorted(folder.glob("test_*.py"))}
    for names in (using, _includes(barrier.path)):
        if own := [path for path, op in tests.items() if any(name.startswith(op) for name in names)]:
            return own
    return list(tests)


def _includes(path: Path) -> set[str]:
    return set(re.findall(r'#include "cuda/([\w.]+)"', path.read_text()))


def is_missed(barrier: Barrier, tests: Path, passes: Callable[[list[Path], dict[str, str]], bool]) -> bool:
    """Whether a test fails without the barrier. `passes(files, environment)` says whether tests pass."""
    files = tests_of(barrier, tests)
    environments = [{"SPCL_CUDA_ON_CPU_SKIP": barrier.place, "SPCL_CUDA_ON_CPU_ORDER": order} for order in ORDERS]
    return not all(passes(files, environment) for environment in environments)
