"""`spcl-fast import`: a corpus as published, or as a table of your own, into the `.npz` format or a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def import_(
    source: Annotated[
        Path, typer.Argument(help="Feature pickle, folder or file of MELD's CSV, Arrow or Parquet file.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write; with --store the folder.")],
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
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="Write a store of shards, for corpora past memory: of tables a part at a time, also of a folder of "
            "Parquet files, or of an .npz file.",
        ),
    ] = False,
    logits: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY=COLUMN", help="With --store: logits in a table; once for each modality."),
    ] = None,
    only: Annotated[str | None, typer.Option(help="With --store: the one split to take.")] = None,
    class_names: Annotated[str | None, typer.Option(help="With --store: of the labels of a table, by commas.")] = None,
    utterances_per_shard: Annotated[
        int, typer.Option(help="With --store: where a shard ends, with the dialogue before.", min=1)
    ] = 1 << 20,
) -> None:
    """Read a corpus without running anything in it, compare it with the published counts, and write it for `train`."""
    from spcl_fast.cli.console import console, refusing
    from spcl_fast.merc.npz import write_npz
    from spcl_fast.merc.readers import read_corpus

    with refusing():
        chosen = _columns("--features", features)
        if store:
            from spcl_fast.cli._import_store import import_store

            names = class_names.split(",") if class_names is not None else None
            tables: dict[str, Any] = {"logits": _columns("--logits", logits), "class_names": names}
            options: dict[str, Any] = {"utterances_per_shard": utterances_per_shard, "replace": force}
            written = import_store(source, out, format, corpus, chosen, split, only=only, **tables, **options)
            console().print(f"Written to {out}: {written}")
            return
        if out.suffix != ".npz":
            raise ValueError(f"--out must end in .npz (got {out})")
        if out.exists() and not force:
            raise ValueError(f"{out} is there already: replace it with --force, or choose another --out")
        dataset = read_corpus(source, format=format, corpus=corpus, features=chosen, split=split)
        write_npz(out, dataset)
    say = console().print
    counts = ", ".join(f"{d} dialogues ({n} utterances) {name}" for name, (d, n) in dataset.counts().items())
    sizes = ", ".join(f"{modality} {values.shape[1]}" for modality, values in dataset.features.items())
    say(f"{dataset.name}: {counts}; {dataset.num_classes} classes: {' '.join(dataset.class_names)}; {sizes}.")
    for note in dataset.notes:
        say(f"Note: {note}")
    say(f"Written to {out}: train with --data {out} --modalities {','.join(dataset.features)}")


def _columns(option: str, given: list[str] | None) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for text in given or ():
        modality, equals, source = text.partition("=")
        if not (modality and equals and source):
            raise ValueError(f"{option} must be MODALITY=SOURCE, such as text=roberta1 (got {text!r})")
        if modality in found:
            raise ValueError(f"{option}: {modality} is given twice")
        found[modality] = source
    return found or None
