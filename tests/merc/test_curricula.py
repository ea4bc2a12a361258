"""The curricula of a run: each trains, takes what it says, and refuses what does not fit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spcl_fast.merc.by_length import ByLength
from spcl_fast.merc.curricula import CURRICULA, make_curriculum
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.merc.trainer import TrainConfig, Trainer

CONFIG = TrainConfig(hidden=4, epochs=2, batch_size=8, threshold=0.7, growth=1.5, pace_epochs=4)


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic("meld-like", dialogues={"train": 16, "dev": 3, "test": 3})


@pytest.mark.parametrize("name", CURRICULA)
def test_curriculum_trains_and_says_what_it_took(dataset, name):
    history = Trainer(dataset, replace(CONFIG, curriculum=name)).fit().history
    assert all(math.isfinite(entry["dev"]["loss"]) for entry in history)
    for entry in history:
        stats, by_length = entry["curriculum"], entry["by_length"]
        assert 0 <= stats["take_rate"] <= 1
        assert len(by_length["length"]) == len(by_length["take_rate"]) == len(by_length["difficulty"])
        assert by_length["length"] == sorted(by_length["length"])


@pytest.mark.parametrize("name", CURRICULA)
def test_curriculum_of_one_modality(dataset, name):
    single = replace(dataset, features={"text": dataset.features["text"]})
    config = replace(CONFIG, curriculum=name, epochs=1)
    if "modalities" in CURRICULA[name].make(dataset, config).scheduler.difficulty.needs and name not in SINGLE:
        with pytest.raises(ValueError, match="compares modalities and needs at least 2"):
            make_curriculum(single, config)
    else:
        assert Trainer(single, config).fit().history[0]["curriculum"]["scored"] > 0


SINGLE = ("none", "dif", "wes", "competence")  # with one modality they measure the loss


@pytest.mark.parametrize("name", ["random_utterances", "random_dialogues", "anti"])
def test_control_takes_what_spcl_would(dataset, name):
    """In the first step of the same model, which is the only one that they share."""
    taken = {}
    for curriculum in ("spcl", name):
        trainer = Trainer(dataset, replace(CONFIG, curriculum=curriculum, batch_size=16, dropout=0.0))
        taken[curriculum] = trainer.fit().history[0]["curriculum"]["selected"]
    assert 0 < taken["spcl"] == taken[name]


@pytest.mark.parametrize("name", ["dif", "wes", "competence"])
def test_curriculum_of_dialogues_begins_with_the_easiest(dataset, name):
    sampler = make_curriculum(dataset, replace(CONFIG, curriculum=name, pace_start=0.25)).dialogues
    first = sorted(sampler)
    assert len(first) == 4
    if name == "competence":
        lengths = dataset.lengths[dataset.dialogues("train")]
        assert first == sorted(np.argsort(lengths, kind="stable")[:4].tolist())
    sampler.set_epoch(4)
    assert sorted(sampler) == list(range(16))


def test_curriculum_looks_at_the_training_part_alone(dataset):
    labels = dataset.labels.copy()
    rows, _ = dataset.rows_of(np.concatenate([dataset.dialogues("dev"), dataset.dialogues("test")]))
    labels[rows] = (labels[rows] + 1) % dataset.num_classes
    other = replace(dataset, labels=labels)
    for name in ("dif", "wes", "extended_surprisal"):
        config = replace(CONFIG, curriculum=name)
        a, b = (make_curriculum(x, config) for x in (dataset, other))
        assert a.scheduler.difficulty.config == b.scheduler.difficulty.config
        if a.dialogues is not None:
            assert sorted(a.dialogues) == sorted(b.dialogues)


def test_curriculum_takes_dialogues_without_a_label_last(dataset):
    labels = dataset.labels.copy()
    labels[: dataset.offsets[3]] = -100
    sampler = make_curriculum(replace(dataset, labels=labels), replace(CONFIG, curriculum="dif")).dialogues
    sampler.set_epoch(9)
    assert sorted(sampler) == list(range(16))


def test_curriculum_wes_needs_emotions(dataset):
    names = tuple(f"class {c}" for c in range(dataset.num_classes))
    with pytest.raises(ValueError, match="class_names must be among"):
        make_curriculum(replace(dataset, class_names=names), replace(CONFIG, curriculum="wes"))


def test_by_length_counts_by_hand(dataset):
    by_length = ByLength(dataset, torch.device("cpu"))
    lengths = dataset.lengths[dataset.dialogues("train")]
    assert by_length.length[0] >= lengths.min()
    assert by_length.length[-1] <= lengths.max()
    trainer = Trainer(dataset, replace(CONFIG, curriculum="none", epochs=1))
    means = trainer.fit().history[0]["by_length"]
    assert means["take_rate"] == [1.0] * len(means["length"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curriculum": "magic"}, "curriculum must be one of none, spcl"),
        ({"pace_start": 0.0}, r"pace_start must lie in \(0, 1\]"),
        ({"pace_epochs": 0}, "pace_epochs must be at least 1"),
        ({"strength": -1.0}, "strength must be at least 0"),
        ({"tilt": 2.0}, r"tilt must lie in \[-1, 1\]"),
        ({"tilt": "1"}, "tilt must be a number"),
        ({"threshold": -1.0}, "TrainConfig: threshold must be at least 0"),
    ],
)
def test_config_refuses_by_name(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TrainConfig(**options)
