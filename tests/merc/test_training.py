"""Which trainer a configuration has."""

from __future__ import annotations

import sys
import types

import pytest

from spcl_fast.merc.models import MODELS, make_model
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.merc.trainer import TrainConfig, Trainer
from spcl_fast.merc.training import make_trainer


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})


class Told:
    """Stands for `HardyTrainer`, and knows what it was made of."""

    def __init__(self, dataset, config, *, device):
        self.told = dataset, config, device


@pytest.fixture
def hardy(monkeypatch):
    module = types.ModuleType("spcl_fast.hardy.trainer")
    module.HardyTrainer = Told
    for name, stub in (("spcl_fast.hardy", types.ModuleType("spcl_fast.hardy")), ("spcl_fast.hardy.trainer", module)):
        monkeypatch.setitem(sys.modules, name, stub)
    return Told


def test_make_trainer_of_hardy_passes_everything_on(dataset, hardy):
    config = TrainConfig(model="hardy", available="at", curriculum="hardy")
    trainer = make_trainer(dataset, config, device="cpu")
    assert isinstance(trainer, hardy)
    assert trainer.told == (dataset, config, "cpu")


@pytest.mark.parametrize("model", MODELS)
def test_make_trainer_of_backbones(dataset, model, hardy):
    config = TrainConfig(model=model, hidden=4)
    trainer = make_trainer(dataset, config)
    assert type(trainer) is Trainer
    assert (trainer.dataset, trainer.config) == (dataset, config)


def test_make_model_says_who_makes_hardy():
    with pytest.raises(ValueError, match="model 'hardy' is made by HardyTrainer"):
        make_model("hardy", {"text": 4}, 3)
