"""What a corpus is rescored to: the options, checked against what the corpus holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from spcl_fast import _options
from spcl_fast.corpus.manifest import Manifest
from spcl_fast.corpus.scores import DTYPES

OP = "rescore"
DIFFICULTIES = ("spcl", "extended", "loss", "spread")
SOURCES = ("prediction", "embedding")
#: columns that are there once for each modality, and those that are there once
OF_MODALITIES = ("loss", "confidence")
OF_UTTERANCES = ("spread", "coherence", "transition", "surprisal", "utterance_loss", "difficulty")
#: the most classes of which a store holds the counts of transitions
MOST_CLASSES = 256
IGNORED = -100


@dataclass(frozen=True)
class Scoring:
    """Every choice that decides a number; a store says it, and is only continued with the same.

    The fields are those of `rescore`; `columns` is complete and in the order of the file.
    """

    modalities: tuple[str, ...]
    num_classes: int
    columns: tuple[str, ...]
    dtype: str
    difficulty: str
    aggregate: str
    window: int
    source: str
    incoherence: float
    transition: float
    surprisal: float

    @property
    def measure(self) -> int:
        """The number of what the kernel measures beside the extended terms."""
        return _options.MEASURES.index("spcl" if self.difficulty == "extended" else self.difficulty)

    @property
    def wants_modalities(self) -> bool:
        """Whether a loss or confidence of a modality by itself is asked for."""
        return any(column.partition(".")[0] in OF_MODALITIES for column in self.columns)

    @property
    def wants_coherence(self) -> bool:
        """Whether anything needs it."""
        return "coherence" in self.columns or self.incoherence > 0

    @property
    def wants_surprisal(self) -> bool:
        """Whether anything needs it, and with it the transitions of the whole corpus."""
        return "surprisal" in self.columns or self.surprisal > 0

    @property
    def wants_transitions(self) -> bool:
        """Whether anything needs them."""
        return "transition" in self.columns or self.transition > 0 or self.wants_surprisal

    def row(self, column: str) -> int:
        """Where the kernel's buffer has a column."""
        kind, _, modality = column.partition(".")
        M = len(self.modalities)
        if kind in OF_MODALITIES:
            return OF_MODALITIES.index(kind) * M + self.modalities.index(modality)
        return 2 * M + OF_UTTERANCES.index(kind)


def make_scoring(
    manifest: Manifest,
    modalities: Sequence[str],
    num_classes: int,
    *,
    columns: Sequence[str] | None,
    dtype: str,
    difficulty: str,
    aggregate: str,
    window: int,
    source: str,
    incoherence: float,
    transition: float,
    surprisal: float,
) -> Scoring:
    """Checks the options of `rescore` against each other and against the corpus."""
    _options.choice(OP, "dtype", dtype, tuple(DTYPES))
    _options.choice(OP, "difficulty", difficulty, DIFFICULTIES)
    _options.choice(OP, "aggregate", aggregate, _options.AGGREGATES)
    _options.choice(OP, "source", source, SOURCES)
    if isinstance(window, bool) or not isinstance(window, int):
        raise TypeError(f"{OP}: window must be an integer (got {type(window).__name__})")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"{OP}: window must be odd and at least 1 (got {window})")
    weights = {"incoherence": incoherence, "transition": transition, "surprisal": surprisal}
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, Real):
            raise TypeError(f"{OP}: {name} must be a number (got {type(weight).__name__})")
        if not 0 <= weight < math.inf:
            raise ValueError(f"{OP}: {name} must be finite and at least 0 (got {weight})")
    weights = {name: float(weight) if difficulty == "extended" else 0.0 for name, weight in weights.items()}

    M = len(modalities)
    compared = M if source == "prediction" else _require_embeddings(manifest)
    possible = {
        "spread": M >= 2,
        "coherence": compared >= 2,
        "transition": num_classes <= MOST_CLASSES,
        "surprisal": num_classes <= MOST_CLASSES,
    }
    every = [f"{kind}.{modality}" for kind in OF_MODALITIES for modality in modalities]
    every += [kind for kind in OF_UTTERANCES if possible.get(kind, True)]
    chosen = every if columns is None else _chosen(columns, every)
    scoring = Scoring(
        tuple(modalities), num_classes, tuple(chosen), dtype, difficulty, aggregate, window, source, **weights
    )
    if difficulty != "loss" and M < 2:
        raise ValueError(f"{OP}: difficulty {difficulty!r} needs two modalities (got {M}); 'loss' needs one")
    if scoring.wants_coherence and compared < 2:
        raise ValueError(f"{OP}: the coherence needs two modalities (got {compared})")
    if scoring.wants_transitions and num_classes > MOST_CLASSES:
        raise ValueError(f"{OP}: transitions need at most {MOST_CLASSES} classes (got {num_classes})")
    return scoring


def _chosen(columns: Sequence[str], every: Sequence[str]) -> list[str]:
    """The columns that were asked for, in the order of all; "loss" is that of every modality."""
    if isinstance(columns, str) or not columns:
        raise ValueError(f"{OP}: columns must be a list with at least one name (got {columns!r})")
    for name in columns:
        if name not in every and name not in OF_MODALITIES:
            raise ValueError(f"{OP}: columns must be of {', '.join((*OF_MODALITIES, *every))} (got {name!r})")
    return [name for name in every if name in columns or ("." in name and name.partition(".")[0] in columns)]


def _require_embeddings(manifest: Manifest) -> int:
    """How many modalities have embeddings, which have to be of one size and dtype."""
    kinds = {(m.embedding_size, m.embedding_dtype) for m in manifest.modalities if m.embedding_size is not None}
    if len(kinds) != 1:
        shown = ", ".join(f"{m.name} {m.embedding_size}" for m in manifest.modalities)
        raise ValueError(f"{OP}: source 'embedding' needs embeddings of one size and dtype (got {shown})")
    return sum(m.embedding_size is not None for m in manifest.modalities)
