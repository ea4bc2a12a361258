"""The trainer of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.models import HARDY
from spcl_fast.merc.trainer import Trainer

if TYPE_CHECKING:
    from spcl_fast.hardy.trainer import HardyTrainer


def make_trainer(
    dataset: DialogueDataset, config: TrainConfig, *, device: str | torch.device = "cpu"
) -> Trainer | HardyTrainer:
    """`HardyTrainer` for the model "hardy", `Trainer` for all others; they have the same methods.

    Args:
        dataset: the corpus; all three splits must have labelled utterances.
        config: the run.
        device: where the model and the features live.

    Raises:
        ValueError: what the trainer refuses.

    Example:
        >>> from spcl_fast.merc.config import TrainConfig
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> from spcl_fast.merc.training import make_trainer
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> type(make_trainer(corpus, TrainConfig(model="late_fusion", hidden=4))).__name__
        'Trainer'
    """
    if config.model != HARDY:
        return Trainer(dataset, config, device=device)
    from spcl_fast.hardy.trainer import HardyTrainer  # which is a layer above this one

    return HardyTrainer(dataset, config, device=device)
