"""A curriculum in `transformers.Trainer`: a callback, and a mixin that brings the rest."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from spcl_fast._sharded import ShardedSampler
from spcl_fast.batch_sampler import CurriculumBatchSampler
from spcl_fast.difficulty.measurer import Vectors
from spcl_fast.integrations._epochs import TrainerEpochs
from spcl_fast.integrations._same_length import SameLengthEpochs, longest
from spcl_fast.integrations.writers import log_stats, scalars
from spcl_fast.merc.files import CheckpointError, load_checkpoint, save_checkpoint
from spcl_fast.ops import SelfPacedStep
from spcl_fast.scheduler import EpochStats, SelfPacedScheduler

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError(
        "spcl_fast.integrations.huggingface needs the package transformers: pip install 'spcl_fast[adapters]'"
    ) from error

if TYPE_CHECKING:
    from transformers import Trainer as _Host
else:
    _Host = object

__all__ = ["CurriculumCallback", "CurriculumTrainerMixin"]

STATE_FILE = "spcl_fast.pt"  # beside the other files of a checkpoint
STATE_VERSION = 1
#: what of a batch is the scheduler's; the model gets it too where its `forward` names it, except for the labels
INPUTS = ("labels", "offsets", "speakers", "present", "ids", "extra_difficulty")


class CurriculumCallback(TrainerCallback):
    """Ends the epochs of a scheduler and logs what they selected; `CurriculumTrainerMixin` adds one itself.

    Alone it serves a Trainer whose loss calls the scheduler in another way, such as `compute_loss_func`; the state is
    then the user's to save: `state_dict`, `load_state_dict`. The epoch is ended in `on_epoch_end`, before the
    evaluation and the checkpoint of that epoch; an evaluation selects nothing, so it is the same as after it. Where
    there are several processes, a scheduler without a `process_group` gets that of all.

    Args:
        scheduler: moved to the device of the training when it begins.
        sampler: told every epoch, if there is one.
        log: takes the numbers of `integrations.writers.scalars`; `trainer.log`. None: they go to the log `spcl_fast`.
        modalities: their names in the tags, in the order of the logits.

    Example:
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.integrations.huggingface import CurriculumCallback
        >>> callback = CurriculumCallback(SelfPacedScheduler(threshold=0.5, growth=1.5))
        >>> _ = callback.on_epoch_end(None, None, None)
        >>> callback.scheduler.threshold.item()
        0.75
    """

    def __init__(
        self,
        scheduler: SelfPacedScheduler,
        *,
        sampler: ShardedSampler[Any] | SameLengthEpochs | None = None,
        log: Callable[[dict[str, float]], None] | None = None,
        modalities: Sequence[str] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.sampler = sampler
        self.log = log
        self.modalities = modalities
        self._epochs = TrainerEpochs(scheduler)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves the scheduler; ends an epoch that the checkpoint had trained to the last step but not ended."""
        self.scheduler.to(args.device)
        self._epochs.join_processes()
        self._report(self._epochs.begin(math.floor((state.epoch or 0) + 1e-6)))

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tells the sampler the epoch."""
        self._epochs.begin(self._epochs.epoch)
        if self.sampler is not None:
            self.sampler.set_epoch(self._epochs.epoch)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ends the epoch."""
        self._report(self._epochs.end())

    def _report(self, stats: EpochStats | None) -> None:
        if stats is None:
            return
        if self.log is None:
            log_stats(stats, modalities=self.modalities)
        else:
            self.log(scalars(stats, modalities=self.modalities))

    def state_dict(self) -> dict[str, Any]:
        """The scheduler and the epoch; all processes have to call it.

        Example:
            >>> from spcl_fast import SelfPacedScheduler
            >>> from spcl_fast.integrations.huggingface import CurriculumCallback
            >>> state = CurriculumCallback(SelfPacedScheduler()).state_dict()
            >>> state["epoch"], state["is_open"]
            (0, False)
        """
        modalities = None if self.modalities is None else list(self.modalities)
        return {**self._epochs.state_dict(), "modalities": modalities}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues what `state_dict` gave.

        Example:
            >>> from spcl_fast import SelfPacedScheduler
            >>> from spcl_fast.integrations.huggingface import CurriculumCallback
            >>> first, second = (CurriculumCallback(SelfPacedScheduler(threshold=0.4, growth=1.5)) for _ in range(2))
            >>> _ = first.on_epoch_end(None, None, None)
            >>> second.load_state_dict(first.state_dict())
            >>> second.scheduler.epoch
            1
        """
        self._epochs.load_state_dict(state)
        self.modalities = self.modalities or state["modalities"]


class CurriculumTrainerMixin(_Host):
    """`class MyTrainer(CurriculumTrainerMixin, transformers.Trainer)`: a Trainer that trains on a curriculum.

    - The loss is the scheduler's. Of a batch, `labels` and, where it has them, `offsets`, `speakers`, `present`, `ids`
      and `extra_difficulty` go to the scheduler; columns of these names are not removed. The model gets the rest, and
      those of them that its `forward` names, but never the labels: it need not compute a loss. It returns a mapping
      with `logits` (`[T, C]`, `[M, T, C]` or a mapping of modalities to `[T, C]`) and, if difficulties look at them,
      `joint` and `embeddings`; or a tuple that begins with the logits; or the logits.
    - Evaluation is the plain mean over all utterances, and counts nothing.
    - Micro-batches of one gradient select what a single batch would, and count alike whatever their size, which is the
      Trainer's rule for a loss that is a mean. The batches of several processes are one batch: a scheduler without a
      `process_group` gets that of all.
    - A sampler decides the order: a `CurriculumSampler`, or a `CurriculumBatchSampler` for the batches; of `world_size`
      1, since accelerate deals the batches out (and, to several processes, those of `max_utterances` only with
      `accelerator_config={"even_batches": False}`). The Trainer takes every epoch to have the same number of steps: it
      gets `epoch_length` items or batches, and a pool that is smaller is gone through again in a new order. So
      learning rate, resuming and `max_steps` mean what they say.
    - Statistics are logged at the end of each epoch, under the tags of `integrations.writers.scalars`.
    - A checkpoint has the file `spcl_fast.pt`, loaded with `weights_only=True`: the run continues at any step with the
      same threshold, counters, difficulty and order. `save_only_model` leaves it out, like the optimizer.

    Args:
        *args: of the Trainer.
        scheduler: the scheduler; moved to the device.
        sampler: a `CurriculumSampler` or a `CurriculumBatchSampler`; None leaves the order to the Trainer.
        epoch_length: items, or batches, of an epoch; None: as many as the longest of `args.num_train_epochs` has.
        modalities: their names in the tags; None takes those of the logits, if the model names them.
        **kwargs: of the Trainer.

    Raises:
        TypeError: a scheduler or a sampler that is none.
        ValueError: a sampler of several processes; an epoch_length below 1; a checkpoint without the state of a
            curriculum, or with that of another.

    Example:
        >>> from transformers import Trainer
        >>> from spcl_fast.integrations.huggingface import CurriculumTrainerMixin
        >>> class MyTrainer(CurriculumTrainerMixin, Trainer):
        ...     pass
        >>> MyTrainer(scheduler=None)
        Traceback (most recent call last):
        TypeError: MyTrainer: scheduler must be a SelfPacedScheduler (got NoneType)
    """

    #: the loss is a mean over the utterances of its batch; the Trainer divides by the number of micro-batches
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        *args: Any,
        scheduler: SelfPacedScheduler,
        sampler: ShardedSampler[Any] | None = None,
        epoch_length: int | None = None,
        modalities: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if not isinstance(scheduler, SelfPacedScheduler):
            raise TypeError(f"{name}: scheduler must be a SelfPacedScheduler (got {type(scheduler).__name__})")
        if sampler is not None and not isinstance(sampler, ShardedSampler):
            got = type(sampler).__name__
            raise TypeError(f"{name}: sampler must be a CurriculumSampler or CurriculumBatchSampler (got {got})")
        if sampler is not None and sampler.world_size != 1:
            raise ValueError(f"{name}: world_size of the sampler must be 1 (got {sampler.world_size})")
        if epoch_length is not None and epoch_length < 1:
            raise ValueError(f"{name}: epoch_length must be at least 1 (got {epoch_length})")
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # before `loss_is_scaled_for_ga` this said the same
        self.label_names: list[str] = self.label_names or ["labels"]
        self.curriculum_scheduler = scheduler.to(self.args.device)
        self._model_takes = set(inspect.signature(self.model.forward).parameters) - {"labels"}
        self._order: SameLengthEpochs | None = None
        if sampler is not None:
            epochs = max(1, math.ceil(self.args.num_train_epochs))
            self._order = SameLengthEpochs(sampler, epoch_length or longest(sampler, epochs))
        self._curriculum = CurriculumCallback(scheduler, sampler=self._order, log=self.log, modalities=modalities)
        self.add_callback(self._curriculum)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss of the scheduler, in place of the model's.

        Example:
            >>> import torch
            >>> from transformers import Trainer, TrainingArguments
            >>> from spcl_fast import SelfPacedScheduler
            >>> from spcl_fast.integrations.huggingface import CurriculumTrainerMixin
            >>> class MyTrainer(CurriculumTrainerMixin, Trainer):
            ...     pass
            >>> scheduler = SelfPacedScheduler(threshold=2.0, difficulty="loss")
            >>> arguments = TrainingArguments("out", use_cpu=True, report_to=[])
            >>> trainer = MyTrainer(torch.nn.Identity(), arguments, scheduler=scheduler)
            >>> batch = {"input": torch.zeros(2, 4), "labels": torch.tensor([0, 3])}
            >>> round(trainer.compute_loss(trainer.model, batch).item(), 3)  # log 4
            1.386
        """
        ours = {name: inputs[name] for name in INPUTS if name in inputs}
        outputs = model(**{name: x for name, x in inputs.items() if name not in ours or name in self._model_takes})
        loss = self.curriculum_step(model, outputs, ours).loss
        if not return_outputs:
            return loss
        if not isinstance(outputs, (Mapping, tuple)):
            outputs = {"logits": outputs}
        return loss, (loss, *outputs) if isinstance(outputs, tuple) else outputs

    def curriculum_step(self, model: nn.Module, outputs: Any, inputs: dict[str, Any]) -> SelfPacedStep:
        """One step of the scheduler; a subclass for a model of other outputs overrides this.

        Args:
            model: says whether it is training.
            outputs: what the model returned.
            inputs: those of `INPUTS` that the batch has; `labels` among them.

        Example:
            >>> import torch
            >>> from transformers import Trainer, TrainingArguments
            >>> from spcl_fast import SelfPacedScheduler
            >>> from spcl_fast.integrations.huggingface import CurriculumTrainerMixin
            >>> class MyTrainer(CurriculumTrainerMixin, Trainer):
            ...     pass
            >>> scheduler = SelfPacedScheduler(threshold=2.0, difficulty="loss")
            >>> arguments = TrainingArguments("out", use_cpu=True, report_to=[])
            >>> trainer = MyTrainer(torch.nn.Identity(), arguments, scheduler=scheduler)
            >>> outputs, inputs = {"logits": torch.zeros(2, 4)}, {"labels": torch.tensor([0, 3])}
            >>> trainer.curriculum_step(trainer.model, outputs, inputs).weight.tolist()
            [1.0, 1.0]
        """
        others: dict[str, Any] = {}
        logits: Vectors
        if isinstance(outputs, Mapping):
            logits = outputs["logits"]
            others = {name: outputs[name] for name in ("joint", "embeddings") if outputs.get(name) is not None}
        else:
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
        if isinstance(logits, Mapping) and self._curriculum.modalities is None:
            self._curriculum.modalities = tuple(logits)
        arguments = {name: x for name, x in inputs.items() if name != "labels"}
        self.curriculum_scheduler.train(model.training)
        return self.curriculum_scheduler(logits, inputs["labels"], **arguments, **others)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler | None:
        if self._order is None:
            return super()._get_train_sampler(*args, **kwargs)
        return self._order

    def get_train_dataloader(self) -> DataLoader:
        """The loader of the training set; with a batch sampler, of its batches.

        Example:
            >>> import torch
            >>> from transformers import Trainer, TrainingArguments
            >>> from spcl_fast import SelfPacedScheduler
            >>> from spcl_fast.integrations.huggingface import CurriculumTrainerMixin
            >>> class MyTrainer(CurriculumTrainerMixin, Trainer):
            ...     pass
            >>> scheduler = SelfPacedScheduler(threshold=2.0, difficulty="loss")
            >>> arguments = TrainingArguments("out", use_cpu=True, report_to=[])
            >>> from spcl_fast import CurriculumBatchSampler
            >>> sampler = CurriculumBatchSampler(3, batch_size=2, order="easiest_first")
            >>> data = [{"input": torch.zeros(4), "labels": i} for i in range(3)]
            >>> options = {"train_dataset": data, "scheduler": scheduler, "sampler": sampler}
            >>> trainer = MyTrainer(torch.nn.Identity(), arguments, **options)
            >>> [batch["labels"].tolist() for batch in trainer.get_train_dataloader()]
            [[0, 1], [2]]
        """
        if self._order is None or not isinstance(self._order.sampler, CurriculumBatchSampler):
            return super().get_train_dataloader()
        dataset, collate = self.train_dataset, self.data_collator
        if hasattr(dataset, "column_names"):  # of the package datasets
            dataset = self._remove_unused_columns(dataset, description="training")
        else:
            collate = self._get_collator_with_removed_columns(collate, description="training")
        loader = DataLoader(
            dataset,
            batch_sampler=self._order,
            collate_fn=collate,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        return self.accelerator.prepare(loader)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in INPUTS if name not in self._signature_columns]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        state = {
            "version": STATE_VERSION,
            "epochs": self._curriculum.state_dict(),  # every process, for their counters are added up
            "sampler": None if self._order is None else self._order.sampler.state_dict(yielded=0),  # of the epoch
            "epoch_length": None if self._order is None else self._order.length,
        }
        if self.args.should_save:
            save_checkpoint(Path(output_dir) / STATE_FILE, state)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = Path(os.fspath(checkpoint)) / STATE_FILE
        state = load_checkpoint(path)
        if state.get("version") != STATE_VERSION:
            raise CheckpointError(f"{path}: version must be {STATE_VERSION} (got {state.get('version')})")
        length = None if self._order is None else self._order.length
        if state["epoch_length"] != length:
            raise CheckpointError(
                f"{path}: epoch_length must be that of the run, {length} (got {state['epoch_length']})"
            )
        self._curriculum.load_state_dict(state["epochs"])
        if self._order is not None:
            self._order.sampler.load_state_dict(state["sampler"])
