"""The curricula of a run: each trains, takes what it says, and refuses what does not fit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spcl_fast import SelfPacedScheduler
from spcl_fast.merc.by_length import ByLength
from spcl_fast.merc.curricula import CURRICULA, make_curriculum
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.merc.trainer import TrainConfig, Trainer

CONFIG = TrainConfig(hidden=4, epochs=2, batch_size=8, threshold=0.7, growth=1.5, pace_epochs=4)
OF_ANY_MODEL = [name for name, recipe in CURRICULA.items() if recipe.model is None]


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic("meld-like", dialogues={"train": 16, "dev": 3, "test": 3})


@pytest.mark.parametrize("name", OF_ANY_MODEL)
def test_curriculum_trains_and_says_what_it_took(dataset, name):
    history = Trainer(dataset, replace(CONFIG, curriculum=name)).fit().history
    assert all(math.isfinite(entry["dev"]["loss"]) for entry in history)
    for entry in history:
        stats, by_length = entry["curriculum"], entry["by_length"]
        assert 0 <= stats["take_rate"] <= 1
        assert len(by_length["length"]) == len(by_length["take_rate"]) == len(by_length["difficulty"])
        assert by_length["length"] == sorted(by_length["length"])


@pytest.mark.parametrize("name", OF_ANY_MODEL)
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


def decided(dataset, config):
    """Everything that a curriculum is decided by, as far as it can be seen from outside."""
    scheduler, sampler = make_curriculum(dataset, config)
    orders = []
    for epoch in range(6) if sampler is not None else ():
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    return scheduler.get_extra_state()["config"], orders


OTHER = {"threshold": 0.9, "growth": 1.7, "pace_start": 0.3, "pace_epochs": 7, "strength": 0.25, "tilt": 0.5}
OF_CHANCE = ("stochastic", "stochastic_turn", "thinning", "random_utterances", "random_dialogues", "anti")
OF_DIALOGUES = ("dif", "wes", "competence")


@pytest.mark.parametrize("name", OF_ANY_MODEL)
def test_curriculum_is_decided_by_its_settings_and_nothing_else(dataset, name):
    config = replace(CONFIG, curriculum=name)
    before = decided(dataset, config)
    changed = {field for field, x in OTHER.items() if decided(dataset, replace(config, **{field: x})) != before}
    assert changed == set(CURRICULA[name].settings)
    assert (decided(dataset, replace(config, seed=1)) != before) == (name in OF_CHANCE + OF_DIALOGUES)
    assert (decided(dataset, replace(config, epochs=9)) != before) == (name == "stochastic_turn")


def test_curricula_are_different_ones(dataset):
    # What is carried over differs in a study alone, and there in nothing but where its settings come from.
    known = [decided(dataset, replace(CONFIG, curriculum=name)) for name in OF_ANY_MODEL if not CURRICULA[name].carried]
    for i, one in enumerate(known):
        assert one not in known[:i]


@pytest.mark.parametrize("name", [name for name in CURRICULA if name not in OF_ANY_MODEL])
def test_curriculum_of_one_model_weighs_every_utterance_alike_and_needs_its_model(dataset, name):
    model = CURRICULA[name].model
    assert decided(dataset, replace(CONFIG, curriculum=name, model=model)) == decided(
        dataset, replace(CONFIG, curriculum="none")
    )
    with pytest.raises(ValueError, match=f"curriculum '{name}' needs the model '{model}' .got 'late_fusion'"):
        replace(CONFIG, curriculum=name)


def test_thinning_has_the_pace_of_stochastic_and_no_odds(dataset):
    (thinning, _), (stochastic, _), (turn, _) = (
        decided(dataset, replace(CONFIG, curriculum=name, tilt=-0.5, seed=3))
        for name in ("thinning", "stochastic", "stochastic_turn")
    )
    assert (thinning["threshold"].pop("tilt"), thinning["threshold"].pop("last_tilt")) == (0.0, 0.0)
    assert (stochastic["threshold"].pop("tilt"), stochastic["threshold"].pop("last_tilt")) == (-0.5, -0.5)
    assert (turn["threshold"].pop("tilt"), turn["threshold"].pop("last_tilt")) == (-0.5, 0.5)
    assert turn["threshold"].pop("epochs") == CONFIG.epochs
    assert thinning["threshold"].pop("epochs") == stochastic["threshold"].pop("epochs") == 1  # it stays as it is
    assert thinning == stochastic == turn
    assert thinning["threshold"]["seed"] == 3


def test_trainer_lets_in_more_dialogues_by_epoch(dataset):
    config = replace(CONFIG, curriculum="competence", pace_start=0.25, pace_epochs=2, epochs=3)
    history = Trainer(dataset, config).fit().history
    labels = dataset.labels[dataset.rows_of(dataset.dialogues("train"))[0]]
    scored = [entry["curriculum"]["scored"] for entry in history]
    assert scored[0] < scored[1] < scored[2] == (labels != -100).sum()
    assert math.isnan(history[0]["by_length"]["take_rate"][-1])  # the long ones have not come in


def test_by_length_counts_by_hand():
    dataset = make_synthetic("meld-like", dialogues={"train": 2, "dev": 2, "test": 2})
    assert dataset.split[:2].tolist() == [0, 0]
    lengths, by_length = dataset.lengths[:2], ByLength(dataset, torch.device("cpu"))
    assert by_length.length == sorted(lengths.tolist())
    assert len(set(lengths)) == 2
    ids = torch.arange(dataset.offsets[2])
    labels = torch.from_numpy(dataset.labels[: len(ids)].copy())
    labels[1] = -100  # not counted
    logits = torch.randn(len(ids), dataset.num_classes, generator=torch.Generator().manual_seed(0))
    step = SelfPacedScheduler(2.0, difficulty="loss")(logits, labels, ids=ids)
    for part in ids.split(3):  # several steps
        by_length.add(
            part, step._replace(**{f: getattr(step, f)[part] for f in ("weight", "utterance_loss", "difficulty")})
        )
    means = by_length.means()
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none", ignore_index=-100)
    for place, d in enumerate(np.argsort(lengths)):
        of = slice(int(dataset.offsets[d]), int(dataset.offsets[d + 1]))
        counted = loss[of][labels[of] != -100]
        assert means["difficulty"][place] == pytest.approx(float(counted.mean()), rel=1e-5)
        assert means["take_rate"][place] == pytest.approx(float((counted <= 2.0).float().mean()))
    assert 0 < min(means["take_rate"]) < 1
    by_length.clear()
    assert all(math.isnan(x) for x in by_length.means()["take_rate"])


def test_by_length_has_groups_of_about_equal_size(dataset):
    lengths = np.sort(dataset.lengths[dataset.dialogues("train")])
    found = ByLength(dataset, torch.device("cpu")).length
    assert 4 <= len(found) <= 8
    assert found[0] <= lengths[3]
    assert found[-1] >= lengths[-4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curriculum": "magic"}, "curriculum must be one of none, spcl"),
        ({"pace_start": 0.0}, r"pace_start must lie in \(0, 1\]"),
        ({"pace_epochs": 0}, "pace_epochs must be at least 1"),
        ({"strength": -1.0}, "strength must be at least 0"),
        ({"tilt": 2.0}, r"tilt must lie in \[-1, 1\]"),
        ({"tilt": "1"}, "tilt must be a number"),
        ({"encoder": "lstm"}, r"encoder must be one of gru, transformer \(got 'lstm'\)"),
        ({"standardize": "no"}, r"standardize must be True or False \(got str\)"),
        ({"threshold": -1.0}, "TrainConfig: threshold must be at least 0"),
    ],
)
def test_config_refuses_by_name(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TrainConfig(**options)
