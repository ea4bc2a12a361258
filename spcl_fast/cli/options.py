"""Options that several commands have."""

from __future__ import annotations

import os
from typing import Annotated

import typer

Threads = Annotated[
    int, typer.Option(min=1, max=os.cpu_count(), help="CPU threads; models this small gain little from more.")
]
