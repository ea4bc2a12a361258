"""A run as a line of the results file: what it was, what it scored, and what made it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import spcl_fast
from spcl_fast.merc.curricula import CURRICULA
from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.provenance import code_version
from spcl_fast.merc.results import VERSION
from spcl_fast.merc.study import Job, StudyError
from spcl_fast.merc.trainer import Result, _checksum


def make_row(job: Job, dataset: DialogueDataset, result: Result) -> dict[str, Any]:
    """A finished run as `results.read_results` has it; the timeline by epoch, `by_length` as the mean over epochs.

    Example:
        >>> from spcl_fast.merc.rows import make_row
        >>> from spcl_fast.merc.study import Job
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> from spcl_fast.merc.trainer import TrainConfig, Trainer
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> config = TrainConfig(threshold=0.4, growth=1.2, epochs=1, hidden=4)
        >>> job = Job("main", "MELD", "late_fusion", "spcl", {"threshold": 0.4, "growth": 1.2}, config)
        >>> row = make_row(job, corpus, Trainer(corpus, config).fit())
        >>> row["label"], row["timeline"]["threshold"]
        ('SPCL', [0.4])
    """
    history = result.history
    stats = [entry["curriculum"] for entry in history]
    lengths = [entry["by_length"] for entry in history]
    seconds = sum(entry["seconds"] for entry in history)
    prepared = [entry["preparation_seconds"] for entry in history if "preparation_seconds" in entry]
    return _head(job, dataset) | {
        **({"preparation_seconds": round(sum(prepared), 4)} if prepared else {}),
        "best_epoch": result.best_epoch,
        "epochs": len(history),
        "dev": _rounded(result.dev._asdict()),
        "test": None if result.test is None else _rounded(result.test._asdict()),
        "take_rate": round(sum(s["selected"] for s in stats) / max(1, sum(s["scored"] for s in stats)), 5),
        "seconds_per_epoch": round(seconds / len(history), 4),
        "curriculum_share": round(sum(entry["curriculum_seconds"] for entry in history) / seconds, 5),
        "timeline": _rounded(
            {
                **{name: [s[name] for s in stats] for name in ("threshold", "take_rate", "loss", "modality_ratio")},
                "dev_weighted_f1": [entry["dev"]["weighted_f1"] for entry in history],
                "dev_modality_accuracy": [entry["dev"]["modality_accuracy"] for entry in history],
            },
            4,
        ),
        "by_length": _rounded(
            {
                "length": lengths[0]["length"],
                **{name: _means([x[name] for x in lengths]) for name in ("difficulty", "take_rate")},
            },
            4,
        ),
    }


def make_failed_row(job: Job, dataset: DialogueDataset, error: str) -> dict[str, Any]:
    """A run that failed by itself: what it was, and why there is no score.

    Example:
        >>> from spcl_fast.merc.rows import make_failed_row
        >>> from spcl_fast.merc.study import Job
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> from spcl_fast.merc.trainer import TrainConfig
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> job = Job("main", "MELD", "late_fusion", "none", {}, TrainConfig(curriculum="none"))
        >>> row = make_failed_row(job, corpus, "the model diverged")
        >>> row["error"], row["test"]
        ('the model diverged', None)
    """
    return _head(job, dataset) | {"dev": None, "test": None, "error": error}


def _head(job: Job, dataset: DialogueDataset) -> dict[str, Any]:
    """What a row says of a run before it is made."""
    return {
        "version": VERSION,
        "key": job.key,
        "part": job.part,
        "data": job.data,
        "modalities": list(dataset.features),
        "backbone": job.backbone,
        "curriculum": job.curriculum,
        "label": CURRICULA[job.curriculum].label,
        "setting": job.setting,
        "seed": job.config.seed,
        "class_names": list(dataset.class_names),
        "config": asdict(job.config),
        "data_checksum": _data_checksum(dataset),
        "code": code_version(),
        "versions": {"spcl_fast": spcl_fast.__version__, "torch": torch.__version__},
        "device": "cpu",
        "threads": torch.get_num_threads(),
    }


def check_rows(results: Path, rows: Iterable[Mapping[str, Any]], dataset: DialogueDataset) -> None:
    """That the runs there are of a data set are of the one at hand; old ones do not say what it held.

    Args:
        results: the file that they are from, for the message.
        rows: its runs of one data set.
        dataset: what their name means now.

    Raises:
        StudyError: a run with other modalities or contents.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.merc.rows import check_rows
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> row = {"data": "MELD", "modalities": ["text", "audio", "visual"], "data_checksum": "00c0ffee"}
        >>> check_rows(Path("results.jsonl"), [row], corpus)
        Traceback (most recent call last):
            ...
        spcl_fast.merc.study.StudyError: results.jsonl: its runs of MELD must be of the data at hand, ...
    """
    modalities, checksum = list(dataset.features), _data_checksum(dataset)
    for row in rows:
        name, made_with = row["data"], row.get("data_checksum")
        if row["modalities"] != modalities:
            has, got = (", ".join(x) for x in (modalities, row["modalities"]))
            raise StudyError(f"{results}: its runs of {name} must have the modalities {has} (got {got})")
        if made_with not in (None, checksum):
            raise StudyError(
                f"{results}: its runs of {name} must be of the data at hand, with checksum {checksum} (got {made_with})"
            )


def _data_checksum(dataset: DialogueDataset) -> str:
    """Of what a run sees, not of the file: packed anew it is the same data."""
    return f"{_checksum(dataset):08x}"


def _rounded(value: Any, digits: int = 6) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(x, digits) for k, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(x, digits) for x in value]
    return round(value, digits) if isinstance(value, float) else value


def _means(rows: list[list[float]]) -> list[float]:
    """Means of the columns over the rows that know them; NaN where none does."""
    columns = ([x for x in column if math.isfinite(x)] for column in zip(*rows, strict=True))
    return [statistics.fmean(column) if column else math.nan for column in columns]
