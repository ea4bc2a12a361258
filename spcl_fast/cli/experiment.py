"""`spcl-fast experiment`: all runs of a study."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import typer


def experiment(
    study: Annotated[Path, typer.Argument(help="What to run: a YAML file, see docs/study/README.md.")],
    out: Annotated[Path, typer.Option(help="Results file: JSON lines, one row a run. What is there is not repeated.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data files; default: SPCL_FAST_DATA, else that of the study.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=os.cpu_count(), help="Runs at once, one thread each.")
    ] = os.cpu_count() or 1,
    minutes: Annotated[float, typer.Option(min=0, help="Begin no run later than this.")] = math.inf,
) -> None:
    """Make every run of a study that is missing from its results file."""
    from spcl_fast.cli.console import console, progress, refusing
    from spcl_fast.merc.runner import run_study
    from spcl_fast.merc.study_file import read_study

    say = console().print
    folder = data or Path(os.environ.get("SPCL_FAST_DATA") or study.parent)
    failures = 0
    with refusing():
        plan = read_study(study)
        out.parent.mkdir(parents=True, exist_ok=True)
    with refusing(), progress("runs") as bar:
        task = bar.add_task("", total=None)
        runs = run_study(plan, folder, out, processes=processes, seconds=60 * minutes)
        for event in runs:
            job = event.job
            of = "" if job.config.available == "all" else f" ({job.config.available})"
            name = f"{job.data}{of}, {job.backbone}, {job.curriculum}, seed {job.config.seed}"
            bar.update(task, completed=event.done, total=event.total, description=name)
            if event.row is None:
                failures += 1
                say(f"FAILED {name}: {event.error}")
            elif bar.disable:
                score = f"dev weighted F1 {100 * event.row['dev']['weighted_f1']:.1f} %"
                say(f"{event.done}/{event.total} {name}: {score}; about {_time(event.seconds_left)} left of these")
    if not out.exists():
        say(f"Results: {out}; nothing was made yet")
    else:
        say(f"Results: {out}; `spcl-fast report {out} --out FOLDER` says what they support")
    if failures:
        say(f"{failures} run(s) failed and have no score; one that diverged is not tried again while its line is there")
        raise typer.Exit(1)


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "an unknown time"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
