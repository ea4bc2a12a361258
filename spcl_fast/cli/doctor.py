"""`spcl-fast doctor`: what is installed, what runs, and why something does not."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, build, machine, backends, and which backend computes which op."""
    from spcl_fast import backends

    sections: dict[str, dict[str, str]] = {}
    for row in backends.report():
        sections.setdefault(row.section, {})[row.name] = row.value
    if as_json:
        typer.echo(json.dumps(sections, indent=2))
        return
    width = max(len(name) for rows in sections.values() for name in rows)
    for section, rows in sections.items():
        typer.echo(section)
        for name, value in rows.items():
            typer.echo(f"  {name:<{width}}  {value}")
