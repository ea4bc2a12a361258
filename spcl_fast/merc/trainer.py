"""Training a backbone on dialogues, with a curriculum or without."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spcl_fast._state import differences
from spcl_fast.batch import DialogueBatch
from spcl_fast.merc.by_length import ByLength
from spcl_fast.merc.config import TrainConfig as TrainConfig
from spcl_fast.merc.curricula import Curriculum, make_curriculum
from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.device import find_device
from spcl_fast.merc.evaluation import Evaluation, evaluate
from spcl_fast.merc.files import CheckpointError, load_checkpoint, save_checkpoint
from spcl_fast.merc.models import make_model
from spcl_fast.merc.stopwatch import Stopwatch

CHECKPOINT_VERSION = 2
#: speakers that a backbone tells apart; the published code does not tell later ones from the last (arXiv 2605.21565)
MAX_SPEAKERS = 8


@dataclass(frozen=True)
class Result:
    """A finished run: the epoch with the best dev weighted F1, its scores, and what each epoch did.

    `history` has one entry an epoch: `epoch`, `dev` (an `Evaluation`'s fields), `curriculum` (those of
    `EpochStats`), `by_length` (of the training dialogues in up to eight groups of about equal size, the shortest
    first: mean length, difficulty and weight of their utterances), `seconds` (training alone), `curriculum_seconds`
    (of those, in the curriculum's forward and backward).

    Example:
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> from spcl_fast.merc.trainer import TrainConfig, Trainer
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> config = TrainConfig(threshold=0.4, growth=1.2, epochs=1, hidden=4)
        >>> result = Trainer(corpus, config).fit()
        >>> len(result.history), result.history[0]["curriculum"]["threshold"]
        (1, 0.4)
        >>> 0 <= result.test.weighted_f1 <= 1
        True
    """

    best_epoch: int
    dev: Evaluation
    test: Evaluation | None
    history: list[dict[str, Any]]


class Trainer:
    """Adam on whole dialogues, reshuffled every epoch; the best epoch is chosen on dev, never on test.

    The published recipe of SPCL (arXiv 2605.21565, code): gradients clipped by norm, the threshold raised
    after the dev evaluation of every epoch. Its baseline is the same code with every weight 1. Validation
    and test of the corpus come from the splits "train", "dev" and "test" of the data set.

    Args:
        dataset: the corpus; all three splits must have labelled utterances.
        config: the run.
        device: where the model and the features live, and every step runs without waiting for it; "auto" is a GPU
            where there is one. A checkpoint continues on any device.

    Raises:
        ValueError: a data set without the splits, a curriculum over one modality, an unknown encoder, a device that is
            not there.

    Example:
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> from spcl_fast.merc.trainer import TrainConfig, Trainer
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> config = TrainConfig(threshold=0.4, growth=1.2, epochs=1, hidden=4)
        >>> trainer = Trainer(corpus, config)
        >>> result = trainer.fit()
        >>> result.best_epoch, list(trainer.model.modalities)
        (0, ['text', 'audio', 'visual'])
    """

    def __init__(self, dataset: DialogueDataset, config: TrainConfig, *, device: str | torch.device = "cpu") -> None:
        for split in ("train", "dev", "test"):
            if split not in dataset.split_names or not dataset.counts()[split][1]:
                raise ValueError(f"{dataset.name}: the split {split!r} must have labelled utterances (got none)")
        self.dataset, self.config, self.device = dataset, config, find_device(device)
        train, _ = dataset.rows_of(dataset.dialogues("train"))
        self._features = {
            m: torch.as_tensor(_standardized(x, train) if config.standardize else x).to(self.device)
            for m, x in dataset.features.items()
        }
        with self._forked_rng():
            torch.manual_seed(config.seed)
            self.model = self._make_model().to(self.device)
        self.curriculum = self._make_curriculum()
        self.scheduler = self.curriculum.scheduler.to(self.device)
        self._by_length = ByLength(dataset, self.device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.history: list[dict[str, Any]] = []
        self._watch = Stopwatch(self.device)
        self._best: dict[str, Any] = {"epoch": -1, "weighted_f1": -1.0, "model": {}}

    def fit(
        self,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
        score_test: bool = True,
    ) -> Result:
        """Trains to the end and scores the best epoch on dev and test.

        Args:
            checkpoint: file that holds the state after every epoch.
            resume: continue from that file: the rest is what an undisturbed run would have done.
            on_epoch: called after every epoch with its entry of the history.
            score_test: whether to score the test set, which the choice of a setting must not see.

        Returns:
            The result; the model is left with the weights of its best epoch.

        Raises:
            CheckpointError: the file to resume from is missing, damaged, or of another run, which a run of other epochs
                is only to a curriculum that looks at them ("stochastic_turn").
            ValueError: `resume` without a checkpoint, or a model that diverged: its logits (`FaultyDataError`) or its
                dev loss are not finite.

        Example:
            >>> from dataclasses import replace
            >>> from pathlib import Path
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> from spcl_fast.merc.trainer import TrainConfig, Trainer
            >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
            >>> config = TrainConfig(threshold=0.4, growth=1.2, epochs=1, hidden=4)
            >>> first = Trainer(corpus, config).fit(checkpoint=Path("run.pt"))
            >>> longer = Trainer(corpus, replace(config, epochs=2)).fit(checkpoint=Path("run.pt"), resume=True)
            >>> [entry["epoch"] for entry in longer.history]
            [0, 1]
        """
        if resume:
            if checkpoint is None:
                raise ValueError("resume needs the checkpoint to continue from (got none)")
            self._restore(checkpoint)
        with self._forked_rng():
            while not self._finished():
                entry = self._train_epoch(len(self.history))
                if checkpoint is not None:
                    save_checkpoint(checkpoint, self._state())
                if on_epoch is not None:
                    on_epoch(entry)
        self.model.load_state_dict(self._best["model"])
        test = self.score("test") if score_test else None
        return Result(self._best["epoch"], self.score("dev"), test, self.history)

    def score(self, split: str) -> Evaluation:
        """Evaluates the model as it is on one split, in evaluation mode, in which it stays.

        Raises:
            ValueError: a split that the data set does not have, or without labelled utterances.

        Example:
            >>> from spcl_fast.merc.synthetic import make_synthetic
            >>> from spcl_fast.merc.trainer import TrainConfig, Trainer
            >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
            >>> config = TrainConfig(threshold=0.4, growth=1.2, epochs=1, hidden=4)
            >>> untrained = Trainer(corpus, config).score("dev")
            >>> len(untrained.modality_accuracy)
            3
        """
        self.model.eval()
        logits: list[list[Tensor]] = []
        labels = []
        with torch.no_grad():
            for features, batch, ids in self._batches(self.dataset.dialogues(split)):
                logits.append(list(self._logits(features, batch, ids).values()))
                labels.append(batch.labels)
        return evaluate([torch.cat(z) for z in zip(*logits, strict=True)], torch.cat(labels))

    def _make_model(self) -> nn.Module:
        data, config = self.dataset, self.config
        return make_model(
            config.model,
            {m: x.shape[1] for m, x in data.features.items()},
            data.num_classes,
            num_speakers=max(1, min(int(data.speakers.max()) + 1, MAX_SPEAKERS)),
            encoder=config.encoder,
            hidden=config.hidden,
            dropout=config.dropout,
        )

    def _make_curriculum(self) -> Curriculum:
        return make_curriculum(self.dataset, self.config)

    def _logits(self, features: dict[str, Tensor], batch: DialogueBatch, ids: Tensor) -> dict[str, Tensor]:
        """What is evaluated; `ids` are the rows of the data set."""
        return dict(self.model(features, batch))

    def _end_epoch(self, epoch: int) -> dict[str, Any]:
        """Closes the epoch of the curriculum: its `EpochStats`."""
        return self.scheduler.end_epoch()._asdict()

    def _may_be_best(self, epoch: int) -> bool:
        """Whether the weights of this epoch can be the result."""
        return True

    def _forked_rng(self) -> AbstractContextManager[None]:
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def _finished(self) -> bool:
        epoch, patience = len(self.history), self.config.patience
        best = self._best["epoch"]
        return epoch >= self.config.epochs or (patience is not None and best >= 0 and epoch - 1 - best >= patience)

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        # Every epoch draws from a seed of its own, so a resumed run draws what an undisturbed one would have.
        order = np.random.default_rng([self.config.seed, epoch])
        torch.manual_seed(int(order.integers(2**63)))
        dialogues, sampler = self.dataset.dialogues("train"), self.curriculum.dialogues
        if sampler is None:
            dialogues = order.permutation(dialogues)
        else:
            sampler.set_epoch(epoch)
            dialogues = dialogues[list(sampler)]
        self.model.train()
        self._by_length.clear()
        whole, self._watch = Stopwatch(self.device), Stopwatch(self.device)
        with whole:
            for features, batch, ids in self._batches(dialogues):
                self._step(features, batch, ids)
        seconds, spent = whole.seconds(), self._watch.seconds()

        dev = self.score("dev")
        stats = self._end_epoch(epoch)
        if not math.isfinite(dev.loss):
            raise ValueError(
                f"epoch {epoch}: the dev loss is {dev.loss}: the model diverged; try a smaller learning rate"
            )
        if self._may_be_best(epoch) and dev.weighted_f1 > self._best["weighted_f1"]:
            weights = {name: x.detach().cpu().clone() for name, x in self.model.state_dict().items()}
            self._best = {"epoch": epoch, "weighted_f1": dev.weighted_f1, "model": weights}
        entry = {
            "epoch": epoch,
            "dev": dev._asdict(),
            "curriculum": stats,
            "by_length": self._by_length.means(),
            "seconds": seconds,
            "curriculum_seconds": spent,
        }
        self.history.append(entry)
        return entry

    def _step(self, features: dict[str, Tensor], batch: DialogueBatch, ids: Tensor) -> None:
        """One optimiser step; the watch takes the time of the curriculum, forward and backward."""
        self.optimizer.zero_grad(set_to_none=True)
        logits = list(self.model(features, batch).values())
        with self._watch:
            step = self.scheduler(logits, batch, ids=ids)
        self._watch.between(step.loss, logits[-1])  # the last of the model to be made is the first on the way back
        step.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self._by_length.add(ids, step)

    def _batches(self, dialogues: np.ndarray) -> Iterator[tuple[dict[str, Tensor], DialogueBatch, Tensor]]:
        """Features, dialogues and the rows of the data set of each batch."""
        data = self.dataset
        for start in range(0, len(dialogues), self.config.batch_size):
            rows, offsets = data.rows_of(dialogues[start : start + self.config.batch_size])
            batch = DialogueBatch.from_arrays(data.labels[rows], offsets, speakers=data.speakers[rows])
            ids = torch.as_tensor(rows)
            if self.device.type == "cuda":  # from page-locked memory a copy does not wait for what the device does
                ids, batch = ids.pin_memory(), batch.pin_memory()
            ids, batch = ids.to(self.device, non_blocking=True), batch.to(self.device, non_blocking=True)
            yield {m: x.index_select(0, ids) for m, x in self._features.items()}, batch, ids

    def _identity(self) -> dict[str, Any]:
        """What must agree for a run to be continued; the number of epochs may grow."""
        config = asdict(self.config)
        del config["epochs"]
        data = {
            "data.features": {m: x.shape[1] for m, x in self.dataset.features.items()},
            "data.classes": list(self.dataset.class_names),
            "data.counts": {split: list(n) for split, n in self.dataset.counts().items()},
            "data.checksum": _checksum(self.dataset),
        }
        return config | data

    def _state(self) -> dict[str, Any]:
        return {
            "version": CHECKPOINT_VERSION,
            "identity": self._identity(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curriculum": self.scheduler.state_dict(),
            "history": self.history,
            "best": self._best,
        }

    def _load_parts(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["curriculum"])

    def _restore(self, path: Path) -> None:
        state = load_checkpoint(path)
        if state.get("version") != CHECKPOINT_VERSION:
            raise CheckpointError(f"{path}: must be of version {CHECKPOINT_VERSION} (got {state.get('version')})")
        try:
            differ = differences(state["identity"], self._identity())
            if differ:
                raise CheckpointError(f"{path}: the checkpoint is of another run ({differ})")
            self.history, self._best = list(state["history"]), {name: state["best"][name] for name in self._best}
            if not all(entry["epoch"] == epoch for epoch, entry in enumerate(self.history)):
                raise ValueError("its epochs are not in order")
            candidates = [epoch for epoch in range(len(self.history)) if self._may_be_best(epoch)]
            if self._best["epoch"] not in (candidates or [-1]):
                raise ValueError("its best epoch is not one of its epochs")
            self._load_parts(state)
        except CheckpointError:
            raise
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"{path}: not a checkpoint of a training run ({reason})") from error


def _checksum(dataset: DialogueDataset) -> int:
    """Tells data sets apart that have the same shapes."""
    checksum = 0
    for array in (dataset.labels, dataset.speakers, dataset.offsets, dataset.split, *dataset.features.values()):
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum


def _standardized(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    mean, deviation = x[train].mean(0, dtype=np.float64), x[train].std(0, dtype=np.float64)
    return ((x - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)
