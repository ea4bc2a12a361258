"""What the commands share: refusals, progress and the table of results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from spcl_fast.merc.seeds import Summary


@contextmanager
def refusing(where: str = "") -> Iterator[None]:
    """Turns what is wrong with a user's file or setting into a line on stderr and exit code 2; `where` begins it."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise Refusal(where + " ".join(str(error).split())) from error


class Refusal(typer.BadParameter):
    """A mistake of the user's; the message is all there is to say."""

    def format_message(self) -> str:
        """The message as it is: the base class would put "Invalid value" before it."""
        return self.message


def console() -> Console:
    """Prints what it is given: no markup in a user's file names, no line broken in the middle of a path."""
    return Console(markup=False, highlight=False, soft_wrap=True)


def progress(unit: str = "epochs") -> Progress:
    """A bar on stderr, shown only where that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False),
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def progress_of_rows(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with rate and remaining time, shown only where that is a terminal; yields what moves it."""
    bar = Progress(
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=total, rate="")

        def advance(rows: int) -> None:
            bar.advance(task, rows)
            speed = bar.tasks[0].speed
            bar.update(task, rate="" if speed is None else f"{speed:,.0f} utterances/s")

        yield advance


def results_table(
    title: str, modalities: list[str], summaries: Mapping[str, Summary], *, is_mixed: bool = False
) -> Table:
    """One column a configuration; scores in percent. `is_mixed`: the head of a modality has seen the others too."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("")
    for name in summaries:
        table.add_column(Text(name), justify="right")

    def row(label: str, cells: list[str]) -> None:
        table.add_row(Text(label), *cells)

    def percent(x: float, spread: float = float("nan")) -> str:
        return f"{100 * x:.1f}" if spread != spread else f"{100 * x:.1f} ± {100 * spread:.1f}"

    of = list(summaries.values())
    row("test weighted F1, %", [percent(s.weighted_f1, s.weighted_f1_sd) for s in of])
    row("test macro F1, %", [percent(s.macro_f1, s.macro_f1_sd) for s in of])
    row("test accuracy, %", [percent(s.accuracy, s.accuracy_sd) for s in of])
    of_modality = "  the head of {}, %" if is_mixed else "  {} alone, %"
    for m, modality in enumerate(modalities):
        row(of_modality.format(modality), [percent(s.modality_accuracy[m]) for s in of])
    for m, modality in enumerate(modalities):
        row(f"modality ratio, {modality}", [f"{s.modality_ratio[m]:.2f}" if s.modality_ratio else "-" for s in of])
    row("take rate, first epoch, %", [_or_dash(100 * s.first_take_rate, ".1f") for s in of])
    row("take rate, last epoch, %", [_or_dash(100 * s.take_rate, ".1f") for s in of])
    row("seconds per epoch", [f"{s.seconds_per_epoch:.2f}" for s in of])
    row("of these in the curriculum, %", [percent(s.curriculum_share) for s in of])
    return table


def _or_dash(x: float, form: str) -> str:
    return "-" if x != x else format(x, form)
