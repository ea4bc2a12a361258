"""`spcl-fast import`: a corpus as published, or as a table of your own, into the `.npz` format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    source: Annotated[
        Path, typer.Argument(help="Feature pickle, folder or file of MELD's CSV, Arrow or Parquet file.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    format: Annotated[
        str, typer.Option(help="auto (by the ending of the name), pickle, meld-csv, arrow or parquet.")
    ] = "auto",
    corpus: Annotated[str | None, typer.Option(help="iemocap, meld or mosi: names the classes.")] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=SOURCE",
            help="Entry of the pickle, column of the table, or file beside MELD's tables; once for each modality.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="How dev is made where there is none: own, or spcl for the rule of SPCL's code.")
    ] = "own",
    force: Annotated[bool, typer.Option("--force", help="Replace --out where it is there already.")] = False,
) -> None:
    """Read a corpus without running anything in it, compare it with the published counts, and write it for `train`."""
    from spcl_fast.cli.console import console, refusing
    from spcl_fast.merc.npz import write_npz
    from spcl_fast.merc.readers import read_corpus

    with refusing():
        if out.suffix != ".npz":
            raise ValueError(f"--out must end in .npz (got {out})")
        if out.exists() and not force:
            raise ValueError(f"{out} is there already: replace it with --force, or choose another --out")
        chosen = _features(features) if features else None
        beside = source if source.is_dir() else source.parent
        for read in (source, *(beside / name for name in (chosen or {}).values())):
            if out.exists() and read.exists() and out.samefile(read):
                raise ValueError(f"--out must be another file than what is read (got {out})")
        dataset = read_corpus(source, format=format, corpus=corpus, features=chosen, split=split)
        write_npz(out, dataset)
    say = console().print
    counts = ", ".join(f"{d} dialogues ({n} utterances) {name}" for name, (d, n) in dataset.counts().items())
    sizes = ", ".join(f"{modality} {values.shape[1]}" for modality, values in dataset.features.items())
    say(f"{dataset.name}: {counts}; {dataset.num_classes} classes: {' '.join(dataset.class_names)}; {sizes}.")
    for note in dataset.notes:
        say(f"Note: {note}")
    say(f"Written to {out}: train with --data {out} --modalities {','.join(dataset.features)}")


def _features(options: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in options:
        modality, equals, source = option.partition("=")
        if not (modality and equals and source):
            raise ValueError(f"--features must be MODALITY=SOURCE, such as text=roberta1 (got {option!r})")
        if modality in found:
            raise ValueError(f"--features: {modality} is given twice")
        found[modality] = source
    return found
