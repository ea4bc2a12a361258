"""From dialogues, one by one, to a `DialogueDataset`: what every reader ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spcl_fast.merc.dataset import UNKNOWN_SPEAKER, UNLABELLED, DatasetError, DialogueDataset
from spcl_fast.merc.published import PUBLISHED_COUNTS, published_notes
from spcl_fast.merc.readers._words import shown

#: Name of a corpus, as a caller says it -> its name among the published counts.
CORPORA = {"iemocap": "IEMOCAP", "meld": "MELD", "mosi": "CMU-MOSI"}
#: Longest row that tells speakers apart; MELD's training part has 260 names.
MAX_SPEAKERS = 512
#: Bytes that any source may become, however short it is.
SPARE = 2**26
#: How the splits that are no "train" and "test" are called elsewhere.
_DEV = ("valid", "val", "validation", "development")


@dataclass(frozen=True)
class SourceDialogue:
    """One dialogue of n utterances, as a source holds it.

    Attributes:
        name: its identifier.
        split: name of its split.
        labels: `int64 [n]`, negative where unlabelled.
        speakers: n values that are equal where the speaker is; None where not known.
        features: modality -> `float32 [n, F]`.
    """

    name: str
    split: str
    labels: np.ndarray
    speakers: Sequence[Hashable]
    features: Mapping[str, np.ndarray]


class Budget:
    """How much a source of `size` bytes may become: its parts can be shared, and a few bytes then stand for a lot."""

    def __init__(self, size: int) -> None:
        self.left = SPARE + 16 * size

    def spend(self, amount: int) -> None:
        """Counts bytes before they are made.

        Raises:
            DatasetError: they are more than the source can hold.
        """
        self.left -= amount
        if self.left < 0:
            raise DatasetError("holds far more utterances or features than its size allows: its parts are shared")


def class_names_of(corpus: str | None, highest: int) -> tuple[str, ...]:
    """The class names of a corpus; of one that is not known, the numbers up to the highest label.

    Raises:
        ValueError: a corpus that is not one of `CORPORA`.
        DatasetError: so many classes that the labels cannot be classes.
    """
    if corpus is not None:
        if corpus not in CORPORA:
            raise ValueError(f"corpus must be one of {', '.join(CORPORA)} (got {corpus!r})")
        return PUBLISHED_COUNTS[CORPORA[corpus]].class_names
    if highest >= 1000:
        raise DatasetError(f"labels: must be classes, below 1000 (got {highest})")
    return tuple(str(c) for c in range(max(highest, 0) + 1))


def split_name(name: str) -> str:
    """The name of a split here: "dev" for "valid", "val" and "validation"."""
    return "dev" if name.casefold() in _DEV else name


def label_array(values: Any, n: int | None = None) -> np.ndarray:
    """Labels as `int64 [n]`, negative ones as -100.

    Raises:
        DatasetError: what is no sequence of n integers.
    """
    if isinstance(values, (list, tuple)):
        if not set(map(type, values)) <= {int} or not all(-(2**63) <= x < 2**63 for x in values):
            wrong = next(x for x in values if type(x) is not int or not -(2**63) <= x < 2**63)
            raise DatasetError(f"must be integers (got {shown(wrong)})")
        array = np.array(values, np.int64)
    elif isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        array = values.astype(np.int64)
        if values.dtype.kind == "u" and array.min(initial=0) < 0:
            raise DatasetError(f"must be integers that fit int64 (got {values.max()})")
    else:
        raise DatasetError(f"must be a list or array of integers (got {shown(values)})")
    if n is not None and len(array) != n:
        raise DatasetError(f"must be as many as the utterances, {n} (got {len(array)})")
    array[array < 0] = UNLABELLED
    return array


def speaker_list(values: Any, n: int) -> list[Hashable]:
    """Speakers as n values: names, numbers, or one-hot rows, of which an empty one is not known.

    Raises:
        DatasetError: what is no sequence of n names, integers or rows of numbers.
    """
    rows = list(values) if isinstance(values, (list, tuple)) or _has_rows(values) else None
    if rows is None:
        raise DatasetError(f"must be a list or array (got {shown(values)})")
    if len(rows) != n:
        raise DatasetError(f"must be as many as the labels, {n} (got {len(rows)})")
    found: list[Hashable] = []
    seen: dict[bytes, bytes] = {}
    for t, row in enumerate(rows):
        if isinstance(row, (list, tuple)) and len(row) <= MAX_SPEAKERS:
            row = _numbers(row, t)
        if isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "fiub" and len(row) <= MAX_SPEAKERS:
            content = row.astype(np.float64).tobytes()
            found.append(seen.setdefault(content, content) if row.any() else None)
        elif isinstance(row, (str, int, np.str_, np.integer)):
            found.append(row)
        else:
            raise DatasetError(f"must be names, integers or one-hot rows (got {shown(row)} at utterance {t})")
    return found


def _has_rows(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.ndim in (1, 2)


def feature_array(values: Any, n: int, budget: Budget) -> np.ndarray:
    """Features of one dialogue as `float32 [n, F]`, from an array or a list of rows.

    Raises:
        DatasetError: rows that are not n, not numbers, not of one length, or not finite in float32.
    """
    if isinstance(values, (list, tuple)):
        if len(values) != n:
            raise DatasetError(f"must be as many rows as labels, {n} (got {len(values)})")
        widths = [_width(row, t) for t, row in enumerate(values)]
        wrong = next((t for t in range(n) if widths[t] != widths[0]), None)
        if wrong is not None:
            raise DatasetError(f"rows must have one length, {widths[0]} (got {widths[wrong]} at utterance {wrong})")
        budget.spend(4 * sum(widths))
        array = np.empty((n, widths[0] if n else 0), np.float32)
        for t, row in enumerate(values):
            array[t] = _float32(row if isinstance(row, np.ndarray) else _numbers(row, t))
    elif isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "fiu":
        if len(values) != n:
            raise DatasetError(f"must be as many rows as labels, {n} (got shape {values.shape})")
        budget.spend(4 * values.size)
        array = _float32(values)
    else:
        raise DatasetError(f"must be rows of numbers, an array or a list of them (got {shown(values)})")
    if not np.isfinite(array).all():
        t, f = np.argwhere(~np.isfinite(array))[0]
        got = values[t][f]
        raise DatasetError(f"must be finite in float32 (got {got} at utterance {t}, column {f})")
    return array


def _width(row: Any, t: int) -> int:
    is_array = isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "fiu"
    if not (is_array or isinstance(row, (list, tuple))):
        raise DatasetError(f"must be rows of numbers (got {shown(row)} at utterance {t})")
    return len(row)


def _numbers(row: Sequence[Any], t: int) -> np.ndarray:
    if not set(map(type, row)) <= {float, int}:
        wrong = next(x for x in row if type(x) not in (float, int))
        raise DatasetError(f"must be rows of numbers (got {shown(wrong)} at utterance {t})")
    try:
        return np.array(row, np.float64)
    except OverflowError:
        raise DatasetError(f"must be finite in float32 (got an integer past float64 at utterance {t})") from None


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes inf, and is refused with its place
        return values.astype(np.float32)


def assemble(
    name: str,
    dialogues: Iterable[SourceDialogue],
    class_names: tuple[str, ...],
    notes: Sequence[str] = (),
) -> DialogueDataset:
    """One dataset of dialogues, in the order given.

    Args:
        name: of the corpus.
        dialogues: at least one.
        class_names: the classes.
        notes: what is to be said of the corpus, before its differences from the published counts.

    Returns:
        The dataset, its speakers numbered inside each dialogue by their first words; splits in the order train, dev,
        test, others, of those that occur.

    Raises:
        DatasetError: dialogues that do not fit together, with the name of the first.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.merc.readers.assemble import SourceDialogue, assemble
        >>> features = {"text": np.zeros((2, 3), np.float32)}
        >>> dialogue = SourceDialogue("first", "train", np.array([1, 0]), ["Ross", "Joey"], features)
        >>> assemble("one", [dialogue], ("sad", "happy"))
        DialogueDataset('one': 1 dialogues, 2 utterances, 2 classes; text 3)
    """
    found = list(dialogues)
    if not found:
        raise DatasetError("holds no dialogue")
    names = [dialogue.name for dialogue in found]
    if len(set(names)) != len(names):
        raise DatasetError(f"dialogue {shown(Counter(names).most_common(1)[0][0])} is there twice")
    first = next((dialogue for dialogue in found if len(dialogue.labels)), found[0])
    sizes = {modality: values.shape[1] for modality, values in first.features.items()}
    for dialogue in found:
        _check_text(dialogue.name)
        for modality, values in dialogue.features.items():
            if len(values) and values.shape[1] != sizes[modality]:
                at = f"{modality} of dialogue {shown(dialogue.name)}"
                raise DatasetError(f"{at}: must have {sizes[modality]} columns as before (got {values.shape[1]})")
        high = dialogue.labels.max(initial=-1)
        if high >= len(class_names):
            rule = f"must be below {len(class_names)}, the number of classes"
            raise DatasetError(f"labels of dialogue {shown(dialogue.name)}: {rule} (got {high})")
    splits = sorted({dialogue.split for dialogue in found}, key=_rank)
    empty = {modality: np.zeros((0, size), np.float32) for modality, size in sizes.items()}
    dataset = DialogueDataset(
        name=name,
        features={
            modality: np.concatenate([d.features[modality] if len(d.labels) else empty[modality] for d in found])
            for modality in sizes
        },
        labels=np.concatenate([dialogue.labels for dialogue in found]),
        speakers=np.concatenate([_numbered(dialogue.speakers) for dialogue in found]),
        offsets=np.concatenate([[0], np.cumsum([len(dialogue.labels) for dialogue in found])]).astype(np.int64),
        split=np.array([splits.index(dialogue.split) for dialogue in found], np.int64),
        split_names=tuple(splits),
        class_names=class_names,
        dialogue_ids=tuple(names),
    )
    return replace(dataset, notes=(*notes, *published_notes(dataset)))


def _rank(split: str) -> tuple[int, str]:
    order = ("train", "dev", "test")
    return (order.index(split) if split in order else len(order), split)


def _numbered(speakers: Sequence[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    found = [UNKNOWN_SPEAKER if s is None else numbers.setdefault(s, len(numbers)) for s in speakers]
    return np.array(found, np.int64)


def _check_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"dialogue {shown(name)}: its name is no Unicode text") from None
