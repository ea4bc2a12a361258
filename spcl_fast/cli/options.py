"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Threads = Annotated[
    int, typer.Option(min=1, max=os.cpu_count(), help="CPU threads; models this small gain little from more.")
]
Scored = Annotated[
    Path, typer.Argument(help="Folder of `spcl-fast rescore`, or a .npy file of difficulties.", exists=True)
]
Column = Annotated[str | None, typer.Option(help="Which score; default: difficulty, and of dialogues mean_difficulty.")]
ByDialogue = Annotated[str, typer.Option(help="utterance or dialogue: what is counted and chosen.")]
Verify = Annotated[bool, typer.Option("--verify", help="Compare the checksums of the scores, which reads all of them.")]
