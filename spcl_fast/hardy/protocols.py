"""Which modalities are there, and which are missing: the protocols of training and testing with missing modalities."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from spcl_fast._options import choice
from spcl_fast._paces import integer, number
from spcl_fast.difficulty.random import MAX_SEED, uniform
from spcl_fast.ops import _check

__all__ = ["MissingProtocol", "parse_available", "subsets"]

KINDS = ("fixed", "utterance", "dialogue")


@dataclass(frozen=True, kw_only=True)
class MissingProtocol:
    """Says of every utterance which modalities are there; made by `fixed`, `at_random` or `by_dialogue`.

    The answer is a hash of the seed, the epoch, the id and the name of the modality (that of
    `difficulty.RandomDifficulty`): it depends neither on the batch nor on the order of the modalities, the device or
    the process, and a run that is resumed sees what it would have seen.

    Attributes:
        missing: "fixed", "utterance" or "dialogue".
        available: of "fixed", the names of the modalities that are there.
        rate: of the others, the probability that a modality is missing, in [0, 1).
        seed: of the others, in [0, 2^63).
        redraw: of the others, whether every epoch draws anew.

    Raises:
        TypeError: a value of another type.
        ValueError: a value out of its domain; "fixed" without a modality, or the others with some.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy import MissingProtocol
        >>> protocol = MissingProtocol.fixed(("audio", "text"))
        >>> ids = torch.arange(2)
        >>> protocol.present(ids, ids, ("text", "audio", "visual"), epoch=0).tolist()
        [[True, True], [True, True], [False, False]]
    """

    missing: str
    available: tuple[str, ...] = ()
    rate: float = 0.0
    seed: int = 0
    redraw: bool = True

    def __post_init__(self) -> None:
        owner = type(self).__name__
        choice(owner, "missing", self.missing, KINDS)
        if isinstance(self.available, str) or not all(isinstance(name, str) for name in self.available):
            raise TypeError(f"{owner}: available must be a sequence of names (got {self.available!r})")
        object.__setattr__(self, "available", tuple(self.available))
        if (self.missing == "fixed") != bool(self.available):
            rule = "must name a modality" if self.missing == "fixed" else f"must be empty for {self.missing!r}"
            raise ValueError(f"{owner}: available {rule} (got {self.available})")
        rate = number(owner, "rate", self.rate, "in [0, 1)", lambda rate: 0 <= rate < 1)
        object.__setattr__(self, "rate", rate)
        integer(owner, "seed", self.seed, 0, MAX_SEED)
        if not isinstance(self.redraw, bool):
            raise TypeError(f"{owner}: redraw must be True or False (got {type(self.redraw).__name__})")

    @classmethod
    def fixed(cls, available: Sequence[str]) -> MissingProtocol:
        """The same modalities for every utterance, the protocol of HARDY-MER (arXiv 2508.06800).

        Args:
            available: the names of the modalities that are there, as `parse_available` and `subsets` give them.

        Raises:
            TypeError: one string in place of a sequence.
            ValueError: no modality.

        Example:
            >>> from spcl_fast.hardy import MissingProtocol, subsets
            >>> [MissingProtocol.fixed(o).available for o in subsets(("text", "audio"))]
            [('audio',), ('text',)]
        """
        return cls(missing="fixed", available=available)  # type: ignore[arg-type]  # made a tuple there

    @classmethod
    def at_random(cls, rate: float, *, seed: int = 0, redraw: bool = True) -> MissingProtocol:
        """Every modality of every utterance is missing with probability `rate`, but one always stays (ours).

        Where the lot would take all M, the modality with the largest lot stays: of each, a share of
        `rate - rate^M / M` is missing.

        Args:
            rate: in [0, 1); usual are 0.1 to 0.7.
            seed: of the lots, in [0, 2^63).
            redraw: whether every epoch draws anew.

        Raises:
            TypeError: a number of another type.
            ValueError: a rate or a seed out of its domain.

        Example:
            >>> import torch
            >>> from spcl_fast.hardy import MissingProtocol
            >>> ids = torch.arange(10_000)
            >>> there = MissingProtocol.at_random(0.5).present(ids, ids, ("text", "audio", "visual"), epoch=0)
            >>> round(1 - there.double().mean().item(), 2), bool(there.any(0).all())  # 1/2 - 1/24
            (0.46, True)
        """
        return cls(missing="utterance", rate=rate, seed=seed, redraw=redraw)

    @classmethod
    def by_dialogue(cls, rate: float, *, seed: int = 0, redraw: bool = True) -> MissingProtocol:
        """As `at_random`, but what is missing is missing from a whole dialogue: a camera that is off (ours).

        Args:
            rate: in [0, 1).
            seed: of the lots, in [0, 2^63).
            redraw: whether every epoch draws anew.

        Raises:
            TypeError: a number of another type.
            ValueError: a rate or a seed out of its domain.

        Example:
            >>> import torch
            >>> from spcl_fast.hardy import MissingProtocol
            >>> dialogues, utterances = torch.tensor([7, 7, 7, 8]), torch.arange(4)
            >>> there = MissingProtocol.by_dialogue(0.5).present(dialogues, utterances, ("text", "audio"), epoch=0)
            >>> bool((there[:, :3] == there[:, :1]).all())
            True
        """
        return cls(missing="dialogue", rate=rate, seed=seed, redraw=redraw)

    def present(self, dialogue_ids: Tensor, utterance_ids: Tensor, modalities: Sequence[str], epoch: int = 0) -> Tensor:
        """Which modalities are there, the `present` of the ops.

        Args:
            dialogue_ids: `int[T]`, any integer dtype: the dialogue of every utterance, by an id that is its own in the
                corpus.
            utterance_ids: `int[T]`, on the same device; likewise of the utterance.
            modalities: M distinct names, at least one, in the order of the result.
            epoch: at least 0. What is to stay as it is, such as a test set, is asked for with one epoch always.

        Returns:
            `bool[M, T]` on the device of the ids, True where a modality is there; of every utterance at least one is.
            Nothing waits for the device. Deterministic.

        Raises:
            TypeError: ids that are no integers, an epoch that is none.
            ValueError: ids of two shapes, no modality or one twice, a fixed modality that is not among them.

        Example:
            >>> import torch
            >>> from spcl_fast.hardy import MissingProtocol
            >>> protocol, ids = MissingProtocol.at_random(0.5, seed=1), torch.arange(100)
            >>> names = ("text", "audio")
            >>> alone = protocol.present(ids[7:8], ids[7:8], names, epoch=3)
            >>> torch.equal(alone, protocol.present(ids, ids, names, epoch=3)[:, 7:8])
            True
        """
        owner = type(self).__name__
        _check.tensor(owner, "utterance_ids", utterance_ids, 1, _check.INTEGERS, "integers")
        _check.tensor(owner, "dialogue_ids", dialogue_ids, 1, _check.INTEGERS, "integers")
        shape, device = tuple(utterance_ids.shape), utterance_ids.device
        _check.shaped(owner, "dialogue_ids", dialogue_ids, shape, device, "utterance_ids")
        modalities = _distinct(owner, modalities)
        epoch = integer(owner, "epoch", epoch, 0, MAX_SEED) if self.redraw else 0
        if self.missing == "fixed":
            unknown = [name for name in self.available if name not in modalities]
            if unknown:
                raise ValueError(f"{owner}: available must be among {', '.join(modalities)} (got {unknown[0]!r})")
            rows = [torch.full(shape, m in self.available, dtype=torch.bool, device=device) for m in modalities]
            return torch.stack(rows)
        ids = dialogue_ids if self.missing == "dialogue" else utterance_ids
        when = torch.tensor(epoch, device=device)
        # The name decides, so that the order of the modalities does not.
        lots = torch.stack([uniform(ids, when, self.seed ^ zlib.crc32(m.encode())) for m in modalities])
        last = torch.arange(len(modalities), device=device)[:, None] == lots.argmax(0)
        return (lots >= self.rate) | last


def parse_available(available: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities that a short form names: "at" for audio and text.

    Args:
        available: "all"; names with "," between them; or the initials of the names, in any order.
        modalities: the distinct names of all of them, at least one.

    Returns:
        Those names that are meant, in the order of `modalities`.

    Raises:
        TypeError: `available` is no string.
        ValueError: what is neither names nor initials of theirs, an initial of two, or one that is named twice.

    Example:
        >>> from spcl_fast.hardy import parse_available
        >>> names = ("text", "audio", "visual")
        >>> parse_available("at", names), parse_available("visual", names), parse_available("audio,text", names)
        (('text', 'audio'), ('visual',), ('text', 'audio'))
        >>> parse_available("x", names)
        Traceback (most recent call last):
            ...
        ValueError: available: must be "all", names or initials of text, audio, visual, each once (got 'x')
    """
    if not isinstance(available, str):
        raise TypeError(f"available: must be a string (got {type(available).__name__})")
    modalities = _distinct("available", modalities)
    if available == "all":
        return modalities
    wanted = [name.strip() for name in available.split(",")]
    if not set(wanted) <= set(modalities):
        by_initial = [[name for name in modalities if name[:1] == letter] for letter in available]
        wanted = [names[0] for names in by_initial if len(names) == 1]
        if len(wanted) < max(1, len(available)):
            wanted = []
    if not wanted or len(set(wanted)) < len(wanted):
        rule = f'must be "all", names or initials of {", ".join(modalities)}, each once'
        raise ValueError(f"available: {rule} (got {available!r})")
    return tuple(name for name in modalities if name in wanted)


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """All proper subsets but the empty one, as the tables of HARDY-MER (arXiv 2508.06800) list them.

    Args:
        modalities: distinct names, at least one.

    Returns:
        The smaller first, those of one size and the names in each by the alphabet: a, t, v, at, av, tv. Empty for one
        modality.

    Raises:
        ValueError: no name, or one twice.

    Example:
        >>> from spcl_fast.hardy import subsets
        >>> ["".join(name[0] for name in subset) for subset in subsets(("text", "audio", "visual"))]
        ['a', 't', 'v', 'at', 'av', 'tv']
    """
    names = sorted(_distinct("subsets", modalities))
    return [subset for size in range(1, len(names)) for subset in combinations(names, size)]


def _distinct(owner: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """The names, of which there must be at least one and none twice."""
    names = tuple(modalities)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{owner}: modalities must be distinct names, at least one (got {names})")
    return names
