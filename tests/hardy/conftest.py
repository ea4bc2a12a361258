"""A small corpus, and HARDY-MER's trainer of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spcl_fast.hardy import HardyOptions, HardyTrainer, teacher
from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.synthetic import make_synthetic

CONFIG = TrainConfig(
    model="hardy",
    curriculum="hardy",
    available="at",
    hidden=8,
    epochs=4,
    batch_size=4,
    neighbours=2,
    teacher_epochs=1,
    learning_rate=3e-3,
)


@pytest.fixture(scope="session")
def dataset():
    return make_synthetic("meld-like", dialogues={"train": 8, "dev": 3, "test": 3})


@pytest.fixture(scope="session")
def scattered(dataset):
    """The same dialogues, the splits between each other: a row of the fold is not that row of the data set."""
    return replace(dataset, split=np.array([2, 0, 1, 0, 0, 2, 0, 1, 0, 0, 2, 0, 1, 0]))


@pytest.fixture
def make(monkeypatch):
    """Makes a trainer; none has a teacher that another test has trained."""
    monkeypatch.setattr(teacher, "_taught", teacher._taught.__class__())

    def make(dataset, options=None, **fields):
        return HardyTrainer(dataset, replace(CONFIG, **fields), options=options or HardyOptions(blocks=1))

    return make


@pytest.fixture
def prepare():
    """Trains the teacher of a trainer and finds the neighbours."""

    def prepare(trainer):
        with trainer._forked_rng():
            trainer._prepare()

    return prepare
