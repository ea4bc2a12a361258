"""What `check_measurer` is there to find: each of these measurers breaks one promise."""

from __future__ import annotations

import pytest
import torch

from spcl_fast.difficulty import Difficulty, LossDifficulty
from spcl_fast.testing import check_measurer


class NoTensor(Difficulty):
    def forward(self, inputs):
        return inputs.labels.tolist()


class Writes(Difficulty):
    def forward(self, inputs):
        return inputs.logits[0, :, 0].add_(1).to(torch.float32)


class BatchRelative(Difficulty):
    def forward(self, inputs):
        loss = inputs.step("loss").utterance_loss
        return loss - loss.nansum() / max(len(loss), 1)


class Leaky(Difficulty):
    def forward(self, inputs):
        loss = inputs.step("loss").utterance_loss
        return loss + 0 * torch.stack(tuple(inputs.logits)).sum().to(loss.dtype)


class Forgetful(Difficulty):
    def __init__(self):
        super().__init__()
        self.calls = 0.0

    def forward(self, inputs):
        return inputs.step("loss").utterance_loss + self.calls

    def end_epoch(self, process_group=None):
        self.calls += 1.0


class Rounds(Difficulty):
    def forward(self, inputs):
        return inputs.step("loss").utterance_loss.float()


class ShapeOfDialogues(Difficulty):
    def forward(self, inputs):
        return inputs.step("loss").spread


class ByPosition(Difficulty):
    def forward(self, inputs):
        return torch.arange(inputs.labels.numel(), dtype=inputs.step("loss").difficulty.dtype)


class LearnsFromTheDevelopmentSet(Difficulty):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs):
        self.calls += 1
        return inputs.step("loss").utterance_loss


class SaysOneThingAndAddsAnother(LossDifficulty):
    def extra(self, inputs):
        return torch.ones_like(inputs.step("loss").utterance_loss)

    def forward(self, inputs):
        return inputs.step("loss").difficulty


class NeedsMore(Difficulty):
    needs = frozenset({"speakers", "gestures"})

    def forward(self, inputs):
        return inputs.step("loss").utterance_loss


class ShapeOfTheFirstBatch(Difficulty):
    def forward(self, inputs):
        if inputs.labels.numel() in (0, 16):
            return inputs.step("loss").utterance_loss
        return inputs.step("loss").utterance_loss[:1].repeat(16)


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (NoTensor, "result"),
        (Writes, "inputs"),
        (BatchRelative, "batch split"),
        (Leaky, "a NaN in another dialogue"),
        (Forgetful, "a state that was saved and loaded"),
        (Rounds, "dtype"),
        (ShapeOfDialogues, "shape"),
        (ByPosition, "batch split"),
        (LearnsFromTheDevelopmentSet, "evaluation mode"),
        (SaysOneThingAndAddsAnother, "extra"),
        (NeedsMore, "needs"),
        (ShapeOfTheFirstBatch, "batch split"),
    ],
)
def test_check_measurer_finds_a_broken_promise(broken, promise):
    with pytest.raises(AssertionError, match=f"{broken.__name__}: {promise}"):
        check_measurer(broken)
