"""How the threshold of a curriculum moves: by a factor, with a quantile of the difficulties, with their mean.

A schedule gives the next threshold for the present one: a 0-dim tensor on its device, or a number where it has one. The
scheduler asks `before_step` where `looks_at_steps` says so, with the difficulties that the step is about to select
from, shows `after_step` those that every step has selected from, and asks `end_epoch` once an epoch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spcl_fast import _distributed, ops
from spcl_fast._options import FORMULAS
from spcl_fast._sampling import as_pace
from spcl_fast._state import KeepsDtypes
from spcl_fast.difficulty import StepInputs
from spcl_fast.ops import _check

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from spcl_fast.pacing import Pace


def threshold_at_pace(difficulty: Tensor, pace: float | Tensor, *, formula: str = "paper") -> Tensor:
    """The threshold that lets a share of the corpus in, from the difficulties of all of it.

    Args:
        difficulty: `[T]`, floating point; NaN is left out and not counted among the n.
        pace: in (0, 1], a number or a 0-dim tensor, of `ops.difficulty_quantile`.
        formula: "paper": the `ceil(pace n)`-th smallest, of `ops.difficulty_quantile`. "curml": the `int(pace n)`-th
            smallest, the product being that of floats, as in the self-paced learning of CurML and CurBench. Their
            weights at a threshold are those of `ops.self_paced_weights` ("polynomial" with its formula "curml");
            their hard selection is the `int(pace n)` utterances themselves, `CurriculumSampler(formula="curml")`.

    Returns:
        The threshold, a 0-dim tensor of the dtype and on the device of `difficulty`; NaN where nothing has one.
        Nothing waits for a device. Not differentiable. Deterministic.

    Raises:
        TypeError: what `ops.difficulty_quantile` refuses.
        ValueError: the same, and an unknown formula; with "curml" a pace at which `int(pace n)` is 0 of n > 0 (an
            IndexError of theirs), where the data is on the host; elsewhere the threshold is NaN then.

    Example:
        >>> import torch
        >>> from spcl_fast.thresholds import threshold_at_pace
        >>> difficulty = torch.tensor([0.1, 0.4, 0.2, 0.3, 0.5])
        >>> round(threshold_at_pace(difficulty, 0.5).item(), 3)
        0.3
        >>> round(threshold_at_pace(difficulty, 0.5, formula="curml").item(), 3)  # int(2.5) of them
        0.2
    """
    name = "threshold_at_pace"
    _check.choice(name, "formula", formula, FORMULAS)
    if formula == "paper":
        return ops.difficulty_quantile(difficulty, pace)
    _check.tensor(name, "difficulty", difficulty, 1, _check.FLOATS, "floating point numbers")
    pace = _check.pace(name, pace, difficulty.device)
    nans = difficulty.isnan().sum()
    # A pace of k / n takes k: the quantile allows for its rounding and that of the product.
    if difficulty.device.type == "cpu" and not torch.compiler.is_compiling():
        n = difficulty.numel() - int(nans)
        k = int(pace * n)
        if k == 0 < n:
            raise ValueError(f"{name}: pace must take at least one of {n} by formula 'curml' (got {pace})")
        return ops.difficulty_quantile(difficulty, k / n if n else pace)
    known = (difficulty.numel() - nans).double()
    taken = torch.minimum((pace * known).floor(), known)
    level = ops.difficulty_quantile(difficulty, torch.where(taken > 0, taken / known, 1.0))
    return torch.where(taken > 0, level, math.nan)


class ThresholdSchedule(KeepsDtypes):
    """What a schedule of the threshold is; a subclass of your own goes into `SelfPacedScheduler(threshold=...)`.

    Attributes:
        initial: the threshold of the first step, at least 0 (or what the weighting takes).
        looks_at_steps: whether `before_step` has to see the difficulties of every batch, which costs another pass
            over it.
        hard_weights_only: whether it is `select` that makes it what it is, so that another weighting, which never
            asks for a selection, is refused.

    Example:
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.thresholds import ThresholdSchedule
        >>> class Additive(ThresholdSchedule):
        ...     initial = 0.5
        ...
        ...     def end_epoch(self, threshold, epoch, process_group=None):
        ...         return threshold + 0.25
        >>> scheduler = SelfPacedScheduler(threshold=Additive())
        >>> _ = scheduler.end_epoch()
        >>> scheduler.threshold.item()
        0.75
    """

    initial: float = 0.0
    looks_at_steps: bool = False
    hard_weights_only: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """What decides its numbers, as plain Python."""
        return {"initial": self.initial}

    @property
    def largest(self) -> float:
        """The largest threshold it can reach, as far as it knows."""
        return self.initial

    def before_step(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor:
        """The threshold for the batch whose difficulties `[T]` these are (NaN: not scored, or not known).

        A 0-dim float64 tensor; no input is written to. No host sync.

        Example:
            >>> import torch
            >>> from spcl_fast.testing import random_inputs
            >>> from spcl_fast.thresholds import RunningMeanThreshold
            >>> threshold, difficulty = torch.tensor(1.0, dtype=torch.float64), torch.tensor([2.0, 4.0])
            >>> schedule = RunningMeanThreshold(1.0, momentum=0.5)
            >>> schedule.before_step(threshold, difficulty, random_inputs((2,))).item()  # half of 1 and half of 3
            2.0
        """
        return threshold

    def select(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor | None:
        """The selection `bool[T]` of hard weights where the schedule decides it itself; None: the threshold does.

        Example:
            >>> import torch
            >>> from spcl_fast.testing import random_inputs
            >>> from spcl_fast.thresholds import QuantileThreshold
            >>> difficulty, threshold = torch.tensor([1.0, 1.0, 1.0]), torch.tensor(1.0, dtype=torch.float64)
            >>> QuantileThreshold(0.5).select(threshold, difficulty, random_inputs((3,))._replace(ids=None)).tolist()
            [True, True, False]
        """
        return None

    def after_step(self, difficulty: Tensor, inputs: StepInputs) -> None:
        """Sees the difficulties `[T]` of a step in training mode, which is not counted yet. No host sync.

        Example:
            >>> import torch
            >>> from spcl_fast.testing import random_inputs
            >>> from spcl_fast.thresholds import QuantileThreshold
            >>> schedule, threshold = QuantileThreshold(0.5, over="epoch", num_utterances=9), torch.tensor(1.0).double()
            >>> inputs = random_inputs((4,))  # ids 0 to 3
            >>> schedule.after_step(torch.tensor([4.0, 3.0, 2.0, 1.0]), inputs)
            >>> schedule.end_epoch(threshold, epoch=0).item()
            2.0
        """

    def end_epoch(self, threshold: Tensor, epoch: int, process_group: ProcessGroup | None = None) -> Tensor:
        """The threshold after an epoch, counted from 0.

        Example:
            >>> import torch
            >>> from spcl_fast.thresholds import ExponentialThreshold
            >>> threshold = torch.tensor(0.5, dtype=torch.float64)
            >>> ExponentialThreshold(0.5, growth=2.0).end_epoch(threshold, epoch=0).item()
            1.0
        """
        return threshold

    def synchronize(self, process_group: ProcessGroup) -> None:
        """Makes what the processes remember the same on all of them, before it is saved.

        Example:
            >>> from spcl_fast.thresholds import ExponentialThreshold
            >>> ExponentialThreshold(0.5).synchronize(process_group=None)  # remembers nothing, so exchanges nothing
        """

    def extra_repr(self) -> str:
        """Settings, for `print`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config.items())


class ExponentialThreshold(ThresholdSchedule):
    """SPCL's schedule: `lambda <- min(growth * lambda, maximum)` after every epoch (arXiv 2605.21565, code).

    Args:
        initial: lambda_0, at least 0; it is not capped. `math.inf` selects every utterance, and keeps doing so when
            `maximum` is `math.inf` too.
        growth: factor per epoch, at least 1 and finite.
        maximum: cap of the grown threshold, above 0; may be `math.inf`.

    Example:
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.thresholds import ExponentialThreshold
        >>> SelfPacedScheduler(threshold=ExponentialThreshold(0.5, growth=2.0)).threshold.item()
        0.5
    """

    def __init__(
        self, initial: float = 0.7, *, growth: float = 1.25, maximum: float = 60.0, owner: str | None = None
    ) -> None:
        super().__init__()
        name = owner or type(self).__name__  # whose arguments they are, for the messages
        words = ("initial", "maximum") if owner is None else ("threshold", "max_threshold")
        self.initial = _check.number(name, words[0], initial, "be at least 0", lambda x: x >= 0)
        self.growth = _check.number(name, "growth", growth, "be at least 1 and finite", lambda x: 1 <= x < math.inf)
        self.maximum = _check.number(name, words[1], maximum, "be above 0", lambda x: x > 0)

    @property
    def config(self) -> dict[str, Any]:
        """lambda_0, factor and cap."""
        return {"initial": self.initial, "growth": self.growth, "maximum": self.maximum}

    @property
    def largest(self) -> float:
        """The cap, which what grows can reach; lambda_0 alone may lie above it."""
        return self.maximum

    def end_epoch(self, threshold: Tensor, epoch: int, process_group: ProcessGroup | None = None) -> Tensor:
        """One factor."""
        return (threshold * self.growth).clamp(max=self.maximum)


class QuantileThreshold(ThresholdSchedule):
    """The threshold under which a share of the utterances lies: the quantile of the difficulties at `pace(epoch)`.

    Over a batch, hard selection takes exactly `ceil(pace n)` of the n utterances that have a difficulty, n being that
    of all processes with a process group; ties by id where ids are given, or else by index. Other weightings get
    `ops.difficulty_quantile` as threshold. The batch is scored twice. Over an epoch, the threshold is that quantile
    of what the difficulties were in the epoch before, the first epoch taking all; ties of the threshold are all
    taken, and nothing is scored twice.

    Args:
        pace: of `spcl_fast.pacing`, or a number in (0, 1] for all epochs.
        over: "batch" or "epoch".
        num_utterances: size of the training set, for "epoch", where a step needs `ids` in [0, num_utterances); the
            latest difficulty of each utterance is kept in 4 bytes.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler, pacing
        >>> from spcl_fast.thresholds import QuantileThreshold
        >>> half = QuantileThreshold(pacing.LinearPace(start=0.5, total=10))
        >>> scheduler = SelfPacedScheduler(threshold=half, difficulty="loss")
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> scheduler(logits, torch.tensor([0, 0, 0, 0])).weight.tolist()
        [1.0, 1.0, 0.0, 0.0]
    """

    pace_now: Tensor
    latest: Tensor
    is_agreed: Tensor
    initial = math.inf

    def __init__(self, pace: Pace | float, *, over: str = "batch", num_utterances: int | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        _check.choice(name, "over", over, ("batch", "epoch"))
        if (num_utterances is None) != (over == "batch"):
            raise ValueError(f"{name}: over='epoch' needs num_utterances, and 'batch' none (got {num_utterances})")
        if num_utterances is not None and (isinstance(num_utterances, bool) or not isinstance(num_utterances, int)):
            raise TypeError(f"{name}: num_utterances must be an integer (got {type(num_utterances).__name__})")
        if num_utterances is not None and num_utterances < 1:
            raise ValueError(f"{name}: num_utterances must be at least 1 (got {num_utterances})")
        self.pace = as_pace(name, pace)
        self.over = over
        self.looks_at_steps = over == "batch"
        self.num_utterances = num_utterances
        # On the device, so that another pace neither recompiles a compiled step nor waits.
        self.register_buffer("pace_now", torch.tensor(self.pace(0), dtype=torch.float64))
        rows = 0 if num_utterances is None else num_utterances + 1  # the last row takes what has no place
        self.register_buffer("latest", torch.full((rows,), math.nan))
        self.register_buffer("is_agreed", torch.zeros(rows, dtype=torch.bool))  # rows that all processes hold

    @property
    def config(self) -> dict[str, Any]:
        """Pace, and over what."""
        return {"pace": dict(self.pace.config), "over": self.over, "num_utterances": self.num_utterances}

    def before_step(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor:
        """The quantile of this batch; a batch without a difficulty leaves the threshold as it is."""
        level = ops.difficulty_quantile(difficulty, self.pace_now, process_group=inputs.process_group).double()
        return torch.where(level.isnan(), threshold, level)

    def select(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor | None:
        """Of a batch, exactly so many."""
        if self.over == "epoch":
            return None
        group = inputs.process_group
        if group is None and inputs.ids is not None:  # ordered by id, the first by index are the first by id
            order = inputs.ids.argsort(stable=True)
            taken = ops.select_easiest(difficulty[order], self.pace_now)
            return torch.empty_like(taken).scatter_(0, order, taken)
        return ops.select_easiest(difficulty, self.pace_now, process_group=group, ids=inputs.ids)

    def after_step(self, difficulty: Tensor, inputs: StepInputs) -> None:
        """Keeps the difficulties for the next epoch where the quantile is over one."""
        if self.over == "epoch":
            self._keep(difficulty, inputs.ids)

    def end_epoch(self, threshold: Tensor, epoch: int, process_group: ProcessGroup | None = None) -> Tensor:
        """The pace of the next epoch, and its threshold."""
        self.pace_now.fill_(self.pace(epoch + 1))
        if self.over == "batch":
            return threshold
        rank, _ = _distributed.world(process_group)
        known = self.latest if rank == 0 else torch.where(self.is_agreed, math.nan, self.latest)
        level = ops.difficulty_quantile(known[:-1], self.pace_now, process_group=process_group).double()
        self.latest.fill_(math.nan)
        self.is_agreed.zero_()
        return torch.where(level.isnan(), threshold, level)  # an epoch without a difficulty changes nothing

    def synchronize(self, process_group: ProcessGroup) -> None:
        """The difficulties of all processes, on each; of the first where several have one of an utterance."""
        own = ~(self.is_agreed | self.latest.isnan())
        _distributed.merge_rows(own, [self.latest], process_group)
        self.is_agreed.copy_(~self.latest.isnan())

    def _keep(self, difficulty: Tensor, ids: Tensor | None) -> None:
        if ids is None:
            raise ValueError("QuantileThreshold: over='epoch' needs ids= (got none)")
        row, rows = ids.long(), self.latest.numel() - 1
        if row.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = torch.aminmax(row) if row.numel() else (0, 0)
            if low < 0 or high >= rows:
                got = int(row[(row < 0) | (row >= rows)][0])
                raise ValueError(f"QuantileThreshold: ids must lie in [0, {self.num_utterances}) (got {got})")
        else:
            row = torch.where((row >= 0) & (row < rows), row, rows)
        self.latest.index_copy_(0, row, difficulty.to(self.latest.dtype))
        self.is_agreed.index_fill_(0, row, False)


class RunningMeanThreshold(ThresholdSchedule):
    """The running mean of the difficulties: `tau <- f tau + (1 - f) mean` before each batch (SuperLoss, Castells 2020).

    The mean is over the utterances of the batch with a finite difficulty, of all processes with a process group; a
    batch without any leaves tau as it is. The batch is scored twice.

    Args:
        initial: tau of the first step, a finite number: `math.log(C)` is what a uniform guess loses.
        momentum: f, in [0, 1).

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.thresholds import RunningMeanThreshold
        >>> scheduler = SelfPacedScheduler(threshold=RunningMeanThreshold(0.0, momentum=0.5), difficulty="loss")
        >>> _ = scheduler(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
        >>> round(scheduler.threshold.item(), 4)  # half of log 2
        0.3466
    """

    looks_at_steps = True

    def __init__(self, initial: float, *, momentum: float = 0.9) -> None:
        super().__init__()
        name = type(self).__name__
        self.initial = _check.number(name, "initial", initial, "be finite")
        self.momentum = _check.number(name, "momentum", momentum, "lie in [0, 1)", lambda x: 0 <= x < 1)

    @property
    def config(self) -> dict[str, Any]:
        """Value of tau at the first step, and f."""
        return {"initial": self.initial, "momentum": self.momentum}

    def before_step(self, threshold: Tensor, difficulty: Tensor, inputs: StepInputs) -> Tensor:
        """One step of the mean."""
        finite = difficulty.isfinite()
        sums = torch.stack([finite.sum().double(), torch.where(finite, difficulty, 0.0).double().sum()])
        n, total = _distributed.all_sum(sums, inputs.process_group)
        moved = self.momentum * threshold + (1 - self.momentum) * total / n.clamp(min=1)
        return torch.where(n > 0, moved, threshold)
