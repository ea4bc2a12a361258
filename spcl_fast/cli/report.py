"""`spcl-fast report`: what the runs of a study say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[Path, typer.Argument(help="Results file: JSON lines, one row a run.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.md and the figures.")],
    pictures: Annotated[bool, typer.Option(help="Draw PNG figures, too.")] = True,
) -> None:
    """Write a page that says what the runs of a study support, with tests, tables and figures."""
    from spcl_fast.cli.console import console, refusing
    from spcl_fast.merc.results import read_results
    from spcl_fast.report.study import write_report

    say = console().print
    with refusing():
        found = read_results(results)
        for note in found.notes:
            say(f"Note: {note}")
        page, text, *drawn = write_report(found, out, pictures=pictures)
    say(f"{len(found.rows)} run(s). Written: {page} (one file, works offline), {text}, {len(drawn)} figure(s)")
