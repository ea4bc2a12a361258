"""Feature pickles as published: the tuples of DialogueRNN, MMGCN, COSMIC and SDT, and the dict of SPCL.

Layouts as the loaders of these repositories read them: declare-lab/conv-emotion (DialogueRNN/dataloader.py,
COSMIC/erc-training/dataloader.py), hujingwen6666/MMGCN (dataloader.py), np4s/SPCL (code/dataloader.py), and the loaders
of iemocap_multimodal_features.pkl, which SDT introduced. Their files hold no names of the entries, so a file is
recognised by what its entries are. What MELD's tenth entry holds, no loader says; it is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spcl_fast.merc.dataset import DatasetError, DialogueDataset
from spcl_fast.merc.readers._words import shown
from spcl_fast.merc.readers.assemble import (
    Budget,
    SourceDialogue,
    assemble,
    class_names_of,
    feature_array,
    label_array,
    speaker_list,
)
from spcl_fast.merc.readers.dev_split import SPLIT_RULES, split_dev
from spcl_fast.merc.readers.plain_pickle import load_plain, read_bytes

_ROBERTA = "roberta1 roberta2 roberta3 roberta4"
#: Layout -> its entries in order; "-" is left alone. All but the splits are dicts from dialogue to utterances.
LAYOUTS: dict[str, str] = {
    "M3ED": "ids speakers labels text audio visual sentences train dev test",
    "DialogueRNN and MMGCN, IEMOCAP": "ids speakers labels text audio visual sentences train test",
    "MMGCN, MELD": "ids speakers labels text audio visual sentences train test -",
    "DialogueRNN, MELD": "ids speakers labels text audio sentences train test -",
    "COSMIC, IEMOCAP": f"speakers labels {_ROBERTA} sentences train test dev",
    "COSMIC, MELD": f"speakers labels - {_ROBERTA} sentences train test dev",
    "SDT, IEMOCAP": f"ids speakers labels {_ROBERTA} audio visual sentences train test",
    "SDT, MELD": f"ids speakers labels {_ROBERTA} audio visual sentences train test -",
}
_SPLITS = ("train", "dev", "test")
_TEXT = ("ids", "sentences", "-")
# The keys of SPCL's dicts -> the entry; IEMOCAP has "speaker", MELD "speakers", MOSEI "valVid".
_KEYS = {
    **{"trainVid": "train", "valVid": "dev", "testVid": "test", "speaker": "speakers", "speakers": "speakers"},
    **{"label": "labels", "labels": "labels", "sentence": "sentences", "sentences": "sentences"},
}


def read_pickle(
    path: str | os.PathLike[str],
    *,
    corpus: str | None = None,
    features: Mapping[str, str] | None = None,
    split: str = "own",
) -> DialogueDataset:
    """Read a published feature pickle, without running it (see `load_plain`).

    Args:
        path: the file: a tuple or list in one of the `LAYOUTS`, or SPCL's dict: `trainVid`, `testVid` (`valVid`),
            `label`, `speaker` or `speakers`, and a modality under every other key that holds features.
        corpus: "iemocap", "meld" or "mosi", which names the classes. None recognises IEMOCAP by speakers M and F and
            MELD by speakers as rows of 9; the classes of others are named by their numbers.
        features: modality -> entry of the file; "roberta1+roberta2" puts two side by side. None: each entry of
            features is a modality of its own name.
        split: how dev is made where the file has only train and test; see `split_dev`.

    Returns:
        The corpus, named after the file: its training dialogues in the order stored (sorted by name where the file
        holds a set, which has no order), then dev, then test; dialogues in no split are left out with a note. Speakers
        are numbered inside each dialogue by their first words. Features are converted to float32.

    Raises:
        DatasetError: the file is broken, asks for more than arrays and containers, has no layout that is known, or
            holds what does not fit together; one line with the file and the dialogue.
        ValueError: an unknown corpus or split rule.

    Example:
        >>> import pickle
        >>> import numpy as np
        >>> from spcl_fast.merc.readers import read_pickle
        >>> of = lambda value: {"Ses01": value, "Ses05": value}  # the same utterances, for a short example
        >>> text, audio, visual = (of([np.zeros(F), np.ones(F)]) for F in (100, 1582, 342))
        >>> entries = of(["a", "b"]), of(["M", "F"]), of([0, 5]), text, audio, visual, of(["Hi.", "Oh."])
        >>> with open("features.pkl", "wb") as file:
        ...     pickle.dump((*entries, ["Ses01"], ["Ses05"]), file)
        >>> read_pickle("features.pkl")
        DialogueDataset('features': 2 dialogues, 4 utterances, 6 classes; text 100, audio 1582, visual 342)
    """
    if split not in SPLIT_RULES:
        raise ValueError(f"split must be one of {', '.join(SPLIT_RULES)} (got {split!r})")
    class_names_of(corpus, 0)  # refuses a corpus that is not known, before the file is read
    file = os.fspath(path)
    try:
        content = read_bytes(Path(file))
        entries = _entries(load_plain(content))
        return split_dev(_build(Path(file).stem, entries, corpus, features, Budget(len(content))), split)
    except DatasetError as error:
        raise DatasetError(f"{file}: {error}") from None


def _entries(found: Any) -> dict[str, Any]:
    """Entry -> what the file holds of it."""
    if isinstance(found, dict):
        return _of_dict(found)
    if not isinstance(found, (list, tuple)):
        raise DatasetError(f"must hold a tuple, list or dict (got {shown(found)})")
    tried = []
    for layout, names in LAYOUTS.items():
        if len(names.split()) == len(found):
            entries = dict(zip(names.split(), found, strict=True))
            reason = _mismatch(entries)
            if reason is None:
                return entries
            tried.append(f"{layout}: {reason}")
    lengths = sorted({len(names.split()) for names in LAYOUTS.values()})
    if not tried:
        raise DatasetError(f"has {len(found)} entries; the layouts that are known have {', '.join(map(str, lengths))}")
    raise DatasetError(f"has no layout that is known ({'; '.join(tried)})")


def _of_dict(found: dict[Any, Any]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in found.items():
        entry = _KEYS.get(name, name)
        if not isinstance(entry, str) or entry in entries:
            raise DatasetError(f"must have keys of text, and one for each entry (got {shown(name)})")
        entries[entry] = value
    missing = [name for name in ("train", "test", "labels", "speakers") if name not in entries]
    if missing:
        have = ", ".join(shown(name) for name in list(found)[:20])
        raise DatasetError(f"has no entry for {', '.join(missing)}; its keys are {have or 'none'}")
    # What is not features of an utterance, such as a table of names, is left alone.
    first, known = _first(entries), ("labels", "speakers", *_TEXT, *_SPLITS)
    entries = {name: x for name, x in entries.items() if name in known or _is_feature(x, first)}
    reason = _mismatch(entries)
    if reason is not None:
        raise DatasetError(reason)
    return entries


def _mismatch(entries: dict[str, Any]) -> str | None:
    """Why the entries are not what their names say; None where they are, as far as the first dialogue shows."""
    for name in _SPLITS:
        if name in entries and _ids(entries[name]) is None:
            return f"{name} must be a list or set of dialogues (got {shown(entries[name])})"
    first = _first(entries)
    if first is None:
        return "its splits are empty"
    for name, value in entries.items():
        if name in (*_SPLITS, "-"):
            continue
        if not isinstance(value, dict) or first not in value:
            return f"{name} must be a dict with the dialogue {shown(first)} (got {shown(value)})"
        if name not in (*_TEXT, "labels", "speakers") and not _is_feature(value, first):
            return f"{name} must hold rows of numbers (got {_kind(value[first])})"
        if name == "labels" and not _is_labels(value[first]):
            return f"labels must be integers (got {_kind(value[first])})"
    return None


def _first(entries: dict[str, Any]) -> Any:
    """The first dialogue of the first split that has one; None where none has."""
    return next((ids[0] for ids in (_ids(entries[name]) for name in _SPLITS if name in entries) if ids), None)


def _ids(value: Any) -> list[Any] | None:
    """The dialogues of a split in their order; a set has none, so its names are sorted. None where it is no split."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, (list, tuple, set)) or not all(isinstance(x, (str, int)) for x in value):
        return None
    return sorted(value, key=lambda x: (isinstance(x, str), x)) if isinstance(value, set) else list(value)


def _is_feature(value: Any, first: Any) -> bool:
    if not isinstance(value, dict) or first not in value:
        return False
    rows = value[first]
    if not isinstance(rows, (list, tuple)):
        return isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.dtype.kind in "fiu"
    row = rows[0] if rows else None
    if isinstance(row, (list, tuple)):
        return bool(row) and type(row[0]) in (int, float)
    return isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "fiu"


def _is_labels(value: Any) -> bool:
    try:
        label_array(value)
    except DatasetError:
        return False
    return True


def _kind(value: Any) -> str:
    return f"{shown(value)} of {shown(value[0])}" if isinstance(value, (list, tuple)) and value else shown(value)


def _build(
    name: str, entries: dict[str, Any], corpus: str | None, features: Mapping[str, str] | None, budget: Budget
) -> DialogueDataset:
    views = _views(entries, features)
    dialogues = list(_dialogues(entries, views, budget))
    if corpus is None:
        corpus = _recognise(entries)
    highest = max((int(dialogue.labels.max(initial=0)) for dialogue in dialogues), default=0)
    left = len(entries["labels"]) - len(dialogues)
    notes = [f"{left} dialogues are in no split and left out"] if left else []
    return assemble(name, dialogues, class_names_of(corpus, highest), notes)


def _views(entries: dict[str, Any], features: Mapping[str, str] | None) -> dict[str, list[str]]:
    names = [name for name in entries if name not in (*_TEXT, *_SPLITS, "labels", "speakers")]
    if not names:
        raise DatasetError("holds no features")
    views = {name: [name] for name in names}
    if features is not None:
        views = {modality: view.split("+") for modality, view in features.items()}
    for view in views.values():
        for name in view:
            if name not in names:
                raise DatasetError(f"features: {name!r} is not in the file; choose from {', '.join(names)}")
    return views


def _dialogues(entries: dict[str, Any], views: dict[str, list[str]], budget: Budget) -> Iterator[SourceDialogue]:
    seen: dict[Any, str] = {}
    for split in (name for name in _SPLITS if name in entries):
        for key in _ids(entries[split]) or ():
            if key in seen:
                raise DatasetError(f"dialogue {shown(key)} is in {split} and in {seen[key]}")
            seen[key] = split
            part = "labels"
            try:
                values = _of(entries, part, key)
                budget.spend(24 * len(values) if hasattr(values, "__len__") else 0)
                labels = label_array(values)
                part = "speakers"
                speakers = speaker_list(_of(entries, part, key), len(labels))
                rows = {}
                for part in dict.fromkeys(name for view in views.values() for name in view):
                    rows[part] = feature_array(_of(entries, part, key), len(labels), budget)
            except DatasetError as error:
                raise DatasetError(f"{part} of dialogue {shown(key)}: {error}") from None
            joined = {m: rows[v[0]] if len(v) == 1 else np.hstack([rows[x] for x in v]) for m, v in views.items()}
            yield SourceDialogue(str(key), split, labels, speakers, joined)


def _of(entries: dict[str, Any], part: str, key: Any) -> Any:
    if key not in entries[part]:
        raise DatasetError("is not there")
    return entries[part][key]


def _recognise(entries: dict[str, Any]) -> str | None:
    """The corpus that the speakers of the first dialogue are of; they were read before."""
    speakers = list(entries["speakers"][_first(entries)])
    if speakers and all(isinstance(x, str) and x in ("M", "F") for x in speakers):
        return "iemocap"
    is_meld = bool(speakers) and all(isinstance(x, (list, tuple, np.ndarray)) and len(x) == 9 for x in speakers)
    return "meld" if is_meld else None
