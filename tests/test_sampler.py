"""`CurriculumSampler`: pools, orders, shares of processes, and its rows of the table of faults."""

from __future__ import annotations

import math
from itertools import zip_longest

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from spcl_fast import CurriculumSampler, pacing

pytestmark = pytest.mark.host_only

NAN, INF = float("nan"), float("inf")
DIFFICULTY = torch.tensor([0.9, 0.1, NAN, 0.5, 0.3, 0.5, INF, 0.2, 0.5, 0.4])
RANKED = [1, 7, 4, 9, 3, 5, 8, 0, 6]  # by difficulty, ties by index, without NaN


def dealt(shares):
    """The common order out of the shares of all processes, by turns."""
    return [item for turn in zip_longest(*shares) for item in turn if item is not None]


@pytest.mark.parametrize("pace", [1e-9, 0.1, 1 / 9, 1 / 9 + 1e-9, 0.5, 0.56, 0.99, 1.0])
def test_the_pool_is_the_ceil_of_the_easiest(pace):
    rank = math.ceil(pace * 9 - 1e-12)
    for order in ("shuffled", "easiest_first"):
        sampler = CurriculumSampler(10, difficulty=DIFFICULTY, pace=pace, order=order)
        assert len(sampler) == sampler.remaining == rank
        got = list(sampler)
        assert all(type(item) is int for item in got)
        assert (sorted(got) if order == "shuffled" else got) == (
            sorted(RANKED[:rank]) if order == "shuffled" else RANKED[:rank]
        )


def test_without_difficulties_a_pace_takes_by_index():
    assert list(CurriculumSampler(30, pace=0.1, order="easiest_first")) == [0, 1, 2]  # 0.1 of 30 is 3, not 4
    assert sorted(CurriculumSampler(7)) == list(range(7))


def test_curml_takes_the_floor_and_at_least_one():
    for pace, taken in ((0.5, 4), (0.1, 1), (1.0, 9), (0.3, 2)):
        sampler = CurriculumSampler(10, difficulty=DIFFICULTY, pace=pace, formula="curml", order="easiest_first")
        assert list(sampler) == RANKED[:taken]
    assert len(CurriculumSampler(100, pace=0.29, formula="curml")) == 28  # int(0.29 * 100) in floats


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_difficulties_of_any_float_dtype_device_and_stride_are_copied(dtype):
    values = DIFFICULTY.to(dtype)
    given_ones = [values.clone(), torch.stack([values, values], 1)[:, 0], values.clone().requires_grad_()]
    if dtype != torch.bfloat16:
        given_ones += [values.numpy().copy(), np.ascontiguousarray(values.numpy()[::-1])[::-1]]
        given_ones += [values.numpy().astype(values.numpy().dtype.newbyteorder(">"))]
    for difficulty in given_ones:
        sampler = CurriculumSampler(10, difficulty=difficulty, pace=0.5, order="easiest_first")
        with torch.no_grad():
            difficulty[1] = 7.0
        assert list(sampler) == RANKED[:5]


def test_the_pool_grows_with_the_pace_of_the_epoch():
    pace = pacing.StepPace(start=1 / 3, total=6, steps=2)
    steps = CurriculumSampler(10, difficulty=DIFFICULTY, pace=pace, order="easiest_first")
    bucket = CurriculumSampler(10, difficulty=DIFFICULTY, pace=pace, order="easiest_first", pool="bucket")
    for epoch in range(9):
        steps.set_epoch(epoch)
        bucket.set_epoch(epoch)
        newest = min(epoch // 3, 2)
        assert list(steps) == RANKED[: 3 * newest + 3]
        assert list(bucket) == RANKED[3 * newest : 3 * newest + 3]
        assert (len(steps), len(bucket)) == (3 * newest + 3, 3)


def test_a_bucket_is_never_empty_while_the_pace_grows_by_less_than_an_item():
    pace = pacing.LinearPace(start=0.01, total=100)
    sampler = CurriculumSampler(10, difficulty=DIFFICULTY, pace=pace, pool="bucket")
    taken = []
    for epoch in range(110):
        sampler.set_epoch(epoch)
        (item,) = sampler
        taken += [item] if [item] != taken[-1:] else []
    assert taken == RANKED


def test_epochs_seeds_and_nothing_else_change_the_order():
    def order(seed, epoch, **more):
        sampler = CurriculumSampler(200, seed=seed, **more)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    orders = {(seed, epoch): order(seed, epoch) for seed in (0, 1, 2, 2**32, 2**63) for epoch in (0, 1, 2, 2**32)}
    assert len(set(orders.values())) == len(orders)  # (0, 1) is not (1, 0), and 32 bits are not all of a seed
    assert all(sorted(got) == list(range(200)) for got in orders.values())
    assert order(1, 2) == orders[1, 2] == order(1, 2, world_size=1, uneven="drop")
    sampler = CurriculumSampler(200, seed=1)
    assert tuple(sampler) == tuple(sampler) == orders[1, 0]  # no set_epoch: again the same
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert order(1, 0) == orders[1, 0]
    torch.set_num_threads(threads)


def test_shuffled_orders_are_uniform():
    counts = np.zeros((4, 4))
    sampler = CurriculumSampler(4)
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        counts[range(4), list(sampler)] += 1
    assert np.abs(counts - 500).max() < 5 * math.sqrt(2000 * 0.25 * 0.75)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 9, 11])
def test_shares_are_the_positions_of_the_common_order(world_size):
    settings = {"difficulty": DIFFICULTY, "seed": 5}
    whole = list(CurriculumSampler(10, **settings))
    for uneven in ("keep", "drop", "repeat"):
        shares = []
        for rank in range(world_size):
            sampler = CurriculumSampler(10, **settings, rank=rank, world_size=world_size, uneven=uneven)
            shares.append(list(sampler))
            assert len(sampler) == len(shares[-1])
        rounds = {"keep": None, "drop": 9 // world_size, "repeat": -(-9 // world_size)}[uneven]
        if uneven == "keep":
            assert shares == [whole[rank::world_size] for rank in range(world_size)]
        else:
            assert {len(share) for share in shares} == {rounds}
            assert dealt(shares) == (whole + whole)[: rounds * world_size]


def test_difficulties_that_change_count_from_the_next_epoch_on():
    sampler = CurriculumSampler(4, difficulty=torch.tensor([1.0, 2, 3, 4]), order="easiest_first")
    sampler.set_difficulty(torch.tensor([4.0, 3, 2, 1]))  # none under way: at once
    assert list(sampler) == [3, 2, 1, 0]
    iterator = iter(sampler)
    assert next(iterator) == 3
    sampler.set_difficulty(torch.tensor([2.0, 1, 3, NAN]))
    assert len(sampler) == 4
    assert list(iterator) == [2, 1, 0]
    assert list(sampler) == [1, 0, 2]
    assert len(sampler) == 3
    sampler.set_difficulty(None)
    sampler.set_epoch(1)
    assert (len(sampler), list(sampler)) == (4, [0, 1, 2, 3])


def test_an_iterator_that_is_left_gives_way_to_a_new_one():
    sampler = CurriculumSampler(5)
    first, second = iter(sampler), iter(sampler)
    begun = [next(first), next(first)]
    assert sampler.remaining == 3
    whole = list(second)
    assert begun + list(first) == whole
    assert sampler.remaining == 0
    sampler.set_epoch(1)
    assert sampler.remaining == 5


@hypothesis.settings(deadline=None)
@given(
    st.lists(st.one_of(st.floats(width=32), st.integers(0, 3).map(float)), max_size=40),
    st.floats(1e-3, 1),
    st.integers(1, 6),
    st.integers(0, 5),
)
def test_no_item_is_lost_or_doubled_over_the_processes(values, pace, world_size, epoch):
    difficulty = torch.tensor(values, dtype=torch.float32)
    if values and difficulty.isnan().all():
        return
    known = [i for i, value in enumerate(values) if value == value]
    shares = []
    for rank in range(world_size):
        sampler = CurriculumSampler(len(values), difficulty=difficulty, pace=pace, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
    got = dealt(shares)
    assert len(got) == len(set(got))
    easiest = sorted(known, key=lambda i: values[i])[: len(got)]
    assert sorted(got) == sorted(easiest)
    assert len(got) - 1 < pace * len(known) + 1e-9
    assert len(got) > pace * len(known) - 1e-9


def test_more_items_than_a_float32_or_multinomial_can_count():
    N = 2**24 + 3
    difficulty = torch.ones(N, dtype=torch.float16)
    difficulty[-3:] = 0.5
    sampler = CurriculumSampler(N, difficulty=difficulty, pace=3 / N, order="easiest_first")
    assert list(sampler) == [2**24, 2**24 + 1, 2**24 + 2]
    weights = np.ones(N, np.float32)
    weights[-3:] = 1e12
    for replacement in (False, True):
        sampler = CurriculumSampler(N, weights=weights, num_samples=3, replacement=replacement)
        assert all(item >= 2**24 for item in sampler)


def test_works_in_a_data_loader_with_workers():
    data = TensorDataset(torch.arange(10))
    sampler = CurriculumSampler(10, difficulty=DIFFICULTY, pace=pacing.LinearPace(start=0.5, total=4))
    loader = DataLoader(data, sampler=sampler, batch_size=2, num_workers=1)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected = list(sampler)
        assert len(loader) == -(-len(expected) // 2)
        assert torch.cat([x for (x,) in loader]).tolist() == expected


def test_without_items_every_epoch_is_empty():
    for more in ({}, {"difficulty": torch.zeros(0)}, {"weights": torch.zeros(0)}, {"formula": "curml"}):
        for world_size, uneven in ((1, "keep"), (3, "repeat"), (3, "drop")):
            sampler = CurriculumSampler(0, pace=0.5, world_size=world_size, uneven=uneven, **more)
            assert (len(sampler), list(sampler), sampler.remaining) == (0, [], 0)
    assert list(CurriculumSampler(0, pool="bucket", replacement=True)) == []


class Broken:
    config: dict = {}  # noqa: RUF012

    def __call__(self, epoch):
        return 1.5 * epoch


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_items": -1}, ValueError, r"CurriculumSampler: num_items must be at least 0 \(got -1\)"),
        ({"num_items": 2.0}, TypeError, "num_items must be an integer"),
        ({"difficulty": [1.0] * 10}, TypeError, r"difficulty must be a tensor or a NumPy array \(got list\)"),
        ({"difficulty": torch.arange(10)}, TypeError, "difficulty must hold floating point numbers"),
        ({"difficulty": np.array(["a"] * 10)}, TypeError, "difficulty must hold numbers that torch has"),
        ({"difficulty": torch.rand(9)}, ValueError, r"difficulty must have shape \(10,\) \(got \(9,\)\)"),
        ({"difficulty": torch.rand(10, 1)}, ValueError, r"difficulty must have shape \(10,\) \(got \(10, 1\)\)"),
        ({"difficulty": torch.full((10,), NAN)}, ValueError, "difficulty must have an entry that is not NaN"),
        ({"pace": 0}, ValueError, r"CurriculumSampler: pace must be in \(0, 1\] \(got 0.0\)"),
        ({"pace": 1.1}, ValueError, "pace must be in"),
        ({"pace": True}, TypeError, r"pace must be a number or a pacing.Pace.* \(got bool\)"),
        ({"pace": lambda epoch: 0.5}, TypeError, r"callable and with a config \(got function\)"),
        ({"pace": pacing.RootPace}, TypeError, "pace must be"),
        ({"pool": "hardest"}, ValueError, "pool must be one of 'easiest', 'bucket'"),
        ({"order": "hardest_first"}, ValueError, "order must be one of 'shuffled', 'easiest_first'"),
        ({"formula": "code"}, ValueError, "formula must be one of"),
        ({"uneven": "pad"}, ValueError, "uneven must be one of 'keep', 'drop', 'repeat'"),
        ({"weights": torch.tensor([1.0] * 9 + [NAN])}, ValueError, r"at least 0 \(got nan for item 9\)"),
        ({"weights": torch.tensor([-1.0] + [1.0] * 9)}, ValueError, r"at least 0 \(got -1.0 for item 0\)"),
        ({"weights": np.full(10, np.inf)}, ValueError, r"weights must be finite .*\(got inf for item 0\)"),
        ({"weights": torch.zeros(10)}, ValueError, r"weights must have an entry above 0"),
        ({"weights": torch.ones(3)}, ValueError, r"weights must have shape \(10,\)"),
        ({"weights": torch.ones(10).bool()}, TypeError, "weights must hold numbers"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1"),
        ({"replacement": 1}, TypeError, r"replacement must be a bool \(got int\)"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 2**64}, ValueError, "seed must be at most"),
        ({"world_size": 0}, ValueError, "world_size must be at least 1"),
        ({"rank": -1}, ValueError, "rank must be at least 0"),
        ({"rank": 2, "world_size": 2}, ValueError, r"rank must be below world_size, 2 \(got 2\)"),
    ],
)
def test_settings_out_of_their_domain_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        CurriculumSampler(**{"num_items": 10} | settings)


def test_what_changes_later_is_checked_as_well_and_leaves_the_sampler_as_it_was():
    sampler = CurriculumSampler(10, difficulty=DIFFICULTY, order="easiest_first")
    with pytest.raises(ValueError, match="difficulty must have shape"):
        sampler.set_difficulty(torch.rand(3))
    with pytest.raises(ValueError, match="weights must have an entry above 0"):
        sampler.set_weights(torch.zeros(10))
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        sampler.set_epoch(-1)
    with pytest.raises(TypeError, match="epoch must be an integer"):
        sampler.set_epoch(1.0)
    assert list(sampler) == RANKED
    broken = CurriculumSampler(10, pace=Broken())
    with pytest.raises(ValueError, match=r"the pace of epoch 0 must be in \(0, 1\] \(got 0.0\)"):
        len(broken)
    broken.set_epoch(1)
    with pytest.raises(ValueError, match=r"the pace of epoch 1 must be in \(0, 1\] \(got 1.5\)"):
        list(broken)
