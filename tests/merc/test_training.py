"""Which trainer a configuration has."""

from __future__ import annotations

import pytest

from spcl_fast.hardy import HardyTrainer
from spcl_fast.merc.models import HARDY, MODELS, make_model
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.merc.trainer import TrainConfig, Trainer
from spcl_fast.merc.training import make_trainer


@pytest.mark.parametrize("model", [*MODELS, HARDY])
def test_make_trainer_passes_everything_on(model):
    dataset = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
    config = TrainConfig(model=model, hidden=4)
    trainer = make_trainer(dataset, config, device="cpu")
    assert type(trainer) is (HardyTrainer if model == HARDY else Trainer)
    assert (trainer.dataset, trainer.config, trainer.device.type) == (dataset, config, "cpu")
    with pytest.raises(ValueError, match="abacus"):
        make_trainer(dataset, config, device="abacus")


def test_make_model_says_who_makes_hardy():
    with pytest.raises(ValueError, match="model 'hardy' is made by HardyTrainer"):
        make_model(HARDY, {"text": 4}, 3)
