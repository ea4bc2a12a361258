"""The outcome of every check, and the two files that hold them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spcl_fast.merc.files import write_atomically, write_json

SCHEMA = 1
PARTS = ("tests", "bench", "sanitize")
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
OUT_OF_TIME = "out of time"
SAME_RUN = ("device", "torch", "triton", "commit")  # what must agree before two runs are kept in one file


@dataclass
class Check:
    """One check. `reason` says why it failed or was not run; `details` is what there is to read beside it."""

    part: str
    name: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    details: Any = None

    def __post_init__(self) -> None:
        if self.status not in (PASSED, FAILED, NOT_RUN):
            raise ValueError(f"status must be passed, failed or not run (got {self.status!r})")
        if (self.status == PASSED) == bool(self.reason):
            raise ValueError(f"{self.name}: a reason belongs to what failed or was not run, and to nothing else")

    @property
    def line(self) -> str:
        """As it is printed."""
        reason = f": {self.reason}" if self.reason else ""
        return f"  {self.status:<8} {self.name} ({self.seconds:.1f} s){reason}"


@dataclass
class Report:
    """What one run found. `rows` are those of the benchmarks, `counters` what the hardware counted of a kernel."""

    machine: Mapping[str, Any]
    date: str
    quick: bool = False
    checks: list[Check] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    counters: list[dict[str, Any]] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        """Whether anything failed; what was not run did not."""
        return any(check.status == FAILED for check in self.checks)

    def summary(self) -> str:
        """How many passed, failed and were not run, and which."""
        counts = Counter(check.status for check in self.checks)
        lines = [", ".join(f"{counts[status]} {status}" for status in (PASSED, FAILED, NOT_RUN))]
        for status in (FAILED, NOT_RUN):
            lines += [f"  {status}: {c.part}, {c.name}: {c.reason}" for c in self.checks if c.status == status]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The content of the JSON file; every check and row has the date of its own run."""
        return {
            "schema": SCHEMA,
            "check": "gpu",
            "date": self.date,
            "quick": self.quick,
            "machine": dict(self.machine),
            "checks": [asdict(check) | {"date": self.date} for check in self.checks],
            "rows": [{**row, "date": self.date} for row in self.rows],
            "counters": [{**row, "date": self.date} for row in self.counters],
        }


def merged(new: dict[str, Any], old: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """`new`, and of an earlier run of the same commit on the same device the parts that did not run this time."""
    same = all(new["machine"].get(key) == old.get("machine", {}).get(key) for key in SAME_RUN)
    if not same or new["machine"].get("commit", "unknown") == "unknown" or old.get("schema") != SCHEMA:
        return new
    kept = [check for check in old["checks"] if check["part"] not in (*parts, "build")]
    checks = [c for c in new["checks"] if c["part"] in (*parts, "build")]
    result = {**new, "checks": sorted(checks + kept, key=lambda c: ("build", *PARTS).index(c["part"]))}
    if "bench" not in parts:
        result |= {"rows": old["rows"], "counters": old["counters"], "quick": old["quick"]}
    return result


def write(folder: Path, content: dict[str, Any]) -> tuple[Path, Path]:
    """Writes `gpu_check.json` and `gpu_check.csv`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "gpu_check.json", folder / "gpu_check.csv"
    write_json(paths[0], content)
    write_atomically(paths[1], as_csv(content).encode())
    return paths


def read(folder: Path) -> dict[str, Any] | None:
    """The JSON of an earlier run, if there is one that can be read."""
    try:
        return json.loads((folder / "gpu_check.json").read_text())
    except (OSError, ValueError):
        return None


def as_csv(content: Mapping[str, Any]) -> str:
    """A line for every check, row and counter; `kind` says which. A column that a line does not have is empty."""
    around = {key: content["machine"].get(key) for key in ("device", "torch", "triton", "commit")}
    lines = []
    for kind, found in (("check", "checks"), ("row", "rows"), ("counter", "counters")):
        for entry in content[found]:
            plain = {k: v for k, v in entry.items() if not isinstance(v, (dict, list))}
            against = {f"against {provider}": ratio for provider, ratio in entry.get("against", {}).items()}
            lines.append({"kind": kind, **plain, **against, **around})
    text = io.StringIO()
    columns = list(dict.fromkeys(("kind", *(key for line in lines for key in line))))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
