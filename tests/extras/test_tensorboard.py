"""Statistics in files that TensorBoard reads."""

from __future__ import annotations

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from spcl_fast import SelfPacedScheduler
from spcl_fast.integrations.writers import scalars, write_stats

MODALITIES = ("text", "audio")


def test_tensorboard_has_every_number_at_its_step(tmp_path):
    scheduler, written = SelfPacedScheduler(threshold=0.4), []
    with SummaryWriter(tmp_path) as writer:
        for epoch in range(2):
            scheduler(torch.randn(2, 9, 3), torch.randint(3, (9,)), torch.tensor([0, 4, 9]))
            stats = scheduler.end_epoch()
            write_stats(writer, stats, 10 * epoch, modalities=MODALITIES)
            written.append(scalars(stats, modalities=MODALITIES))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == set(written[0])
    for tag in written[0]:
        assert [(event.step, event.value) for event in events.Scalars(tag)] == [
            (10 * epoch, pytest.approx(written[epoch][tag], rel=1e-6)) for epoch in range(2)
        ]
