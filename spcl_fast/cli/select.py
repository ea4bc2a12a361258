"""`spcl-fast select`: which rows of a corpus are chosen, into a file that a sampler reads in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spcl_fast.cli.options import ByDialogue, Column, Scored, Verify


def select(
    scores: Scored,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    pace: Annotated[float | None, typer.Option(help="Take exactly this share, in (0, 1], ties by row.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Take all up to this difficulty, in place of --pace.")] = None,
    column: Column = None,
    by: ByDialogue = "utterance",
    form: Annotated[
        str, typer.Option(help="rows (8 bytes a chosen row), bits (1.13 bits a row), or auto for the smaller.")
    ] = "auto",
    verify: Verify = False,
    force: Annotated[bool, typer.Option("--force", help="Replace --out where it is there already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Choose the easiest rows of a corpus, at a pace or up to a threshold, without loading a column as a whole."""
    from spcl_fast.cli.columns import open_columns
    from spcl_fast.cli.console import console, refusing
    from spcl_fast.corpus import select as write

    with refusing():
        if out.exists() and not force:
            raise ValueError(f"{out} is there already: replace it with --force, or choose another --out")
        name, columns = open_columns(scores, column, by, verify)
        found = write(columns, out=out, pace=pace, threshold=threshold, form=form, unit=by)
    size = out.stat().st_size
    say = console().print
    if as_json:
        what = {"column": name, "unit": by, "rows": found.rows, "count": len(found), **found.about}
        say(json.dumps(what | {"form": found.form, "bytes": size, "checksum": found.checksum, "out": str(out)}))
    else:
        share = 100 * len(found) / max(found.rows, 1)
        say(f"{name}: {len(found)} of {found.rows} {by}s ({share:.1f} %) up to {found.about['threshold']}")
        say(f"Written to {out}: {size} bytes, as {found.form}")
