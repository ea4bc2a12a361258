"""Training with missing modalities: HARDY-MER, and what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spcl_fast import SelfPacedScheduler
from spcl_fast.batch import DialogueBatch
from spcl_fast.hardy import teacher
from spcl_fast.hardy.curriculum import hardy_curriculum
from spcl_fast.hardy.lessons import Lessons
from spcl_fast.hardy.losses import classification_loss, reconstruction_loss
from spcl_fast.hardy.network import HardyNetwork
from spcl_fast.hardy.options import HardyOptions
from spcl_fast.hardy.protocols import MissingProtocol, parse_available
from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.curricula import Curriculum
from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.stopwatch import Stopwatch
from spcl_fast.merc.trainer import Trainer

__all__ = ["HardyTrainer"]

RETRIEVE = ("hardy", "random_hardness", "hardy_same_label")


class HardyTrainer(Trainer):
    """Trains a `HardyNetwork` on what a protocol leaves of the modalities, and evaluates it on the same.

    HARDY-MER (arXiv 2508.06800). The first half of the epochs, `epochs // 2`, sees all modalities and trains each alone
    (the sum of their cross entropies). The second sees what the protocol leaves: the cross entropy of the joint,
    weighted by the curriculum, and `reconstruction_loss`. A batch is `neighbours + 1` optimiser steps in the second
    half, whatever the curriculum, so that all have as many. What the steps show:

    - "hardy": a teacher, trained before, measures how hard each utterance is (`ops.multiview_hardness`). The harder,
      the more of its nearest training utterances (`NeighbourTable`) take its place, one a step, with its own label and
      its own missing modalities; before them the utterance itself.
    - "hardy_same_label": the same, among the utterances of its own label alone [ours]: what stands in for an utterance
      keeps that one's label, so it should have it.
    - "random_hardness": the control of "hardy": the hardnesses of a batch are dealt out anew by lot.
    - "none", "spcl", "loss": the utterance itself in every step; "spcl" and "loss" weight the cross entropy
      (`AvailableSpclDifficulty`).

    Filling: with "reconstruction" and "zero" what is missing is left out of everything, which with zeros for features
    the published network does; "zero" reconstructs nothing. With "mean" the training mean stands for what is missing,
    and counts as being there; nothing is reconstructed.

    The best epoch is the one of the second half with the best dev weighted F1, under the protocol. Of dev and test, no
    feature of a missing modality is ever read. A protocol that draws by lot draws anew in every training epoch, and
    for dev and test once. Entries of the history have, beside those of `merc.trainer.Result`, `stage` (1 or 2),
    `hardness` (its mean over the epoch, NaN where none was measured) and `preparation_seconds` (training the teacher
    and finding the neighbours, in the epoch before which that is done; in no other time). `curriculum_seconds` holds
    hardness, retrieval and weights.

    Args:
        dataset: the corpus, with at least two modalities, and at most eight.
        config: the run; its model is "hardy".
        device: as in `merc.trainer.Trainer`.
        options: what only HARDY-MER asks for.

    Raises:
        ValueError: as `merc.trainer.Trainer`; another model or curriculum, one modality, `available` that names no
            modality, hidden that the heads do not divide.

    Example:
        >>> from spcl_fast.hardy import HardyOptions, HardyTrainer
        >>> from spcl_fast.merc.config import TrainConfig
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> config = TrainConfig(
        ...     model="hardy", curriculum="hardy", available="at", hidden=4, epochs=2, neighbours=1, teacher_epochs=1
        ... )
        >>> result = HardyTrainer(corpus, config, options=HardyOptions(blocks=1)).fit()
        >>> result.best_epoch, [entry["stage"] for entry in result.history]
        (1, [1, 2])
    """

    model: HardyNetwork

    def __init__(
        self,
        dataset: DialogueDataset,
        config: TrainConfig,
        *,
        device: str | torch.device = "cpu",
        options: HardyOptions | None = None,
    ) -> None:
        if config.model != "hardy":
            raise ValueError(f"model must be 'hardy' (got {config.model!r})")
        if not 2 <= len(dataset.features) <= 8:
            raise ValueError(f"{dataset.name}: must have 2 to 8 modalities (got {len(dataset.features)})")
        self.options = options or HardyOptions()
        self._available = parse_available(config.available, tuple(dataset.features))
        super().__init__(dataset, config, device=device)
        self._first_epochs = config.epochs // 2
        self._warm_up = SelfPacedScheduler(float("inf"), 1.0, float("inf"), difficulty="loss").to(self.device)
        self._protocol = _protocol(config)
        of_dialogue = torch.from_numpy(np.repeat(np.arange(dataset.num_dialogues), dataset.lengths))
        self._ids = (of_dialogue.to(self.device), torch.arange(dataset.num_utterances, device=self.device))
        self._train_dialogues = dataset.dialogues("train")
        self._fold = torch.as_tensor(dataset.rows_of(self._train_dialogues)[0], device=self.device)
        self._means = {m: x.index_select(0, self._fold).mean(0) for m, x in self._features.items()}
        #: `bool[M, N]`, what is there of every row of the data set, for training and for dev and test
        self._trained_on = self._tested_on = self._present(0)
        self._teacher: HardyNetwork | None = None
        self._lessons: Lessons | None = None
        self._hardness = torch.zeros(2, dtype=torch.float64, device=self.device)  # sum over the epoch, and of how many

    def _make_model(self, *, cross_attention: bool = False) -> HardyNetwork:
        return HardyNetwork(
            {m: x.shape[1] for m, x in self.dataset.features.items()},
            self.dataset.num_classes,
            hidden=self.config.hidden,
            blocks=self.options.blocks,
            heads=self.options.heads,
            dropout=self.config.dropout,
            cross_attention=cross_attention,
        )

    def _make_curriculum(self) -> Curriculum:
        return hardy_curriculum(self.dataset, self.config)

    def _in_first_stage(self) -> bool:
        return len(self.history) < self._first_epochs

    def _may_be_best(self, epoch: int) -> bool:
        return epoch >= self._first_epochs

    def _present(self, epoch: int) -> Tensor:
        if self._protocol is None:
            drawn = torch.ones(len(self._available), len(self._ids[1]), dtype=torch.bool, device=self.device)
        else:
            drawn = self._protocol.present(*self._ids, self._available, epoch)
        of = dict(zip(self._available, drawn, strict=True))
        none = torch.zeros_like(drawn[0])
        return torch.stack([of.get(m, none) for m in self.dataset.features])

    def _shown(self, features: dict[str, Tensor], present: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Features and presence as the network gets them."""
        if self.config.filling != "mean":
            return features, present
        filled = {
            m: torch.where(here[:, None], x, self._means[m])
            for (m, x), here in zip(features.items(), present, strict=True)
        }
        return filled, None

    def _logits(self, features: dict[str, Tensor], batch: DialogueBatch, ids: Tensor) -> dict[str, Tensor]:
        shown, present = self._shown(features, self._tested_on.index_select(1, ids))
        return dict(self.model(shown, batch, present, first_stage=self._in_first_stage()).logits)

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        preparation, renewal = Stopwatch(self.device), Stopwatch(self.device)
        self._hardness.zero_()
        second_stage = not self._in_first_stage()
        if second_stage:
            with preparation:
                self._prepare()
            with renewal:
                self._renew(epoch - self._first_epochs)
        entry = super()._train_epoch(epoch)
        renewed, (total, count) = renewal.seconds(), self._hardness.tolist()
        entry["seconds"] += renewed
        entry["curriculum_seconds"] += renewed
        entry["stage"] = 1 + second_stage
        entry["hardness"] = total / count if count else math.nan
        entry["preparation_seconds"] = preparation.seconds()
        return entry

    def _prepare(self) -> None:
        """Trains the teacher and finds the neighbours, where the curriculum asks for them; once."""
        if self.config.curriculum not in RETRIEVE or self._lessons is not None:
            return
        if self._teacher is None:
            self._teacher = self._trained_teacher()
        self._lessons = Lessons(
            self._teacher,
            self._features,
            self._fold,
            lambda: self._batches(self._train_dialogues),
            self.config.neighbours,
            self.options,
            by_lot=self.config.curriculum == "random_hardness",
            groups=self._labels() if self.config.curriculum == "hardy_same_label" else None,
        )

    def _labels(self) -> Tensor:
        """Of the training fold."""
        return torch.as_tensor(self.dataset.labels, device=self.device).index_select(0, self._fold)

    def _trained_teacher(self) -> HardyNetwork:
        torch.manual_seed(int(np.random.default_rng([self.config.seed, teacher.DRAWS]).integers(2**63)))
        network = self._make_model(cross_attention=True).to(self.device)
        identity = self._identity()
        decisive = [identity[name] for name in (*teacher.DECISIVE, "data.checksum", "data.features", "data.classes")]
        options = [getattr(self.options, name) for name in ("blocks", "heads", "target_source")]
        key = repr([*decisive, *options, str(self.device), torch.get_num_threads()])
        train = partial(
            teacher.train_teacher,
            network,
            self.config,
            self.options,
            self._train_dialogues,
            self._batches,
            self._present,
        )
        teacher.recall_or_train(network, key, train)
        if not all(bool(x.isfinite().all()) for x in network.parameters()):
            raise ValueError("the teacher's weights are not finite: it diverged; try a smaller learning rate")
        return network

    def _renew(self, epoch: int) -> None:
        """What is there in this epoch of the second stage."""
        if self._protocol is not None:
            self._trained_on = self._present(epoch)
        if self._lessons is not None:
            self._lessons.attend(self._trained_on)

    def _step(self, features: dict[str, Tensor], batch: DialogueBatch, ids: Tensor) -> None:
        if self._in_first_stage():
            self._first_stage_step(features, batch, ids)
            return
        present = self._trained_on.index_select(1, ids)
        for step, shown in enumerate(self._shown_steps(features, present, ids)):
            if not (step and self.options.accumulate_gradients):
                self.optimizer.zero_grad(set_to_none=True)
            self._second_stage_step(shown, present, batch, ids)

    def _shown_steps(self, features: dict[str, Tensor], present: Tensor, ids: Tensor) -> Iterator[dict[str, Tensor]]:
        """The features of each of the k + 1 steps of a batch."""
        if self._lessons is None:
            yield from [features] * (self.config.neighbours + 1)
            return
        with self._watch:
            rows, hardness = self._lessons.rows(ids, features, present)
            known = hardness.isfinite()
            self._hardness += torch.stack([torch.where(known, hardness, 0.0).sum(), known.sum()])
        for of_step in rows.T.contiguous():
            with self._watch:
                shown = {m: x.index_select(0, of_step) for m, x in self._features.items()}
            yield shown

    def _first_stage_step(self, features: dict[str, Tensor], batch: DialogueBatch, ids: Tensor) -> None:
        """All modalities, each classified alone."""
        logits = list(self.model(features, batch, first_stage=True).logits.values())
        with self._watch, torch.no_grad():
            self._by_length.add(ids, self._warm_up(logits, batch))  # counts, and knows faulty logits
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack([classification_loss(z, batch.labels) for z in logits]).sum().backward()
        self._descend()

    def _second_stage_step(
        self, features: dict[str, Tensor], present: Tensor, batch: DialogueBatch, ids: Tensor
    ) -> None:
        """Some rows in the place of the utterances, with what is there of these."""
        shown, there = self._shown(features, present)
        out = self.model(shown, batch, there)
        logits = list(out.logits.values())
        heads = [z.detach().requires_grad_() for z in logits]
        with self._watch:
            # What missing modalities would say is said by the others in their place, and is part of the prediction;
            # only what compares modalities leaves them out.
            compared = present if self.config.curriculum == "spcl" else None
            step = self.scheduler(heads, batch, ids=ids, joint=torch.stack(heads).sum(0), present=compared)
            step.loss.backward()
        losses, gradients = list(logits), [z.grad for z in heads]
        if self.config.filling == "reconstruction":
            losses.append(
                reconstruction_loss(out.reconstruction, features, present, target_source=self.options.target_source)
            )
            gradients.append(None)
        torch.autograd.backward(losses, gradients)
        self._descend()
        self._by_length.add(ids, step)

    def _descend(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()

    def _end_epoch(self, epoch: int) -> dict[str, Any]:
        scheduler = self._warm_up if self._in_first_stage() else self.scheduler
        stats = scheduler.end_epoch()._asdict()
        stats["epoch"] = epoch
        return stats

    def _identity(self) -> dict[str, Any]:
        """The epochs too: they say when the second stage begins."""
        options = {f"options.{name}": value for name, value in asdict(self.options).items()}
        return super()._identity() | {"epochs": self.config.epochs} | options

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"teacher": {} if self._teacher is None else self._teacher.state_dict()}

    def _load_parts(self, state: dict[str, Any]) -> None:
        super()._load_parts(state)
        if state["teacher"]:
            with self._forked_rng():
                self._teacher = self._make_model(cross_attention=True).to(self.device)
            self._teacher.load_state_dict(state["teacher"])
            self._teacher.eval()


def _protocol(config: TrainConfig) -> MissingProtocol | None:
    """By which the available modalities are missing at times; None where they never are."""
    if config.missing == "fixed":
        return None
    make = MissingProtocol.at_random if config.missing == "utterance" else MissingProtocol.by_dialogue
    return make(config.missing_rate, seed=config.seed)
