"""What an utterance showed over the epochs, as difficulty."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from spcl_fast import _running_rows, ops
from spcl_fast._running_rows import CHANGES, CONFIDENCE, COUNT, LOSS, MEAN
from spcl_fast.difficulty.measurer import Difficulty, StepInputs
from spcl_fast.ops import _check
from spcl_fast.running_scores import RunningScores

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def _forgetting(rows: Tensor) -> Tensor:
    """Events; where nothing was ever right the number of observations, which is above what events can reach."""
    return torch.where(rows[:, CHANGES] == 0, rows[:, COUNT].abs(), (rows[:, CHANGES] / 2).floor())


class _Score(NamedTuple):
    """A difficulty, of rows that were observed, and what the first observation gives to those that were not."""

    of_rows: Callable[[Tensor], Tensor]
    of_first: Callable[[Tensor, Tensor, Tensor], Tensor]  # of loss, confidence and whether right


SCORES = {
    "loss": _Score(lambda rows: rows[:, LOSS], lambda l, p, right: l),
    "confidence": _Score(lambda rows: 1 - rows[:, CONFIDENCE], lambda l, p, right: 1 - p),
    "mean_confidence": _Score(lambda rows: 1 - rows[:, MEAN], lambda l, p, right: 1 - p),
    "variability": _Score(_running_rows.variability, lambda l, p, right: torch.zeros_like(l)),
    "forgetting": _Score(_forgetting, lambda l, p, right: (~right).to(l.dtype)),
}


class HistoryDifficulty(Difficulty):
    """What the joint prediction of an utterance showed in all steps so far, this one included, instead of this alone.

    A loss of one step is noisy, with dropout above all; what an utterance showed over the epochs tells noise and
    difficulty apart. In training mode each call observes loss and confidence of the joint logits (the sum of the
    modalities that are present, or `joint`) and whether they are right (`scores`, a `RunningScores`); in evaluation
    mode it only reads, and an utterance that was never observed has what a first observation would give. By `score`:

    - "loss": moving average of the loss, in nats.
    - "confidence": 1 less the moving average of the confidence, in [0, 1].
    - "mean_confidence": 1 less its mean over all observations: the data map's hard to learn is high (Swayamdipta et al.
      2020, arXiv 2009.10795).
    - "variability": standard deviation of the confidence over all observations, in [0, 1/2]. The data map calls what is
      high ambiguous, and so it is the hard end here; low is what is easy and also what is never learned.
    - "forgetting": forgetting events (Toneva et al. 2019, arXiv 1812.05159). What was never right they count as
      forgotten infinitely often; here it is the number n of observations, which is finite and still above every
      utterance observed as often, since events are at most n / 2 (ours). It grows with the epochs.

    Args:
        num_utterances: of the corpus.
        score: one of the above.
        decay: of the moving averages, in [0, 1).
        keys: None where ids run from 0 to `num_utterances - 1`, or `int64[num_utterances]`, ascending: the ids.

    Needs ids of this corpus, so a development set with ids of its own is evaluated without them, and takes a single
    modality. 24 bytes an utterance, 32 with keys. The processes of a scheduler's process
    group exchange what they observed at the end of an epoch; until then each knows its own part.

    Raises:
        TypeError, ValueError: an argument out of its domain.

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import HistoryDifficulty, StepInputs
        >>> history = HistoryDifficulty(10, score="confidence", decay=0.5)
        >>> labels, offsets, ids = torch.tensor([0]), torch.tensor([0, 1]), torch.tensor([7])
        >>> for logit in (0.0, 30.0):  # a confidence of 1/2, then of 1
        ...     print(history(StepInputs(torch.tensor([[[logit, 0.0]]]), labels, offsets, ids=ids)).item())
        0.5
        0.25
    """

    needs = frozenset({"ids"})
    scores: RunningScores

    def __init__(
        self, num_utterances: int, *, score: str = "loss", decay: float = 0.9, keys: Tensor | None = None
    ) -> None:
        super().__init__()
        _check.choice(type(self).__name__, "score", score, tuple(SCORES))
        self.score = score
        self.scores = RunningScores(num_utterances, decay=decay, keys=keys)

    @property
    def config(self) -> dict[str, Any]:
        """Score, decay and which utterances."""
        return {"score": self.score, **self.scores.config}

    @torch.no_grad()
    def forward(self, inputs: StepInputs) -> Tensor:
        """The difficulty, `[T]`.

        NaN where an utterance is not scored in this step, whatever is known of it. +Inf where its loss is: that is not
        observed, and must not be selected either.
        """
        name = type(self).__name__
        if inputs.ids is None:
            raise ValueError(f"{name}: needs ids= (got none)")
        z = _check.logits(name, inputs.logits)
        row = self.scores._row_of(inputs.ids)
        _check.shaped(name, "ids", inputs.ids, (z.T,), z.device)
        loss, confidence, is_correct = _joint_scores(inputs, z)
        if self.training:
            _running_rows.update(
                self.scores.rows, row, loss.float(), confidence.float(), is_correct, None, self.scores.decay
            )
        rows = self.scores.rows.index_select(0, row)
        score = SCORES[self.score]
        first = score.of_first(loss, confidence, is_correct)
        difficulty = torch.where(rows[:, COUNT] == 0, first, score.of_rows(rows).to(loss.dtype))
        return torch.where(loss < torch.inf, difficulty, loss)  # not of NaN either

    def end_epoch(self, process_group: ProcessGroup | None = None) -> None:
        """Gives the processes what each observed."""
        self.scores.merge(process_group)

    def synchronize(self, process_group: ProcessGroup) -> None:
        """The same, within an epoch."""
        self.scores.merge(process_group)


def _joint_scores(inputs: StepInputs, z: _check.Logits) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and confidence of the joint logits, NaN where nothing is scored, and whether they are right."""
    present = inputs.present
    if inputs.joint is not None:
        joint = inputs.joint
    else:
        heads = (z.modality(m).to(_check.real(z.dtype)) for m in range(z.M))
        if present is not None:  # what is absent may hold anything
            heads = (torch.where(has[:, None], head, 0.0) for head, has in zip(heads, present, strict=True))
        joint = reduce(torch.add, heads)
    of_joint = ops.modality_scores(
        joint[None],
        inputs.labels,
        ignore_index=inputs.ignore_index,
        present=None if present is None else present.any(0)[None],
        backend=inputs.backend,
    )
    is_correct = ~(of_joint.margin[0] <= 0)  # one class is always right, and has no margin
    return of_joint.loss[0], of_joint.confidence[0], is_correct
