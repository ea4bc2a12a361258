"""Checks for what a user adds: whether a measurer keeps the promises of `spcl_fast.difficulty.Difficulty`."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spcl_fast._state import is_plain
from spcl_fast.difficulty import Difficulty, StepInputs
from spcl_fast.difficulty.measurer import NEEDS

__all__ = ["check_measurer", "random_inputs"]


def random_inputs(
    lengths: tuple[int, ...] = (5, 1, 0, 7, 3),
    *,
    num_modalities: int = 3,
    num_classes: int = 4,
    num_features: int = 8,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> StepInputs:
    """A batch with everything a measurer may look at: logits, labels, offsets, speakers, embeddings and ids.

    Args:
        lengths: utterances of each dialogue; 0 is an empty one.
        num_modalities: M.
        num_classes: C.
        num_features: F, of the embeddings.
        dtype: of logits and embeddings.
        device: where it lies; the numbers are the same everywhere.
        seed: which numbers.

    Example:
        >>> from spcl_fast.testing import random_inputs
        >>> inputs = random_inputs((2, 3), num_modalities=2)
        >>> tuple(inputs.logits.shape), inputs.offsets.tolist()
        ((2, 5, 4), [0, 2, 5])
    """
    generator = torch.Generator().manual_seed(seed)
    T = sum(lengths)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu").to(device, dtype)

    def integers(end: int) -> Tensor:
        return torch.randint(end, (T,), generator=generator, device="cpu").to(device)

    return StepInputs(
        logits=2 * drawn(num_modalities, T, num_classes),
        labels=integers(num_classes),
        offsets=torch.tensor([0, *lengths], device=device).cumsum(0),
        speakers=integers(2),
        embeddings=drawn(num_modalities, T, num_features),
        ids=torch.randperm(T, generator=generator, device="cpu").to(device),
    )


def check_measurer(
    make: Callable[[], Difficulty],
    *,
    num_modalities: int = 3,
    num_classes: int = 4,
    device: torch.device | str = "cpu",
    tolerance: float = 1e-5,
) -> None:
    """Whether a measurer keeps its promises: permutation, split, empty dialogues, NaN, dtype, device, modes, state.

    Args:
        make: gives a new measurer, the same each time; ids go from 0 to 15.
        num_modalities: M of the batches it is shown.
        num_classes: C of these.
        device: where they lie.
        tolerance: how far two ways to the same difficulty may lie apart, absolute and relative.

    Raises:
        AssertionError: a promise that is broken, by name, and where.

    What a measurer calls itself counts: of one that `is_batch_relative` it is not asked that a difficulty depends on
    its own dialogue alone.

    Example:
        >>> from spcl_fast import ops
        >>> from spcl_fast.difficulty import Difficulty
        >>> from spcl_fast.testing import check_measurer
        >>> class Uncertainty(Difficulty):
        ...     def forward(self, inputs):
        ...         return ops.modality_scores(inputs.logits, inputs.labels).entropy.mean(0)
        >>> check_measurer(Uncertainty)
        >>> class Nothing(Difficulty):
        ...     def forward(self, inputs):
        ...         return inputs.labels
        >>> check_measurer(Nothing)
        Traceback (most recent call last):
        AssertionError: Nothing: dtype: must be float32 (got torch.int64)
    """
    whole = random_inputs(num_modalities=num_modalities, num_classes=num_classes, device=device)
    check = _Check(make, whole, tolerance)
    check.form()
    check.inputs_are_left_alone()
    check.dtypes()
    check.same_again()
    check.empty_batch()
    check.state()
    check.evaluation_learns_nothing()
    check.extra_is_the_rest()
    if not check.measurer.is_batch_relative:
        check.split()
        check.permuted()
        check.one_fault_stays_one()


class _Check:
    """The promises, a method each."""

    def __init__(self, make: Callable[[], Difficulty], whole: StepInputs, tolerance: float) -> None:
        self.make, self.whole, self.tolerance = make, whole, tolerance
        self.measurer = self.new()
        self.name = type(self.measurer).__name__
        self.expected = self.difficulty(self.new(), whole)

    def new(self) -> Difficulty:
        measurer = self.make()
        assert isinstance(measurer, Difficulty), f"make must give a Difficulty (got {type(measurer).__name__})"
        return measurer.to(self.whole.labels.device)

    @staticmethod
    def difficulty(measurer: Difficulty, inputs: StepInputs) -> Tensor:
        measurer.require(inputs)
        with torch.no_grad():
            return measurer(inputs)

    def holds(self, promise: str, is_kept: bool, broken: str) -> None:
        assert is_kept, f"{self.name}: {promise}: {broken}"

    def equal(self, promise: str, got: Tensor, expected: Tensor) -> None:
        shapes = tuple(got.shape), tuple(expected.shape)
        self.holds(promise, shapes[0] == shapes[1], f"must have shape {shapes[1]} (got {shapes[0]})")
        close = torch.isclose(got, expected, rtol=self.tolerance, atol=self.tolerance, equal_nan=True)
        if not bool(close.all()):
            t = int((~close).nonzero()[0])
            self.holds(promise, False, f"utterance {t} has {got[t].item()} instead of {expected[t].item()}")

    def form(self) -> None:
        got, T = self.expected, self.whole.labels.numel()
        self.holds("result", isinstance(got, Tensor), f"must be a tensor (got {type(got).__name__})")
        self.holds("shape", tuple(got.shape) == (T,), f"must be ({T},) (got {tuple(got.shape)})")
        self.holds("device", got.device == self.whole.labels.device, f"must be that of the logits (got {got.device})")
        self.holds("gradient", not got.requires_grad, "must not require one")
        unknown = sorted(set(self.measurer.needs) - set(NEEDS))
        self.holds("needs", not unknown, f"must be among {', '.join(NEEDS)} (got {', '.join(unknown)})")

    def inputs_are_left_alone(self) -> None:
        before = copy.deepcopy(self.whole)
        self.difficulty(self.new(), self.whole)
        for field, was, now in zip(StepInputs._fields, before, self.whole, strict=True):
            if isinstance(was, Tensor):
                self.holds("inputs", torch.equal(was, now), f"{field} must not be written to")  # type: ignore[arg-type]

    def dtypes(self) -> None:
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            given = self.whole._replace(
                logits=_to(self.whole.logits, dtype), embeddings=_to(self.whole.embeddings, dtype)
            )
            got = self.difficulty(self.new(), given).dtype
            right = torch.float64 if dtype == torch.float64 else torch.float32
            self.holds("dtype", got == right, f"must be {str(right).removeprefix('torch.')} (got {got})")

    def same_again(self) -> None:
        again = self.difficulty(self.new(), self.whole)
        same = torch.equal(again.nan_to_num(nan=-1.0), self.expected.nan_to_num(nan=-1.0))
        self.holds("determinism", same, "must give the same bits for the same inputs")

    def empty_batch(self) -> None:
        nothing = _rows(self.whole, torch.arange(0), [0])
        got = self.difficulty(self.new(), nothing)
        self.holds("empty batch", tuple(got.shape) == (0,), f"must give shape (0,) (got {tuple(got.shape)})")

    def evaluation_learns_nothing(self) -> None:
        measurer = self.new()
        self.difficulty(measurer, self.whole)
        before = copy.deepcopy(dict(measurer.named_buffers()))
        self.difficulty(measurer.eval(), _rows(self.whole, torch.arange(5), [0, 5]))
        for name, now in measurer.named_buffers():
            same = torch.equal(before[name].nan_to_num(nan=-1.0), now.nan_to_num(nan=-1.0))
            self.holds("evaluation mode", same, f"must only read (wrote to {name})")

    def extra_is_the_rest(self) -> None:
        """The scheduler has the step measure, and adds `extra`, where `forward` says it all."""
        with torch.no_grad():
            extra = self.new().extra(self.whole)
            if self.measurer.fused != "none":
                extra = self.whole.step(self.measurer.fused, extra).difficulty
        assert isinstance(extra, Tensor), f"{self.name}: extra: must be a tensor (got {type(extra).__name__})"
        self.equal("extra", extra, self.expected)

    def split(self) -> None:
        measurer, offsets = self.new(), self.whole.offsets.tolist()
        for begin, end in itertools.pairwise(offsets):
            rows = torch.arange(begin, end)
            got = self.difficulty(measurer, _rows(self.whole, rows, [0, end - begin]))
            self.equal("batch split", got, self.expected[rows])

    def permuted(self) -> None:
        offsets = self.whole.offsets.tolist()
        spans = list(itertools.pairwise(offsets))[::-1]
        rows = torch.cat([torch.arange(begin, end) for begin, end in spans])
        borders = [0]
        for begin, end in spans:
            borders.append(borders[-1] + end - begin)
        got = self.difficulty(self.new(), _rows(self.whole, rows, borders))
        self.equal("order of the dialogues", got, self.expected[rows])

    def one_fault_stays_one(self) -> None:
        begin = int(self.whole.offsets[-2])
        logits = self.whole.logits.clone()  # type: ignore[union-attr]
        logits[:, begin] = float("nan")
        got = self.difficulty(self.new(), self.whole._replace(logits=logits))
        others = torch.arange(begin)
        self.equal("a NaN in another dialogue", got[others], self.expected[others])

    def state(self) -> None:
        first, second = self.new(), self.new()
        self.difficulty(first, self.whole)
        first.end_epoch()
        saved = io.BytesIO()
        torch.save(first.state_dict(), saved)
        saved.seek(0)
        second.load_state_dict(torch.load(saved, weights_only=True))
        got = self.difficulty(second, self.whole)
        self.equal("a state that was saved and loaded", got, self.difficulty(first, self.whole))
        config = self.new().config
        same = is_plain(config) and config == self.new().config
        self.holds("config", same, f"must be the same plain Python each time (got {config})")


def _to(vectors: Any, dtype: torch.dtype) -> Tensor:
    moved: Tensor = vectors.to(dtype)
    return moved


def _rows(inputs: StepInputs, rows: Tensor, offsets: list[int]) -> StepInputs:
    """Some utterances of a batch, as dialogues that begin and end at `offsets`."""
    rows = rows.to(inputs.labels.device)
    return inputs._replace(
        logits=inputs.logits[:, rows],  # type: ignore[call-overload, index]
        labels=inputs.labels[rows],
        offsets=torch.tensor(offsets, device=rows.device),
        speakers=None if inputs.speakers is None else inputs.speakers[rows],
        embeddings=inputs.embeddings[:, rows],  # type: ignore[call-overload, index]
        ids=None if inputs.ids is None else inputs.ids[rows],
    )
