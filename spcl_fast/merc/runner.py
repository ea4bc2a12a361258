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
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.npz import read_npz
from spcl_fast.merc.results import append_result, read_results
from spcl_fast.merc.rows import check_rows, make_failed_row, make_row
from spcl_fast.merc.study import Job, Study
from spcl_fast.merc.training import make_trainer


class Progress(NamedTuple):
    """What has just happened in a study.

    Attributes:
        job: the run that is finished.
        row: its line of the results file; None where it failed, though a fault of the run itself has a line too.
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
        One `Progress` a run, as they finish. A run that fails by itself, as a model that diverges does, would fail
        again: it is written with its error (`rows.make_failed_row`) and not tried again until its line is removed, and
        the choice that it was to decide is made among the other candidates. A run that fails for want of memory is not
        written, and not tried again in this call; what waits for it is not made.

    Raises:
        ValueError, OSError: a data file or a results file that cannot be read; results of a data set of the same name
            with other modalities or contents, which would pass for runs of this study; a process that was ended from
            outside (`ChildProcessError`). Leaving the iteration early ends the runs under way, which are lost; those
            that are finished are on disk.

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
    for name in dict.fromkeys(name for part in study.parts for name in part["data"]):
        dataset = _dataset(folder / study.data[name].file, study.data[name].modalities)
        check_rows(results, [row for row in rows if row["data"] == name], dataset)
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
                job = running.pop(future)
                row: dict[str, Any] | None = None
                error: str | None = None
                try:
                    made = future.result()
                except BrokenProcessPool:
                    reason = "a process was ended from outside, perhaps for want of memory"
                    raise ChildProcessError(f"{reason}; the runs that are finished are in {results}") from None
                except (RuntimeError, MemoryError) as fault:  # a model larger than the memory of this machine
                    error = _message(fault)
                    failed.add(job.key)
                else:
                    rows.append(made)
                    append_result(results, made)
                    error = made.get("error")
                    if error is None:
                        row = made
                        clock.add(job, row)
                missing = [*running.values(), *left]
                yield Progress(job, row, error, len(rows), len(rows) + len(missing), clock.seconds_left(missing))


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
    try:
        result = make_trainer(dataset, job.config).fit(score_test=job.part != "search")
    except (ValueError, ArithmeticError) as fault:  # it diverged, or a setting does not fit the data
        return make_failed_row(job, dataset, _message(fault))
    return make_row(job, dataset, result)


def _message(fault: BaseException) -> str:
    return " ".join(str(fault).split()) or type(fault).__name__


@lru_cache(maxsize=4)
def _dataset(path: Path, modalities: str) -> DialogueDataset:
    return read_npz(path, modalities)
