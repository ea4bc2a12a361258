"""What a difficulty measurer is: the protocol that the scheduler, the registry and `spcl_fast.testing` know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast._state import KeepsDtypes
from spcl_fast.ops import _check

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Vectors = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

#: what a measurer may need beside logits and labels; "modalities": two of them, "dialogues": offsets
NEEDS = ("speakers", "embeddings", "ids", "modalities", "dialogues")


class StepInputs(NamedTuple):
    """All that a measurer may look at in one step; T utterances of whole dialogues, not padded.

    Attributes:
        logits: `[M, T, C]`, or M tensors `[T, C]` as a sequence or a mapping.
        labels: `int[T]`.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        joint: `[T, C]` logits of the prediction, or None for the sum over the modalities.
        present: `bool[M, T]`, or None: all are.
        speakers: `int[T]`, or None where nobody gave them.
        embeddings: as the logits, with F features in the place of classes, or None.
        ids: `int[T]`, what the corpus calls these utterances, or None.
        class_weight, label_smoothing, aggregate, ignore_index: of `ops.self_paced_step`.
        process_group: whose processes hold the rest of the batch, or None.
        backend: None for the fastest, or a name of `spcl_fast.backends`.

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import StepInputs
        >>> inputs = StepInputs(torch.zeros(2, 3, 4), torch.tensor([0, 1, 2]), torch.tensor([0, 3]))
        >>> inputs.ignore_index, inputs.speakers is None
        (-100, True)
    """

    logits: Vectors
    labels: Tensor
    offsets: Tensor
    joint: Tensor | None = None
    present: Tensor | None = None
    speakers: Tensor | None = None
    embeddings: Vectors | None = None
    ids: Tensor | None = None
    class_weight: Tensor | None = None
    label_smoothing: float = 0.0
    aggregate: str = "sum"
    ignore_index: int = -100
    process_group: ProcessGroup | None = None
    backend: str | None = None

    def step(
        self,
        measure: str,
        extra: Tensor | None = None,
        *,
        threshold: Tensor | float | None = None,
        scheme: str = "hard",
        scheme_parameters: Mapping[str, Any] | None = None,
        normalizer: str = "all",
        validate: str = "cheap",
    ) -> ops.SelfPacedStep:
        """The fused step of these inputs; by default at no threshold, which only measures.

        Example:
            >>> import torch
            >>> from spcl_fast.difficulty import StepInputs
            >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]])
            >>> inputs = StepInputs(logits, torch.tensor([0, 0]), torch.tensor([0, 2]))
            >>> [round(x, 3) for x in inputs.step("loss").difficulty.tolist()]  # -log softmax of the summed logits
            [0.049, 3.049]
        """
        return ops.self_paced_step(
            self.logits,
            self.labels,
            self.offsets,
            threshold,
            measure=measure,
            joint=self.joint,
            extra_difficulty=extra,
            scheme=scheme,
            scheme_parameters=scheme_parameters,
            normalizer=normalizer,
            aggregate=self.aggregate,
            class_weight=self.class_weight,
            label_smoothing=self.label_smoothing,
            present=self.present,
            ignore_index=self.ignore_index,
            validate=validate,
            backend=self.backend,
        )


class Difficulty(KeepsDtypes):
    """A difficulty measurer: how hard each utterance of a batch is, higher being harder.

    The scheduler takes any of them (`SelfPacedScheduler(difficulty=...)`), and one of your own is a subclass with a
    `forward`; `spcl_fast.testing.check_measurer` says whether it keeps what is promised here:

    - `forward(inputs)` returns `float[T]` on the device of the logits: float64 for float64 logits, else float32. NaN
      where an utterance cannot be judged: it is never selected, and is counted as undefined. Utterances whose label
      is not a class may have any value. The call is made without autograd, writes to no input and waits for no
      device.
    - The difficulty of an utterance depends on its own dialogue alone, unless `is_batch_relative` says otherwise.
    - What it remembers are buffers; it learns in training mode and only reads in evaluation mode.
    - `config` is what decides its numbers, as plain Python: a saved state of other settings is refused.

    Attributes:
        fused: what `ops.self_paced_step` measures itself, "spcl", "loss" or "spread", to which `extra` is added in one
            pass; "none" for a measurer that computes all of its difficulty in `forward`.
        needs: names of `NEEDS`; the scheduler asks for them before the measurer is called.
        is_batch_relative: whether a difficulty depends on what else is in the batch.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler, ops
        >>> from spcl_fast.difficulty import Difficulty
        >>> class Margin(Difficulty):
        ...     "How close the modalities come to another class."
        ...
        ...     def forward(self, inputs):
        ...         return 1 - ops.modality_scores(inputs.logits, inputs.labels).margin.mean(0)
        >>> scheduler = SelfPacedScheduler(threshold=0.5, difficulty=Margin())
        >>> logits = torch.tensor([[[3.0, 0.0], [0.0, 3.0]]] * 2)
        >>> step = scheduler(logits, torch.tensor([0, 0]), torch.tensor([0, 2]))
        >>> step.weight.tolist()
        [1.0, 0.0]
    """

    fused: ClassVar[str] = "none"
    needs: frozenset[str] = frozenset()
    is_batch_relative: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        """TypeError for a `forward` that the scheduler would not call: the step measures, and adds `extra`."""
        super().__init_subclass__(**options)
        if "forward" in vars(cls) and cls.fused != "none" and not vars(cls).keys() & {"fused", "extra"}:
            raise TypeError(
                f"{cls.__name__}: forward is not called where `fused` is {cls.fused!r}; write `extra` for what is to be"
                ' added, or say fused = "none" and take inputs.step(...).difficulty'
            )

    @property
    def config(self) -> dict[str, Any]:
        """What decides its numbers; by default nothing but the class."""
        return {}

    def forward(self, inputs: StepInputs) -> Tensor:
        """The difficulty `[T]`; contract: the class.

        Example:
            >>> import torch
            >>> from spcl_fast.difficulty import LossDifficulty, StepInputs
            >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]])
            >>> inputs = StepInputs(logits, torch.tensor([0, 0]), torch.tensor([0, 2]))
            >>> [round(x, 3) for x in LossDifficulty()(inputs).tolist()]
            [0.049, 3.049]
        """
        if self.fused == "none":
            raise NotImplementedError(f"{type(self).__name__}: forward must be written where `fused` is 'none'")
        with torch.no_grad():
            return inputs.step(self.fused, self.extra(inputs)).difficulty

    def extra(self, inputs: StepInputs) -> Tensor | None:
        """What is added to the fused measure, `[T]` or None; all of the difficulty where `fused` is "none".

        Example:
            >>> import torch
            >>> from spcl_fast.difficulty import SpclDifficulty, StepInputs
            >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]])
            >>> inputs = StepInputs(logits, torch.tensor([0, 0]), torch.tensor([0, 2]))
            >>> SpclDifficulty().extra(inputs) is None  # the step measures all of it
            True
        """
        return self.forward(inputs) if self.fused == "none" else None

    def end_epoch(self, process_group: ProcessGroup | None = None) -> None:
        """Called by the scheduler at the end of each epoch, with its process group.

        Example:
            >>> from spcl_fast import SelfPacedScheduler
            >>> from spcl_fast.difficulty import LossDifficulty
            >>> class Counting(LossDifficulty):
            ...     epochs = 0
            ...
            ...     def end_epoch(self, process_group=None):
            ...         self.epochs += 1
            >>> scheduler = SelfPacedScheduler(difficulty=Counting())
            >>> stats = scheduler.end_epoch()
            >>> scheduler.difficulty.epochs
            1
        """

    def synchronize(self, process_group: ProcessGroup) -> None:
        """Makes what the processes remember the same on all of them, before it is saved.

        Example:
            >>> from spcl_fast.difficulty import LossDifficulty
            >>> LossDifficulty().synchronize(process_group=None)  # remembers nothing, so exchanges nothing
        """

    def extra_repr(self) -> str:
        """Settings, for `print`; of a matrix that it is there."""
        shown = {k: "..." if isinstance(x, (list, dict)) else repr(x) for k, x in self.config.items()}
        return ", ".join(f"{name}={value}" for name, value in shown.items())

    def require(self, inputs: StepInputs) -> None:
        """ValueError that names what the measurer needs and the inputs lack.

        Example:
            >>> import torch
            >>> from spcl_fast.difficulty import StepInputs, TransitionDifficulty
            >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]])
            >>> inputs = StepInputs(logits, torch.tensor([0, 0]), torch.tensor([0, 2]))
            >>> TransitionDifficulty().require(inputs)
            Traceback (most recent call last):
                ...
            ValueError: TransitionDifficulty: needs speakers= (got none)
        """
        for what in ("speakers", "embeddings", "ids"):
            if what in self.needs and getattr(inputs, what) is None:
                raise ValueError(f"{type(self).__name__}: needs {what}= (got none)")
        # What the step measures itself, it asks for itself.
        if "modalities" in self.needs and self.fused == "none":
            name = type(self).__name__
            if (z := _check.logits(name, inputs.logits)).M < 2:
                raise ValueError(f"{name}: needs two modalities (got {z.M})")


def require_difficulty(measurer: Difficulty, value: Any, inputs: StepInputs) -> Tensor:
    """TypeError or ValueError, in the name of the measurer, unless it gave a difficulty `[T]`."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.shape == inputs.labels.shape:
        return value
    name = type(measurer).__name__
    z = _check.logits(name, inputs.logits)
    _check.labels(name, inputs.labels, z)
    _check.tensor(name, "the difficulty", value, 1, _check.FLOATS, "floating point numbers")
    _check.shaped(name, "the difficulty", value, (z.T,), z.device)
    return value


def ordered_embeddings(name: str, inputs: StepInputs) -> Vectors:
    """The embeddings in the order of the logits, where both have names: `present` follows that of the logits."""
    logits, embeddings = inputs.logits, inputs.embeddings
    if embeddings is None:
        raise ValueError(f"{name}: needs embeddings= (got none); source='prediction' takes the logits")
    if not isinstance(logits, Mapping) or not isinstance(embeddings, Mapping):
        return embeddings
    if logits.keys() != embeddings.keys():
        raise ValueError(
            f"{name}: embeddings must have the modalities of the logits, {list(logits)} (got {list(embeddings)})"
        )
    return [embeddings[modality] for modality in logits]
