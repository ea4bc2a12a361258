"""What the steps of a batch show, and the teacher that decides it: by the formulas, wherever the training fold lies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spcl_fast import DialogueBatch, ops
from spcl_fast.hardy import HardyNetwork, HardyOptions, NeighbourTable, teacher
from spcl_fast.hardy.curriculum import shuffled
from spcl_fast.hardy.lessons import Lessons
from spcl_fast.hardy.losses import reconstruction_loss

OPTIONS = HardyOptions(blocks=1)


@pytest.mark.parametrize("curriculum", ["hardy", "hardy_same_label", "random_hardness"])
def test_lessons_are_the_neighbours_of_the_fold_as_many_as_the_hardness_says(make, prepare, dataset, curriculum):
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
def test_lessons_go_by_the_options_wherever_the_fold_lies(make, prepare, scattered, changed):
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
def test_teacher_takes_the_steps_of_its_two_stages(make, dataset, target_source):
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


def test_teacher_learns_to_reconstruct_what_is_missing(make, prepare, dataset):
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


def test_lessons_ask_the_teacher_once_where_the_same_is_missing_in_every_epoch(make, dataset, monkeypatch):
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
