"""Epochs of a scheduler under a trainer that counts them itself, stops in the middle and may be many processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist

from spcl_fast.scheduler import EpochStats, SelfPacedScheduler


class TrainerEpochs:
    """Ends every epoch of a scheduler once, whatever the trainer was doing when its checkpoint was written.

    A checkpoint may hold an epoch that is trained to its last step but not ended, and a trainer that resumes there
    goes on with the next one: `begin` ends what was left open.
    """

    def __init__(self, scheduler: SelfPacedScheduler) -> None:
        self.scheduler = scheduler
        self.epoch = 0  # of the trainer
        self.is_open = False  # whether the scheduler is counting its steps

    def join_processes(self) -> None:
        """Gives a scheduler without a process group that of all processes, where there are several."""
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if several and self.scheduler.process_group is None:
            self.scheduler.process_group = dist.group.WORLD

    def begin(self, epoch: int) -> EpochStats | None:
        """Before the first step of an epoch of the trainer, or its first after a resume; or before every step.

        Returns the statistics of the epoch that a checkpoint had left open, else None.
        """
        left = self.end() if self.is_open and self.epoch != epoch else None
        self.epoch, self.is_open = epoch, True
        return left

    def end(self) -> EpochStats:
        """After the last step, and after the evaluation where the trainer lets one choose."""
        self.epoch, self.is_open = self.epoch + 1, False
        return self.scheduler.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, the same in all processes, which all have to call it."""
        self.scheduler.synchronize()
        return {"scheduler": dict(self.scheduler.state_dict()), "epoch": self.epoch, "is_open": self.is_open}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues a state, on any number of processes."""
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self.is_open = int(state["epoch"]), bool(state["is_open"])
