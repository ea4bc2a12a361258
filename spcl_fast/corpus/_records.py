"""What says that a shard is rescored, and with what outcome: one small file beside it, written after the scores."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus.atomic import atomic_file
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import ShardInfo
from spcl_fast.corpus.place import Place

_COUNTS = ("dialogues", "utterances", "scored", "ignored", "nonfinite", "bad_label", "undefined")
HISTOGRAMS = ("difficulty", "utterance_loss")


@dataclass
class Summary:
    """What a range of dialogues comes to; sums of parts are the sum of all."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    loss_sum: float = 0.0
    confidence_sum: list[float] = field(default_factory=list)
    transitions: NDArray[np.int64] | None = None
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Exact, and strict JSON: floats in hexadecimal, histograms as (digit, count) of what is not empty."""
        return {
            "counts": self.counts,
            "loss_sum": float(self.loss_sum).hex(),
            "confidence_sum": [float(x).hex() for x in self.confidence_sum],
            "transitions": None if self.transitions is None else self.transitions.tolist(),
            "histograms": {
                name: [[digit, count] for digit, count in enumerate(counts.tolist()) if count]
                for name, counts in self.histograms.items()
            },
        }


def write_json(path: Path | Place, value: Mapping[str, Any], *, replace: bool = True) -> None:
    """Writes an object with its own checksum, whole or not at all; `replace` as for `atomic_file`."""
    text = json.dumps({**value, "checksum": checksum(_canonical(value))}, allow_nan=False)
    with atomic_file(path, replace=replace) as file:
        file.write(text.encode() + b"\n")


def read_json(path: Path | Place) -> dict[str, Any] | None:
    """What `write_json` wrote; None where there is no such file, or it is damaged."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(1 << 26))
        said = value.pop("checksum", None)
        return value if said == checksum(_canonical(value)) else None
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def identity(value: Mapping[str, Any]) -> str:
    """What an object is known by, of 64 hexadecimal digits."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def record_path(out: Path | Place, name: str) -> Path | Place:
    """Of the shard `name`."""
    return out / f"{name.removesuffix('.arrow')}.record.json"


def input_identity(info: ShardInfo) -> dict[str, Any]:
    """What a shard of the corpus is known by: its name, and size and checksum of its files."""
    return {name: value for name, value in vars(info).items() if name != "first_utterance"}


def finished_record(out: Path | Place, info: ShardInfo, begun: str) -> dict[str, Any] | None:
    """The record of a shard whose files are there in full, from these very bytes and options; else None.

    `begun`: the `identity` of what the folder was begun with.
    """
    record = read_json(record_path(out, info.name))
    if record is None or record.get("begun") != begun or record.get("input") != input_identity(info):
        return None
    for name, size in ((info.name, "bytes"), (info.dialogues_name, "dialogue_bytes")):
        try:
            if (out / name).stat().st_size != record["output"][size]:
                return None
        except OSError:
            return None
    return record


def score_info(record: Mapping[str, Any], first_utterance: int) -> ShardInfo:
    """The shard of scores that a record speaks of."""
    given = record["input"]
    names = {name: given[name] for name in ("name", "utterances", "dialogues")}
    return ShardInfo(**names, first_utterance=first_utterance, **record["output"])


def summarize(records: Iterable[Mapping[str, Any]], modalities: Iterable[str], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The summary of a whole corpus, as its manifest has it; `dtype` is that of the columns."""
    summaries = [record["summary"] for record in records]
    counts = {name: sum(s["counts"][name] for s in summaries) for name in _COUNTS}
    loss = math.fsum(float.fromhex(s["loss_sum"]) for s in summaries)
    by_modality = zip(*([float.fromhex(x) for x in s["confidence_sum"]] for s in summaries), strict=True)
    n = counts["scored"]
    tables = [np.array(s["transitions"], dtype=object) for s in summaries if s["transitions"] is not None]
    histograms = {}
    for name in HISTOGRAMS:
        total: dict[int, int] = {}
        for s in summaries:
            for digit, count in s["histograms"].get(name, []):
                total[digit] = total.get(digit, 0) + count
        digits = sorted(total)
        edges = [edges_of_digit(digit, dtype) for digit in digits]
        histograms[name] = {
            "digit": digits,
            "lowest": [_number(lowest) for lowest, _ in edges],
            "highest": [_number(highest) for _, highest in edges],
            "count": [total[digit] for digit in digits],
        }
    return {
        **counts,
        "mean_loss": _number(loss / n) if n else None,
        "mean_confidence": {
            name: _number(math.fsum(sums) / n) if n else None
            for name, sums in zip(modalities, by_modality, strict=False)
        },
        "transitions": sum(tables[1:], tables[0]).tolist() if tables else None,
        "histograms": histograms,
    }


def edges_of_digit(digit: int, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest and the largest number of a dtype whose key begins with this digit of 11 bits."""
    bits = 8 * dtype.itemsize
    infinity = int(np.array(np.inf, dtype).view(f"<u{dtype.itemsize}"))
    below = bits - 11

    def number(key: int) -> float:
        key = min(key, 2 * infinity)  # keys above are NaN
        stored = key - infinity if key >= infinity else 1 << (bits - 1) | (infinity - key)
        return float(np.array(stored, f"<u{dtype.itemsize}").view(dtype))

    return number(digit << below), number((digit + 1 << below) - 1)


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def require_same(where: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """ValueError that names every field in which a store that was begun differs from what is asked for now."""
    fields = [name for name in (*found, *(n for n in wanted if n not in found)) if found.get(name) != wanted.get(name)]
    if fields:
        shown = "; ".join(f"{name} {found.get(name)!r}, not {wanted.get(name)!r}" for name in fields)
        raise ValueError(f"{where}: was begun with {shown}: continue it as it was begun, or choose another folder")
