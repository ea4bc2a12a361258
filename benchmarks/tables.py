"""Writes the tables of the README from the committed result files: `python benchmarks/tables.py [--check]`."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spcl_fast.merc.models import MODELS
from spcl_fast.merc.results import read_results

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
RIVALS = ("published", "eager", "compile")
FLOORS = ("copy", "read", "no-op")
PREDICTIONS = Path(__file__).parent / "gpu_predictions.json"
GPU_PROVIDERS = ("cuda", "triton", "eager", "compile")  # ours first
GPU_HEAD = "| op | size | target | predicted | cuda | triton | eager | torch.compile | of the copy | launches |"
NOT_RUN = "not run"
STUDY = ROOT / "docs" / "study" / "results.jsonl"
OURS = {"stochastic": "stochastic", "thinning": "its control"}


def study() -> str:
    """One row a backbone and data set of the study: mean test weighted F1 and its deviation over the seeds."""
    curricula = {"none": "no curriculum", "spcl": "SPCL", "random_utterances": "its control", **OURS}
    lines = [f"| data | backbone | seeds | {' | '.join(curricula.values())} |", f"|{'---|' * (3 + len(curricula))}"]
    arms: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for row in read_results(STUDY).rows if STUDY.exists() else []:
        if row["part"] != "search" and row["curriculum"] in curricula:
            of_seeds = arms.setdefault((row["data"], row["backbone"]), {}).setdefault(row["curriculum"], {})
            of_seeds[row["seed"]] = 100 * row["test"]["weighted_f1"]
    for (data, backbone), found in sorted(arms.items(), key=lambda x: (x[0][0], list(MODELS).index(x[0][1]))):
        seeds = set.intersection(*(set(found.get(c, {})) for c in curricula))  # those that all have, so that rows pair
        if len(seeds) > 1:
            scores = [[found[c][seed] for seed in seeds] for c in curricula]
            cells = [f"{statistics.fmean(x):.1f} ± {statistics.stdev(x):.1f}" for x in scores]
            lines.append(f"| {data} | {backbone} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
    """The results of every benchmark in the folder by name, the step first: it is what a training loop calls."""
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stem != "self_paced_step", path.stem)):
        result = json.loads(path.read_text())
        if "benchmark" in result:
            found[result["benchmark"]] = result
    return found


def best_of_ours(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fastest row of ours in every group, at a thread count that its rivals could compete with."""
    allowed = {variant["threads"] for variant in cell["screened"] if variant["provider"] in RIVALS}
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(cell["rows"], key=lambda row: row["p50_ms"]):
        if row["role"] == "ours" and row["threads"] in (allowed or {row["threads"]}):
            best.setdefault(row["group"], row)
    return list(best.values())


def speed() -> str:
    """The medians of `spcl-fast bench`: ours beside the strongest rivals and the floor, a row a cell and group."""
    lines = [
        "| op | size | published | eager | torch.compile | ours | x published | x eager | x compile | of the floor |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for op, result in read_all(RESULTS).items():
        lines += [_speed_row(op, cell, row) for cell in result["cells"] for row in best_of_ours(cell)]
    return "\n".join(lines)


def _speed_row(op: str, cell: dict[str, Any], ours: dict[str, Any]) -> str:
    against = ours["against"]
    times = [_time(against[name] * ours["p50_ms"]) if name in against else "" for name in RIVALS]
    ratios = [f"{_rounded(against[name])} x" if name in against else "" for name in RIVALS]
    floor = min((name for name in FLOORS if name in against), key=lambda name: against[name], default=None)
    share = f"{100 * against[floor]:.0f} % ({floor})" if floor else ""
    name, *rest = cell["name"].split(", ")
    T = cell["size"].get("T")
    if T is not None:
        name = f"T = {T:,}" if name.startswith("T=") else f"{name} (T = {T:,})"
    size = ", ".join(part for part in (name, *rest, ours["group"]) if part)
    return f"| {' | '.join([f'`{op}`', size, *times, _time(ours['p50_ms']), *ratios, share])} |"


def gpu() -> str:
    """What was predicted of a GPU, and what `make gpu-check` measured; where it did not, each cell says so."""
    path = RESULTS / "gpu_check.json"
    result = json.loads(path.read_text()) if path.exists() else {"rows": []}
    rows = result["rows"]
    lines = [GPU_HEAD, "|" + "---|" * (GPU_HEAD.count("|") - 1)]
    lines += [_gpu_row(target, rows) for target in json.loads(PREDICTIONS.read_text())["targets"]]
    copies = [row["copy_gigabytes_per_second"] for row in rows if "copy_gigabytes_per_second" in row]
    if copies:
        on = result["machine"]
        lines += [
            "",
            f"Measured on {on['device']} with torch {on['torch']}: a copy moves {max(copies):,.0f} GB/s there.",
        ]
    return "\n".join(lines)


def _gpu_row(target: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    mine = [row for row in rows if (row["op"], row["cell"]) == (target["op"], target["cell"])]
    best: dict[str, Mapping[str, Any]] = {}
    for row in sorted((r for r in mine if "p50_us" in r and r["way"] == target["way"]), key=lambda r: r["p50_us"]):
        best.setdefault(row["provider"], row)
    times = [_time(best[name]["p50_us"] / 1000) if name in best else NOT_RUN for name in GPU_PROVIDERS]
    ours = min((best[name] for name in GPU_PROVIDERS[:2] if name in best), key=lambda r: r["p50_us"], default=None)
    share, launches = NOT_RUN, NOT_RUN
    if ours is not None:
        share = f"{ours['percent_of_copy']:.0f} %" if "percent_of_copy" in ours else ""
        # A graph replays the launches of a call, and they are counted there.
        counted = (row for row in mine if row["provider"] == ours["provider"] and "launches" in row)
        launches = next((f"{row['launches']:g}" for row in counted), NOT_RUN)
    cells = [f"`{target['op']}`", target["what"], target["target"], _time(target["predicted_us"] / 1000)]
    return f"| {' | '.join([*cells, *times, share, launches])} |"


def _rounded(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"


def _time(ms: float) -> str:
    return f"{1000 * ms:.0f} µs" if ms < 1 else f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"


TABLES = {"study": study, "speed": speed, "gpu": gpu}


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
