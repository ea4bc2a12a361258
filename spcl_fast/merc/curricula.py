"""The curricula that a run can have, by name: the published ones, their ablations, and the controls.

A curriculum is a scheduler, which is called in every step in place of the loss, and for those that order whole
dialogues a sampler of the training dialogues. What each reads of `TrainConfig` beside the seed is in `CURRICULA`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from spcl_fast import CurriculumSampler, SelfPacedScheduler, ops, pacing
from spcl_fast.difficulty import BssDifficulty, ExtendedDifficulty
from spcl_fast.merc.emotion_wheel import wheel_similarity
from spcl_fast.merc.models import HARDY
from spcl_fast.selections import MatchedSelection, StochasticSelection
from spcl_fast.thresholds import ExponentialThreshold, QuantileThreshold, RunningMeanThreshold

if TYPE_CHECKING:
    from spcl_fast.merc.config import TrainConfig
    from spcl_fast.merc.dataset import DialogueDataset

BUCKETS = 5  # of DIF and WES


class Curriculum(NamedTuple):
    """What a run is taught by: the scheduler, and the sampler of positions among the training dialogues, if any.

    Example:
        >>> from spcl_fast.merc.config import TrainConfig
        >>> from spcl_fast.merc.curricula import make_curriculum
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 10, "dev": 2, "test": 2})
        >>> curriculum = make_curriculum(corpus, TrainConfig(curriculum="dif", pace_start=0.2, pace_epochs=5))
        >>> len(list(curriculum.dialogues))  # of the first epoch
        2
    """

    scheduler: SelfPacedScheduler
    dialogues: CurriculumSampler | None = None


class Recipe(NamedTuple):
    """How a curriculum is made.

    Attributes:
        label: what a table calls it.
        settings: fields of `TrainConfig` that decide it, beside the seed, and for "stochastic_turn" the epochs that it
            turns over.
        make: the curriculum, from the data set and the configuration.
        carried: in a study, whether what was chosen goes before what a backbone says of these settings itself.
        model: the only model that it teaches, whose trainer does more than `make` says; None for any.

    Example:
        >>> from spcl_fast.merc.curricula import CURRICULA
        >>> CURRICULA["spcl"].label, CURRICULA["spcl"].settings
        ('SPCL', ('threshold', 'growth'))
    """

    label: str
    settings: tuple[str, ...]
    make: Callable[[DialogueDataset, TrainConfig], Curriculum]
    carried: bool = False
    model: str | None = None


def make_curriculum(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
    """The curriculum `config.curriculum` for the training part of a data set.

    Raises:
        ValueError: an unknown name, a setting out of its domain, one modality for a curriculum that compares them, or
            classes that the emotion wheel does not have (WES).

    Example:
        >>> from spcl_fast.merc.config import TrainConfig
        >>> from spcl_fast.merc.curricula import make_curriculum
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> make_curriculum(corpus, TrainConfig(curriculum="spcl", threshold=0.4)).scheduler.threshold.item()
        0.4
    """
    if config.curriculum not in CURRICULA:
        raise ValueError(f"curriculum must be one of {', '.join(CURRICULA)} (got {config.curriculum!r})")
    curriculum = CURRICULA[config.curriculum].make(dataset, config)
    if len(dataset.features) < 2 and "modalities" in curriculum.scheduler.difficulty.needs:
        raise ValueError(f"the curriculum {config.curriculum!r} compares modalities and needs at least 2 (got 1)")
    return curriculum


def _everything(dataset: DialogueDataset, dialogues: CurriculumSampler | None = None) -> Curriculum:
    """Every weight 1: the baseline, by the same code."""
    measure = "spcl" if len(dataset.features) > 1 else "loss"
    return Curriculum(SelfPacedScheduler(math.inf, 1.0, math.inf, difficulty=measure), dialogues)


def _by_threshold(**options: Any) -> Callable[[DialogueDataset, TrainConfig], Curriculum]:
    """SPCL's schedule over some difficulty."""

    def make(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
        return Curriculum(SelfPacedScheduler(config.threshold, config.growth, **options))

    return make


def _control(take: str) -> Callable[[DialogueDataset, TrainConfig], Curriculum]:
    """As many as SPCL's rule takes, and other utterances."""

    def make(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
        schedule = ExponentialThreshold(config.threshold, growth=config.growth)
        return Curriculum(SelfPacedScheduler(MatchedSelection(schedule, take=take, seed=config.seed)))

    return make


def _extended(*terms: str) -> Callable[[DialogueDataset, TrainConfig], Curriculum]:
    def make(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
        incoherence, transition, surprisal = (config.strength * (term in terms) for term in EXTENSIONS)
        difficulty = ExtendedDifficulty(
            incoherence=incoherence,
            transition=transition,
            surprisal=surprisal,
            source="prediction",  # the backbones have no embeddings of one size
            transition_counts=_transitions(dataset).counts if "surprisal" in terms else None,
        )
        return Curriculum(SelfPacedScheduler(config.threshold, config.growth, difficulty=difficulty))

    return make


def _quantile(difficulty: Callable[[], Any]) -> Callable[[DialogueDataset, TrainConfig], Curriculum]:
    """The easiest share of every batch, growing linearly."""

    def make(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
        pace = pacing.LinearPace(start=config.pace_start, total=config.pace_epochs)
        return Curriculum(SelfPacedScheduler(QuantileThreshold(pace), difficulty=difficulty()))

    return make


def _stochastic(turns: bool = False, by_lot: bool = False) -> Callable[[DialogueDataset, TrainConfig], Curriculum]:
    """A growing share of every batch, by chance, with odds by the difficulty."""

    def make(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
        pace = pacing.LinearPace(start=config.pace_start, total=config.pace_epochs)
        tilt = 0.0 if by_lot else config.tilt
        last, epochs = (-tilt, config.epochs) if turns else (tilt, 1)
        schedule = StochasticSelection(pace, tilt=tilt, last_tilt=last, epochs=epochs, seed=config.seed)
        return Curriculum(SelfPacedScheduler(schedule, difficulty="loss"))

    return make


def _superloss(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
    """Castells et al. 2020, with the running mean of the loss as tau."""
    scheduler = SelfPacedScheduler(
        RunningMeanThreshold(math.log(dataset.num_classes)),
        difficulty="loss",
        weighting="superloss",
        weighting_parameters={"regularization": config.strength},
    )
    return Curriculum(scheduler)


def _spld(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
    """Self-paced learning with diversity: the easy of every class (Jiang et al. 2014)."""
    scheduler = SelfPacedScheduler(
        config.threshold,
        config.growth,
        difficulty="loss",
        weighting="spld",
        weighting_parameters={"gamma": config.strength},
    )
    return Curriculum(scheduler)


def _buckets(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
    """Baby steps over the dialogues, the calmest first (MultiDAG+CL, arXiv 2402.17269; WES: LSDGNN, 2507.15205)."""
    similarity = wheel_similarity(dataset.class_names) if config.curriculum == "wes" else None
    pace = pacing.StepPace(start=config.pace_start, total=config.pace_epochs, steps=BUCKETS - 1)
    return _sampled(dataset, config, _transitions(dataset, similarity).difficulty, pace)


def _competence(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
    """Platanios et al. 2019 (arXiv 1903.09848), with the length of the dialogue for that of the sentence."""
    lengths = torch.from_numpy(dataset.lengths[dataset.dialogues("train")]).double()
    return _sampled(dataset, config, lengths, pacing.RootPace(start=config.pace_start, total=config.pace_epochs))


def _sampled(dataset: DialogueDataset, config: TrainConfig, difficulty: Tensor, pace: pacing.Pace) -> Curriculum:
    # A dialogue without a label has no difficulty, and a sampler would never take it: it is the last to come in.
    known = torch.where(difficulty.isnan(), torch.inf, difficulty)
    return _everything(
        dataset, CurriculumSampler(len(known), difficulty=known, pace=pace, seed=config.seed, order="shuffled")
    )


def _transitions(dataset: DialogueDataset, similarity: Tensor | None = None) -> ops.EmotionTransitions:
    """Of the training part, which alone a curriculum may look at."""
    rows, offsets = dataset.rows_of(dataset.dialogues("train"))
    labels, speakers = (torch.from_numpy(x[rows]) for x in (dataset.labels, dataset.speakers))
    return ops.emotion_transitions(
        labels, speakers, torch.from_numpy(offsets), dataset.num_classes, similarity=similarity
    )


EXTENSIONS = ("incoherence", "transition", "surprisal")
_THRESHOLD = ("threshold", "growth")
_EXTENDED = (*_THRESHOLD, "strength")
_PACE = ("pace_start", "pace_epochs")
_TILT = (*_PACE, "tilt")
_RETRIEVAL = ("neighbours",)

#: what the model "hardy" can be taught by; the last three choose rows, the others weights
OF_HARDY = ("none", "spcl", "loss", "hardy", "hardy_same_label", "random_hardness")

#: name -> recipe
CURRICULA: dict[str, Recipe] = {
    "none": Recipe("none", (), lambda dataset, config: _everything(dataset)),
    "spcl": Recipe("SPCL", _THRESHOLD, _by_threshold()),
    "spcl_carried": Recipe("SPCL, schedule as chosen", _THRESHOLD, _by_threshold(), carried=True),
    "loss": Recipe("loss alone", _THRESHOLD, _by_threshold(difficulty="loss")),
    "spread": Recipe("spread alone", _THRESHOLD, _by_threshold(difficulty="spread")),
    "spcl_mean": Recipe("SPCL, mean spread", _THRESHOLD, _by_threshold(aggregate="mean")),
    "extended": Recipe("extended", _EXTENDED, _extended(*EXTENSIONS)),
    "extended_incoherence": Recipe("SPCL + incoherence", _EXTENDED, _extended("incoherence")),
    "extended_transition": Recipe("SPCL + transitions", _EXTENDED, _extended("transition")),
    "extended_surprisal": Recipe("SPCL + surprisal", _EXTENDED, _extended("surprisal")),
    "dif": Recipe("DIF buckets", _PACE, _buckets),
    "wes": Recipe("WES buckets", _PACE, _buckets),
    "bss": Recipe("BSS", _PACE, _quantile(lambda: BssDifficulty(source="prediction", scale="running"))),
    "competence": Recipe("competence", _PACE, _competence),
    "superloss": Recipe("SuperLoss", ("strength",), _superloss),
    "spld": Recipe("SPLD, by class", _EXTENDED, _spld),
    "stochastic": Recipe("stochastic, odds by loss", _TILT, _stochastic()),
    "stochastic_turn": Recipe("stochastic, easy then hard", _TILT, _stochastic(turns=True)),
    "thinning": Recipe("thinning by lot", _PACE, _stochastic(by_lot=True)),
    "anti": Recipe("anti-curriculum", _THRESHOLD, _control("hardest")),
    "random_utterances": Recipe("random utterances", _THRESHOLD, _control("utterances")),
    "random_dialogues": Recipe("random dialogues", _THRESHOLD, _control("dialogues")),
    "hardy": Recipe("HARDY", _RETRIEVAL, lambda dataset, config: _everything(dataset), model=HARDY),
    "hardy_same_label": Recipe(
        "HARDY, same label", _RETRIEVAL, lambda dataset, config: _everything(dataset), model=HARDY
    ),
    "random_hardness": Recipe("random hardness", _RETRIEVAL, lambda dataset, config: _everything(dataset), model=HARDY),
}
