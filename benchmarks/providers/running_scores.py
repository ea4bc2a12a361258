"""Running scores of every utterance in a dictionary of Python floats, and in plain PyTorch.

Each form is made for a number of utterances and a decay, is updated with ids, losses, confidences and whether right,
and reads back what it knows of some ids. They do less than ours: of several observations of one utterance in a batch,
of what is not scored and of NaN they know nothing.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

Statistics = dict[str, Tensor]


class Store(Protocol):
    """What a form has to be able to do."""

    def update(self, ids: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor) -> None:
        """Takes in a batch."""

    def at(self, ids: Tensor) -> Statistics:
        """What is known of these."""


class Dictionary:
    """A tuple of Python numbers for each utterance that was seen."""

    def __init__(self, num_utterances: int, decay: float) -> None:
        self.decay = decay
        self.seen: dict[int, tuple[float, float, float, float, int, int, bool]] = {}

    def update(self, ids: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor) -> None:
        """One after the other."""
        decay, rest, seen = self.decay, 1 - self.decay, self.seen
        for i, l, p, right in zip(ids.tolist(), loss.tolist(), confidence.tolist(), correct.tolist(), strict=True):
            known = seen.get(i)
            if known is None:
                seen[i] = (l, p, p, 0.0, 1, 0, right)
                continue
            old_loss, old_confidence, mean, squares, count, forgotten, was_right = known
            count += 1
            distance = p - mean
            mean += distance / count
            squares += distance * (p - mean)
            forgotten += was_right and not right
            averages = decay * old_loss + rest * l, decay * old_confidence + rest * p
            seen[i] = (*averages, mean, squares, count, forgotten, right)

    def at(self, ids: Tensor) -> Statistics:
        """From the tuples."""
        losses, confidences, means, squares, counts, forgotten, _ = zip(*map(self.seen.get, ids.tolist()), strict=True)
        deviations = [math.sqrt(s / n) for s, n in zip(squares, counts, strict=True)]
        columns = losses, confidences, means, deviations, counts, forgotten
        return dict(zip(NAMES, map(torch.tensor, columns), strict=True))


class Columns:
    """A tensor for each column, gathered and scattered one by one."""

    def __init__(self, num_utterances: int, decay: float) -> None:
        self.decay = decay
        self.loss, self.confidence, self.mean, self.squares = (torch.zeros(num_utterances) for _ in range(4))
        self.count = torch.zeros(num_utterances, dtype=torch.int32)
        self.forgotten = torch.zeros(num_utterances, dtype=torch.int16)
        self.right = torch.zeros(num_utterances, dtype=torch.bool)

    def update(self, ids: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor) -> None:
        """By index."""
        count = self.count[ids] + 1
        of_new = torch.where(count == 1, 1.0, 1 - self.decay)
        mean = self.mean[ids]
        distance = confidence - mean
        mean = mean + distance / count
        self.loss[ids] = torch.lerp(self.loss[ids], loss, of_new)
        self.confidence[ids] = torch.lerp(self.confidence[ids], confidence, of_new)
        self.mean[ids] = mean
        self.squares[ids] = self.squares[ids] + distance * (confidence - mean)
        self.count[ids] = count
        self.forgotten[ids] = self.forgotten[ids] + (self.right[ids] & ~correct)
        self.right[ids] = correct

    def at(self, ids: Tensor) -> Statistics:
        """By index."""
        deviation = (self.squares[ids] / self.count[ids]).sqrt()
        columns = (
            self.loss[ids],
            self.confidence[ids],
            self.mean[ids],
            deviation,
            self.count[ids],
            self.forgotten[ids],
        )
        return dict(zip(NAMES, columns, strict=True))


class Rows:
    """All six numbers of an utterance in one row, so that one gather and one scatter move them."""

    def __init__(self, num_utterances: int, decay: float) -> None:
        self.decay = decay
        self.rows = torch.zeros(num_utterances, 6)

    def update(self, ids: Tensor, loss: Tensor, confidence: Tensor, correct: Tensor) -> None:
        """By index; the last column counts the changes between wrong and right."""
        old_loss, old_confidence, mean, squares, count, changes = self.rows.index_select(0, ids).unbind(1)
        count = count + 1
        share = count.reciprocal()
        of_new = share.floor().clamp(min=1 - self.decay)
        distance = confidence - mean
        mean = torch.addcmul(mean, distance, share)
        squares = torch.addcmul(squares, distance, confidence - mean)
        changes = changes + (changes.remainder(2) - correct.float()).abs()
        averages = torch.lerp(old_loss, loss, of_new), torch.lerp(old_confidence, confidence, of_new)
        self.rows.index_copy_(0, ids, torch.stack((*averages, mean, squares, count, changes), 1))

    def at(self, ids: Tensor) -> Statistics:
        """By index."""
        loss, confidence, mean, squares, count, changes = self.rows[ids].unbind(1)
        columns = (loss, confidence, mean, (squares / count).sqrt(), count, (changes / 2).floor())
        return dict(zip(NAMES, columns, strict=True))


NAMES = ("loss", "confidence", "mean_confidence", "variability", "num_observed", "num_forgotten")
