"""Epochs of a scheduler under a trainer that counts them itself, stops in the middle and may be many processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from spcl_fast.scheduler import EpochStats, SelfPacedScheduler

COUNTERS = ("counts", "sums")


class TrainerEpochs:
    """Ends every epoch of a scheduler once, whatever the trainer was doing when its checkpoint was written.

    A checkpoint may hold an epoch that is trained to its last step but not ended, and a trainer that resumes there
    goes on with the next one: `begin` ends what was left open. The counters of several processes are those of all:
    summed when the epoch ends, so that each process has the same statistics and raises the same faults, and in the
    state, which the first process takes up again for all.
    """

    def __init__(self, scheduler: SelfPacedScheduler) -> None:
        self.scheduler = scheduler
        self.epoch = 0  # of the trainer
        self.is_open = False  # whether the scheduler is counting its steps

    def begin(self, epoch: int) -> EpochStats | None:
        """Before the first step of an epoch of the trainer, or its first after a resume.

        Returns the statistics of the epoch that a checkpoint had left open, else None.
        """
        left = self.end() if self.is_open and self.epoch != epoch else None
        self.epoch, self.is_open = epoch, True
        return left

    def end(self) -> EpochStats:
        """After the last step, and after the evaluation where the trainer lets one choose."""
        self.epoch, self.is_open = self.epoch + 1, False
        for name, total in self._totals().items():
            counter = getattr(self.scheduler, name)
            if counter.shape == total.shape:
                counter.copy_(total)  # in place: a captured graph adds to this very tensor
            else:
                setattr(self.scheduler, name, total)
        return self.scheduler.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Plain containers and tensors; the counters are those of all processes. All of them have to call it."""
        scheduler = {**self.scheduler.state_dict(), **self._totals()}
        return {"scheduler": scheduler, "epoch": self.epoch, "is_open": self.is_open}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues a state; the first process carries on the counters for all."""
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self.is_open = int(state["epoch"]), bool(state["is_open"])
        if _processes() > 1 and dist.get_rank() > 0:
            for name in COUNTERS:
                getattr(self.scheduler, name).zero_()

    def _totals(self) -> dict[str, Tensor]:
        """The counters, summed over the processes in tensors of their own."""
        counts, sums = (getattr(self.scheduler, name).clone() for name in COUNTERS)
        if _processes() > 1:
            size = torch.tensor(sums.numel(), device=sums.device)  # 0 in a process that has made no step
            dist.all_reduce(size, dist.ReduceOp.MAX)
            if sums.numel() == 0:
                sums = sums.new_zeros(int(size))
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        return {"counts": counts, "sums": sums}


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
