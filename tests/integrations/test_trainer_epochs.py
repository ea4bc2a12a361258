"""What the adapters have in common: epochs that end once, epochs of one length, hosts that are not there."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, SelfPacedScheduler, pacing
from spcl_fast.integrations._epochs import TrainerEpochs
from spcl_fast.integrations._same_length import SameLengthEpochs, longest

PACE = pacing.LinearPace(start=0.25, total=3)


def step(scheduler):
    scheduler(torch.randn(2, 5, 3), torch.randint(3, (5,)), torch.tensor([0, 5]))


def test_epoch_that_a_checkpoint_left_open_ends_before_the_next_begins():
    first = TrainerEpochs(SelfPacedScheduler(threshold=0.5, growth=2.0))
    assert first.begin(0) is None
    step(first.scheduler)
    state = first.state_dict()
    second = TrainerEpochs(SelfPacedScheduler(threshold=0.5, growth=2.0))
    second.load_state_dict(state)
    assert second.begin(0) is None  # the same epoch goes on
    left = second.begin(1)
    assert (left.epoch, left.scored) == (0, 5)
    assert second.scheduler.threshold.item() == 1.0
    assert second.begin(1) is None
    assert second.end().epoch == 1
    assert (second.epoch, second.is_open) == (2, False)


def test_state_loads_with_weights_only(tmp_path):
    epochs = TrainerEpochs(SelfPacedScheduler())
    epochs.begin(3)
    step(epochs.scheduler)
    torch.save(epochs.state_dict(), tmp_path / "state.pt")
    again = TrainerEpochs(SelfPacedScheduler())
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (again.epoch, again.is_open) == (3, True)
    assert torch.equal(again.scheduler.sums, epochs.scheduler.sums)


def test_small_pool_is_gone_through_again_in_new_orders():
    sampler = CurriculumSampler(16, difficulty=torch.arange(16.0), pace=PACE)
    epochs = SameLengthEpochs(sampler, 14)
    order = list(epochs)
    assert len(order) == len(epochs) == 14
    passes = [tuple(order[i : i + 4]) for i in (0, 4, 8)]
    assert [set(items) for items in passes] == [{0, 1, 2, 3}] * 3  # the four easiest, each pass all of them
    assert len(set(passes)) == 3  # and in another order
    assert len(set(order[12:])) == 2


def test_first_pass_is_that_of_the_sampler_and_a_long_epoch_is_cut_off():
    sampler, same = (CurriculumSampler(8, difficulty=torch.arange(8.0), pace=PACE, seed=3) for _ in range(2))
    epochs = SameLengthEpochs(sampler, 5)
    for epoch in range(4):
        epochs.set_epoch(epoch)
        same.set_epoch(epoch)
        pool = list(same)
        order = list(epochs)
        assert order[: len(pool)] == pool[:5]
        assert len(order) == 5
        epochs.set_epoch(epoch)
        assert list(epochs) == order  # a function of the epoch alone


def test_batches_are_repeated_whole():
    sampler = CurriculumBatchSampler(8, batch_size=2, difficulty=torch.arange(8.0), pace=0.5)
    batches = list(SameLengthEpochs(sampler, 6))
    assert len(batches) == 6
    assert {frozenset(batch) for batch in batches[:2]} == {frozenset(batch) for batch in batches[2:4]}
    assert sorted(i for batch in batches[:2] for i in batch) == [0, 1, 2, 3]


def test_epoch_without_items_stays_without():
    assert list(SameLengthEpochs(CurriculumSampler(0), 5)) == []


def test_longest_epoch_is_looked_for_among_all_and_the_first_comes_next():
    lengths = torch.tensor([1, 9, 1, 9, 1, 9])
    sampler = CurriculumBatchSampler(6, max_utterances=10, lengths=lengths)
    each = []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        each.append(len(sampler))
    assert len(set(each)) > 1  # they differ although the pace does not
    assert longest(sampler, 12) == max(each)
    assert sampler.epoch == 0


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_package_imports_no_host_and_no_torch():
    hosts = "{'torch', 'lightning', 'transformers', 'torchdata', 'tensorboard'}"
    assert run(f"import sys, spcl_fast.integrations; print({hosts} & set(sys.modules))") == "set()"


@pytest.mark.parametrize(("module", "host"), [("lightning", "lightning"), ("huggingface", "transformers")])
def test_host_that_is_missing_is_named_with_the_extra(module, host, monkeypatch):
    for name in {host, *(name for name in sys.modules if name.startswith(f"{host}."))}:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, f"spcl_fast.integrations.{module}", raising=False)
    expected = rf"integrations.{module} needs the package {host}: pip install 'spcl_fast\[adapters\]'"
    with pytest.raises(ImportError, match=expected):
        importlib.import_module(f"spcl_fast.integrations.{module}")
