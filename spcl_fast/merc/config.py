"""What decides a training run."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

from spcl_fast.merc.curricula import CURRICULA, OF_HARDY
from spcl_fast.merc.models import HARDY, MODELS
from spcl_fast.merc.models.encoders import ENCODERS
from spcl_fast.thresholds import ExponentialThreshold

__all__ = ["TrainConfig"]

MISSING = ("fixed", "utterance", "dialogue")
FILLINGS = ("reconstruction", "zero", "mean")
NUMBERS = ("dropout", "learning_rate", "weight_decay", "clip", "pace_start", "strength", "tilt", "missing_rate")
INTEGERS = ("hidden", "epochs", "batch_size", "patience", "pace_epochs", "seed", "neighbours", "teacher_epochs")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What decides a run: the same configuration, data, device, versions and threads give the same numbers.

    Attributes:
        standardize: brings every feature to mean 0 and deviation 1 over the training utterances.
        model: a name of `models.MODELS`, or "hardy" (HARDY-MER, arXiv 2508.06800), which alone can do without a
            modality: what the last six say is of this model.
        encoder: of the models that have one, "gru" or "transformer".
        hidden: width of the model, at least 1.
        dropout: probability, in [0, 1).
        curriculum: a name of `curricula.CURRICULA`, which says what of the next six it looks at, and which model it
            needs; "none" is the same code with every weight 1.
        threshold: first threshold of SPCL's schedule, at least 0.
        growth: its factor per epoch, at least 1.
        pace_start: share of the first epoch, in (0, 1].
        pace_epochs: epochs until all is let in, at least 1.
        strength: weight of the extended terms, at least 0; of SuperLoss its regularization, above 0; of SPLD gamma.
        tilt: in [-1, 1]: how far chance favours the easy, or below 0 the hard.
        epochs: at most so many, at least 1.
        batch_size: dialogues a step, at least 1.
        learning_rate: of Adam, positive.
        weight_decay: of Adam, at least 0.
        clip: largest norm of the gradient, positive.
        patience: epochs without a better dev weighted F1 after which training stops; None never stops early.
        seed: in [0, 2**32).
        available: the modalities that there are, by names ("audio,text") or initials ("at"), or "all".
        missing: "fixed": the others are missing from every utterance; "utterance" and "dialogue": besides, each
            utterance, or each dialogue, lacks each of the available by lot, and never all of them.
        missing_rate: the odds of that, in [0, 1); 0 where `missing` is "fixed".
        filling: what stands for a missing modality, "reconstruction", "zero", or "mean" over the training utterances.
        neighbours: at least 1; so many are retrieved for an utterance at most, by the curricula that retrieve. Whatever
            the curriculum, a batch is `neighbours + 1` steps in the second half of the epochs.
        teacher_epochs: of the teacher that measures hardness, in each of its two stages; at least 1.

    Raises:
        TypeError: a value of another type.
        ValueError: a value out of its domain, a name that is not known, something missing or a curriculum of HARDY-MER
            with another model, or that model with a curriculum of others.

    Example:
        >>> from spcl_fast.merc.trainer import TrainConfig
        >>> TrainConfig(threshold=0.4, growth=1.2, epochs=20).batch_size
        16
        >>> TrainConfig(dropout=1.0)
        Traceback (most recent call last):
            ...
        ValueError: dropout must lie in [0, 1) (got 1.0)
    """

    standardize: bool = True
    model: str = "late_fusion"
    encoder: str = "gru"
    hidden: int = 128
    dropout: float = 0.5
    curriculum: str = "spcl"
    threshold: float = 0.7
    growth: float = 1.25
    pace_start: float = 0.5
    pace_epochs: int = 10
    strength: float = 1.0
    tilt: float = 1.0
    epochs: int = 40
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    clip: float = 2.0
    patience: int | None = None
    seed: int = 0
    available: str = "all"
    missing: str = "fixed"
    missing_rate: float = 0.0
    filling: str = "reconstruction"
    neighbours: int = 3
    teacher_epochs: int = 20

    def __post_init__(self) -> None:
        for name, known in (
            ("model", (*MODELS, HARDY)),
            ("encoder", ENCODERS),
            ("curriculum", CURRICULA),
            ("missing", MISSING),
            ("filling", FILLINGS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)} (got {getattr(self, name)!r})")
        if not isinstance(self.standardize, bool):
            raise TypeError(f"standardize must be True or False (got {type(self.standardize).__name__})")
        if not isinstance(self.available, str):
            raise TypeError(f"available must be a text (got {type(self.available).__name__})")
        for name in INTEGERS:
            value = getattr(self, name)
            is_integer = isinstance(value, Integral) and not isinstance(value, bool)
            if not is_integer and (name, value) != ("patience", None):
                raise TypeError(f"{name} must be an integer (got {type(value).__name__})")
        for name in NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{name} must be a number (got {type(value).__name__})")
        for name in ("hidden", "epochs", "batch_size", "pace_epochs", "neighbours", "teacher_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 (got {getattr(self, name)})")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 (got {self.patience})")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1) (got {self.dropout})")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive and finite (got {getattr(self, name)})")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be at least 0 and finite (got {self.weight_decay})")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2**32) (got {self.seed})")
        if not 0 < self.pace_start <= 1:
            raise ValueError(f"pace_start must lie in (0, 1] (got {self.pace_start})")
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength must be at least 0 and finite (got {self.strength})")
        if not -1 <= self.tilt <= 1:
            raise ValueError(f"tilt must lie in [-1, 1] (got {self.tilt})")
        if not 0 <= self.missing_rate < 1:
            raise ValueError(f"missing_rate must lie in [0, 1) (got {self.missing_rate})")
        if self.missing_rate and self.missing == "fixed":
            raise ValueError(f"missing_rate must be 0 where missing is 'fixed' (got {self.missing_rate})")
        if not self.available:
            raise ValueError("available must name a modality, or be 'all' (got '')")
        self._check_model()
        # Refuses what is out of its domain.
        ExponentialThreshold(self.threshold, growth=self.growth, owner="TrainConfig")

    def _check_model(self) -> None:
        """That the model can do what is asked of it."""
        needed = CURRICULA[self.curriculum].model
        if needed not in (None, self.model):
            raise ValueError(f"curriculum {self.curriculum!r} needs the model {needed!r} (got {self.model!r})")
        if self.model == HARDY and self.curriculum not in OF_HARDY:
            known = ", ".join(OF_HARDY)
            raise ValueError(f"curriculum of the model {HARDY!r} must be one of {known} (got {self.curriculum!r})")
        for name, full in (("available", "all"), ("missing", "fixed")):
            value = getattr(self, name)
            if value != full and self.model != HARDY:
                raise ValueError(f"{name} must be {full!r} but for the model {HARDY!r} (got {value!r}, {self.model!r})")
