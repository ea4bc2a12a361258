"""Writes the tables of the README from the committed result files: `python benchmarks/tables.py [--check]`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
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


def speed() -> str:
    """The medians of `spcl-fast bench`: ours beside the strongest rivals, a row a cell."""
    lines = [
        "| op | size | published | eager | torch.compile | ours | against compile | against eager |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for op in ("self_paced_step", "modality_scores"):
        path = RESULTS / f"{op}.json"
        if path.exists():
            lines += [row for cell in json.loads(path.read_text())["cells"] for row in _speed_rows(op, cell)]
    return "\n".join(lines)


def _speed_rows(op: str, cell: dict[str, Any]) -> Iterator[str]:
    for group in dict.fromkeys(row["group"] for row in cell["rows"] if row["role"] == "ours"):
        of = [row for row in cell["rows"] if row["group"] == group]
        ours = min(row["p50_ms"] for row in of if row["role"] == "ours")
        rivals = {row["provider"]: row["p50_ms"] for row in of if row["role"] == "rival"}
        times = [_time(rivals[name]) if name in rivals else "" for name in ("published", "eager", "compile")]
        ratios = [f"{rivals[name] / ours:.1f} x" if name in rivals else "" for name in ("compile", "eager")]
        name, _, direction = cell["name"].partition(", ")
        sized = f"T = {cell['size']['T']:,}" if name.startswith("T=") else f"{name} (T = {cell['size']['T']:,})"
        size = ", ".join(part for part in (sized, direction, group) if part)
        yield f"| {' | '.join([f'`{op}`', size, *times, _time(ours), *ratios])} |"


def _time(ms: float) -> str:
    return f"{1000 * ms:.0f} µs" if ms < 1 else f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"


TABLES = {"accuracy": accuracy, "speed": speed}


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
