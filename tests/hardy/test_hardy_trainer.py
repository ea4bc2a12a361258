"""HARDY-MER's trainer: two stages, one protocol for training and testing, as many steps whatever the curriculum."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spcl_fast import DialogueBatch, FaultyDataError, ops
from spcl_fast.difficulty import StepInputs
from spcl_fast.hardy import HardyNetwork, HardyOptions, HardyTrainer, NeighbourTable, teacher
from spcl_fast.hardy.curriculum import AvailableSpclDifficulty, shuffled
from spcl_fast.hardy.lessons import Lessons
from spcl_fast.hardy.losses import reconstruction_loss
from spcl_fast.hardy.trainer import RETRIEVE
from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.files import CheckpointError
from spcl_fast.merc.runner import make_row
from spcl_fast.merc.study import Job
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
OPTIONS = HardyOptions(blocks=1)
CURRICULA = ("none", "spcl", "loss", "hardy", "hardy_same_label", "random_hardness")


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic("meld-like", dialogues={"train": 8, "dev": 3, "test": 3})


@pytest.fixture(scope="module")
def scattered(dataset):
    """The same dialogues, the splits between each other: a row of the fold is not that row of the data set."""
    return replace(dataset, split=np.array([2, 0, 1, 0, 0, 2, 0, 1, 0, 0, 2, 0, 1, 0]))


@pytest.fixture(autouse=True)
def no_teacher_is_remembered(monkeypatch):
    monkeypatch.setattr(teacher, "_taught", teacher._taught.__class__())


def make(dataset, options=OPTIONS, **fields):
    return HardyTrainer(dataset, replace(CONFIG, **fields), options=options)


def prepare(trainer):
    with trainer._forked_rng():
        trainer._prepare()


def without_times(history):
    return [{k: v for k, v in entry.items() if not k.endswith("seconds")} for entry in history]


def same(first, second):
    """Equal, with NaN equal to NaN."""
    return repr(first) == repr(second)


@pytest.mark.parametrize("missing", ["fixed", "utterance"])
def test_trainer_gives_the_same_numbers_twice_and_others_for_another_seed(dataset, missing):
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


def test_trainer_gives_the_same_numbers_with_a_teacher_that_it_remembers(dataset, monkeypatch):
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


def test_trainer_remembers_a_bounded_number_of_teachers(dataset, monkeypatch):
    monkeypatch.setattr(teacher, "REMEMBERED", 2)
    monkeypatch.setattr(teacher, "train_teacher", lambda *arguments: None)
    for seed in range(3):
        prepare(make(dataset, seed=seed))
    assert len(teacher._taught) == 2


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_trainer_makes_two_stages_and_as_many_steps_whatever_the_curriculum(dataset, curriculum, monkeypatch):
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


def test_trainer_chooses_the_best_epoch_on_dev_in_the_second_stage(dataset):
    trainer = make(dataset, epochs=6, curriculum="none", neighbours=1)
    result = trainer.fit()
    dev = [entry["dev"]["weighted_f1"] for entry in result.history]
    assert result.best_epoch == 3 + int(np.argmax(dev[3:]))
    assert result.dev.weighted_f1 == dev[result.best_epoch]
    assert trainer.score("dev") == result.dev


def test_trainer_of_one_epoch_has_the_second_stage_alone(dataset):
    assert [entry["stage"] for entry in make(dataset, epochs=1).fit().history] == [2]


def test_trainer_stops_early_in_the_second_stage_alone(dataset):
    result = make(dataset, curriculum="none", epochs=16, patience=1, learning_rate=1e-9, neighbours=1).fit()
    assert result.best_epoch == 8
    assert len(result.history) == 10


@pytest.mark.parametrize("filling", ["reconstruction", "zero", "mean"])
def test_trainer_never_reads_what_dev_and_test_lack(scattered, filling):
    tested = np.repeat(scattered.split, scattered.lengths) != 0
    visual = scattered.features["visual"].copy()
    visual[tested] = 1e6
    poisoned = replace(scattered, features={**scattered.features, "visual": visual})
    first, second = (make(x, filling=filling, epochs=2).fit() for x in (scattered, poisoned))
    assert same(without_times(first.history), without_times(second.history))
    assert same(first.test, second.test)


def test_trainer_reads_what_is_missing_from_the_training_part_only_to_reconstruct_it(dataset):
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


def test_trainer_fills_with_the_mean_and_takes_it_for_being_there(scattered):
    raw = {m: x + 3 for m, x in scattered.features.items()}
    trainer = make(replace(scattered, features=raw), filling="mean", curriculum="none", standardize=False)
    train = np.repeat(scattered.split, scattered.lengths) == 0
    features, present = trainer._shown(trainer._features, trainer._tested_on)
    assert present is None
    expected = torch.as_tensor(raw["visual"][train].mean(0)).expand(len(train), -1)
    torch.testing.assert_close(features["visual"], expected)
    assert torch.equal(features["text"], trainer._features["text"])


@pytest.mark.parametrize("curriculum", ["hardy", "hardy_same_label", "random_hardness"])
def test_lessons_are_the_neighbours_of_the_fold_as_many_as_the_hardness_says(dataset, curriculum):
    trainer = make(dataset, curriculum=curriculum)
    prepare(trainer)
    with trainer._forked_rng():
        trainer._renew(0)
        (features, batch, ids), *_ = trainer._batches(dataset.dialogues("train")[3:6])
        present = trainer._trained_on[:, ids]
        network = trainer._teacher
        with torch.no_grad():
            out = network(features, batch, present, crossed=True)
        made, true = [out.reconstruction[m] for m in features], list(features.values())
        expected = ops.multiview_hardness(made, true, out.hidden, out.crossed, present).hardness
        rows, hardness = trainer._lessons.rows(ids, features, present)
    assert rows.shape == (len(ids), 3)
    assert torch.equal(rows[:, 0], ids)
    assert set(rows.flatten().tolist()) <= set(trainer._fold.tolist())
    torch.testing.assert_close(hardness.sort().values, expected.sort().values)
    assert torch.allclose(hardness, expected) == (curriculum != "random_hardness")
    others = torch.full_like(ids, 2)  # that may stand in, at most as many as are asked for
    if curriculum == "hardy_same_label":
        labels = torch.as_tensor(dataset.labels)
        others = (labels[ids, None] == labels[trainer._fold]).sum(1).sub(1).clamp(max=2)
        assert (labels[rows] == labels[ids, None]).all()
    # floor(h k + 1) neighbours, at most k; what is missing in front is the utterance itself
    own = (rows == ids[:, None]).sum(1)
    assert torch.equal(own, 3 - (hardness * 2 + 1).floor().long().minimum(others))
    assert ((rows[:, 2] != ids) == (others > 0)).all()


@pytest.mark.parametrize("changed", [{}, {"mi_sign": -1}, {"target_source": "code"}, {"rerank": "code"}])
def test_lessons_go_by_the_options_wherever_the_fold_lies(scattered, changed):
    options = replace(OPTIONS, **changed)
    trainer = make(scattered, options)
    prepare(trainer)
    trainer._renew(0)
    features, batch, ids = next(trainer._batches(scattered.dialogues("train")[3:6]))
    present = trainer._trained_on[:, ids]
    with torch.no_grad():
        out = trainer._teacher(features, batch, present, crossed=True)
    made, true = [out.reconstruction[m] for m in features], list(features.values())
    how = {"target_source": options.target_source, "mi_sign": options.mi_sign}
    expected = ops.multiview_hardness(made, true, out.hidden, out.crossed, present, **how).hardness
    rows, hardness = trainer._lessons.rows(ids, features, present)
    torch.testing.assert_close(hardness, expected)
    fold = torch.from_numpy(scattered.rows_of(scattered.dialogues("train"))[0])
    of_fold = {m: x[fold] for m, x in trainer._features.items()}
    table = NeighbourTable.build(of_fold, neighbours=2, rerank=options.rerank)
    assert torch.equal(rows, fold[table.gather(torch.searchsorted(fold, ids), hardness, present)])


def make_lessons(fold_size, neighbours=2):
    """Of an untrained teacher; the fold is the first rows of one dialogue, with a row behind it."""
    features = {"text": torch.randn(fold_size + 1, 4), "audio": torch.randn(fold_size + 1, 3)}
    network = HardyNetwork({"text": 4, "audio": 3}, 2, hidden=4, blocks=1, cross_attention=True).eval()
    fold = torch.arange(fold_size)

    def batches():
        yield {m: x[fold] for m, x in features.items()}, DialogueBatch.from_lists([[0] * fold_size]), fold

    def lessons():
        return Lessons(network, features, fold, batches, neighbours, HardyOptions())

    return features, fold, lessons


def test_lessons_of_an_utterance_without_a_modality_are_itself():
    features, fold, lessons = make_lessons(6)
    present = torch.ones(2, 7, dtype=torch.bool)
    present[:, 2] = False
    of = lessons()
    of.attend(present)
    rows, hardness = of.rows(fold, {m: x[fold] for m, x in features.items()}, present[:, fold])
    assert hardness.isfinite().all()
    assert rows[2].tolist() == [2, 2, 2]
    others = fold[fold != 2]
    assert (rows[others, 2] != others).all()


def test_lessons_of_a_dialogue_with_faulty_features_are_itself():
    features, fold, lessons = make_lessons(6)
    features["text"][2, 0] = math.nan
    of = lessons()
    of.attend(torch.ones(2, 7, dtype=torch.bool))
    present = torch.ones(2, 6, dtype=torch.bool)
    rows, hardness = of.rows(fold, {m: x[fold] for m, x in features.items()}, present)
    assert hardness.isnan().all()
    assert torch.equal(rows, fold[:, None].expand(6, 3))


@pytest.mark.parametrize("fold_size", [1, 2])
def test_lessons_of_a_fold_with_fewer_rows_than_neighbours_begin_with_itself(fold_size):
    features, fold, lessons = make_lessons(fold_size, neighbours=5)
    of = lessons()
    present = torch.ones(2, fold_size + 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="attend must say what is there"):
        of.rows(fold, features, present)
    of.attend(present)
    rows, _ = of.rows(fold, {m: x[fold] for m, x in features.items()}, present[:, fold])
    assert rows.shape == (fold_size, 6)
    assert torch.equal(rows[:, :5], fold[:, None].expand(fold_size, 5))
    assert torch.equal(rows[:, 5], fold.flip(0))


@pytest.mark.parametrize("target_source", ["true", "code"])
def test_teacher_takes_the_steps_of_its_two_stages(dataset, target_source):
    """The formulas written out, in float64: Adam with decay, gradients clipped, the weights of the last epoch."""
    fields = {"missing": "utterance", "missing_rate": 0.4, "dropout": 0.0, "weight_decay": 0.1, "clip": 0.5}
    trainer = make(dataset, replace(OPTIONS, target_source=target_source), teacher_epochs=2, **fields)
    config, dialogues = trainer.config, dataset.dialogues("train")
    with trainer._forked_rng():
        torch.manual_seed(0)
        taught, expected = (trainer._make_model(cross_attention=True).double() for _ in range(2))
        expected.load_state_dict(taught.state_dict())

        def batches(of):
            return (({m: x.double() for m, x in f.items()}, batch, rows) for f, batch, rows in trainer._batches(of))

        teacher.train_teacher(taught, config, trainer.options, dialogues, batches, trainer._present)

    def entropy(x):
        p = x.softmax(-1).clamp(1e-6, 1)
        return -(p * (p + 1e-7).log()).sum(-1)

    adam = torch.optim.Adam(expected.parameters(), lr=config.learning_rate, weight_decay=0.1)
    for epoch in range(4):
        order = np.random.default_rng([config.seed, epoch, teacher.DRAWS])
        order.integers(2**63)
        for features, batch, rows in batches(order.permutation(dialogues)):
            if epoch < 2:
                out = expected(features, batch, first_stage=True, crossed=True)
                own, both = entropy(out.hidden), entropy(out.crossed)
                information = [own[m] + own[n] - both[k] for k, (m, n) in enumerate(((0, 1), (0, 2), (1, 2)))]
                loss = sum(cross_entropy(z, batch.labels) for z in out.logits.values())
                loss = loss - 0.001 * sum(information).sum() / 3
            else:
                here = trainer._present(epoch - 2)[:, rows]
                out = expected(features, batch, here)
                loss = cross_entropy(sum(out.logits.values()), batch.labels)
                for (m, x), there in zip(features.items(), here, strict=True):
                    target = torch.zeros_like(x) if target_source == "code" else x
                    loss = loss + (out.reconstruction[m] - target).square().mean(1)[~there].sum() / len(rows)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
            adam.step()
    assert not taught.training
    for found, weight in zip(taught.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, weight)


def test_teacher_learns_to_reconstruct_what_is_missing(dataset):
    errors = []
    for epochs in (1, 25):
        trainer = make(dataset, teacher_epochs=epochs, hidden=16, dropout=0.0)
        prepare(trainer)
        trainer._renew(0)
        features, batch, ids = next(trainer._batches(dataset.dialogues("train")))
        present = trainer._trained_on[:, ids]
        with torch.no_grad():
            made = trainer._teacher(features, batch, present)
        errors.append(float(reconstruction_loss(made.reconstruction, features, present)))
    assert errors[1] < 0.95 * errors[0]


def test_lessons_ask_the_teacher_once_where_the_same_is_missing_in_every_epoch(dataset, monkeypatch):
    asked = []
    of = teacher.Opinion.of.__func__
    monkeypatch.setattr(teacher.Opinion, "of", classmethod(lambda cls, *args: asked.append(1) or of(cls, *args)))
    make(dataset).fit()
    assert len(asked) == 1
    make(dataset, missing="dialogue", missing_rate=0.3).fit()
    assert len(asked) == 1 + 2


def test_random_hardness_deals_out_the_same_hardnesses():
    hardness = torch.rand(50)
    dealt = shuffled(hardness)
    assert not torch.equal(dealt, hardness)
    assert torch.equal(dealt.sort().values, hardness.sort().values)
    assert shuffled(hardness[:0]).shape == (0,)


def test_accumulated_gradients_begin_anew_with_every_batch(dataset, monkeypatch):
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
def test_trainer_resumed_after_any_epoch_continues_as_if_undisturbed(dataset, tmp_path, curriculum, missing):
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


def test_trainer_that_is_resumed_has_the_teacher_of_its_checkpoint(dataset, tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    make(dataset).fit(checkpoint=path)
    teacher._taught.clear()
    monkeypatch.setattr(teacher, "train_teacher", lambda *arguments: pytest.fail("trained again"))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    assert len(make(dataset).fit(checkpoint=path, resume=True).history) == 4
    assert torch.equal(torch.rand(3), expected)


def test_checkpoint_of_another_run_is_refused_by_field(dataset, tmp_path):
    path = tmp_path / "last.pt"
    make(dataset, epochs=1).fit(checkpoint=path)
    with pytest.raises(CheckpointError, match=r"options\.mi_sign 1 there, -1 here"):
        make(dataset, replace(OPTIONS, mi_sign=-1), epochs=1).fit(checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match="epochs 1 there, 4 here"):  # which moves the second stage
        make(dataset).fit(checkpoint=path, resume=True)
    with pytest.raises(CheckpointError, match=r"available .*at.* there, .*t.* here"):
        make(dataset, epochs=1, available="t").fit(checkpoint=path, resume=True)


@pytest.mark.parametrize("value", [None, {"a": 1}, [1]])
def test_checkpoint_with_a_teacher_that_is_none_is_refused(dataset, tmp_path, value):
    path = tmp_path / "last.pt"
    make(dataset, epochs=1).fit(checkpoint=path)
    state = torch.load(path, weights_only=True)
    state.pop("teacher") if value is None else state.update({"teacher": value})
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint of a training run"):
        make(dataset, epochs=1).fit(checkpoint=path, resume=True)


@pytest.mark.parametrize("available", ["a", "all", "text,visual"])
@pytest.mark.parametrize("missing", ["fixed", "utterance", "dialogue"])
def test_trainer_takes_every_protocol(dataset, available, missing):
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
    assert torch.equal(trainer._present(1), there) == (missing == "fixed" or len(names) == 1)
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


def test_trainer_finds_fewer_neighbours_in_a_small_fold(dataset):
    small = make_synthetic("meld-like", dialogues={"train": 1, "dev": 2, "test": 2})
    result = make(small, neighbours=40, epochs=1).fit()
    assert result.history[0]["curriculum"]["scored"] == 41 * small.counts()["train"][1]


def test_trainer_takes_constant_features(dataset):
    constant = {m: np.ones_like(x) for m, x in dataset.features.items()}
    result = make(replace(dataset, features=constant), epochs=2).fit()
    assert math.isfinite(result.test.loss)


def test_trainer_takes_utterances_without_a_label(dataset):
    labels = dataset.labels.copy()
    labels[::2] = -100
    result = make(replace(dataset, labels=labels), epochs=2).fit()
    train = np.repeat(dataset.split, dataset.lengths) == 0
    assert result.history[0]["curriculum"]["scored"] == (labels[train] != -100).sum()


def test_trainer_stops_when_the_model_diverges(dataset):
    with pytest.raises(FaultyDataError, match="non-finite logit"):
        make(dataset, learning_rate=1e30).fit()
    with pytest.raises(ValueError, match="the teacher's weights are not finite: it diverged"):
        make(dataset, learning_rate=1e30, epochs=1).fit()


def test_trainer_learns(dataset):
    result = make(dataset, epochs=10, hidden=16, neighbours=1, curriculum="none").fit()
    losses = [entry["curriculum"]["loss"] for entry in result.history]
    assert losses[-1] < 0.8 * losses[0]


def test_trainer_makes_rows_of_a_study(dataset):
    config = replace(CONFIG, epochs=2)
    row = make_row(Job("main", "M", "hardy", "hardy", {}, config), dataset, make(dataset, epochs=2).fit())
    assert row["epochs"] == 2
    assert 0 < row["curriculum_share"] < 1
    assert len(row["timeline"]["modality_ratio"]) == 2


def test_trainer_refuses_what_it_cannot_train(dataset):
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
