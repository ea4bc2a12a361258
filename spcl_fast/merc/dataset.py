"""One corpus of conversations in memory: features, labels, speakers and the CSR layout of its dialogues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Label of an utterance without one: the ``ignore_index`` of the ops.
UNLABELLED = -100
#: Speaker of an utterance whose speaker is not known: its own speaker to the ops.
UNKNOWN_SPEAKER = -1


class DatasetError(ValueError):
    """A corpus, or the file that should hold one, breaks a rule; the message says which and where.

    Example:
        >>> from dataclasses import replace
        >>> from spcl_fast.merc.dataset import DatasetError
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 2})
        >>> try:
        ...     replace(corpus, speakers=corpus.speakers[:-1])
        ... except DatasetError as error:
        ...     print(error)
        speakers: must be as long as labels, 19 (got shape (18,))
    """


@dataclass(frozen=True, eq=False, repr=False)
class DialogueDataset:
    """Dialogues of one corpus, flattened in time order without padding.

    ``D`` dialogues, ``T`` utterances, ``C`` classes, ``F`` features; dialogue ``d`` owns the rows
    ``offsets[d]:offsets[d + 1]`` of every array over ``T``. Construction checks the arrays and keeps
    them as they are: nothing is copied or converted, so a wrong dtype is an error, not a cast. Two
    datasets are equal only when they are the same object.

    Attributes:
        name: name of the corpus, for logs and reports.
        features: modality -> ``float32 [T, F]``, finite, ``F >= 1``; at least one modality.
        labels: ``int64 [T]`` in ``[0, C)``, or -100 for an utterance without a label.
        speakers: ``int64 [T]``, numbered from 0 inside each dialogue; -1 where not known.
        offsets: ``int64 [D + 1]``, from 0 to ``T``, non-decreasing (an empty dialogue is allowed).
        split: ``int64 [D]``, the position in ``split_names`` of each dialogue's split.
        split_names: distinct names of the splits.
        class_names: distinct names of the classes, at least one.
        dialogue_ids: one identifier per dialogue.
        notes: differences from the published counts of the corpus, in plain sentences; empty if none.

    Raises:
        DatasetError: an array is missing a dtype, shape or value its rule asks for; the message names the
            array, the rule, the first bad position and what was got.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.merc.dataset import DialogueDataset
        >>> DialogueDataset(
        ...     name="two",
        ...     features={"text": np.zeros((3, 8), np.float32)},
        ...     labels=np.array([0, 1, -100]),
        ...     speakers=np.array([0, 1, 0]),
        ...     offsets=np.array([0, 2, 3]),
        ...     split=np.array([0, 1]),
        ...     split_names=("train", "test"),
        ...     class_names=("sad", "happy"),
        ...     dialogue_ids=("first", "second"),
        ... )
        DialogueDataset('two': 2 dialogues, 3 utterances, 2 classes; text 8)
    """

    name: str
    features: dict[str, np.ndarray]
    labels: np.ndarray
    speakers: np.ndarray
    offsets: np.ndarray
    split: np.ndarray
    split_names: tuple[str, ...]
    class_names: tuple[str, ...]
    dialogue_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("split_names", "class_names"):
            _check_names(field, getattr(self, field))
        if not self.class_names:
            raise DatasetError("class_names: at least one class is needed (got none)")
        if not self.features:
            raise DatasetError("features: at least one modality is needed (got none)")
        _check_array("offsets", self.offsets, np.int64, 1)
        if len(self.offsets) == 0:
            raise DatasetError("offsets: must have D + 1 entries, the first of them 0 (got none)")
        _check_array("labels", self.labels, np.int64, 1)
        D, T = len(self.offsets) - 1, len(self.labels)
        _check_array("speakers", self.speakers, np.int64, 1, length=("labels", T))
        _check_array("split", self.split, np.int64, 1, length=("offsets[1:]", D))
        if len(self.dialogue_ids) != D:
            raise DatasetError(f"dialogue_ids: must name the D = {D} dialogues (got {len(self.dialogue_ids)})")
        self._check_offsets(T)
        C, S = len(self.class_names), len(self.split_names)
        known = ((self.labels >= 0) & (self.labels < C)) | (self.labels == UNLABELLED)
        _check_all("labels", self.labels, known, f"must be in [0, {C}), or {UNLABELLED} where unlabelled")
        _check_all("speakers", self.speakers, self.speakers >= UNKNOWN_SPEAKER, "must be >= 0, or -1 where unknown")
        known = (self.split >= 0) & (self.split < S)
        _check_all("split", self.split, known, f"must be in [0, {S}), a position in split_names")
        for modality, values in self.features.items():
            array = f"features[{modality!r}]"
            _check_array(array, values, np.float32, 2, length=("labels", T))
            if values.shape[1] == 0:
                raise DatasetError(f"{array}: must have at least one column (got shape {values.shape})")
            _check_all(array, values, np.isfinite(values), "must be finite")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{modality} {values.shape[1]}" for modality, values in self.features.items())
        counts = f"{self.num_dialogues} dialogues, {self.num_utterances} utterances, {self.num_classes} classes"
        return f"DialogueDataset({self.name!r}: {counts}; {sizes})"

    @property
    def num_dialogues(self) -> int:
        """Number of dialogues D, over all splits."""
        return len(self.offsets) - 1

    @property
    def num_utterances(self) -> int:
        """Number of utterances T, over all splits, those without a label included."""
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.class_names)

    @property
    def lengths(self) -> np.ndarray:
        """Utterances per dialogue, ``int64 [D]``."""
        return np.diff(self.offsets)

    def dialogues(self, split: str) -> np.ndarray:
        """Indices of the dialogues of one split, ``int64 [n]``, ascending.

        Raises:
            ValueError: ``split`` is not one of ``split_names``.

        Example:
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> corpus = make_synthetic("meld-like", dialogues={"train": 3, "dev": 2, "test": 2})
            >>> corpus.dialogues("dev").tolist()
            [3, 4]
        """
        if split not in self.split_names:
            raise ValueError(f"split must be one of {', '.join(self.split_names)} (got {split!r})")
        return np.flatnonzero(self.split == self.split_names.index(split))

    def rows_of(self, dialogues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The utterances of some dialogues, `int64 [n]`, and the offsets of the dialogues among them.

        Args:
            dialogues: ``int [d]``, indices in any order.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> corpus = make_synthetic("meld-like", dialogues={"train": 3, "dev": 2, "test": 2})
            >>> corpus.offsets[:3].tolist()
            [0, 15, 16]
            >>> rows, offsets = corpus.rows_of(np.array([1, 0]))
            >>> rows[:3].tolist(), offsets.tolist()
            ([15, 0, 1], [0, 1, 16])
        """
        lengths = self.lengths[dialogues]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        first = np.repeat(self.offsets[:-1][dialogues] - offsets[:-1], lengths)
        return first + np.arange(offsets[-1]), offsets

    def counts(self) -> dict[str, tuple[int, int]]:
        """Dialogues and labelled utterances of every split, in the order of ``split_names``.

        Example:
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> corpus = make_synthetic("meld-like", dialogues={"train": 3, "dev": 2, "test": 2})
            >>> corpus.counts()
            {'train': (3, 29), 'dev': (2, 19), 'test': (2, 19)}
        """
        of_utterance = np.repeat(self.split, self.lengths)[self.labels != UNLABELLED]
        dialogues = np.bincount(self.split, minlength=len(self.split_names))
        labelled = np.bincount(of_utterance, minlength=len(self.split_names))
        return {name: (int(dialogues[i]), int(labelled[i])) for i, name in enumerate(self.split_names)}

    def _check_offsets(self, T: int) -> None:
        if self.offsets[0] != 0:
            raise DatasetError(f"offsets: must start at 0 (got offsets[0] = {self.offsets[0]})")
        # Compared, not subtracted: a difference of hostile values can overflow and look sorted.
        falls = np.flatnonzero(self.offsets[1:] < self.offsets[:-1])
        if len(falls):
            i = int(falls[0]) + 1
            got = f"offsets[{i}] = {self.offsets[i]} after {self.offsets[i - 1]}"
            raise DatasetError(f"offsets: must not decrease (got {got})")
        if self.offsets[-1] != T:
            raise DatasetError(
                f"offsets: must end at T = {T}, the length of labels (got offsets[{len(self.offsets) - 1}] = "
                f"{self.offsets[-1]})"
            )


def _check_names(field: str, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise DatasetError(f"{field}: must be non-empty strings (got {field}[{i}] = {name!r})")
        if name in names[:i]:
            raise DatasetError(f"{field}: must be distinct (got {field}[{i}] = {name!r} a second time)")


def _check_array(
    array: str, values: object, dtype: type[np.generic], ndim: int, length: tuple[str, int] | None = None
) -> None:
    wanted = f"must be a NumPy array of {np.dtype(dtype).name} with {ndim} dimension{'s' if ndim > 1 else ''}"
    if not isinstance(values, np.ndarray):
        raise DatasetError(f"{array}: {wanted} (got {type(values).__name__})")
    if values.dtype != dtype or values.ndim != ndim:
        raise DatasetError(f"{array}: {wanted} (got {values.dtype} of shape {values.shape})")
    if length is not None and len(values) != length[1]:
        raise DatasetError(f"{array}: must be as long as {length[0]}, {length[1]} (got shape {values.shape})")


def _check_all(array: str, values: np.ndarray, valid: np.ndarray, rule: str) -> None:
    if not valid.all():
        position = tuple(int(i) for i in np.unravel_index(int(np.argmin(valid)), valid.shape))
        at = ", ".join(map(str, position))
        raise DatasetError(f"{array}: {rule} (got {array}[{at}] = {values[position]})")
