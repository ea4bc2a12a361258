"""The results file of a study: JSON lines, one row a run, appended by any number of processes."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from spcl_fast.merc.files import _finite

VERSION = 1
PARTS = ("main", "ablation", "search")

_TEXTS = ("key", "data", "backbone", "curriculum", "label")
_SCORES = ("weighted_f1", "macro_f1", "accuracy", "loss", "agreement", "multimodal_gain")
_NUMBERS = ("take_rate", "seconds_per_epoch", "curriculum_share", "preparation_seconds")
_BY_EPOCH = ("threshold", "take_rate", "loss", "dev_weighted_f1")
_BY_EPOCH_AND_MODALITY = ("modality_ratio", "dev_modality_accuracy")
_BLOCK = 1 << 16


class Results(NamedTuple):
    """What a results file holds: its rows, each a run and none twice, and notes on what was left out.

    Example:
        >>> from spcl_fast.merc.results import Results
        >>> Results(rows=[], notes=["line 3: cut off, ignored"]).notes
        ['line 3: cut off, ignored']
    """

    rows: list[dict[str, Any]]
    notes: list[str]


def append_result(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a run to the end of a results file, which is made where there is none.

    The line is written at once and reaches the disk before this returns. Processes that append to the same file wait
    for each other. A last line that a crash has cut off is finished by a line break if it is whole, and else removed:
    it is a part of a run that nobody can read.

    Args:
        path: the file; its folder must exist.
        row: a run, in the form that `read_results` demands. Numbers that JSON does not have become null.

    Raises:
        ValueError: a row that `read_results` would refuse; nothing is written.
        TypeError: a value that JSON has no form for; nothing is written.
        OSError: it cannot be written; what was written of the row is removed again.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.merc.results import append_result, read_results
        >>> row = {"version": 1, "key": "c0ffee", "part": "search", "data": "meld", "modalities": ["text", "audio"],
        ...        "backbone": "mmgcn", "curriculum": "none", "label": "None", "seed": 0, "test": None}
        >>> append_result(Path("results.jsonl"), row)
        >>> read_results(Path("results.jsonl")).rows == [row]
        True
    """
    clean = _finite(dict(row))
    _check_row("append_result", clean)
    line = json.dumps(clean, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back by close
        start, tail = _last_line(file)
        if tail and not _is_json(tail):
            os.ftruncate(file, start)
        elif tail:
            line = b"\n" + line
        end = os.lseek(file, 0, os.SEEK_END)
        try:
            written = os.write(file, line)
            if written < len(line):
                raise OSError(f"{path}: only {written} of {len(line)} bytes could be written")
        except OSError:
            os.ftruncate(file, end)
            raise
        os.fsync(file)
    finally:
        os.close(file)


def read_results(path: Path) -> Results:
    r"""Reads a results file.

    A row has version 1, the texts key, part ("main", "ablation" or "search"), data, backbone, curriculum and label, the
    list modalities, the integer seed, and test: scores as shares in [0, 1] and losses in nats, or null in the part
    "search" and where the run failed: then the text error says why. What else the study writes (dev, take_rate,
    timeline, by_length ...) may be absent or null as a whole, and every number may be null for "not known".

    Args:
        path: JSON lines in UTF-8; empty lines do not count.

    Returns:
        The rows in the order of the file. Of rows with the same key the last one stands, at its own place, and a note
        says so; a last line that is cut off in the middle is left out with a note.

    Raises:
        ValueError: a line that is no such row, with its number; no row at all.
        OSError: a file that cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.merc.results import read_results
        >>> Path("results.jsonl").write_text('{"version": 2}\n')
        15
        >>> read_results(Path("results.jsonl"))
        Traceback (most recent call last):
        ...
        ValueError: results.jsonl, line 1: version must be 1 (got 2)
    """
    lines = path.read_bytes().split(b"\n")
    rows: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    replaced = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode(), parse_constant=_no_constant)
        except ValueError as error:
            if number == len(lines):  # no line break follows it
                notes.append(f"{path.name}, line {number}: the last line is cut off in the middle and was ignored")
                continue
            raise ValueError(f"{path}, line {number}: must be a JSON object (got {_short(line)}: {error})") from error
        _check_row(f"{path}, line {number}", row)
        replaced += rows.pop(row["key"], None) is not None
        rows[row["key"]] = row
    if not rows:
        raise ValueError(f"{path}: must hold at least one run (got none)")
    if replaced:
        notes.append(f"{path.name}: {replaced} row(s) are of runs that a later row repeats; the later row stands")
    return Results(list(rows.values()), notes)


def _check_row(where: str, row: Any) -> None:
    """That it can be reported on: the right types, and lists of the right lengths."""

    def refuse(name: str, rule: str, got: Any) -> NoReturn:
        raise ValueError(f"{where}: {name} must be {rule} (got {_short(got)})")

    def is_number(x: Any) -> bool:
        # JSON writes no infinity, but reads one from too many digits.
        return x is None or (isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) < math.inf)

    def numbers(name: str, values: Any, length: int | None = None) -> None:
        if values is None:
            return
        if not isinstance(values, list) or not all(is_number(x) for x in values):
            refuse(name, "a list of numbers or null", values)
        if length is not None and len(values) != length:
            refuse(name, f"of length {length}", values)

    def part(name: str, of: Mapping[str, Any] = row) -> dict[str, Any]:
        value = of.get(name)
        if value is not None and not isinstance(value, dict):
            refuse(name, "an object or null", value)
        return value or {}

    if not isinstance(row, dict):
        raise ValueError(f"{where}: must be a JSON object (got {_short(row)})")
    if row.get("version") != VERSION:
        refuse("version", str(VERSION), row.get("version"))
    for name in _TEXTS:
        if not isinstance(row.get(name), str) or not row[name]:
            refuse(name, "a text", row.get(name))
    if row.get("part") not in PARTS:
        refuse("part", f"one of {', '.join(PARTS)}", row.get("part"))
    for name in ("modalities", "class_names"):
        names = row.get(name, [] if name == "class_names" else None)
        if not isinstance(names, list) or not all(isinstance(x, str) for x in names):
            refuse(name, "a list of names", names)
    if isinstance(row.get("seed"), bool) or not isinstance(row.get("seed"), int):
        refuse("seed", "an integer", row.get("seed"))
    for name in ("error", "code", "data_checksum"):
        if row.get(name) is not None and not (isinstance(row[name], str) and row[name]):
            refuse(name, "a text or null", row[name])
    if row["part"] != "search" and not row.get("error") and not isinstance(row.get("test"), dict):
        refuse("test", "an object", row.get("test"))
    for name in _NUMBERS:
        if not is_number(row.get(name)):
            refuse(name, "a number or null", row[name])
    M, C = len(row["modalities"]), len(row.get("class_names", []))
    for split in ("dev", "test"):
        scores = part(split)
        for name in _SCORES:
            if not is_number(scores.get(name)):
                refuse(f"{split}.{name}", "a number or null", scores[name])
        numbers(f"{split}.class_f1", scores.get("class_f1"), C)
        for name in ("modality_accuracy", "modality_loss"):
            numbers(f"{split}.{name}", scores.get(name), M)
    timeline = part("timeline")
    for name in _BY_EPOCH:
        numbers(f"timeline.{name}", timeline.get(name))
    for name in _BY_EPOCH_AND_MODALITY:
        epochs = timeline.get(name) or []
        if not isinstance(epochs, list):
            refuse(f"timeline.{name}", "a list of lists", epochs)
        for values in epochs:
            numbers(f"timeline.{name}", values, M)
    by_length = part("by_length")
    numbers("by_length.length", by_length.get("length"))
    bins = len(by_length.get("length") or [])
    for name in ("difficulty", "take_rate"):
        numbers(f"by_length.{name}", by_length.get(name), bins)
    part("setting")
    part("versions")
    part("config")


def _last_line(file: int) -> tuple[int, bytes]:
    """Where the last line starts if no line break ends it, and its bytes; nothing if one does."""
    position = os.lseek(file, 0, os.SEEK_END)
    tail = b""
    while position and b"\n" not in tail:
        size = min(_BLOCK, position)
        position -= size
        tail = os.pread(file, size, position) + tail
    kept = tail.rpartition(b"\n")[2]
    return position + len(tail) - len(kept), kept


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _short(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
