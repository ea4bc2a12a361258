"""`spcl-fast threshold`: the exact threshold at a pace, over all shards of a store."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from spcl_fast.cli.options import ByDialogue, Column, Scored, Verify


def threshold(
    scores: Scored,
    pace: Annotated[list[float], typer.Option(help="Share of the corpus to take, in (0, 1]; may be given again.")],
    column: Column = None,
    by: ByDialogue = "utterance",
    verify: Verify = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Find the difficulty up to which a share of the corpus lies; nothing is loaded as a whole, nothing written."""
    from spcl_fast.cli.columns import open_columns
    from spcl_fast.cli.console import console, refusing
    from spcl_fast.corpus import global_thresholds

    with refusing():
        name, columns = open_columns(scores, column, by, verify)
        found = global_thresholds(columns, pace)
    say = console().print
    if as_json:
        rows = [
            {"pace": p, "threshold": _finite(float(x.value)), "taken": x.taken, "ties": x.ties}
            for p, x in zip(pace, found, strict=True)
        ]
        about = {"column": name, "unit": by, "total": found[0].total, "known": found[0].known}
        return say(json.dumps(about | {"thresholds": rows}, allow_nan=False))
    say(f"{name}: {found[0].total} {by}s, {found[0].total - found[0].known} of them without a number")
    for p, x in zip(pace, found, strict=True):
        say(f"pace {p:g}: {x.taken} {by}s up to {float(x.value)!r}")
    return None


def _finite(value: float) -> float | str | None:
    """JSON has no infinity and no NaN; without any number there is no threshold."""
    return None if math.isnan(value) else str(value) if math.isinf(value) else value
