"""HARDY-MER's trainer: two stages, one protocol for training and testing, as many steps whatever the curriculum."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spcl_fast import FaultyDataError
from spcl_fast.difficulty import StepInputs
from spcl_fast.hardy import HardyOptions, HardyTrainer, teacher
from spcl_fast.hardy.curriculum import AvailableSpclDifficulty
from spcl_fast.hardy.trainer import RETRIEVE
from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.files import CheckpointError
from spcl_fast.merc.runner import make_row
from spcl_fast.merc.study import Job
from spcl_fast.merc.synthetic import make_synthetic

OPTIONS = HardyOptions(blocks=1)
CURRICULA = ("none", "spcl", "loss", "hardy", "hardy_same_label", "random_hardness")


def without_times(history):
    return [{k: v for k, v in entry.items() if not k.endswith("seconds")} for entry in history]


def same(first, second):
    """Equal, with NaN equal to NaN."""
    return repr(first) == repr(second)


@pytest.mark.parametrize("missing", ["fixed", "utterance"])
def test_trainer_gives_the_same_numbers_twice_and_others_for_another_seed(make, dataset, missing):
    fields = {"missing": missing, "missing_rate": 0.0 if missing == "fixed" else 0.4}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fields["epochs"] = 2
    first, second = (make(dataset, **fields).fit() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers are left alone
    assert same(without_times(first.history), without_times(second.history))
    assert same(first.test, second.test)
    other = make(dataset, seed=1, **fields).fit()
    assert not same(without_times(other.history), without_times(first.history))


def test_trainer_gives_the_same_numbers_with_a_teacher_that_it_remembers(make, prepare, dataset, monkeypatch):
    first = make(dataset, epochs=1).fit()
    trained = []
    monkeypatch.setattr(teacher, "train_teacher", lambda *arguments: trained.append(arguments))
    second = make(dataset, epochs=1).fit()
    assert not trained
    assert same(without_times(first.history), without_times(second.history))
    prepare(make(dataset, curriculum="random_hardness"))
    assert not trained
    for other in ({"seed": 1}, {"available": "t"}, {"hidden": 4}, {"teacher_epochs": 2}):
        prepare(make(dataset, **other))
    prepare(make(dataset, replace(OPTIONS, target_source="code")))
    assert len(trained) == 5


def test_trainer_remembers_a_bounded_number_of_teachers(make, prepare, dataset, monkeypatch):
    monkeypatch.setattr(teacher, "REMEMBERED", 2)
    monkeypatch.setattr(teacher, "train_teacher", lambda *arguments: None)
    for seed in range(3):
        prepare(make(dataset, seed=seed))
    assert len(teacher._taught) == 2


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_trainer_makes_two_stages_and_as_many_steps_whatever_the_curriculum(make, dataset, curriculum, monkeypatch):
    steps = []
    step = HardyTrainer._descend
    monkeypatch.setattr(HardyTrainer, "_descend", lambda self: (steps.append(len(self.history)), step(self)))
    result = make(dataset, curriculum=curriculum, threshold=0.5, growth=1.5).fit()
    assert [steps.count(epoch) for epoch in range(4)] == [2, 2, 6, 6]  # 2 batches, k + 1 = 3 steps in the second stage
    assert [entry["stage"] for entry in result.history] == [1, 1, 2, 2]
    labelled = dataset.counts()["train"][1]
    assert [entry["curriculum"]["scored"] for entry in result.history] == [labelled] * 2 + [3 * labelled] * 2
    assert [entry["curriculum"]["epoch"] for entry in result.history] == [0, 1, 2, 3]
    measured = [math.isfinite(entry["hardness"]) for entry in result.history]
    assert measured == [False, False] + [curriculum in RETRIEVE] * 2
    rates = [entry["curriculum"]["take_rate"] for entry in result.history]
    assert rates[:2] == [1.0, 1.0]
    assert (rates[2] < 1) == (curriculum in ("spcl", "loss"))
    assert all(0 <= entry["curriculum_seconds"] < entry["seconds"] for entry in result.history)


@pytest.mark.parametrize(
    ("curriculum", "filling", "target_source"),
    [
        ("none", "reconstruction", "true"),
        ("none", "reconstruction", "code"),
        ("none", "zero", "true"),
        ("none", "mean", "true"),
        ("spcl", "reconstruction", "true"),
        ("hardy", "reconstruction", "true"),
    ],
)
def test_student_takes_the_steps_of_its_second_stage(make, dataset, curriculum, filling, target_source):
    """The formulas written out: k + 1 steps of Adam a batch, by what is shown in each."""
    fields = {"curriculum": curriculum, "filling": filling, "threshold": 0.4, "weight_decay": 0.1, "clip": 0.5}
    options = HardyOptions(blocks=1, target_source=target_source)
    trainer = make(dataset, options, epochs=1, dropout=0.0, **fields)
    expected = trainer._make_model()
    expected.load_state_dict(trainer.model.state_dict())
    with trainer._forked_rng():
        trainer._train_epoch(0)
    adam = torch.optim.Adam(expected.parameters(), lr=trainer.config.learning_rate, weight_decay=0.1)
    order = np.random.default_rng([trainer.config.seed, 0])
    order.integers(2**63)
    means = trainer._features["visual"][trainer._fold].mean(0)
    taken = []
    for features, batch, ids in trainer._batches(order.permutation(dataset.dialogues("train"))):
        there = torch.tensor([True, True, False])[:, None].expand(3, len(ids))  # text and audio
        rows = ids[:, None].expand(-1, 3)
        if curriculum == "hardy":
            rows, _ = trainer._lessons.rows(ids, features, there)
        for of_step in rows.T:
            shown = {m: x[of_step] for m, x in trainer._features.items()}
            if filling == "mean":
                out = expected({**shown, "visual": means.expand(len(ids), -1)}, batch)
            else:
                out = expected(shown, batch, there)
            loss = cross_entropy(sum(out.logits.values()), batch.labels, reduction="none")
            if curriculum == "spcl":
                confidence = [
                    out.logits[m].softmax(1).gather(1, batch.labels[:, None])[:, 0] for m in ("text", "audio")
                ]
                text, audio = (torch.segment_reduce(p.detach(), "sum", lengths=batch.lengths) for p in confidence)
                spread = ((text - audio).abs() / math.sqrt(2)).repeat_interleave(batch.lengths)
                difficulty = 2 * spread * loss.detach() / (spread + loss.detach())
                taken.append((difficulty <= 0.4).float())
                loss = taken[-1] * loss
            loss = loss.mean()
            if filling == "reconstruction":
                target = shown["visual"] if target_source == "true" else 0.0
                loss = loss + (out.reconstruction["visual"] - target).square().mean()
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
            adam.step()
    for found, weight in zip(trainer.model.parameters(), expected.parameters(), strict=True):
        # Adam divides by the size of the gradient: where that is near zero, a rounding becomes part of a step of 1e-3.
        torch.testing.assert_close(found, weight, rtol=1e-4, atol=1e-5)
    if taken:
        assert 0.1 < torch.cat(taken).mean() < 0.9


def test_trainer_chooses_the_best_epoch_on_dev_in_the_second_stage(make, dataset):
    trainer = make(dataset, epochs=6, curriculum="none", neighbours=1)
    result = trainer.fit()
    dev = [entry["dev"]["weighted_f1"] for entry in result.history]
    assert result.best_epoch == 3 + int(np.argmax(dev[3:]))
    assert result.dev.weighted_f1 == dev[result.best_epoch]
    assert trainer.score("dev") == result.dev


def test_trainer_of_one_epoch_has_the_second_stage_alone(make, dataset):
    assert [entry["stage"] for entry in make(dataset, epochs=1).fit().history] == [2]


def test_trainer_stops_early_in_the_second_stage_alone(make, dataset):
    result = make(dataset, curriculum="none", epochs=16, patience=1, learning_rate=1e-9, neighbours=1).fit()
    assert result.best_epoch == 8
    assert len(result.history) == 10


@pytest.mark.parametrize("filling", ["reconstruction", "zero", "mean"])
def test_trainer_never_reads_what_dev_and_test_lack(make, scattered, filling):
    tested = np.repeat(scattered.split, scattered.lengths) != 0
    visual = scattered.features["visual"].copy()
    visual[tested] = 1e6
    poisoned = replace(scattered, features={**scattered.features, "visual": visual})
    first, second = (make(x, filling=filling, epochs=2).fit() for x in (scattered, poisoned))
    assert same(without_times(first.history), without_times(second.history))
    assert same(first.test, second.test)


def test_trainer_reads_what_is_missing_from_the_training_part_only_to_reconstruct_it(make, dataset):
    trained = np.repeat(dataset.split, dataset.lengths) == 0
    visual = dataset.features["visual"].copy()
    visual[trained] = visual[trained][::-1]  # the same means and deviations
    other = replace(dataset, features={**dataset.features, "visual": visual})
    # One epoch has no first stage, in which everything is there.
    results = {
        filling: [make(x, curriculum="none", filling=filling, epochs=1).fit() for x in (dataset, other)]
        for filling in ("reconstruction", "zero")
    }
    assert same(*(without_times(x.history) for x in results["zero"]))
    assert not same(*(without_times(x.history) for x in results["reconstruction"]))


def test_trainer_fills_with_the_mean_and_takes_it_for_being_there(make, scattered):
    raw = {m: x + 3 for m, x in scattered.features.items()}
    trainer = make(replace(scattered, features=raw), filling="mean", curriculum="none", standardize=False)
    train = np.repeat(scattered.split, scattered.lengths) == 0
    features, present = trainer._shown(trainer._features, trainer._tested_on)
    assert present is None
    expected = torch.as_tensor(raw["visual"][train].mean(0)).expand(len(train), -1)
    torch.testing.assert_close(features["visual"], expected)
    assert torch.equal(features["text"], trainer._features["text"])


def test_accumulated_gradients_begin_anew_with_every_batch(make, dataset, monkeypatch):
    calls = []
    zero_grad = torch.optim.Adam.zero_grad

    def watched(self, set_to_none=True):
        calls.append(1)
        zero_grad(self, set_to_none)

    results = []
    for accumulate in (False, True):
        trainer = make(dataset, replace(OPTIONS, accumulate_gradients=accumulate), epochs=1, curriculum="none")
        monkeypatch.setattr(torch.optim.Adam, "zero_grad", watched)
        results.append(trainer.fit())
        assert len(calls) == (2 if accumulate else 6)
        calls.clear()
    assert not same(*(without_times(x.history) for x in results))


@pytest.mark.parametrize("curriculum", ["hardy", "spcl"])
@pytest.mark.parametrize("missing", ["fixed", "utterance"])
def test_trainer_resumed_after_any_epoch_continues_as_if_undisturbed(make, dataset, tmp_path, curriculum, missing):
    fields = {"curriculum": curriculum, "missing": missing, "missing_rate": 0.0 if missing == "fixed" else 0.3}
    straight = make(dataset, **fields).fit()
    path = tmp_path / "last.pt"

    def interrupt(entry):
        raise KeyboardInterrupt

    for epoch in range(3):
        with pytest.raises(KeyboardInterrupt):
            make(dataset, **fields).fit(checkpoint=path, resume=epoch > 0, on_epoch=interrupt)
        teacher._taught.clear()
    result = make(dataset, **fields).fit(checkpoint=path, resume=True)
    assert same(without_times(result.history), without_times(straight.history))
    assert same((result.best_epoch, result.dev, result.test), (straight.best_epoch, straight.dev, straight.test))


def test_trainer_that_is_resumed_has_the_teacher_of_its_checkpoint(make, dataset, tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    make(dataset).fit(checkpoint=path)
    teacher._taught.clear()
    monkeypatch.setattr(teacher, "train_teacher", lambda *arguments: pytest.fail("trained again"))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert len(make(dataset).fit(checkpoint=path, resume=True).history) == 4
    assert torch.equal(torch.rand(3), expected)


def test_checkpoint_of_another_run_is_refused_by_field(make, dataset, tmp_path):
    path = tmp_path / "last.pt"
    make(dataset, epochs=1).fit(checkpoint=path)
    with pytest.raises(CheckpointError, match=r"options\.mi_sign 1 there, -1 here"):
        make(dataset, replace(OPTIONS, mi_sign=-1), epochs=1).fit(checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match="epochs 1 there, 4 here"):  # which moves the second stage
        make(dataset).fit(checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match=r"available .*at.* there, .*t.* here"):
        make(dataset, epochs=1, available="t").fit(checkpoint=path, resume=True)


@pytest.mark.parametrize("value", [None, {"a": 1}, [1]])
def test_checkpoint_with_a_teacher_that_is_none_is_refused(make, dataset, tmp_path, value):
    path = tmp_path / "last.pt"
    make(dataset, epochs=1).fit(checkpoint=path)
    state = torch.load(path, weights_only=True)
    state.pop("teacher") if value is None else state.update({"teacher": value})
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint of a training run"):
        make(dataset, epochs=1).fit(checkpoint=path, resume=True)


@pytest.mark.parametrize("available", ["a", "all", "text,visual"])
@pytest.mark.parametrize("missing", ["fixed", "utterance", "dialogue"])
def test_trainer_takes_every_protocol(make, dataset, available, missing):
    rate = 0.0 if missing == "fixed" else 0.5
    trainer = make(dataset, available=available, missing=missing, missing_rate=rate, epochs=2)
    names = {"a": ("audio",), "all": ("text", "audio", "visual"), "text,visual": ("text", "visual")}[available]
    there = trainer._present(0)
    for m, row in zip(dataset.features, there, strict=True):
        assert row.any() == (m in names)
        assert row.all() == (m in names and (missing == "fixed" or len(names) == 1))
    assert there.any(0).all()
    if missing == "dialogue":
        for first, last in zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True):
            assert (there[:, first:last] == there[:, first : first + 1]).all()
    other = make(dataset, available=available, missing=missing, missing_rate=rate, seed=1)
    for drawn in (trainer._present(1), other._present(0)):
        assert torch.equal(drawn, there) == (missing == "fixed" or len(names) == 1)
    result = trainer.fit()
    assert math.isfinite(result.test.loss)


def test_spcl_is_the_loss_where_fewer_than_two_modalities_are_there(make_problem):
    problem = make_problem()
    present = torch.ones(3, len(problem.labels), dtype=torch.bool)
    inputs = StepInputs(problem.logits, problem.labels, problem.offsets)
    spcl, loss = (inputs.step(measure).difficulty for measure in ("spcl", "loss"))
    measure = AvailableSpclDifficulty()
    torch.testing.assert_close(measure(inputs._replace(present=present)), spcl)
    alone = present.clone()
    alone[1:] = False
    joint = torch.stack(list(problem.logits)).sum(0)
    torch.testing.assert_close(measure(inputs._replace(present=alone, joint=joint)), loss)
    mixed = present.clone()
    mixed[1:, 8:] = False  # the first two dialogues have all, the others one
    found = measure(inputs._replace(present=mixed, joint=joint))
    torch.testing.assert_close(found, torch.cat([spcl[:8], loss[8:]]))


def test_trainer_finds_fewer_neighbours_in_a_small_fold(make, dataset):
    small = make_synthetic("meld-like", dialogues={"train": 1, "dev": 2, "test": 2})
    result = make(small, neighbours=40, epochs=1).fit()
    assert result.history[0]["curriculum"]["scored"] == 41 * small.counts()["train"][1]


def test_trainer_takes_constant_features(make, dataset):
    constant = {m: np.ones_like(x) for m, x in dataset.features.items()}
    result = make(replace(dataset, features=constant), epochs=2).fit()
    assert math.isfinite(result.test.loss)


def test_trainer_takes_utterances_without_a_label(make, dataset):
    labels = dataset.labels.copy()
    labels[::2] = -100
    result = make(replace(dataset, labels=labels), epochs=2).fit()
    train = np.repeat(dataset.split, dataset.lengths) == 0
    assert result.history[0]["curriculum"]["scored"] == (labels[train] != -100).sum()


def test_trainer_stops_when_the_model_diverges(make, dataset):
    with pytest.raises(FaultyDataError, match="non-finite logit"):
        make(dataset, learning_rate=1e30).fit()
    with pytest.raises(ValueError, match="the teacher's weights are not finite: it diverged"):
        make(dataset, learning_rate=1e30, epochs=1).fit()


def test_trainer_learns(make, dataset):
    result = make(dataset, epochs=10, hidden=16, neighbours=1, curriculum="none").fit()
    losses = [entry["curriculum"]["loss"] for entry in result.history]
    assert losses[-1] < 0.8 * losses[0]


def test_trainer_makes_rows_of_a_study(make, dataset):
    trainer = make(dataset, epochs=2)
    row = make_row(Job("main", "M", "hardy", "hardy", {}, trainer.config), dataset, trainer.fit())
    assert row["epochs"] == 2
    assert 0 < row["curriculum_share"] < 1
    assert len(row["timeline"]["modality_ratio"]) == 2


def test_trainer_refuses_what_it_cannot_train(make, dataset):
    with pytest.raises(ValueError, match=r"model must be 'hardy' \(got 'late_fusion'\)"):
        HardyTrainer(dataset, TrainConfig())
    with pytest.raises(ValueError, match=r"curriculum of the model 'hardy' must be one of none, .*\(got 'dif'\)"):
        make(dataset, curriculum="dif")
    with pytest.raises(ValueError, match=r"available: must be"):
        make(dataset, available="x")
    with pytest.raises(ValueError, match=r"hidden must be a multiple of heads, 2 \(got 7\)"):
        make(dataset, hidden=7)
    single = replace(dataset, features={"text": dataset.features["text"]})
    with pytest.raises(ValueError, match=r"must have 2 to 8 modalities \(got 1\)"):
        make(single, available="t")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"heads": -1}, "heads must be at least 1"),
        ({"target_source": "input"}, r"target_source must be one of true, code \(got 'input'\)"),
        ({"mi_sign": 0}, r"mi_sign must be one of 1, -1 \(got 0\)"),
        ({"rerank": "mean"}, "rerank must be one of mean_l2, code"),
    ],
)
def test_options_refuse_values_out_of_their_domain(options, message):
    with pytest.raises(ValueError, match=message):
        HardyOptions(**options)
