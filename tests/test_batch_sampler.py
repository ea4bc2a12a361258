"""`CurriculumBatchSampler`: how the order is cut, and how batches are shared out."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, pacing

pytestmark = pytest.mark.host_only

LENGTHS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])


def in_order(n=10, **settings):
    return CurriculumBatchSampler(n, order="easiest_first", **settings)


def by_hand(order, lengths, budget, drop_last):
    """Batches filled one item at a time."""
    batches, batch, filled = [], [], 0
    for item in order:
        if batch and filled + lengths[item] > budget:
            batches.append(batch)
            batch, filled = [], 0
        batch.append(item)
        filled += lengths[item]
    if batch and not (drop_last and filled < budget):
        batches.append(batch)
    return batches


def test_batches_of_so_many_items():
    assert list(in_order(batch_size=4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(in_order(batch_size=4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert list(in_order(batch_size=5, drop_last=True)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert list(in_order(batch_size=99)) == [list(range(10))]
    assert list(in_order(batch_size=99, drop_last=True)) == []


def test_batches_of_so_many_utterances():
    assert list(in_order(max_utterances=9, lengths=LENGTHS)) == [[0, 1, 2, 3], [4], [5], [6, 7], [8, 9]]
    assert list(in_order(max_utterances=9, lengths=LENGTHS, drop_last=True)) == [[0, 1, 2, 3], [4], [5], [6, 7]]
    assert list(in_order(max_utterances=8, lengths=LENGTHS, drop_last=True))[-1] == [8, 9]  # full to the last
    too_long = list(in_order(max_utterances=4, lengths=LENGTHS))
    assert too_long == [[0, 1], [2], [3], [4], [5], [6], [7], [8], [9]]
    assert list(in_order(4, max_utterances=2, lengths=np.array([0, 2, 0, 7]))) == [[0, 1, 2], [3]]
    assert list(in_order(4, max_utterances=1, lengths=np.zeros(4, np.uint8))) == [[0, 1, 2, 3]]


@hypothesis.settings(deadline=None)
@given(
    st.lists(st.integers(0, 12), max_size=40),
    st.integers(1, 20),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from(["keep", "drop", "repeat"]),
)
def test_budgets_are_filled_as_by_hand_on_every_world_size(lengths, budget, drop_last, world_size, uneven):
    n = len(lengths)
    order = list(CurriculumSampler(n, seed=3))
    expected = by_hand(order, lengths, budget, drop_last)
    for rank in range(world_size):
        sampler = CurriculumBatchSampler(
            n,
            max_utterances=budget,
            lengths=torch.tensor(lengths, dtype=torch.int32),
            drop_last=drop_last,
            seed=3,
            rank=rank,
            world_size=world_size,
            uneven=uneven,
        )
        rounds, rest = divmod(len(expected), world_size)
        share = expected[rank::world_size]
        if uneven == "drop":
            share = share[:rounds]
        elif uneven == "repeat" and rest and rank >= rest:
            share = [*share, expected[(rounds * world_size + rank) % len(expected)]]
        assert list(sampler) == share
        assert len(sampler) == len(share)


def test_batches_are_those_of_the_sampler_of_items_and_alike_on_every_world_size():
    settings = {"difficulty": torch.rand(50), "pace": pacing.RootPace(total=4, start=0.3), "seed": 9}
    items = CurriculumSampler(50, **settings)
    whole = CurriculumBatchSampler(50, batch_size=4, **settings)
    shares = [CurriculumBatchSampler(50, batch_size=4, rank=r, world_size=3, **settings) for r in range(3)]
    for epoch in range(5):
        for sampler in (items, whole, *shares):
            sampler.set_epoch(epoch)
        batches = list(whole)
        assert sum(batches, []) == list(items)  # noqa: RUF017
        assert [list(share) for share in shares] == [batches[rank::3] for rank in range(3)]


def test_trainers_find_set_epoch_below_the_batch_sampler():
    sampler = CurriculumBatchSampler(20, batch_size=4)
    loader = DataLoader(TensorDataset(torch.arange(20)), batch_sampler=sampler)
    first = list(sampler)
    loader.batch_sampler.sampler.set_epoch(1)
    assert len(loader) == 5
    assert [x.tolist() for (x,) in loader] == list(sampler) != first


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, r"CurriculumBatchSampler: give either batch_size or max_utterances \(got both or neither\)"),
        ({"batch_size": 2, "max_utterances": 9, "lengths": LENGTHS}, ValueError, "give either batch_size or"),
        ({"max_utterances": 9}, ValueError, "max_utterances and lengths must be given together"),
        ({"batch_size": 2, "lengths": LENGTHS}, ValueError, "max_utterances and lengths must be given together"),
        ({"batch_size": 0}, ValueError, r"batch_size must be at least 1 \(got 0\)"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
        ({"batch_size": 2, "drop_last": 1}, TypeError, r"drop_last must be a bool \(got int\)"),
        ({"max_utterances": 0, "lengths": LENGTHS}, ValueError, "max_utterances must be at least 1"),
        ({"max_utterances": 9, "lengths": LENGTHS[:9]}, ValueError, r"lengths must have shape \(10,\)"),
        ({"max_utterances": 9, "lengths": LENGTHS.float()}, TypeError, "lengths must hold integers"),
        ({"max_utterances": 9, "lengths": LENGTHS.bool()}, TypeError, "lengths must hold integers"),
        ({"max_utterances": 9, "lengths": LENGTHS.tolist()}, TypeError, "lengths must be a tensor or a NumPy array"),
        ({"max_utterances": 9, "lengths": LENGTHS - 2}, ValueError, r"at least 0 \(got -1 for item 1\)"),
        ({"batch_size": 2, "pace": 2}, ValueError, r"CurriculumBatchSampler: pace must be in \(0, 1\]"),
        ({"batch_size": 2, "colour": 2}, TypeError, "colour"),
    ],
)
def test_settings_out_of_their_domain_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        CurriculumBatchSampler(10, **settings)
