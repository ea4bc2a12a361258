"""Samplers over a pool that was chosen elsewhere: rows on a disk, and orders of which nothing is kept."""

from __future__ import annotations

import io
import tracemalloc
from itertools import islice, zip_longest

import numpy as np
import pytest
import torch

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, _permutation, pacing
from spcl_fast._permutation import FEW, Permutation

pytestmark = pytest.mark.host_only

N = 1000
ROWS = np.flatnonzero(np.random.default_rng(2).random(N) < 0.3)


@pytest.fixture(params=["array", "memory map", "rows", "bits", "many"])
def pool(request, tmp_path, monkeypatch):
    """The rows in every form they may have; as "many" they are shuffled as if they were more than are kept."""
    if request.param in ("array", "many"):
        if request.param == "many":
            monkeypatch.setattr(_permutation, "FEW", 4)
        return ROWS
    if request.param == "memory map":
        np.save(tmp_path / "rows.npy", ROWS)
        return np.load(tmp_path / "rows.npy", mmap_mode="r")
    corpus = pytest.importorskip("spcl_fast.corpus")
    mask = np.zeros(N, bool)
    mask[ROWS] = True
    corpus.write_selection(tmp_path / "s", [mask], rows=N, count=len(ROWS), form=request.param)
    return corpus.SelectionIndex(tmp_path / "s")


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def dealt(shares):
    return [unit for turn in zip_longest(*shares) for unit in turn if unit is not None]


def test_every_row_comes_once_an_epoch_in_another_order(pool):
    orders = set()
    for seed in (0, 1, 2**40):
        sampler = CurriculumSampler(N, rows=pool, seed=seed)
        for epoch in (0, 1, 2**33):
            sampler.set_epoch(epoch)
            assert len(sampler) == sampler.remaining == len(ROWS)
            order = list(sampler)
            assert all(type(item) is int for item in order[:3])
            assert sorted(order) == ROWS.tolist()
            orders.add(tuple(order))
    assert len(orders) == 9
    assert list(CurriculumSampler(N, rows=pool, order="easiest_first")) == ROWS.tolist()


@pytest.mark.parametrize("uneven", ["keep", "drop", "repeat"])
def test_processes_share_one_order(pool, uneven):
    whole = list(CurriculumSampler(N, rows=pool, seed=3))
    for world_size in (2, 3, 7):
        shares = [
            list(CurriculumSampler(N, rows=pool, seed=3, rank=rank, world_size=world_size, uneven=uneven))
            for rank in range(world_size)
        ]
        turns = {"keep": len(whole) / world_size, "drop": len(whole) // world_size}
        turns["repeat"] = -(-len(whole) // world_size)
        assert dealt(shares) == (whole + whole)[: round(turns[uneven] * world_size)]


@pytest.mark.parametrize("kind", [CurriculumSampler, CurriculumBatchSampler])
def test_epochs_resume_at_any_position_on_any_world_size(pool, kind):
    more = {} if kind is CurriculumSampler else {"batch_size": 16}
    sampler = kind(N, rows=pool, seed=5, **more)
    sampler.set_epoch(4)
    whole = list(sampler)
    for position in (1, 7, len(whole) - 1, len(whole)):
        iterator = iter(sampler)
        assert list(islice(iterator, position)) == whole[:position]
        state = saved(sampler.state_dict())
        assert state["items"]["difficulty"] is None
        shares = []
        for rank in range(3):
            other = kind(N, rows=pool, seed=5, rank=rank, world_size=3, **more)
            other.load_state_dict(state)
            assert other.epoch == 4
            shares.append(list(other))
        assert dealt(shares) == whole[position:]


def test_batches_of_many_rows_and_of_a_budget(pool):
    order = list(CurriculumSampler(N, rows=pool, seed=1))
    for drop_last in (False, True):
        batches = list(CurriculumBatchSampler(N, rows=pool, seed=1, batch_size=64, drop_last=drop_last))
        assert [len(batch) for batch in batches] == [64] * (len(ROWS) // 64) + [len(ROWS) % 64] * (not drop_last)
        assert [item for batch in batches for item in batch] == order[: sum(map(len, batches))]
    lengths = np.arange(N) % 9
    batches = list(CurriculumBatchSampler(N, rows=pool, seed=1, max_utterances=30, lengths=lengths))
    assert [item for batch in batches for item in batch] == order
    assert max(lengths[batch].sum() for batch in batches) <= 30


def test_another_pool_counts_from_the_next_epoch_on(pool):
    sampler = CurriculumSampler(N, rows=pool, order="easiest_first")
    iterator = iter(sampler)
    assert next(iterator) == ROWS[0]
    sampler.set_rows(ROWS[:5])
    state = saved(sampler.state_dict())
    assert list(iterator) == ROWS[1:].tolist()
    assert list(sampler) == ROWS[:5].tolist()
    sampler.set_rows(None)
    assert len(list(sampler)) == N
    other = CurriculumSampler(N, rows=pool, order="easiest_first")
    other.load_state_dict(state)
    other.set_rows(ROWS[:5])
    assert list(other) == ROWS[1:].tolist()
    assert list(other) == ROWS[:5].tolist()
    for rows in (None, ROWS[1:]):
        wrong = CurriculumSampler(N, rows=rows, order="easiest_first")
        with pytest.raises(ValueError, match="rows must be those of the state"):
            wrong.load_state_dict(state)
        assert len(list(wrong)) == (N if rows is None else len(ROWS) - 1)
    without = CurriculumSampler(N, order="easiest_first")
    next(iter(without))
    with pytest.raises(ValueError, match="rows must be those of the state, None"):
        other.load_state_dict(without.state_dict())


def test_no_row_is_no_epoch():
    for order in ("shuffled", "easiest_first"):
        assert list(CurriculumSampler(N, rows=np.zeros(0, np.int64), order=order)) == []
        assert list(CurriculumBatchSampler(N, rows=np.zeros(0, np.int64), batch_size=3, order=order)) == []


def test_an_epoch_of_very_many_rows_takes_no_memory():
    class Rows:
        """A third of 3e12 rows, that nobody could hold."""

        checksum = "that of a third"
        rows = 3 * 10**12

        def __len__(self):
            return 10**12

        def __getitem__(self, positions):
            return 3 * positions

        def __array__(self, dtype=None, copy=None):
            raise MemoryError

    tracemalloc.start()
    sampler = CurriculumSampler(Rows.rows, rows=Rows(), rank=1, world_size=2)
    first = list(islice(sampler, 100_000))
    state = sampler.state_dict()
    batches = list(islice(CurriculumBatchSampler(Rows.rows, rows=Rows(), batch_size=32), 10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert len(sampler) == 10**12 // 2
    assert len(set(first)) == len(first)
    assert all(item % 3 == 0 and item < Rows.rows for item in first)
    assert abs(np.mean(first) / Rows.rows - 0.5) < 5 * (1 / 12 / 1e5) ** 0.5
    assert [len(batch) for batch in batches] == [32] * 10
    other = CurriculumSampler(Rows.rows, rows=Rows(), rank=0, world_size=1)
    other.load_state_dict(saved(state))
    assert next(islice(other, 1, None)) not in first  # it goes on behind what both processes have used


@pytest.mark.parametrize("n", [1, 2, 3, 1000, FEW, FEW + 1, 100_003, 2**17])
def test_permutations_are_permutations(n):
    found = Permutation(n, np.random.SeedSequence(7))(np.arange(n))
    assert np.array_equal(np.sort(found), np.arange(n))
    assert np.array_equal(Permutation(n, np.random.SeedSequence(7))(np.arange(n)[::-1]), found[::-1])
    if n > 100:
        other = Permutation(n, np.random.SeedSequence(8))(np.arange(n))
        agreeing = np.count_nonzero(other == found) + np.count_nonzero(found == np.arange(n))
        assert agreeing < 20  # two in the mean


def test_permutations_of_many_are_those_of_every_machine():
    found = Permutation(10**9, np.random.SeedSequence(0, spawn_key=(3,)))(np.array([0, 1, 2, 10**9 - 1]))
    assert found.tolist() == [672088766, 67193919, 667045247, 839722986]


def test_permutations_of_many_are_uniform():
    n, places, bins = FEW + 4464, 7, 50
    counts = np.zeros((places, bins))
    for epoch in range(1500):
        found = Permutation(n, np.random.SeedSequence(1, spawn_key=(epoch,)))(np.arange(0, n, n // places + 1))
        counts[np.arange(places), found * bins // n] += 1
    chi = ((counts - 30) ** 2 / 30).sum(1)  # 49 degrees of freedom a place
    assert np.abs(chi - 49).max() < 5 * (2 * 49) ** 0.5
    whole = Permutation(n, np.random.SeedSequence(2))(np.arange(n))
    for step in (1, 2, 256, 512):  # neighbours, and positions that share one half of their bits
        distance = np.abs(whole[step:] - whole[:-step]) / n
        assert abs(distance.mean() - 1 / 3) < 5 * (1 / 18 / len(distance)) ** 0.5


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"rows": [1, 2]}, TypeError, r"rows must be a SelectionIndex or a NumPy array \(got list\)"),
        ({"rows": torch.arange(3)}, TypeError, r"got Tensor\)"),
        ({"rows": np.zeros(3)}, TypeError, "rows must hold integers"),
        ({"rows": np.zeros((3, 1), int)}, TypeError, r"of shape \(3, 1\)"),
        ({"difficulty": torch.rand(N)}, ValueError, "without difficulty and weights"),
        ({"weights": torch.rand(N)}, ValueError, "without difficulty and weights"),
        ({"pace": 0.5}, ValueError, "at pace 1"),
        ({"pace": pacing.LinearPace(start=0.5, total=2)}, ValueError, "at pace 1"),
        ({"pool": "bucket"}, ValueError, "rows are the pool of every epoch"),
        ({"num_samples": 3}, ValueError, "rows are taken once each"),
        ({"replacement": True}, ValueError, "rows are taken once each"),
    ],
)
def test_what_does_not_go_with_rows_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        CurriculumSampler(N, **{"rows": ROWS} | settings)
    if settings.keys() - {"rows"} and "difficulty" not in settings and "weights" not in settings:
        with pytest.raises(error, match=message):
            CurriculumSampler(N, **settings).set_rows(ROWS)


def test_rows_that_are_not_in_the_corpus_are_named():
    for rows in (np.array([0, N]), np.array([-1, 4])):
        with pytest.raises(ValueError, match=r"rows must be in \[0, 1000\)"):
            list(CurriculumSampler(N, rows=rows))
    sampler = CurriculumSampler(N, rows=ROWS)
    for change in (sampler.set_difficulty, sampler.set_weights):
        with pytest.raises(ValueError, match="without difficulty and weights"):
            change(torch.rand(N))
