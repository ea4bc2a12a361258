"""Making the runs of a study in parallel processes; each finished run is a line of the results file at once."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

import spcl_fast
from spcl_fast.merc.curricula import CURRICULA
from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.npz import read_npz
from spcl_fast.merc.results import VERSION, append_result, read_results
from spcl_fast.merc.study import Job, Study, StudyError
from spcl_fast.merc.trainer import Result, Trainer


class Progress(NamedTuple):
    """What has just happened in a study.

    Attributes:
        job: the run that is finished.
        row: its line of the results file; None where it failed.
        error: why it failed, else None.
        done: runs in the results file.
        total: of these, and those still known to be missing; choices that are made bring others.
        seconds_left: an estimate from the runs so far, NaN before the first.

    Example:
        >>> from spcl_fast.merc.runner import Progress
        >>> Progress(job=None, row=None, error="diverged", done=1, total=4, seconds_left=30.0).error
        'diverged'
    """

    job: Job
    row: dict[str, Any] | None
    error: str | None
    done: int
    total: int
    seconds_left: float


def run_study(
    study: Study, folder: Path, results: Path, *, processes: int = 1, seconds: float = math.inf
) -> Iterator[Progress]:
    """Makes every run that is missing, until the study is complete.

    Args:
        study: what is asked for.
        folder: where its data files are.
        results: JSON lines, `results.append_result`; runs that are there are not made again.
        processes: so many runs at once, each with one thread.
        seconds: after which no further run is begun; those under way are finished.

    Yields:
        One `Progress` a run, as they finish. A run that fails is not written, and not tried again in this call;
        what waits for it is not made.

    Raises:
        ValueError, OSError: a data file or a results file that cannot be read; results of a data set of the same name
            with other modalities, which would pass for runs of this study; a process that was ended from outside
            (`ChildProcessError`). Leaving the iteration early ends the
            runs under way, which are lost; those that are finished are on disk.

    Deterministic: a run's numbers do not depend on the others, nor on the number of processes.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.merc.runner import run_study
        >>> from spcl_fast.merc.study_file import parse_study
        >>> study = parse_study('''
        ... data: {MELD: {file: meld.npz, modalities: "text_lsa,audio"}}
        ... backbones: {late_fusion: {}}
        ... curricula: {none: [{}]}
        ... search: {backbone: late_fusion, seeds: 1}
        ... parts: [{part: main, data: [MELD], backbones: [late_fusion], curricula: [none], seeds: 1}]
        ... ''')
        >>> list(run_study(study, Path("."), Path("results.jsonl")))
        Traceback (most recent call last):
            ...
        spcl_fast.merc.dataset.DatasetError: meld.npz: no such file
    """
    deadline = time.monotonic() + seconds
    rows = read_results(results).rows if results.exists() and results.stat().st_size else []
    for name in {name for part in study.parts for name in part["data"]}:
        modalities = list(_dataset(folder / study.data[name].file, study.data[name].modalities).features)
        for known in rows:
            if known["data"] == name and known["modalities"] != modalities:
                has, got = (", ".join(x) for x in (modalities, known["modalities"]))
                raise StudyError(f"{results}: its runs of {name} must have the modalities {has} (got {got})")
    running: dict[Future[dict[str, Any]], Job] = {}
    failed: set[str] = set()
    clock = _Clock(processes)
    with _Pool(processes) as pool:
        while True:
            # Asked anew after every run: each may have settled a choice.
            begun = failed | {job.key for job in running.values()}
            left = [job for job in study.ready(rows) if job.key not in begun]
            while left and len(running) < processes and time.monotonic() < deadline:
                job = left.pop(0)
                data = study.data[job.data]
                running[pool.submit(_train, job, folder / data.file, data.modalities)] = job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, row, error = running.pop(future), None, None
                try:
                    row = future.result()
                except BrokenProcessPool:
                    reason = "a process was ended from outside, perhaps for want of memory"
                    raise ChildProcessError(f"{reason}; the runs that are finished are in {results}") from None
                # A model that diverged, a setting that does not fit, a model larger than the memory.
                except (ValueError, ArithmeticError, RuntimeError, MemoryError) as fault:
                    error = " ".join(str(fault).split()) or type(fault).__name__
                    failed.add(job.key)
                else:
                    clock.add(job, row)
                    rows.append(row)
                    append_result(results, row)
                missing = [*running.values(), *left]
                yield Progress(job, row, error, len(rows), len(rows) + len(missing), clock.seconds_left(missing))


def make_row(job: Job, dataset: DialogueDataset, result: Result) -> dict[str, Any]:
    """A finished run as `results.read_results` has it; the timeline by epoch, `by_length` as the mean over epochs.

    Example:
        >>> from spcl_fast.merc.runner import make_row
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
        "versions": {"spcl_fast": spcl_fast.__version__, "torch": torch.__version__},
        "device": "cpu",
        "threads": torch.get_num_threads(),
    }


class _Pool(ProcessPoolExecutor):
    """Processes that train, one thread each; on leaving they are ended, whatever they do."""

    def __init__(self, processes: int) -> None:
        # A fresh interpreter each: torch's threads do not survive a fork.
        super().__init__(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is not None:  # nobody waits any more for what is under way
            for process in list((self._processes or {}).values()):
                process.terminate()
        self.shutdown(cancel_futures=True)


class _Clock:
    """What the runs that are left will take, from those that were made."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, job: Job, row: dict[str, Any]) -> None:
        self._seconds[job.data, job.backbone].append(row["seconds_per_epoch"] * row["epochs"])

    def seconds_left(self, jobs: list[Job]) -> float:
        if not self._seconds:
            return math.nan
        typical = statistics.fmean(x for of_kind in self._seconds.values() for x in of_kind)
        each = (self._seconds.get((job.data, job.backbone)) or [typical] for job in jobs)
        return sum(statistics.fmean(x) for x in each) / self._processes


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interrupt is for the process that waits for this one
    torch.set_num_threads(1)
    os.nice(5)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    """Ends this process when the one that waits for it is gone, however it went."""
    parent.join()
    os._exit(1)


def _train(job: Job, path: Path, modalities: str) -> dict[str, Any]:
    dataset = _dataset(path, modalities)
    return make_row(job, dataset, Trainer(dataset, job.config).fit(score_test=job.part != "search"))


@lru_cache(maxsize=4)
def _dataset(path: Path, modalities: str) -> DialogueDataset:
    return read_npz(path, modalities)


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
