"""Draws of `CurriculumSampler` by weight: how often each item comes, and what never does."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch

from spcl_fast import CurriculumSampler, _sampling

pytestmark = pytest.mark.host_only

WEIGHTS = [1.0, 0.0, 2.0, 5.0]
DRAWN = 2000


def draws(epochs, **settings):
    sampler = CurriculumSampler(len(WEIGHTS), weights=torch.tensor(WEIGHTS), **settings)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield tuple(sampler)


def is_near(count, n, probability):
    return abs(count - n * probability) < 5 * math.sqrt(n * probability * (1 - probability)) + 1e-9


@pytest.mark.parametrize("num_samples", [1, 2, None])
def test_draws_without_replacement_are_successive_draws(num_samples):
    k = num_samples or 3
    counts = Counter(draws(DRAWN, num_samples=num_samples))
    possible = list(permutations([0, 2, 3], k))
    for drawn in possible:
        probability, left = 1.0, sum(WEIGHTS)
        for item in drawn:
            probability *= WEIGHTS[item] / left
            left -= WEIGHTS[item]
        assert is_near(counts.pop(drawn, 0), DRAWN, probability)
    assert not counts  # the item of weight 0 never comes, and none comes twice


def test_draws_with_replacement_are_independent():
    (first, second) = draws(2, num_samples=DRAWN, replacement=True)
    assert first != second
    for drawn in (first, second):
        pairs = Counter(zip(drawn[::2], drawn[1::2], strict=True))
        for a, b in ((a, b) for a in range(4) for b in range(4)):
            assert is_near(pairs[a, b], DRAWN // 2, WEIGHTS[a] * WEIGHTS[b] / 64)
    assert all(len(drawn) == 4 for drawn in draws(3, replacement=True))


def test_without_weights_every_item_is_as_likely():
    for replacement in (False, True):
        sampler, counts = CurriculumSampler(5, num_samples=2, replacement=replacement), Counter()
        for epoch in range(DRAWN):
            sampler.set_epoch(epoch)
            counts[tuple(sampler)] += 1
        pairs = [(a, b) for a in range(5) for b in range(5) if replacement or a != b]
        assert counts.keys() <= set(pairs)
        assert all(is_near(counts[pair], DRAWN, 1 / len(pairs)) for pair in pairs)


def test_draws_stay_in_the_pool_and_in_the_order_that_is_asked_for():
    settings = {
        "difficulty": torch.tensor([3.0, 0.0, 1.0, 1.0, 2.0]),
        "weights": torch.tensor([9, 1, 2, 2, 1]),
        "pace": 0.8,
        "order": "easiest_first",
    }
    assert list(CurriculumSampler(5, **settings)) == [1, 2, 3, 4]
    few = list(CurriculumSampler(5, **settings, num_samples=2))
    assert few in ([1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4])
    again = list(CurriculumSampler(5, **settings, num_samples=50, replacement=True))
    assert again == sorted(again, key=[1, 2, 3, 4].index)
    assert len(again) == 50
    assert set(again) == {1, 2, 3, 4}


def test_no_more_is_drawn_than_can_be():
    assert sorted(CurriculumSampler(4, weights=torch.tensor(WEIGHTS), num_samples=9)) == [0, 2, 3]
    assert sorted(CurriculumSampler(4, num_samples=9)) == [0, 1, 2, 3]


def test_the_scale_of_weights_does_not_matter_and_neither_overflows_nor_vanishes():
    expected = list(CurriculumSampler(4, weights=torch.tensor(WEIGHTS), num_samples=2))
    for scale in (2.0**-1060, 2.0**1020):
        weights = np.array(WEIGHTS) * scale
        assert list(CurriculumSampler(4, weights=weights, num_samples=2)) == expected
        many = list(CurriculumSampler(4, weights=weights, num_samples=99, replacement=True))
        assert many == list(CurriculumSampler(4, weights=torch.tensor(WEIGHTS), num_samples=99, replacement=True))
    apart = CurriculumSampler(3, weights=np.array([1e308, 5e-324, 1e308]))
    assert list(apart)[2] == 1
    with np.errstate(all="raise"):
        assert set(CurriculumSampler(3, weights=np.array([1e308, 5e-324, 1e308]), replacement=True)) <= {0, 2}


def test_points_belong_to_the_item_whose_stretch_begins_there():
    class Given:
        def random(self, size):
            return np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # 1: what a product of less can round to

        def shuffle(self, drawn):
            pass

    draw = _sampling.Draw("easiest", "shuffled", "paper", 5, True)
    drawn = _sampling.weighted_draw("op", 0, np.arange(5), np.array([1.0, 0, 1, 2, 0]), draw, Given())
    assert drawn.tolist() == [0, 2, 3, 3, 3]


def test_keys_that_are_equal_go_by_index():
    keys = np.array([2.0, np.inf, 1, np.inf, 1, 0] * 50)
    assert _sampling._ascending(keys).tolist() == sorted(range(300), key=keys.tolist().__getitem__)
    assert _sampling._ascending(keys[[0, 2, 5]]).tolist() == [2, 1, 0]


def test_a_pool_whose_weights_are_all_0_is_refused_when_it_is_reached():
    difficulty = torch.tensor([1.0, 2.0, 3.0])
    sampler = CurriculumSampler(3, difficulty=difficulty, weights=torch.tensor([0, 0, 1.0]), pace=0.5)
    with pytest.raises(ValueError, match=r"some weight must be above 0 in every pool \(got none among the 2 items"):
        list(sampler)
    sampler.set_weights(torch.tensor([0, 1, 0]))
    assert list(sampler) == [1]


def test_weights_that_change_count_from_the_next_epoch_on():
    sampler = CurriculumSampler(3, weights=torch.tensor([1, 0, 1]))
    iterator = iter(sampler)
    begun = [next(iterator)]
    sampler.set_weights(torch.tensor([0, 1, 0]))
    assert sorted(begun + list(iterator)) == [0, 2]
    assert list(sampler) == [1]
    sampler.set_weights(None)
    sampler.set_epoch(1)
    assert sorted(sampler) == [0, 1, 2]
