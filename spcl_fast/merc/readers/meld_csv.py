"""MELD's own tables: who says what with which emotion, in CSV; features come from files beside them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spcl_fast.merc.dataset import DatasetError, DialogueDataset
from spcl_fast.merc.npz import parse_npy
from spcl_fast.merc.published import PUBLISHED_COUNTS
from spcl_fast.merc.readers._words import shown
from spcl_fast.merc.readers.assemble import Budget, SourceDialogue, assemble, feature_array
from spcl_fast.merc.readers.dev_split import SPLIT_RULES, split_dev
from spcl_fast.merc.readers.plain_pickle import load_plain, read_bytes

_FILES = {"train": "train_sent_emo.csv", "dev": "dev_sent_emo.csv", "test": "test_sent_emo.csv"}
_COLUMNS = ("Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")
_CLASSES = PUBLISHED_COUNTS["MELD"].class_names
_KEY = re.compile(r"(?:dia)?(\d{1,9})_(?:utt)?(\d{1,9})(?:\.\w+)?", re.ASCII)


class _Row(NamedTuple):
    dialogue: int
    utterance: int
    row: int
    speaker: str
    label: int


def read_meld_csv(
    path: str | os.PathLike[str],
    *,
    features: Mapping[str, str | os.PathLike[str]],
    split: str = "own",
) -> DialogueDataset:
    """Read MELD from its CSV files and features from files beside them.

    Columns (Poria et al., 2019, repository declare-lab/MELD): `Speaker`, `Emotion`, `Dialogue_ID` and `Utterance_ID`;
    the others are not looked at. The dialogues are put in the order of their numbers, the utterances of each likewise.

    Args:
        path: the folder with `train_sent_emo.csv`, `dev_sent_emo.csv` and `test_sent_emo.csv`, of which any may be
            missing; or one CSV file, whose split is the one its name begins with, else "train".
        features: modality -> file, in which `{split}` stands for train, dev and test. Needed where there are several
            CSV files, unless the file is a pickle of one dict for each of them, in that order. Either an `.npy` array
            `[T, F]`, a row for every row of the CSV file, in its order; or a pickle of a dict from utterance to
            features `[F]`, its keys `"dia3_utt0"`, `"3_0"` or `(3, 0)`, read by `load_plain`.
        split: what is done about dev, see `split_dev`.

    Returns:
        The corpus: dialogue 3 of train is "train_dia3", its speakers are told apart by their exact names and numbered
        inside each dialogue by their first words. Numbers that are missing among the utterances of a dialogue are
        common in MELD; a note says how many dialogues have such gaps.

    Raises:
        DatasetError: a file that is missing, broken or without a column, an emotion that is not one of MELD's, an
            utterance that is there twice or has no features; with the file and the line or utterance.
        ValueError: no features, or an unknown split rule.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from spcl_fast.merc.readers import read_meld_csv
        >>> rows = ["Speaker,Emotion,Dialogue_ID,Utterance_ID", "Ross,joy,0,1", "Joey,anger,0,0"]
        >>> _ = Path("train_sent_emo.csv").write_text(chr(10).join(rows))
        >>> np.save("text.npy", np.array([[1.0], [2.0]]))
        >>> corpus = read_meld_csv("train_sent_emo.csv", features={"text": "text.npy"})
        >>> corpus.labels.tolist(), corpus.features["text"].ravel().tolist()  # Joey's words come first
        ([6, 4], [2.0, 1.0])
    """
    if split not in SPLIT_RULES:
        raise ValueError(f"split must be one of {', '.join(SPLIT_RULES)} (got {split!r})")
    if not features:
        raise ValueError("features must name a file for each modality, as the CSV has none (got none)")
    source = Path(path)
    tables: dict[str, list[_Row]] = {}
    for name, file in _csv_files(source).items():
        with _naming(file):
            tables[name] = list(_rows(read_bytes(file)))
    by_modality = {m: _features(str(file), tables) for m, file in features.items()}
    with _naming(source):
        found = [d for name, rows in tables.items() for d in _dialogues(name, rows, by_modality)]
        gaps = sum(_has_gap([x.utterance for x in one]) for rows in tables.values() for one in _by_dialogue(rows))
        notes = [f"{gaps} dialogues have gaps in the numbers of their utterances"] if gaps else []
        return split_dev(assemble(source.stem, found, _CLASSES, notes), split)


class _naming:  # noqa: N801 - used as a statement
    """Puts a file before what is wrong with it."""

    def __init__(self, file: str | Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DatasetError):
            raise DatasetError(f"{self.file}: {error}") from None


def _csv_files(source: Path) -> dict[str, Path]:
    if source.is_dir():
        found = {split: source / name for split, name in _FILES.items() if (source / name).is_file()}
        if not found:
            raise DatasetError(f"{source}: has none of the files {', '.join(_FILES.values())}")
        return found
    return {next((split for split in _FILES if source.name.startswith(split)), "train"): source}


def _rows(content: bytes) -> Iterator[_Row]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # only names and emotions are read, and every byte is one of these
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
        if missing:
            raise DatasetError(f"has no column {', '.join(missing)}")
        seen: set[tuple[int, int]] = set()
        for i, row in enumerate(table):
            found = _row(row, i, f"line {table.line_num}")
            if (found.dialogue, found.utterance) in seen:
                at = f"line {table.line_num}: utterance {found.utterance} of dialogue {found.dialogue}"
                raise DatasetError(f"{at} is there twice")
            seen.add((found.dialogue, found.utterance))
            yield found
    except csv.Error as error:
        raise DatasetError(f"line {table.reader.line_num}: no CSV ({error})") from None


def _row(row: dict[str, Any], i: int, at: str) -> _Row:
    empty = next((column for column in _COLUMNS if not row[column]), None)
    if empty is not None:
        raise DatasetError(f"{at}: {empty} is empty")
    for column in _COLUMNS[2:]:
        if not re.fullmatch(r"\d{1,9}", row[column].strip(), re.ASCII):
            raise DatasetError(f"{at}: {column} must be a number (got {shown(row[column])})")
    emotion = row["Emotion"].strip().casefold()
    if emotion not in _CLASSES:
        raise DatasetError(f"{at}: Emotion must be one of {', '.join(_CLASSES)} (got {shown(row['Emotion'])})")
    dialogue, utterance = (int(row[column].strip()) for column in _COLUMNS[2:])
    return _Row(dialogue, utterance, i, row["Speaker"].strip(), _CLASSES.index(emotion))


def _features(file: str, tables: dict[str, list[_Row]]) -> dict[str, Any]:
    """Split -> its features: an array by rows, or a dict by utterances."""
    if "{split}" in file:
        return {split: _feature_file(Path(file.replace("{split}", split)), rows) for split, rows in tables.items()}
    if len(tables) == 1:
        return {split: _feature_file(Path(file), rows) for split, rows in tables.items()}
    with _naming(file):
        found = load_plain(read_bytes(Path(file))) if not file.endswith(".npy") else None
        names = [split for split in _FILES if split in tables]
        if not isinstance(found, (list, tuple)) or len(found) != len(names):
            rule = "must be one file for each split, with {split} in its name, or a pickle of one dict for each"
            raise DatasetError(f"{rule} (there are {', '.join(names)})")
        size = Path(file).stat().st_size
        return {split: (_by_utterance(part), Budget(size)) for split, part in zip(names, found, strict=True)}


def _feature_file(file: Path, rows: list[_Row]) -> Any:
    with _naming(file):
        content = read_bytes(file)
        if file.suffix != ".npy":
            return _by_utterance(load_plain(content)), Budget(len(content))
        array = parse_npy(content, "the array")
        if array.ndim != 2 or array.dtype.kind not in "fiu" or len(array) != len(rows):
            raise DatasetError(f"must be numbers [{len(rows)}, F], a row of the CSV each (got shape {array.shape})")
        return array, Budget(len(content))


def _by_utterance(found: Any) -> dict[tuple[int, int], Any]:
    if not isinstance(found, dict):
        raise DatasetError(f"must be a dict from utterance to features (got {shown(found)})")
    by_utterance: dict[tuple[int, int], Any] = {}
    for key, value in found.items():
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        place = (int(match[1]), int(match[2])) if match is not None else key
        if not (isinstance(place, tuple) and len(place) == 2 and all(type(x) is int for x in place)):
            raise DatasetError(f"must have keys such as 'dia3_utt0', '3_0' or (3, 0) (got {shown(key)})")
        by_utterance[place] = value
    return by_utterance


def _by_dialogue(rows: list[_Row]) -> list[list[_Row]]:
    found: dict[int, list[_Row]] = {}
    for row in sorted(rows):
        found.setdefault(row.dialogue, []).append(row)
    return list(found.values())


def _has_gap(numbers: list[int]) -> bool:
    return numbers != list(range(len(numbers)))


def _dialogues(split: str, rows: list[_Row], features: dict[str, dict[str, Any]]) -> Iterator[SourceDialogue]:
    for one in _by_dialogue(rows):
        name = f"{split}_dia{one[0].dialogue}"
        arrays = {}
        for modality, by_split in features.items():
            values, budget = by_split[split]
            try:
                arrays[modality] = feature_array(_of(values, one), len(one), budget)
            except DatasetError as error:
                raise DatasetError(f"{modality} of dialogue {shown(name)}: {error}") from None
        labels = np.array([row.label for row in one], np.int64)
        yield SourceDialogue(name, split, labels, [row.speaker for row in one], arrays)


def _of(values: Any, rows: list[_Row]) -> Any:
    if isinstance(values, np.ndarray):
        return values[[row.row for row in rows]]
    lost = next((row for row in rows if (row.dialogue, row.utterance) not in values), None)
    if lost is not None:
        raise DatasetError(f"utterance {lost.utterance} has no features")
    return [values[row.dialogue, row.utterance] for row in rows]
