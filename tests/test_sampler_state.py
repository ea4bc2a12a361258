"""States of the samplers: what is left of an epoch comes out again, anywhere, on any world size."""

from __future__ import annotations

import copy
import io
from itertools import islice, zip_longest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, pacing

pytestmark = pytest.mark.host_only

N = 23
DIFFICULTY = torch.rand(N, generator=torch.Generator().manual_seed(4))
LENGTHS = torch.arange(N) % 7
PACE = pacing.LinearPace(start=0.5, total=5)
KINDS = {
    "items": lambda **more: CurriculumSampler(N, **{"pace": PACE, "seed": 6} | more),
    "draws": lambda **more: CurriculumSampler(N, pace=PACE, num_samples=40, replacement=True, **more),
    "batches": lambda **more: CurriculumBatchSampler(N, pace=PACE, batch_size=2, **more),
    "budgets": lambda **more: CurriculumBatchSampler(N, pace=PACE, max_utterances=6, lengths=LENGTHS, **more),
}


def saved(state):
    """The state as it comes out of a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def team(kind, world_size, **more):
    return [KINDS[kind](rank=rank, world_size=world_size, **more) for rank in range(world_size)]


def dealt(shares):
    return [unit for turn in zip_longest(*shares) for unit in turn if unit is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_every_position_resumes_and_resumes_again(kind):
    sampler = KINDS[kind](difficulty=DIFFICULTY)
    sampler.set_epoch(2)
    whole = list(sampler)
    for position in range(len(whole) + 1):
        iterator = iter(sampler)
        assert list(islice(iterator, position)) == whole[:position]
        other = KINDS[kind]()  # that has been told no difficulty
        other.load_state_dict(saved(sampler.state_dict()))
        assert other.epoch == 2
        other.set_epoch(2)  # as the loop of a trainer does
        assert (len(other), other.remaining) == (len(whole), len(whole) - position)
        again = iter(other)
        middle = list(islice(again, min(2, other.remaining)))  # so that it does not learn of its end
        third = KINDS[kind]()
        third.load_state_dict(saved(other.state_dict()))
        rest = list(third)
        assert whole[:position] + middle + rest == whole
        assert list(again) == rest
        assert list(third) == whole  # the epoch after that is whole again
        third.set_epoch(3)
        sampler.set_epoch(3)
        assert list(third) == list(sampler)
        sampler.set_epoch(2)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(0, 6),
)
def test_other_world_sizes_go_on_and_none_is_lost_or_doubled(kind, stages, last, epoch):
    alone = KINDS[kind](difficulty=DIFFICULTY)
    alone.set_epoch(epoch)
    whole, got, state = list(alone), [], None
    for world_size, steps in [*stages, (last, None)]:
        samplers = team(kind, world_size, **({} if state else {"difficulty": DIFFICULTY}))
        for sampler in samplers:
            if state:
                sampler.load_state_dict(state)
            sampler.set_epoch(epoch)
        left = (len(whole) - len(got)) // world_size
        steps = left if steps is None else min(steps, left)  # what all processes have in common
        iterators = [iter(sampler) for sampler in samplers]
        got += dealt([list(islice(iterator, steps)) for iterator in iterators])
        states = [saved(sampler.state_dict()) for sampler in samplers]
        assert len({(s["position"], s["checksum"], s["finished"]) for s in states}) == 1
        assert states[0]["position"] == len(got)
        state = states[-1]
    got += dealt([list(iterator) for iterator in iterators])
    assert got == whole


@pytest.mark.parametrize("uneven", ["drop", "repeat"])
def test_uneven_rounds_after_a_resume(uneven):
    def make(rank, world_size):
        return CurriculumSampler(10, order="easiest_first", uneven=uneven, rank=rank, world_size=world_size)

    first = make(0, 3)
    assert next(iter(first)) == 0
    shares = []
    for rank in range(3):
        sampler = make(rank, 3)
        sampler.load_state_dict(first.state_dict())
        shares.append(list(sampler))
    assert dealt(shares) == ([3, 4, 5, 6, 7, 8] if uneven == "drop" else [3, 4, 5, 6, 7, 8, 9, 0, 1])
    two = [make(rank, 2) for rank in range(2)]
    for sampler in two:
        sampler.load_state_dict(first.state_dict())
    assert dealt([list(sampler) for sampler in two]) == ([3, 4, 5, 6, 7, 8] if uneven == "drop" else [*range(3, 10), 0])


def test_a_finished_epoch_is_followed_by_a_whole_one():
    sampler = KINDS["items"](difficulty=DIFFICULTY)
    sampler.set_epoch(1)
    iterator = iter(sampler)
    whole = list(islice(iterator, len(sampler)))
    not_yet = sampler.state_dict()  # all is given, and the iterator does not know that it has ended
    assert list(iterator) == []
    finished = sampler.state_dict()
    assert (not_yet["finished"], finished["finished"]) == (False, True)
    other = KINDS["items"]()
    other.load_state_dict(not_yet)
    assert (other.remaining, list(other)) == (0, [])
    other.load_state_dict(finished)
    assert (other.epoch, list(other)) == (1, whole)
    other.set_epoch(2)
    other.load_state_dict(finished)  # which a loader does late: it must not bring epoch 1 back
    sampler.set_epoch(2)
    assert (other.epoch, list(other)) == (2, list(sampler))
    other.set_epoch(0)
    other.set_epoch(2)
    other.load_state_dict(not_yet)  # nor may this, of which nothing is left
    assert (other.epoch, list(other)) == (2, list(sampler))


def test_the_end_of_an_uneven_last_round_is_the_end_for_all():
    shares = team("items", 2, pace=1.0)
    iterators = [iter(sampler) for sampler in shares]
    assert [len(list(islice(it, n))) for it, n in zip(iterators, (12, 11), strict=True)] == [12, 11]
    states = [sampler.state_dict() for sampler in shares]
    assert states[0]["position"] == N
    for rank, world_size in ((0, 1), (0, 2), (1, 2)):
        other = KINDS["items"](pace=1.0, rank=rank, world_size=world_size)
        for state in (states[0], states[rank]):  # its own serves as well
            other.load_state_dict(state)
            assert (other.remaining, list(other)) == (0, [])


def test_difficulties_and_weights_of_the_next_epoch_are_in_the_state():
    sampler = CurriculumSampler(4, difficulty=torch.tensor([1.0, 2, 3, 4]), order="easiest_first")
    iterator = iter(sampler)
    assert [next(iterator), next(iterator)] == [0, 1]
    sampler.set_difficulty(torch.tensor([4.0, 3, 2, float("nan")]))
    sampler.set_weights(torch.tensor([1.0, 1, 0, 1]))
    other = CurriculumSampler(4, order="easiest_first")
    other.load_state_dict(saved(sampler.state_dict()))
    assert list(other) == [2, 3] == list(iterator)
    assert list(other) == [1, 0] == list(sampler)
    last = CurriculumSampler(4, order="easiest_first")
    last.load_state_dict(saved(sampler.state_dict()))
    assert list(last) == [1, 0]


def test_a_state_is_taken_in_no_time_and_does_not_change_later():
    difficulty = torch.rand(N)
    sampler = KINDS["items"](difficulty=difficulty)
    iterator = iter(sampler)
    next(iterator)
    state = sampler.state_dict()
    assert state["items"]["difficulty"] is sampler.state_dict()["items"]["difficulty"]  # no copy
    kept = copy.deepcopy(state)
    rest = list(iterator)
    sampler.set_difficulty(torch.rand(N))
    difficulty.zero_()
    sampler.set_epoch(4)
    list(sampler)
    assert torch.equal(state["items"]["difficulty"], kept["items"]["difficulty"])
    sampler.load_state_dict(state)
    assert (sampler.epoch, list(sampler)) == (0, rest)


@pytest.mark.parametrize("kind", ["items", "batches"])
def test_what_a_loader_asked_for_ahead_is_not_lost(kind):
    sampler = KINDS[kind](difficulty=DIFFICULTY)
    whole = list(sampler)
    how = {"sampler": sampler, "batch_size": None} if kind == "items" else {"batch_sampler": sampler}
    loader = iter(DataLoader(TensorDataset(torch.arange(N)), **how, num_workers=1, prefetch_factor=3))
    for _ in range(2):
        next(loader)
    assert sampler.state_dict()["position"] > 2
    other = KINDS[kind]()
    other.load_state_dict(sampler.state_dict(yielded=2))
    assert list(other) == whole[2:]
    for got, error in ((99, ValueError), (-1, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="yielded must be"):
            sampler.state_dict(yielded=got)
    list(loader)
    assert sampler.state_dict()["finished"]
    assert not sampler.state_dict(yielded=len(whole) - 1)["finished"]
    other.load_state_dict(sampler.state_dict(yielded=len(whole) - 1))
    assert list(other) == whole[-1:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KINDS["items"](seed=7), r"other settings \(seed 6 there, 7 here\)"),
        (lambda: KINDS["items"](uneven="drop"), r"other settings \(uneven 'keep' there, 'drop' here\)"),
        (lambda: KINDS["items"](order="easiest_first"), "order 'shuffled' there, 'easiest_first' here"),
        (lambda: KINDS["items"](pool="bucket"), "pool 'easiest' there, 'bucket' here"),
        (lambda: KINDS["items"](formula="curml"), "formula 'paper' there, 'curml' here"),
        (lambda: KINDS["items"](num_samples=3), "num_samples None there, 3 here"),
        (lambda: KINDS["items"](replacement=True), "replacement False there, True here"),
        (lambda: KINDS["items"](pace=0.5), r"pace \{'pace': 'linear', .*\} there, \{'pace': 'constant'.* here"),
        (lambda: CurriculumSampler(N + 1, pace=PACE, seed=6), f"num_items {N} there, {N + 1} here"),
        (lambda: CurriculumBatchSampler(N, pace=PACE, seed=6, batch_size=2), "batch_size None there, 2 here"),
    ],
)
def test_other_settings_are_refused_by_name(make, message):
    sampler = KINDS["items"]()
    next(iter(sampler))
    other = make()
    before = other.state_dict()
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(sampler.state_dict())
    assert other.state_dict() == before


def test_other_batches_are_refused_by_name():
    state = KINDS["budgets"]().state_dict()
    for field, other in (
        ("lengths", CurriculumBatchSampler(N, pace=PACE, max_utterances=6, lengths=LENGTHS.flip(0))),
        ("max_utterances 6", CurriculumBatchSampler(N, pace=PACE, max_utterances=7, lengths=LENGTHS)),
        ("drop_last", CurriculumBatchSampler(N, pace=PACE, max_utterances=6, lengths=LENGTHS, drop_last=True)),
    ):
        with pytest.raises(ValueError, match=rf"other settings \({field}"):
            other.load_state_dict(state)
    CurriculumBatchSampler(N, pace=PACE, max_utterances=6, lengths=LENGTHS.int().numpy()).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.update(version=0), ValueError, r"must be of version 1 \(got 0\)"),
        (lambda s: s.pop("config"), ValueError, "must be that of a CurriculumSampler"),
        (lambda s: s.pop("next_items"), ValueError, r"must have all its fields \(got none of next_items\)"),
        (lambda s: s.update(epoch=-1), ValueError, "epoch of the state must be at least 0"),
        (lambda s: s.update(position="3"), TypeError, "position of the state must be an integer"),
        (lambda s: s.update(position=N + 1), ValueError, "must come out as it did"),
        (lambda s: s.update(checksum=1), ValueError, "must come out as it did where the state was saved"),
        (lambda s: s["items"].update(difficulty=torch.rand(3)), ValueError, "difficulty must have shape"),
        (lambda s: s["items"].update(difficulty=DIFFICULTY.flip(0)), ValueError, "must come out as it did"),
        (lambda s: s.update(next_items={"difficulty": None, "weights": -DIFFICULTY}), ValueError, "weights must be"),
    ],
)
def test_a_state_at_fault_is_refused_and_changes_nothing(change, error, message):
    sampler = KINDS["items"](difficulty=DIFFICULTY)
    sampler.set_epoch(1)
    iterator = iter(sampler)
    next(iterator)
    state = copy.deepcopy(sampler.state_dict())
    change(state)
    other = KINDS["items"]()
    other.set_epoch(2)
    expected = list(other)
    other.set_epoch(0)
    other.set_epoch(2)
    with pytest.raises(error, match=message):
        other.load_state_dict(state)
    assert (other.epoch, other.remaining, list(other)) == (2, len(expected), expected)
    with pytest.raises(ValueError, match="must be that of a CurriculumSampler"):
        other.load_state_dict(["something else"])


def test_config_is_plain_and_the_state_of_an_untouched_sampler_needs_no_order(monkeypatch):
    sampler = KINDS["budgets"]()
    assert all(isinstance(value, (int, str, bool, dict, type(None))) for value in sampler.config.values())
    monkeypatch.setattr("spcl_fast._sampling.order_of_epoch", None)
    state = sampler.state_dict()
    assert (state["position"], state["checksum"]) == (0, None)
    assert np.array_equal(saved(state)["config"]["lengths"], sampler.config["lengths"])
