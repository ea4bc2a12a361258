"""The trainer: reproducible, resumable, honest about dev and test; the baseline is SPCL at infinity."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spcl_fast import FaultyDataError
from spcl_fast.merc.files import CheckpointError, write_json
from spcl_fast.merc.seeds import run_seeds, summarize
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.merc.trainer import TrainConfig, Trainer

CONFIG = TrainConfig(hidden=8, epochs=4, batch_size=4, threshold=0.6, growth=1.3)


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic("meld-like", dialogues={"train": 14, "dev": 5, "test": 5})


def without_times(history):
    return [{k: v for k, v in entry.items() if not k.endswith("seconds")} for entry in history]


def test_trainer_gives_the_same_numbers_twice_and_others_for_another_seed(dataset):
    first, second = (Trainer(dataset, CONFIG).fit() for _ in range(2))
    assert without_times(first.history) == without_times(second.history)
    assert first.test == second.test
    other = Trainer(dataset, replace(CONFIG, seed=1)).fit()
    assert without_times(other.history) != without_times(first.history)


def test_trainer_leaves_the_callers_random_numbers_alone(dataset):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Trainer(dataset, replace(CONFIG, epochs=1)).fit()
    assert torch.equal(torch.rand(3), expected)


def test_trainer_without_a_curriculum_is_spcl_with_an_infinite_threshold(dataset):
    none = Trainer(dataset, replace(CONFIG, curriculum="none")).fit()
    # the cap of 60 is far above every difficulty of this corpus, so all are selected in every epoch
    everything = Trainer(dataset, replace(CONFIG, threshold=math.inf)).fit()
    assert [e["dev"] for e in none.history] == [e["dev"] for e in everything.history]
    assert none.test == everything.test
    assert all(e["curriculum"]["take_rate"] == 1.0 for e in none.history)


def test_trainer_selects_more_as_the_threshold_grows(dataset):
    history = Trainer(dataset, replace(CONFIG, threshold=0.3, growth=3.0)).fit().history
    rates = [e["curriculum"]["take_rate"] for e in history]
    assert rates[0] < 0.9
    assert rates[-1] == 1.0
    assert [e["curriculum"]["threshold"] for e in history] == pytest.approx([0.3, 0.9, 2.7, 8.1])
    assert all(0 < e["curriculum_seconds"] < e["seconds"] for e in history)


def test_trainer_resumed_after_any_epoch_continues_as_if_undisturbed(dataset, tmp_path):
    straight = Trainer(dataset, CONFIG).fit()
    path = tmp_path / "last.pt"
    for epochs in range(1, 5):
        result = Trainer(dataset, replace(CONFIG, epochs=epochs)).fit(checkpoint=path, resume=epochs > 1)
    assert without_times(result.history) == without_times(straight.history)
    assert (result.best_epoch, result.dev, result.test) == (straight.best_epoch, straight.dev, straight.test)


def test_trainer_chooses_the_best_epoch_on_dev(dataset):
    result = Trainer(dataset, replace(CONFIG, epochs=8)).fit()
    dev = [e["dev"]["weighted_f1"] for e in result.history]
    assert result.best_epoch == int(np.argmax(dev))
    assert result.dev.weighted_f1 == max(dev)


def test_trainer_stops_early_when_dev_does_not_improve(dataset):
    result = Trainer(dataset, replace(CONFIG, epochs=60, patience=2, learning_rate=1e-9)).fit()
    assert len(result.history) == result.best_epoch + 3 < 60


def test_trainer_learns(dataset):
    result = Trainer(dataset, replace(CONFIG, epochs=15, hidden=32, curriculum="none", learning_rate=3e-3)).fit()
    assert result.history[-1]["curriculum"]["loss"] < 0.8 * result.history[0]["curriculum"]["loss"]


def test_trainer_with_one_modality_has_a_baseline_but_no_curriculum(dataset):
    single = replace(dataset, features={"text": dataset.features["text"]})
    result = Trainer(single, replace(CONFIG, curriculum="none", epochs=1)).fit()
    assert result.history[0]["curriculum"]["take_rate"] == 1.0
    assert len(result.test.modality_accuracy) == 1
    assert result.test.modality_accuracy[0] == result.test.accuracy
    with pytest.raises(ValueError, match="compares modalities and needs at least 2"):
        Trainer(single, CONFIG)


def test_trainer_keeps_unlabelled_utterances_as_context(dataset):
    labels = dataset.labels.copy()
    labels[::3] = -100
    trainer = Trainer(replace(dataset, labels=labels), replace(CONFIG, epochs=1))
    result = trainer.fit()
    train = np.repeat(dataset.split, dataset.lengths) == 0
    assert result.history[0]["curriculum"]["scored"] == (labels[train] != -100).sum()


def test_trainer_standardizes_by_the_training_part_alone(dataset):
    shifted = {m: x * 50 + 3 for m, x in dataset.features.items()}
    for x in shifted.values():
        x[:, 0] = 1.0  # a constant column must not become NaN
    trainer = Trainer(replace(dataset, features=shifted), CONFIG)
    train = np.repeat(dataset.split, dataset.lengths) == 0
    for x in trainer._features.values():
        assert x.isfinite().all()
        torch.testing.assert_close(x[train].mean(0), torch.zeros(x.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(x[train][:, 1:].std(0, correction=0), torch.ones(x.shape[1] - 1))


def test_trainer_refuses_a_corpus_without_labelled_splits(dataset):
    with pytest.raises(ValueError, match="the split 'dev' must have labelled utterances"):
        Trainer(make_synthetic("meld-like", dialogues={"train": 3, "test": 3}), CONFIG)


def test_trainer_stops_when_the_model_diverges(dataset):
    with pytest.raises(FaultyDataError, match="non-finite logit"):
        Trainer(dataset, replace(CONFIG, learning_rate=1e30)).fit()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "bert"}, "model must be one of late_fusion"),
        ({"curriculum": "hard"}, "curriculum must be one of none, spcl"),
        ({"growth": 0.5}, "growth must be at least 1"),
        ({"threshold": -1.0}, "threshold must be at least 0"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"clip": float("nan")}, "clip must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"seed": -1}, "seed must lie in"),
        ({"missing": "often"}, "missing must be one of fixed, utterance, dialogue"),
        ({"filling": "median"}, "filling must be one of reconstruction, zero, mean"),
        ({"model": "hardy", "missing": "utterance", "missing_rate": 1.0}, r"missing_rate must lie in \[0, 1\)"),
        ({"model": "hardy", "missing": "dialogue", "missing_rate": math.nan}, r"missing_rate must lie in \[0, 1\)"),
        ({"model": "hardy", "missing_rate": 0.3}, r"missing_rate must be 0 where missing is 'fixed' \(got 0.3\)"),
        ({"model": "hardy", "available": ""}, "available must name a modality"),
        ({"available": "at"}, r"available must be 'all' but for the model 'hardy' \(got 'at', 'late_fusion'\)"),
        ({"missing": "utterance"}, r"missing must be 'fixed' but for the model 'hardy' \(got 'utterance', 'late_"),
        ({"neighbours": 0}, "neighbours must be at least 1"),
        ({"teacher_epochs": 0}, "teacher_epochs must be at least 1"),
    ],
)
def test_config_refuses_values_out_of_their_domain(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 1.5}, r"hidden must be an integer \(got float\)"),
        ({"epochs": "3"}, r"epochs must be an integer \(got str\)"),
        ({"patience": True}, r"patience must be an integer \(got bool\)"),
        ({"seed": None}, r"seed must be an integer \(got NoneType\)"),
        ({"clip": "2"}, r"clip must be a number \(got str\)"),
        ({"dropout": None}, r"dropout must be a number \(got NoneType\)"),
        ({"available": ["audio"]}, r"available must be a text \(got list\)"),
        ({"missing_rate": "0.1"}, r"missing_rate must be a number \(got str\)"),
        ({"neighbours": 2.5}, r"neighbours must be an integer \(got float\)"),
    ],
)
def test_config_refuses_values_of_another_type(options, message):
    with pytest.raises(TypeError, match=message):
        TrainConfig(**options)


def test_checkpoint_of_another_run_is_refused_by_field(dataset, tmp_path):
    path = tmp_path / "last.pt"
    Trainer(dataset, replace(CONFIG, epochs=1)).fit(checkpoint=path)
    other = Trainer(dataset, replace(CONFIG, growth=2.0, seed=5))
    with pytest.raises(CheckpointError, match=r"\(growth 1\.3 there, 2\.0 here; seed 0 there, 5 here\)"):
        other.fit(checkpoint=path, resume=True)


def test_checkpoint_of_other_data_of_the_same_shape_is_refused(dataset, tmp_path):
    path = tmp_path / "last.pt"
    Trainer(dataset, replace(CONFIG, epochs=1)).fit(checkpoint=path)
    features = {**dataset.features, "text": dataset.features["text"][::-1].copy()}
    with pytest.raises(CheckpointError, match=r"data\.checksum"):
        Trainer(replace(dataset, features=features), CONFIG).fit(checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match=r"data\.checksum"):  # there are backbones that look at who speaks
        Trainer(replace(dataset, speakers=dataset.speakers[::-1].copy()), CONFIG).fit(checkpoint=path, resume=True)


@pytest.mark.parametrize("part", ["identity", "history", "best", "model", "optimizer", "curriculum"])
@pytest.mark.parametrize("value", [None, {}, [1]])
def test_checkpoint_with_a_part_that_is_not_one_is_refused(dataset, tmp_path, part, value):
    path = tmp_path / "last.pt"
    trainer = Trainer(dataset, replace(CONFIG, epochs=1))
    trainer.fit(checkpoint=path)
    state = torch.load(path, weights_only=True)
    state.pop(part) if value is None else state.update({part: value})
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"last\.pt: .*(not a checkpoint of a training run|of another run)"):
        Trainer(dataset, CONFIG).fit(checkpoint=path, resume=True)


def test_checkpoint_that_is_damaged_is_refused_with_its_name(dataset, tmp_path):
    path = tmp_path / "last.pt"
    Trainer(dataset, replace(CONFIG, epochs=1)).fit(checkpoint=path)
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint that can be read"):
            Trainer(dataset, CONFIG).fit(checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read"):
        Trainer(dataset, CONFIG).fit(checkpoint=tmp_path / "missing.pt", resume=True)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_checkpoint_never_runs_code(dataset, tmp_path, capsys):
    path = tmp_path / "last.pt"
    torch.save({"version": 1, "identity": Evil()}, path)
    with pytest.raises(CheckpointError):
        Trainer(dataset, CONFIG).fit(checkpoint=path, resume=True)
    assert "executed" not in capsys.readouterr().out
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="not a checkpoint of a training run"):
        Trainer(dataset, CONFIG).fit(checkpoint=path, resume=True)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(dataset, tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_json(path, {"x": [1.5, float("nan"), float("inf")], "y": (1, 2)})
    assert path.read_text() == '{\n  "x": [\n    1.5,\n    null,\n    null\n  ],\n  "y": [\n    1,\n    2\n  ]\n}\n'

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"x": 2})
    assert "1.5" in path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_trainer_clips_the_gradient(dataset, monkeypatch):
    norms = []

    def step(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(grads)))

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    Trainer(dataset, replace(CONFIG, epochs=1, clip=1e-3, curriculum="none")).fit()
    assert len(norms) == 4
    assert norms == pytest.approx([1e-3] * 4, rel=1e-3)


def test_trainer_reshuffles_whole_dialogues_every_epoch(dataset, monkeypatch):
    seen = []
    whole = {tuple(dataset.labels[a:b]) for a, b in itertools.pairwise(dataset.offsets)}
    step = Trainer._step

    def watched(self, features, batch, ids):
        seen.append([tuple(y.tolist()) for y in batch.labels.split(batch.lengths.tolist())])
        return step(self, features, batch, ids)

    monkeypatch.setattr(Trainer, "_step", watched)
    Trainer(dataset, replace(CONFIG, epochs=2)).fit()
    first, second = list(itertools.chain(*seen[:4])), list(itertools.chain(*seen[4:]))
    assert sorted(first) == sorted(second)
    assert first != second
    assert set(first) <= whole
    assert [len(batch) for batch in seen[:4]] == [4, 4, 4, 2]


def test_trainer_takes_the_step_of_adam_with_its_settings(dataset):
    trainer = Trainer(dataset, replace(CONFIG, learning_rate=0.02, weight_decay=0.3))
    (group,) = trainer.optimizer.param_groups
    assert isinstance(trainer.optimizer, torch.optim.Adam)
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.02, 0.3, (0.9, 0.999))


def test_experiment_pairs_the_seeds_and_summarizes(dataset):
    seen = []
    configs = {"none": replace(CONFIG, curriculum="none", epochs=2), "spcl": replace(CONFIG, epochs=2)}
    results = run_seeds(dataset, configs, [3, 5], on_epoch=lambda name, seed, entry: seen.append((name, seed)))
    assert seen == [(name, seed) for seed in (3, 5) for name in ("none", "spcl") for _ in range(2)]
    assert results["spcl"][1].test == Trainer(dataset, replace(configs["spcl"], seed=5)).fit().test
    summary = summarize(results["spcl"])
    f1 = [r.test.weighted_f1 for r in results["spcl"]]
    assert summary.weighted_f1 == pytest.approx(np.mean(f1))
    assert summary.weighted_f1_sd == pytest.approx(np.std(f1, ddof=1))
    assert summary.macro_f1 == pytest.approx(np.mean([r.test.macro_f1 for r in results["spcl"]]))
    assert len(summary.modality_accuracy) == len(summary.modality_ratio) == 3
    assert summarize(results["none"]).take_rate == summarize(results["none"]).first_take_rate == 1.0
    assert 0 < summary.curriculum_share < 1
    with pytest.raises(ValueError, match=r"results must hold at least one run \(got none\)"):
        summarize([])
