"""A curriculum in `lightning.Trainer`: one callback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch.utils._pytree import tree_leaves

from spcl_fast._sharded import ShardedSampler
from spcl_fast.integrations._epochs import TrainerEpochs
from spcl_fast.integrations.writers import log_stats, scalars
from spcl_fast.scheduler import EpochStats, SelfPacedScheduler

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError(
        "spcl_fast.integrations.lightning needs the package lightning: pip install 'spcl_fast[adapters]'"
    ) from error

__all__ = ["CurriculumCallback"]


class CurriculumCallback(Callback):
    """Ends the epochs of a scheduler, logs what they selected, and keeps both in the checkpoints.

    `training_step` calls the scheduler in place of a loss function and returns `step.loss`; the rest is here. An epoch
    is ended once, in `on_train_epoch_end`, which Lightning calls after every validation of that epoch: neither the
    sanity check nor a `val_check_interval` below 1 raises the threshold, and no validation is needed. Statistics go to
    `pl_module.log_dict` under the tags of `integrations.writers.scalars`. A checkpoint continues at any step, with the
    counters of the epoch under way. This is for the package `lightning`, not for its older name `pytorch_lightning`.

    The batches of several processes are one batch: a scheduler without a `process_group` gets that of all, so that
    gradients, statistics and faults are those of one process with all the data. Every process must make as many steps
    (`uneven="repeat"` or "drop" of the sampler). DDP is kept from giving all the counters of the first.

    Args:
        scheduler: the scheduler, or the name of the submodule of the LightningModule that is one. A scheduler that is
            no submodule is moved to the device, and switched between training and evaluation, by the callback.
        sampler: the `CurriculumSampler` or `CurriculumBatchSampler` of the training loader, if it has one. It is told
            each epoch before Lightning asks it for batches, and resumes at the batch where the checkpoint was
            written, workers or not. Epochs of different lengths need `Trainer(reload_dataloaders_every_n_epochs=1)`,
            and several processes `use_distributed_sampler=False`; without them it is refused.
        modalities: their names in the tags, in the order of the logits.
        name: prefix of the tags, and part of the key of the state; two callbacks need two.

    Raises:
        TypeError: a scheduler that is none.
        ValueError: a name that no submodule has; a sampler that the training loader does not use, or a trainer that
            would not ask it anew for every epoch.

    Example:
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.integrations.lightning import CurriculumCallback
        >>> callback = CurriculumCallback(SelfPacedScheduler(threshold=0.4), modalities=("text", "audio"))
        >>> callback.state_key
        "CurriculumCallback{'name': 'curriculum'}"
        >>> sorted(callback.state_dict())
        ['epochs', 'sampler']
    """

    def __init__(
        self,
        scheduler: SelfPacedScheduler | str = "scheduler",
        *,
        sampler: ShardedSampler[Any] | None = None,
        modalities: Sequence[str] | None = None,
        name: str = "curriculum",
    ) -> None:
        if not isinstance(scheduler, (SelfPacedScheduler, str)):
            got = type(scheduler).__name__
            raise TypeError(f"CurriculumCallback: scheduler must be a SelfPacedScheduler or a name (got {got})")
        self.submodule = scheduler if isinstance(scheduler, str) else None
        self.sampler = sampler
        self.modalities = modalities
        self.name = name
        self._epochs = TrainerEpochs(scheduler) if isinstance(scheduler, SelfPacedScheduler) else None
        self._is_submodule = False
        self._items_a_batch = 1  # or batches, whatever the sampler yields
        self._batches = 0  # of the newest iterator of the loader
        self._used: int | None = 0  # of what its newest iterator yielded; None for all

    @property
    def scheduler(self) -> SelfPacedScheduler:
        """The scheduler; one that has only a name is known from `setup` on."""
        return self._known.scheduler

    @property
    def state_key(self) -> str:
        """Under which a checkpoint has the state."""
        return self._generate_state_key(name=self.name)

    @property
    def _known(self) -> TrainerEpochs:
        if self._epochs is None:
            raise ValueError(f"CurriculumCallback: scheduler {self.submodule!r} must be looked up first, by setup")
        return self._epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the scheduler, whose it is, and the processes."""
        modules = dict(pl_module.named_modules())
        if self.submodule is not None:
            found = modules.get(self.submodule)
            if not isinstance(found, SelfPacedScheduler):
                raise ValueError(
                    f"CurriculumCallback: scheduler must name a SelfPacedScheduler of {type(pl_module).__name__} "
                    f"(got {self.submodule!r}, {'no submodule' if found is None else type(found).__name__})"
                )
            if self._epochs is None or self._epochs.scheduler is not found:
                self._epochs = TrainerEpochs(found)
        self._known.join_processes()
        path = next((name for name, module in modules.items() if module is self.scheduler), None)
        self._is_submodule = path is not None
        if self._is_submodule:  # DDP would give the counters of the first process to all, in every step
            ours = [f"{path}.{name}" for name, _ in self.scheduler.named_buffers()]
            ignored = getattr(pl_module, "_ddp_params_and_buffers_to_ignore", [])
            pl_module._ddp_params_and_buffers_to_ignore = [*ignored, *ours]
        if stage == "fit" and self.sampler is not None:
            if trainer.reload_dataloaders_every_n_epochs != 1:
                raise ValueError(
                    "CurriculumCallback: sampler needs Trainer(reload_dataloaders_every_n_epochs=1), since its epochs "
                    f"differ in length (got {trainer.reload_dataloaders_every_n_epochs})"
                )
            self.sampler.set_epoch(trainer.current_epoch)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Moves a scheduler of its own to the device."""
        if not self._is_submodule:
            self.scheduler.to(pl_module.device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for the loader of the sampler, and tells the sampler the epoch that a checkpoint goes on with."""
        if self.sampler is None:
            return
        if self._known.is_open and self._known.epoch < trainer.current_epoch:
            # Resumed behind the last batch of an epoch. Lightning compares the batches made with the length of the next
            # epoch, and would leave out as many of that one if it is longer.
            trainer.fit_loop.epoch_loop.batch_progress.current.completed = sys.maxsize - 1
        self.sampler.set_epoch(trainer.current_epoch)
        for loader in tree_leaves(trainer.train_dataloader):
            if self.sampler is getattr(loader, "batch_sampler", None):
                self._items_a_batch = 1
                return
            if self.sampler is getattr(loader, "sampler", None):
                self._items_a_batch = loader.batch_size or 1
                return
        raise ValueError(
            "CurriculumCallback: sampler must be the one of the training loader; for several processes give it rank "
            "and world_size and the trainer use_distributed_sampler=False (got a loader with another sampler)"
        )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ends an epoch that the checkpoint had trained to the last step but not ended."""
        self._log(self._known.begin(trainer.current_epoch))  # not every resumed epoch is started by Lightning's hook

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes where the next batch is."""
        self._batches += 1
        self._used = None if trainer.is_last_batch else self._batches * self._items_a_batch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the epoch, after its validation."""
        if not self._known.is_open:
            return  # ended before the checkpoint that this run resumes
        stats = self._known.end()
        self._batches = self._used = 0
        if self.sampler is not None:
            self.sampler.set_epoch(trainer.current_epoch + 1)
        numbers = scalars(stats, modalities=self.modalities, prefix=self.name)
        pl_module.log_dict(numbers, on_step=False, on_epoch=True, sync_dist=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends an epoch that was complete, but not ended, in a checkpoint that nothing is left to train of."""
        if self._known.is_open:
            self._log(self._known.end())

    def _log(self, left: EpochStats | None) -> None:
        if left is not None:
            log_stats(left, modalities=self.modalities, prefix=self.name)

    def _switch(self, training: bool) -> None:
        if not self._is_submodule:
            self.scheduler.train(training)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluation selects nothing."""
        self._switch(False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Back to training."""
        self._switch(True)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluation selects nothing."""
        self._switch(False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Back to training."""
        self._switch(True)

    def state_dict(self) -> dict[str, Any]:
        """The scheduler, the sampler and the place in the epoch; loads with `weights_only=True`."""
        return {
            "epochs": self._known.state_dict(),
            "sampler": None if self.sampler is None else self.sampler.state_dict(yielded=self._used),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues what `state_dict` gave, before Lightning asks for the first batch."""
        self._known.load_state_dict(state_dict["epochs"])
        self._batches = self._used = 0
        if (self.sampler is None) != (state_dict["sampler"] is None):
            had, has = ("none" if x is None else "one" for x in (state_dict["sampler"], self.sampler))
            raise ValueError(f"CurriculumCallback: sampler must be there as in the checkpoint, {had} (got {has})")
        if self.sampler is not None:
            self.sampler.load_state_dict(state_dict["sampler"])
