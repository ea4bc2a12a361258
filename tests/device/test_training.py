"""The trainer and the scheduler on a GPU."""

from __future__ import annotations

import copy

import pytest
import torch

from spcl_fast import SelfPacedScheduler
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.merc.trainer import TrainConfig, Trainer

HERE = torch.get_default_device()


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic("iemocap-like")


@pytest.fixture(autouse=True)
def as_a_program_runs():
    """Without the tests' default device and deterministic mode: a program has neither."""
    torch.use_deterministic_algorithms(False)
    torch.set_default_device(None)
    yield
    torch.set_default_device(HERE)


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"hidden": 16, "epochs": 2, "dropout": 0.1} | changes)


@pytest.mark.parametrize("encoder", ["gru", "transformer"])
@pytest.mark.parametrize("curriculum", ["spcl", "none"])
def test_a_step_of_training_does_not_wait(dataset, without_waiting, encoder, curriculum) -> None:
    trainer = Trainer(dataset, config(encoder=encoder, curriculum=curriculum), device=HERE)
    trainer.model.train()

    def run() -> None:
        for features, batch in trainer._batches(dataset.dialogues("train")[:64]):
            assert batch.labels.device.type == HERE.type
            trainer._step(features, batch)

    without_waiting(run)
    assert trainer._watch.seconds() > 0


def test_a_run_learns_and_says_how_long_it_took(dataset) -> None:
    result = Trainer(dataset, config(epochs=3, learning_rate=3e-3), device=HERE).fit()
    losses = [entry["dev"]["loss"] for entry in result.history]
    assert losses[2] < losses[1] < losses[0]
    assert all(0 < e["curriculum_seconds"] < e["seconds"] for e in result.history)
    assert all(0 < e["curriculum"]["take_rate"] <= 1 for e in result.history)


def test_a_run_starts_from_the_same_weights_on_every_device(dataset) -> None:
    here, there = (Trainer(dataset, config(), device=device) for device in (HERE, "cpu"))
    for a, b in zip(here.model.parameters(), there.model.parameters(), strict=True):
        assert torch.equal(a.cpu(), b)


@pytest.mark.parametrize("first", ["here", "on the host"])
def test_a_run_continues_on_another_device(dataset, tmp_path, first) -> None:
    devices = [HERE, torch.device("cpu")] if first == "here" else [torch.device("cpu"), HERE]
    before = Trainer(dataset, config(epochs=1), device=devices[0])
    before.fit(checkpoint=tmp_path / "last.pt")
    after = Trainer(dataset, config(epochs=2), device=devices[1])
    result = after.fit(checkpoint=tmp_path / "last.pt", resume=True)
    assert [entry["epoch"] for entry in result.history] == [0, 1]
    assert result.history[0]["dev"] == before.history[0]["dev"]
    assert all(p.device.type == devices[1].type for p in after.model.parameters())
    assert after.curriculum.threshold.device.type == devices[1].type
    assert float(after.curriculum.threshold) == pytest.approx(0.7 * 1.25**2)


def test_the_scheduler_counts_here_what_it_counts_on_the_host(make_problem) -> None:
    here, there = SelfPacedScheduler(threshold=0.8).to(HERE), SelfPacedScheduler(threshold=0.8)
    for seed in range(3):
        problem = make_problem(seed=seed)
        here(*(x.to(HERE) for x in problem))
        there(*(x.cpu() for x in problem))
    got, want = here.check(), there.check()
    assert got._replace(loss=0, modality_ratio=(), modality_ratio_all=(), confidence=()) == want._replace(
        loss=0, modality_ratio=(), modality_ratio_all=(), confidence=()
    )
    assert got.loss == pytest.approx(want.loss)
    assert got.modality_ratio == pytest.approx(want.modality_ratio)
    moved = SelfPacedScheduler(threshold=0.8)
    moved.load_state_dict(copy.deepcopy(here.state_dict()))
    assert moved.counts.device.type == "cpu"
    assert moved.check() == got
