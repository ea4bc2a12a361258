"""Selections that a threshold does not make: the controls of a curriculum, and selection by chance.

Training on fewer utterances changes a model whatever they are, so a curriculum has shown something only where it does
better than its control (ours).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spcl_fast._lots import select_as_many, select_by_odds
from spcl_fast._paces import integer
from spcl_fast._sampling import as_pace
from spcl_fast._scheduler_state import described
from spcl_fast.difficulty import StepInputs
from spcl_fast.difficulty.random import MAX_SEED
from spcl_fast.ops import _check
from spcl_fast.thresholds import ThresholdSchedule

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from spcl_fast.pacing import Pace

__all__ = ["MatchedSelection", "StochasticSelection"]

TAKES = ("utterances", "dialogues", "hardest")


class MatchedSelection(ThresholdSchedule):
    """A schedule that lets others in: as many of every batch as `schedule` would, at the same threshold.

    The count is that of the curriculum's own rule with hard weights, applied in every step to the model that is being
    trained. As this is another model than the curriculum's after the first step, so is the take rate of a run: near
    that of the curriculum, not equal. With several processes each takes among its own.

    Args:
        schedule: of the curriculum that is to be controlled.
        take: "utterances" takes them by lot. "dialogues" deals the shares that the curriculum takes of each dialogue
            among dialogues of about the same length (four neighbours by length, up to seven where the number of
            dialogues is no multiple of four), and takes utterances by lot within each: what length explains stays,
            what difficulty explains does not. "hardest" takes from the hard end, the anti-curriculum.
        seed: of the lots, in [0, 2^63); they depend on it, the epoch and the ids alone.

    Needs ids, but for "hardest". An utterance without a difficulty is not taken. A scheduler refuses it with another
    weighting than "hard".

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.selections import MatchedSelection
        >>> from spcl_fast.thresholds import ExponentialThreshold
        >>> control = MatchedSelection(ExponentialThreshold(0.4, growth=1.5), take="hardest")
        >>> scheduler = SelfPacedScheduler(control, difficulty="loss")
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        >>> scheduler(logits, torch.tensor([0, 0, 0])).weight.tolist()  # one has a loss below 0.4
        [0.0, 1.0, 0.0]
    """

    looks_at_steps = True
    hard_weights_only = True
    epoch: Tensor
    schedule: ThresholdSchedule

    def __init__(self, schedule: ThresholdSchedule, *, take: str = "utterances", seed: int = 0) -> None:
        super().__init__()
        if not isinstance(schedule, ThresholdSchedule):
            raise TypeError(f"MatchedSelection: schedule must be a ThresholdSchedule (got {type(schedule).__name__})")
        _check.choice("MatchedSelection", "take", take, TAKES)
        self.schedule = schedule
        self.take = take
        self.seed = integer("MatchedSelection", "seed", seed, 0, MAX_SEED)
        self.initial = schedule.initial
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    @property
    def config(self) -> dict[str, Any]:
        """That of the schedule, what is taken, and the seed."""
        return {"schedule": described(self.schedule), "take": self.take, "seed": self.seed}

    @property
    def largest(self) -> float:
        """That of the schedule."""
        return self.schedule.largest

    def before_step(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor:
        """That of the schedule, where it looks at steps: another is never asked by a scheduler."""
        if not self.schedule.looks_at_steps:
            return threshold
        return self.schedule.before_step(threshold, difficulty, inputs)

    def select(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor:
        """As many as the schedule selects."""
        selected = self.schedule.select(threshold, difficulty, inputs)
        ids = None if self.take == "hardest" else inputs.ids
        if ids is None and self.take != "hardest":
            raise ValueError(f"MatchedSelection: take={self.take!r} needs ids= (got none)")
        offsets = inputs.offsets if self.take == "dialogues" else None
        draw = ids, self.epoch, self.seed
        return select_as_many(difficulty, *draw, threshold, selected, offsets, inputs.backend)

    def after_step(self, difficulty: Tensor, inputs: StepInputs) -> None:
        """That of the schedule."""
        self.schedule.after_step(difficulty, inputs)

    def end_epoch(self, threshold: Tensor, epoch: int, process_group: ProcessGroup | None = None) -> Tensor:
        """That of the schedule, and other lots."""
        self.epoch.fill_(epoch + 1)
        return self.schedule.end_epoch(threshold, epoch, process_group)

    def synchronize(self, process_group: ProcessGroup) -> None:
        """That of the schedule."""
        self.schedule.synchronize(process_group)


class StochasticSelection(ThresholdSchedule):
    """Selection by chance, whose odds depend on the difficulty: a share `pace` of every batch, in the mean (ours).

    An utterance is kept with probability `p + tilt min(p, 1 - p) (1 - 2 r)`, where p is the pace and r in (0, 1) the
    share of the batch that is easier, `(place + 1/2) / n`. A tilt of 1 favours the easy as far as p allows, -1 the
    hard; 0 is thinning by lot, and so the control of the others. With p near 1 and a tilt of 1, what is left out is
    hard: noisy labels, late in training. Batch-relative.

    Args:
        pace: a number in (0, 1], or a `pacing.Pace` of the epoch.
        tilt: in [-1, 1].
        last_tilt: what the tilt becomes, linearly, over `epochs`; None: it stays.
        epochs: after which it is reached, at least 1.
        seed: of the lots, in [0, 2^63); they depend on it, the epoch and the ids alone.

    Needs ids. With several processes each draws from its own part of the batch. A scheduler refuses it with another
    weighting than "hard".

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.selections import StochasticSelection
        >>> scheduler = SelfPacedScheduler(StochasticSelection(0.5, tilt=1.0), difficulty="loss")
        >>> logits = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
        >>> step = scheduler(logits, torch.zeros(4000).long(), ids=torch.arange(4000))
        >>> round(step.weight.mean().item(), 1), bool(step.weight[step.difficulty.argmin()])
        (0.5, True)
    """

    looks_at_steps = True
    hard_weights_only = True
    pace_now: Tensor
    tilt_now: Tensor
    epoch: Tensor

    def __init__(
        self,
        pace: float | Pace,
        *,
        tilt: float = 0.0,
        last_tilt: float | None = None,
        epochs: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.pace = as_pace(name, pace)
        for argument, got in (("tilt", tilt), ("last_tilt", tilt if last_tilt is None else last_tilt)):
            _check.number(name, argument, got, "lie in [-1, 1]", lambda x: -1 <= x <= 1)
        self.tilt = float(tilt)
        self.last_tilt = self.tilt if last_tilt is None else float(last_tilt)
        self.epochs = integer(name, "epochs", epochs, 1)
        self.seed = integer(name, "seed", seed, 0, MAX_SEED)
        # On the device, so that another epoch neither recompiles a compiled step nor waits.
        self.register_buffer("pace_now", torch.tensor(self.pace(0), dtype=torch.float64))
        self.register_buffer("tilt_now", torch.tensor(self.tilt, dtype=torch.float64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    @property
    def config(self) -> dict[str, Any]:
        """Pace, tilts, epochs and seed."""
        return {
            "pace": dict(self.pace.config),
            "tilt": self.tilt,
            "last_tilt": self.last_tilt,
            "epochs": self.epochs,
            "seed": self.seed,
        }

    def select(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor:
        """Those that the lot falls on."""
        if inputs.ids is None:
            raise ValueError("StochasticSelection: needs ids= (got none)")
        draw = inputs.ids, self.epoch, self.seed
        return select_by_odds(difficulty, *draw, self.pace_now, self.tilt_now, inputs.backend)

    def end_epoch(self, threshold: Tensor, epoch: int, process_group: ProcessGroup | None = None) -> Tensor:
        """Pace, tilt and lots of the next epoch."""
        self.epoch.fill_(epoch + 1)
        self.pace_now.fill_(self.pace(epoch + 1))
        self.tilt_now.fill_(self.tilt + (self.last_tilt - self.tilt) * min(1.0, (epoch + 1) / self.epochs))
        return threshold
