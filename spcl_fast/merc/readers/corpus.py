"""One function for all formats."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from spcl_fast.merc.dataset import DatasetError, DialogueDataset
from spcl_fast.merc.readers.meld_csv import read_meld_csv
from spcl_fast.merc.readers.pickles import read_pickle
from spcl_fast.merc.readers.tables import read_table

#: What `format` may be, and the endings of files that "auto" takes for it.
FORMATS: dict[str, tuple[str, ...]] = {
    "pickle": (".pkl", ".pickle", ".p"),
    "meld-csv": (".csv",),
    "arrow": (".arrow", ".feather", ".ipc"),
    "parquet": (".parquet", ".pq"),
}


def read_corpus(
    path: str | os.PathLike[str],
    *,
    format: str = "auto",
    corpus: str | None = None,
    features: Mapping[str, str] | None = None,
    split: str = "own",
) -> DialogueDataset:
    """Read a corpus in any of the formats of this package.

    Args:
        path: the file, or for "meld-csv" the folder.
        format: one of `FORMATS`; "auto" goes by the ending of the name, and takes a folder for MELD's tables.
        corpus: "iemocap", "meld" or "mosi", or None, as `read_pickle` and `read_table` take it; MELD's tables are
            always "meld".
        features: modality -> where its features are: an entry of a pickle, a column of a table, a file beside MELD's
            tables.
        split: what is done about dev, see `split_dev`.

    Returns:
        The corpus; `notes` say what was decided on the way, and how it differs from the published counts.

    Raises:
        DatasetError: what the reader of the format refuses.
        ModuleNotFoundError: a table, and pyarrow is not installed.
        ValueError: an unknown format, corpus or split rule.

    Example:
        >>> import pickle
        >>> import numpy as np
        >>> from spcl_fast.merc.readers import read_corpus
        >>> part = lambda value: {d: value for d in range(12)}
        >>> entries = {"label": part([0, 2]), "speaker": part(["M", "F"]), "text": part(np.ones((2, 3)))}
        >>> with open("iemocap.pkl", "wb") as file:
        ...     pickle.dump({**entries, "trainVid": list(range(10)), "testVid": [10, 11]}, file)
        >>> read_corpus("iemocap.pkl", split="spcl").counts()
        {'train': (9, 18), 'dev': (1, 2), 'test': (2, 4)}
    """
    if format == "auto":
        format = _guess(Path(path))
    if format == "pickle":
        return read_pickle(path, corpus=corpus, features=features, split=split)
    if format == "meld-csv":
        if corpus not in (None, "meld"):
            raise ValueError(f"corpus must be 'meld' for MELD's tables (got {corpus!r})")
        return read_meld_csv(path, features=features or {}, split=split)
    if format in FORMATS:
        return read_table(path, corpus=corpus, features=features, split=split)
    raise ValueError(f"format must be one of auto, {', '.join(FORMATS)} (got {format!r})")


def _guess(path: Path) -> str:
    if path.is_dir():
        return "meld-csv"
    for name, endings in FORMATS.items():
        if path.suffix.casefold() in endings:
            return name
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    known = " ".join(ending for endings in FORMATS.values() for ending in endings)
    raise DatasetError(f"{path}: its name does not say its format (say the format, or use one of {known})")
