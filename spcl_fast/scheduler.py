"""The scheduler a trainer calls in every step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from spcl_fast import backends, ops
from spcl_fast._epoch import COUNTS, epoch_stats, raise_for_faults
from spcl_fast._epoch import EpochStats as EpochStats
from spcl_fast._epoch import FaultyDataError as FaultyDataError
from spcl_fast._options import AGGREGATES, NORMALIZERS, NUMBERS, choice, require_threshold, step_weighting
from spcl_fast._state import KeepsDtypes, differences
from spcl_fast.batch import DialogueBatch
from spcl_fast.difficulty import ExtendedDifficulty
from spcl_fast.ops import SelfPacedStep, _check
from spcl_fast.ops._check import VALIDATE

STATE_VERSION = 2  # 1: sums without that of the weights

Logits = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class SelfPacedScheduler(KeepsDtypes):
    """Self-paced curriculum of a multimodal model: easy utterances first, judged anew in every step.

    Called in place of the loss function. In training mode it returns SPCL's step (arXiv 2605.21565; contract:
    `ops.self_paced_step`) at the present threshold and counts what was selected, without waiting for the
    device. In evaluation mode (`eval()`) every utterance has weight 1, so the loss is the plain mean, and
    nothing is counted. `end_epoch()`, called after the evaluation on the development set as in the published
    code, raises the threshold: `lambda <- min(growth * lambda, max_threshold)`.

    A batch must hold whole dialogues. The threshold changes in `end_epoch()` alone, so accumulating gradients
    over several calls selects the same utterances as one call would.

    Args:
        threshold: lambda_0, in units of difficulty, at least 0; it is not capped. `math.inf` selects every
            utterance, and keeps doing so when `max_threshold` is `math.inf` too.
        growth: factor per epoch, at least 1.
        max_threshold: cap of the grown threshold, above 0; may be `math.inf`.
        difficulty: "spcl"; "extended", which adds the incoherence of the modalities and the emotion transitions of the
            dialogue; or a `difficulty.ExtendedDifficulty` of other weights.
        weighting: scheme of `ops.self_paced_weights`; every threshold up to `max_threshold` has to lie in its domain.
        weighting_parameters: `scheme_parameters` of `ops.self_paced_step`.
        normalizer: "all" or "selected", of `ops.self_paced_step`.
        aggregate: "sum" or "mean", of `ops.modality_spread`.
        class_weight: `[C]`, finite and at least 0, or None; copied.
        label_smoothing: in [0, 1].
        ignore_index: the label of utterances that are not scored.
        nonfinite: "raise" lets `check()` and `end_epoch()` raise for logits and losses that are NaN or +Inf;
            "exclude" only counts them. They are left out of training either way.
        validate: "cheap", "full" or "off", of `ops.self_paced_step`.
        backend: None for the fastest, or a name of `spcl_fast.backends`.

    Its state is the threshold, the epoch and the counters of the epoch under way: `state_dict()` loads with
    `weights_only=True` and continues at any step. Settings that decide the numbers and differ from the saved ones
    are refused by name.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> scheduler = SelfPacedScheduler(threshold=0.5, growth=1.5)
        >>> text = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> audio = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> labels, offsets = torch.tensor([0, 1, 1]), torch.tensor([0, 2, 3])
        >>> step = scheduler({"text": text, "audio": audio}, labels, offsets)  # then step.loss.backward()
        >>> step.weight.tolist()
        [1.0, 0.0, 1.0]
        >>> round(scheduler.end_epoch().take_rate, 3), scheduler.threshold.item()
        (0.667, 0.75)
    """

    class_weight: Tensor | None
    threshold: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        threshold: float = 0.7,
        growth: float = 1.25,
        max_threshold: float = 60.0,
        *,
        difficulty: str | ExtendedDifficulty = "spcl",
        weighting: str = "hard",
        weighting_parameters: Mapping[str, Any] | None = None,
        normalizer: str = "all",
        aggregate: str = "sum",
        class_weight: Tensor | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        nonfinite: str = "raise",
        validate: str = "cheap",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for setting, number in (("threshold", threshold), ("growth", growth), ("max_threshold", max_threshold)):
            if isinstance(number, bool) or not isinstance(number, Real):
                raise TypeError(f"{name}: {setting} must be a number (got {type(number).__name__})")
        if not threshold >= 0:
            raise ValueError(f"{name}: threshold must be at least 0 (got {threshold})")
        if not 1 <= growth < math.inf:
            raise ValueError(f"{name}: growth must be at least 1 and finite (got {growth})")
        if not max_threshold > 0:
            raise ValueError(f"{name}: max_threshold must be above 0 (got {max_threshold})")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"{name}: label_smoothing must lie in [0, 1] (got {label_smoothing})")
        if not isinstance(difficulty, ExtendedDifficulty):
            choice(name, "difficulty", difficulty, ("spcl", "extended"))
            difficulty_terms = ExtendedDifficulty() if difficulty == "extended" else None
        else:
            difficulty_terms = difficulty
        choice(name, "weighting", weighting, tuple(NUMBERS))
        parameter = step_weighting(name, weighting, weighting_parameters).parameter
        for number in (threshold, max_threshold):
            require_threshold(name, weighting, parameter, float(number))
        choice(name, "normalizer", normalizer, NORMALIZERS)
        choice(name, "aggregate", aggregate, AGGREGATES)
        choice(name, "nonfinite", nonfinite, ("raise", "exclude"))
        choice(name, "validate", validate, VALIDATE)
        if backend is not None:
            backends.why_not(backend)  # refuses a name that no backend has
        # What decides the numbers: a state saved under other settings must not be continued unawares.
        self._config: dict[str, Any] = {
            "initial_threshold": float(threshold),
            "growth": float(growth),
            "max_threshold": float(max_threshold),
            "difficulty": "spcl" if difficulty_terms is None else {"extended": difficulty_terms.config},
            "weighting": weighting,
            "weighting_parameters": _plain(weighting_parameters) if weighting_parameters else None,
            "normalizer": normalizer,
            "aggregate": aggregate,
            "label_smoothing": float(label_smoothing),
            "ignore_index": int(ignore_index),
            "class_weight": _weight_list(name, class_weight),
        }
        self.difficulty = difficulty_terms
        self.epoch = 0
        self.nonfinite = nonfinite
        self.validate = validate
        self.backend = backend
        self.register_buffer("class_weight", None if class_weight is None else class_weight.detach().clone())
        self.register_buffer("threshold", torch.tensor(float(threshold), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(COUNTS), dtype=torch.int64))
        self.register_buffer("sums", torch.zeros(0, dtype=torch.float64))  # sized by the first batch

    def forward(
        self,
        logits: Logits,
        labels: Tensor | DialogueBatch,
        offsets: Tensor | None = None,
        speakers: Tensor | None = None,
        embeddings: Logits | None = None,
        *,
        joint: Tensor | None = None,
        present: Tensor | None = None,
        extra_difficulty: Tensor | None = None,
    ) -> SelfPacedStep:
        """One step: `scheduler(logits, labels, offsets)` or `scheduler(logits, batch)`.

        With a batch, logits (`[B, L, C]` a modality, or `[M, B, L, C]`), `joint`, `present` (`[M, B, L]`) and
        `extra_difficulty` (`[B, L]`) may be padded as the batch is; results have one entry an utterance, and
        `batch.pad` spreads them again. Speakers (those of the batch, where it has any) and embeddings (as the logits,
        with features in the place of classes) are for difficulties that look at them, in evaluation mode too; "spcl"
        does not.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch, SelfPacedScheduler
            >>> batch = DialogueBatch.from_padded(torch.tensor([[0, 2], [1, 0]]), lengths=[2, 1])
            >>> step = SelfPacedScheduler(threshold=0.5)([torch.zeros(2, 2, 3), torch.zeros(2, 2, 3)], batch)
            >>> batch.pad(step.weight).tolist()
            [[1.0, 1.0], [1.0, 0.0]]
        """
        if isinstance(labels, DialogueBatch):
            if offsets is not None:
                raise ValueError(f"{type(self).__name__}: give a batch or labels and offsets (got both)")
            batch = labels
            labels, offsets = batch.labels, batch.offsets
            logits = _flat_logits(logits, batch)
            embeddings = None if embeddings is None else _flat_logits(embeddings, batch)
            speakers = batch.speakers if speakers is None else speakers
            joint = batch.flatten(joint) if joint is not None and joint.ndim == 3 else joint
            if present is not None and present.ndim == 3:
                present = torch.stack([batch.flatten(p) for p in present])
            if extra_difficulty is not None and extra_difficulty.ndim == 2:
                extra_difficulty = batch.flatten(extra_difficulty)
        if offsets is None:
            raise ValueError(f"{type(self).__name__}: labels need offsets (got none)")
        if self.difficulty is not None:
            name = type(self).__name__
            extended = self.difficulty(
                logits,
                labels,
                offsets,
                speakers,
                embeddings,
                present=present,
                ignore_index=self._config["ignore_index"],
                backend=self.backend,
            )
            if extra_difficulty is not None:  # a sum would take what the step refuses
                _check.tensor(name, "extra_difficulty", extra_difficulty, 1, _check.FLOATS, "floating point numbers")
                _check.shaped(name, "extra_difficulty", extra_difficulty, tuple(extended.shape), extended.device)
                extended = extended + extra_difficulty
            extra_difficulty = extended
        step = ops.self_paced_step(
            logits,
            labels,
            offsets,
            self.threshold if self.training else None,
            joint=joint,
            extra_difficulty=extra_difficulty,
            scheme=self._config["weighting"],
            scheme_parameters=self._config["weighting_parameters"],
            normalizer=self._config["normalizer"],
            aggregate=self._config["aggregate"],
            class_weight=self.class_weight,
            label_smoothing=self._config["label_smoothing"],
            present=present,
            ignore_index=self._config["ignore_index"],
            validate=self.validate,
            backend=self.backend,
        )
        if self.training:
            self._count(step)
        return step

    def _count(self, step: SelfPacedStep) -> None:
        counts, sums = step.totals
        if self.sums.numel() == 0:
            with torch.inference_mode(False):  # the counters outlive the mode that the first step ran in
                self.sums = torch.zeros(sums.shape, dtype=sums.dtype, device=sums.device)
        if self.sums.shape != sums.shape:
            had, got = (x.numel() // 2 - 1 for x in (self.sums, sums))
            raise ValueError(
                f"{type(self).__name__}: every step must have the same modalities ({had} before, got {got})"
            )
        self.counts.add_(counts)
        self.sums.add_(sums)

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
        stats = epoch_stats(self.epoch, self.threshold, self.counts, self.sums)
        raise_for_faults(type(self).__name__, stats, counts_nonfinite=self.nonfinite == "raise")
        return stats

    def end_epoch(self) -> EpochStats:
        """Closes the epoch: returns what it selected, raises the threshold, resets the counters.

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
        stats = epoch_stats(self.epoch, self.threshold, self.counts, self.sums)
        self.threshold.mul_(self._config["growth"]).clamp_(max=self._config["max_threshold"])
        self.epoch += 1
        self.counts.zero_()
        self.sums.zero_()
        if stats.steps and not stats.scored:
            warnings.warn(
                f"{type(self).__name__}: no utterance of epoch {stats.epoch} could be scored",
                RuntimeWarning,
                stacklevel=2,
            )
        raise_for_faults(type(self).__name__, stats, counts_nonfinite=self.nonfinite == "raise")
        return stats

    def get_extra_state(self) -> dict[str, Any]:
        """The part of the state that is not a tensor."""
        return {"version": STATE_VERSION, "epoch": self.epoch, "config": dict(self._config)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_extra_state` gave."""
        self.epoch = int(state["epoch"])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "_extra_state" in state_dict:  # refused before anything of this module has changed
            _require_same_settings(state_dict[prefix + "_extra_state"], self._config)
        saved = state_dict.get(prefix + "sums")
        if saved is not None:  # sized by the first batch, or by the state
            self.sums = self.sums.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Settings, for `print(scheduler)`."""
        return ", ".join(f"{name}={value!r}" for name, value in self._config.items())


def _flat_logits(logits: Logits, batch: DialogueBatch) -> Logits:
    if isinstance(logits, Tensor):
        return [batch.flatten(z) for z in logits] if logits.ndim == 4 else logits
    if isinstance(logits, Mapping):
        return {name: batch.flatten(z) if z.ndim == 3 else z for name, z in logits.items()}
    return [batch.flatten(z) if z.ndim == 3 else z for z in logits]


def _plain(parameters: Mapping[str, Any]) -> dict[str, float | str]:
    """Parameters of a scheme in types that a state may hold."""
    return {name: value if isinstance(value, str) else float(value) for name, value in parameters.items()}


def _weight_list(name: str, class_weight: Tensor | None) -> list[float] | None:
    """The class weights as the state keeps them, after a look at their values."""
    if class_weight is None:
        return None
    if not isinstance(class_weight, Tensor):
        raise TypeError(f"{name}: class_weight must be a floating point tensor [C] (got {type(class_weight).__name__})")
    if not class_weight.is_floating_point() or class_weight.ndim != 1:
        got = f"{class_weight.dtype} of shape {tuple(class_weight.shape)}"
        raise TypeError(f"{name}: class_weight must be a floating point tensor [C] (got {got})")
    weights = class_weight.double().tolist()
    for c, weight in enumerate(weights):
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name}: class_weight must be finite and at least 0 (got {weight} for class {c})")
    return weights


def _require_same_settings(saved: Any, config: dict[str, Any]) -> None:
    if not isinstance(saved, dict) or not isinstance(saved.get("config"), dict):
        raise ValueError("SelfPacedScheduler: the state must be that of a SelfPacedScheduler (got something else)")
    if saved.get("version") != STATE_VERSION:
        raise ValueError(
            f"SelfPacedScheduler: the state must be of version {STATE_VERSION} (got {saved.get('version')})"
        )
    differ = differences(saved["config"], config)
    if differ:
        raise ValueError(f"SelfPacedScheduler: the state was saved with other settings ({differ})")
