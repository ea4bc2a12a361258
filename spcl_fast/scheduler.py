"""The scheduler a trainer calls in every step."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from spcl_fast import _distributed, backends
from spcl_fast import _scheduler_parts as parts
from spcl_fast import _scheduler_state as state
from spcl_fast._epoch import COUNTS, epoch_stats, raise_for_faults, totals_of_all
from spcl_fast._epoch import EpochStats as EpochStats
from spcl_fast._epoch import FaultyDataError as FaultyDataError
from spcl_fast._flat import flat_inputs
from spcl_fast._options import AGGREGATES, NORMALIZERS, choice, require_threshold, step_weighting
from spcl_fast._state import KeepsDtypes
from spcl_fast.batch import DialogueBatch
from spcl_fast.difficulty import Difficulty, StepInputs
from spcl_fast.difficulty.measurer import Vectors
from spcl_fast.ops import SelfPacedStep, _check
from spcl_fast.ops._check import VALIDATE
from spcl_fast.thresholds import ThresholdSchedule
from spcl_fast.weighting import Weighting, resolve

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SelfPacedScheduler(KeepsDtypes):
    """Self-paced curriculum of a model: easy utterances first, judged anew in every step.

    Called in place of the loss function. In training mode it returns SPCL's step (arXiv 2605.21565; contract:
    `ops.self_paced_step`) at the present threshold and counts what was selected, without waiting for the
    device. In evaluation mode (`eval()`) every utterance has weight 1, so the loss is the plain mean, and
    nothing is counted. `end_epoch()`, called after the evaluation on the development set as in the published
    code, moves the threshold: `lambda <- min(growth * lambda, max_threshold)` unless another schedule is given.

    A batch must hold whole dialogues. SPCL's threshold changes in `end_epoch()` alone, so accumulating gradients
    over several calls selects the same utterances as one call would.

    Args:
        threshold: lambda_0 of SPCL's schedule, in units of difficulty, at least 0; it is not capped. `math.inf` selects
            every utterance, and keeps doing so when `max_threshold` is `math.inf` too. Or a schedule of
            `spcl_fast.thresholds`, to which `growth` and `max_threshold` mean nothing.
        growth: factor per epoch, at least 1.
        max_threshold: cap of the grown threshold, above 0; may be `math.inf`.
        difficulty: a measurer of `spcl_fast.difficulty`, or the name of one: "spcl", "extended", "loss", ...
        weighting: scheme of `ops.self_paced_weights` (every threshold up to `max_threshold` has to lie in its
            domain), a function `f(difficulty, threshold, **parameters)`, or the name of one (`spcl_fast.weighting`).
        weighting_parameters: `scheme_parameters` of `ops.self_paced_step`, or those of the function.
        normalizer: "all" or "selected", of `ops.self_paced_step`.
        aggregate: "sum" or "mean", of `ops.modality_spread`.
        class_weight: `[C]`, finite and at least 0, or None; copied.
        label_smoothing: in [0, 1].
        ignore_index: the label of utterances that are not scored.
        nonfinite: "raise" lets `check()` and `end_epoch()` raise for logits and losses that are NaN or +Inf;
            "exclude" only counts them. They are left out of training either way, but for a loss of +Inf that the
            weighting takes (at a threshold of `math.inf`, or by a difficulty without the loss): the batch has it then.
        validate: "cheap", "full" or "off", of `ops.self_paced_step`.
        process_group: the processes that hold the rest of each batch. The loss is then scaled so that the average of
            its gradients over the processes (what DDP and FSDP take) is that of the whole batch in one process;
            `end_epoch()` and `check()` sum the counters; quantiles and means are over all. All processes must make
            the same calls. A step exchanges counts, sums and histograms, never scores; what a history remembers is
            exchanged at the end of an epoch, and by `synchronize`. None: no collective is ever made. Where
            DistributedDataParallel wraps a module that holds the scheduler, its forward pass has to call the scheduler,
            or it needs `broadcast_buffers=False`: else it gives all processes what the first has counted.
        backend: None for the fastest, or a name of `spcl_fast.backends`.

    Its state is the threshold, the epoch, the counters of the epoch under way and what measurer and schedule remember:
    `state_dict()` loads with `weights_only=True` and continues at any step. Settings that decide the numbers and differ
    from the saved ones are refused by name. With a process group, `synchronize()` before saving within an epoch.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> scheduler = SelfPacedScheduler(threshold=0.4, growth=1.5)
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]]], requires_grad=True)
        >>> step = scheduler(logits, labels=torch.tensor([0, 0]), offsets=torch.tensor([0, 1, 2]))
        >>> step.weight.tolist()
        [1.0, 0.0]
        >>> step.loss.backward()
        >>> scheduler.end_epoch().take_rate, round(scheduler.threshold.item(), 2)
        (0.5, 0.6)
    """

    class_weight: Tensor | None
    threshold: Tensor
    counts: Tensor
    sums: Tensor
    agreed_counts: Tensor
    agreed_sums: Tensor
    difficulty: Difficulty
    schedule: ThresholdSchedule

    def __init__(
        self,
        threshold: float | ThresholdSchedule = 0.7,
        growth: float = 1.25,
        max_threshold: float = 60.0,
        *,
        difficulty: str | Difficulty = "spcl",
        weighting: str | Weighting = "hard",
        weighting_parameters: Mapping[str, Any] | None = None,
        normalizer: str = "all",
        aggregate: str = "sum",
        class_weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        nonfinite: str = "raise",
        validate: str = "cheap",
        process_group: ProcessGroup | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        choice(name, "normalizer", normalizer, NORMALIZERS)
        choice(name, "aggregate", aggregate, AGGREGATES)
        choice(name, "nonfinite", nonfinite, ("raise", "exclude"))
        choice(name, "validate", validate, VALIDATE)
        if backend is not None:
            backends.why_not(backend)  # refuses a name that no backend has
        _check.number(name, "label_smoothing", label_smoothing, "lie in [0, 1]", lambda x: 0 <= x <= 1)
        self.difficulty = parts.measurer(name, difficulty)
        self.schedule = parts.schedule(name, threshold, growth, max_threshold)
        self._weighting, self._weigh = resolve(name, weighting, weighting_parameters)
        parts.require_hard_weights(name, self.schedule, self._weighting)
        self._weighting_parameters = dict(weighting_parameters or {})
        if self._weigh is None:
            parameter = step_weighting(name, self._weighting, weighting_parameters).parameter
            # What a schedule begins with is no threshold of a step where it looks at each of them first.
            never = {math.inf} if self.schedule.looks_at_steps else set()
            for number in {self.schedule.initial, self.schedule.largest} - never:
                require_threshold(name, self._weighting, parameter, number)
        self.normalizer = normalizer
        self.aggregate = aggregate
        self.label_smoothing = float(label_smoothing)
        self.ignore_index = int(ignore_index)
        self.nonfinite = nonfinite
        self.validate = validate
        self.process_group = None if process_group is None else _distributed.group(name, process_group)
        self.backend = backend
        self.epoch = 0
        class_weights = state.weight_list(name, class_weight)
        self.register_buffer("class_weight", None if class_weight is None else class_weight.detach().clone())
        self.register_buffer("threshold", torch.tensor(self.schedule.initial, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(COUNTS), dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(0, dtype=torch.float64))  # sized by the first batch
        # The part of the epoch that all processes know of: what `synchronize` found.
        self.register_buffer("agreed_counts", torch.zeros(len(COUNTS), dtype=torch.int64))
        self.register_buffer("agreed_sums", torch.zeros(0, dtype=torch.float64))
        # What decides the numbers: a state saved under other settings must not be continued unawares.
        self._config: dict[str, Any] = {
            "threshold": state.described(self.schedule),
            "difficulty": state.described(self.difficulty),
            "weighting": self._weighting,
            "weighting_parameters": state.plain(name, self._weighting_parameters) or None,
            "normalizer": normalizer,
            "aggregate": aggregate,
            "label_smoothing": self.label_smoothing,
            "ignore_index": self.ignore_index,
            "class_weight": class_weights,
        }

    def forward(
        self,
        logits: Vectors,
        labels: Tensor | DialogueBatch,
        offsets: Tensor | None = None,
        speakers: Tensor | None = None,
        embeddings: Vectors | None = None,
        *,
        ids: Tensor | None = None,
        joint: Tensor | None = None,
        present: Tensor | None = None,
        extra_difficulty: Tensor | None = None,
    ) -> SelfPacedStep:
        """One step: `scheduler(logits, labels, offsets)` or `scheduler(logits, batch)`.

        With a batch, logits (`[B, L, C]` a modality, or `[M, B, L, C]`), `joint`, `present` (`[M, B, L]`), `ids`,
        `speakers` and `extra_difficulty` (`[B, L]`) may be padded as the batch is; results have one entry an
        utterance, and `batch.pad` spreads them again. Logits `[T, C]` are those of a single head, and without offsets
        the batch is one dialogue, for measurers that look at neither modalities nor dialogues ("loss"). Speakers
        (those of the batch, where it has any), embeddings (as the logits, with features in the place of classes) and
        ids (`int[T]`, the same utterance having the same id in every epoch) are for measurers that look at them. In
        evaluation mode they may be left out: the difficulty is NaN then, and loss and weights are what they are.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch, SelfPacedScheduler
            >>> batch = DialogueBatch.from_padded(torch.tensor([[0, 2], [1, 0]]), lengths=[2, 1])
            >>> step = SelfPacedScheduler(threshold=0.5)([torch.zeros(2, 2, 3), torch.zeros(2, 2, 3)], batch)
            >>> batch.pad(step.weight).tolist()
            [[1.0, 1.0], [1.0, 0.0]]
        """
        # A module looks for its parts and buffers at every dot, which costs a microsecond each.
        measurer: Difficulty = self._modules["difficulty"]  # type: ignore[assignment]
        schedule: ThresholdSchedule = self._modules["schedule"]  # type: ignore[assignment]
        name = type(self).__name__
        inputs, extra_difficulty = flat_inputs(
            name,
            "dialogues" in measurer.needs,
            *(logits, labels, offsets, extra_difficulty, joint, present, speakers, embeddings, ids),
            *(self._buffers["class_weight"], self.label_smoothing, self.aggregate, self.ignore_index),
            *(self.process_group, self.backend),
        )
        extra = parts.extra(name, measurer, inputs, extra_difficulty, training=self.training)
        measure = measurer.fused
        if not self.training:
            return inputs.step(measure, extra, validate=self.validate, normalizer=self.normalizer)
        if self._weigh is None and not schedule.looks_at_steps:
            step = self._step(inputs, measure, extra)
        else:
            step = self._step_in_two_passes(inputs, measure, extra)
        if type(schedule).after_step is not ThresholdSchedule.after_step:
            schedule.after_step(step.difficulty, inputs)
        self._count(step)
        if self.process_group is not None:
            _distributed.keep_own_buffers(self, but="threshold")
            step = step._replace(loss=step.loss * self._share(step))
        return step

    def _step(self, inputs: StepInputs, measure: str, extra: Tensor | None) -> SelfPacedStep:
        return inputs.step(
            measure,
            extra,
            threshold=self._buffers["threshold"],
            scheme=self._weighting,
            scheme_parameters=self._weighting_parameters,
            normalizer=self.normalizer,
            validate=self.validate,
        )

    def _step_in_two_passes(self, inputs: StepInputs, measure: str, extra: Tensor | None) -> SelfPacedStep:
        """Measures first, for a schedule that looks at the difficulties or a weighting that is a function of them."""
        with torch.no_grad():
            difficulty = inputs.step(measure, extra, validate=self.validate).difficulty
            threshold = self.threshold
            moved = self.schedule.before_step(threshold, difficulty, inputs)
            if moved is not threshold:
                self._set_threshold(parts.threshold(self.schedule, moved, threshold))
            weight = None
            if self._weigh is not None:
                weight = self._weigh(difficulty, self.threshold, **self._weighting_parameters)
                weight = parts.weights(self._weighting, weight, difficulty)
            elif self._weighting == "hard":
                weight = self.schedule.select(self.threshold, difficulty, inputs)
        if weight is None:
            return self._step(inputs, "none", difficulty)
        # What has no difficulty is still to be counted as undefined.
        weight = torch.where(difficulty.isnan(), difficulty, weight)
        step = inputs.step(
            "none", weight, threshold=0.0, scheme="given", normalizer=self.normalizer, validate=self.validate
        )
        return step._replace(difficulty=difficulty)

    def _set_threshold(self, threshold: Tensor) -> None:
        if torch.compiler.is_compiling():
            # What a compiled training step writes into a 0-dim float64 tensor of the host is lost (torch 2.13).
            self.threshold = threshold.clone()
        else:
            self.threshold.copy_(threshold)

    def _share(self, step: SelfPacedStep) -> Tensor:
        """What this process's loss counts for, so that its average over the processes is that of the whole batch."""
        totals = step.totals
        here = totals.scored.double() if self.normalizer == "all" else totals.weight_sum
        everywhere = _distributed.all_sum(here, self.process_group)
        _, size = _distributed.world(self.process_group)
        return torch.where(everywhere > 0, size * here / everywhere, 0.0).to(step.loss.dtype)

    def _count(self, step: SelfPacedStep) -> None:
        counts, sums = step.totals
        of_epoch: Tensor = self._buffers["sums"]  # type: ignore[assignment]
        if of_epoch.shape != sums.shape:
            if of_epoch.numel() > 0:
                had, got = (x.numel() // 2 - 1 for x in (of_epoch, sums))
                raise ValueError(
                    f"{type(self).__name__}: every step must have the same modalities ({had} before, got {got})"
                )
            with torch.inference_mode(False):  # the counters outlive the mode that the first step ran in
                of_epoch = self.sums = torch.zeros(sums.shape, dtype=sums.dtype, device=sums.device)
        self._buffers["counts"].add_(counts)  # type: ignore[union-attr]
        of_epoch.add_(sums)

    def check(self) -> EpochStats:
        """The epoch so far; raises `FaultyDataError` for data that had to be left out. Waits for the device.

        Example:
            >>> import torch
            >>> from spcl_fast import SelfPacedScheduler
            >>> scheduler = SelfPacedScheduler(threshold=0.5, growth=1.5)
            >>> step = scheduler(torch.zeros(2, 3, 4), torch.tensor([0, 3, 1]), torch.tensor([0, 3]))
            >>> scheduler.check().selected, scheduler.threshold.item()  # the epoch goes on
            (3, 0.5)
        """
        stats = epoch_stats(self.epoch, self.threshold, *self._totals())
        raise_for_faults(type(self).__name__, stats, counts_nonfinite=self.nonfinite == "raise")
        return stats

    def end_epoch(self) -> EpochStats:
        """Closes the epoch: returns what it selected, moves the threshold, resets the counters.

        Waits for the device, which no step does. Raises `FaultyDataError` (after closing the epoch, with its
        `stats`) for data that had to be left out, and warns when steps were made but nothing could be scored.

        Example:
            >>> import torch
            >>> from spcl_fast import SelfPacedScheduler
            >>> scheduler = SelfPacedScheduler(threshold=0.5, growth=1.5)
            >>> step = scheduler(torch.zeros(2, 3, 4), torch.tensor([0, 3, 1]), torch.tensor([0, 3]))
            >>> scheduler.end_epoch().selected, scheduler.threshold.item(), scheduler.epoch
            (3, 0.75, 1)
        """
        stats = epoch_stats(self.epoch, self.threshold, *self._totals())
        with torch.no_grad():
            moved = self.schedule.end_epoch(self.threshold, self.epoch, self.process_group)
            self.threshold.copy_(parts.threshold(self.schedule, moved, self.threshold))
        self.difficulty.end_epoch(self.process_group)
        self.epoch += 1
        for counter in (self.counts, self.sums, self.agreed_counts, self.agreed_sums):
            counter.zero_()
        if stats.steps and not stats.scored:
            warnings.warn(
                f"{type(self).__name__}: no utterance of epoch {stats.epoch} could be scored",
                RuntimeWarning,
                stacklevel=2,
            )
        raise_for_faults(type(self).__name__, stats, counts_nonfinite=self.nonfinite == "raise")
        return stats

    def synchronize(self) -> None:
        """Before the state is saved within an epoch of several processes: afterwards all of them hold all of it.

        A collective, which every process of the group must make; nothing without a group. The state of any process then
        continues on any number of processes, this number included.

        Example:
            >>> from spcl_fast import SelfPacedScheduler
            >>> scheduler = SelfPacedScheduler(threshold=0.5)
            >>> scheduler.synchronize()  # one process has nobody to agree with
            >>> state = scheduler.state_dict()
        """
        if self.process_group is not None:
            counts, sums = self._totals()
            self.agreed_counts, self.agreed_sums = counts, sums
            self.counts, self.sums = torch.zeros_like(counts), torch.zeros_like(sums)
            self.schedule.synchronize(self.process_group)
            self.difficulty.synchronize(self.process_group)

    def _totals(self) -> tuple[Tensor, Tensor]:
        """Counters and sums of the epoch, over all processes."""
        counts, sums = totals_of_all(type(self).__name__, self.counts, self.sums, self.process_group)
        agreed = self.agreed_sums if self.agreed_sums.numel() else 0.0
        return counts + self.agreed_counts, sums + agreed

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy of all but the process group, which cannot have one: the copy speaks to the same processes."""
        memo[id(self.process_group)] = self.process_group
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def get_extra_state(self) -> dict[str, Any]:
        """The part of the state that is not a tensor."""
        return {"version": state.VERSION, "epoch": self.epoch, "config": dict(self._config)}

    def set_extra_state(self, saved: dict[str, Any]) -> None:
        """Takes what `get_extra_state` gave."""
        self.epoch = int(saved["epoch"])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "_extra_state" in state_dict:  # refused before anything of this module has changed
            state.require_same_settings(state_dict[prefix + "_extra_state"], self._config)
        with torch.inference_mode(False):  # as in `_count`
            for name in ("sums", "agreed_sums"):  # sized by the first batch, or by the state
                saved = state_dict.get(prefix + name)
                if saved is not None:
                    setattr(self, name, getattr(self, name).new_zeros(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Settings, for `print(scheduler)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self._config.items())
