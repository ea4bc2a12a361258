"""What `spcl-fast import --store` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spcl_fast.corpus import Corpus
from spcl_fast.corpus.convert import store_dataset, store_table
from spcl_fast.corpus.manifest import MANIFEST
from spcl_fast.merc.npz import read_npz
from spcl_fast.merc.readers import read_corpus
from spcl_fast.merc.readers.assemble import class_names_of
from spcl_fast.merc.readers.corpus import FORMATS


def import_store(
    source: Path,
    out: Path,
    format: str,
    corpus: str | None,
    features: Mapping[str, str] | None,
    split: str,
    *,
    logits: Mapping[str, str] | None,
    class_names: Sequence[str] | None,
    only: str | None,
    utterances_per_shard: int,
    replace: bool,
) -> Corpus:
    """Tables a part at a time; what has no other form in memory, and then into the store."""
    if (out / MANIFEST).exists() and not replace:
        raise ValueError(f"{out} holds a store already: replace it with --force, or choose another --out")
    size, ending = utterances_per_shard, source.suffix.lower()
    tables = (*FORMATS["arrow"], *FORMATS["parquet"])
    parts = sorted(path for path in source.glob("*") if path.suffix in tables) if source.is_dir() else []
    if format in ("arrow", "parquet") or (format == "auto" and (parts or ending in tables)):
        names = class_names_of(corpus, 0) if class_names is None and corpus is not None else class_names
        columns: dict[str, Any] = {"logits": logits, "embeddings": features, "class_names": names}
        options: dict[str, Any] = {"utterances_per_shard": size, "replace": replace}
        return store_table(parts or source, out, split=only, **columns, **options)
    if logits is not None or class_names is not None:
        raise ValueError("--logits and --class-names are for tables: an Arrow or Parquet file, or a folder of them")
    if ending == ".npz":
        dataset = read_npz(source, None if features is None else list(features.values()))
        if features is not None:
            chosen = {name: dataset.features[views] for name, views in features.items()}
            dataset = dataclasses.replace(dataset, features=chosen)
    else:
        dataset = read_corpus(source, format=format, corpus=corpus, features=features, split=split)
    return store_dataset(dataset, out, split=only, utterances_per_shard=size, replace=replace)
