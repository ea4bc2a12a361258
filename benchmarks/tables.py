"""Writes the tables of the README from the committed result files: `python benchmarks/tables.py [--check]`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
ACCURACY = ("iemocap-gru", "meld-gru", "iemocap-transformer", "meld-transformer")


def accuracy() -> str:
    """One row a cell of `benchmarks/accuracy.py`."""
    lines = [
        "| corpus | encoder | seeds | no curriculum | SPCL (epsilon, alpha) | p |",
        "|---|---|---|---|---|---|",
    ]
    for cell in ACCURACY:
        path = RESULTS / f"accuracy_{cell}.json"
        if path.exists():
            lines.append(_accuracy_row(json.loads(path.read_text())))
    return "\n".join(lines)


def _accuracy_row(result: dict[str, Any]) -> str:
    def score(name: str) -> str:
        summary = result["summary"][name]
        return f"{100 * summary['weighted_f1']:.1f} ± {100 * summary['weighted_f1_sd']:.1f}"

    spcl = result["config"]["spcl"]
    settings = f"({spcl['threshold']:g}, {spcl['growth']:g})"
    cells = (
        result["corpus"]["name"].partition("_")[0].upper(),
        spcl["encoder"],
        str(len(result["seeds"])),
        score("none"),
        f"{score('spcl')} {settings}",
        f"{result['paired_t_test_p']:.2f}",
    )
    return f"| {' | '.join(cells)} |"


TABLES = {"accuracy": accuracy}


def filled(text: str) -> str:
    """The README's text with every table between its marks written anew."""
    for name, table in TABLES.items():
        marks = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = marks.subn(lambda m, table=table: f"{m[1]}{table()}\n{m[2]}", text)
        if found != 1:
            raise ValueError(f"README.md: must have the marks of the table {name!r} once (got {found})")
    return text


def main() -> None:
    """Writes the README, or with --check fails when it is out of date."""
    readme = ROOT / "README.md"
    old = readme.read_text()
    new = filled(old)
    if "--check" in sys.argv:
        sys.exit("README.md: out of date; run python benchmarks/tables.py" if new != old else 0)
    readme.write_text(new)


if __name__ == "__main__":
    main()
