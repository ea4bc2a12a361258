"""Properties of SPCL's difficulty that hold for every input, searched by hypothesis."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast import ops
from spcl_fast.reference.self_paced_step import harmonic_mean

pytestmark = pytest.mark.usefixtures("backend")

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda x: sum(x) > 0)
positive = st.floats(1e-300, 1e300)
common = settings(max_examples=50, deadline=None)


def problem(sizes, M, seed):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    logits = 2 * torch.randn(M, sum(sizes), 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (sum(sizes),), generator=generator)
    return logits, labels, torch.tensor([0, *sizes]).cumsum(0)


@common
@given(s=positive, l=positive)
def test_difficulty_lies_between_the_smaller_and_twice_the_smaller(s, l):
    s, l = torch.tensor(s, dtype=torch.float64), torch.tensor(l, dtype=torch.float64)
    rho = harmonic_mean(s, l)
    assert torch.minimum(s, l) <= rho <= 2 * torch.minimum(s, l)
    assert rho == harmonic_mean(l, s)


@common
@given(s=st.floats(1e-6, 1e6), l=st.floats(1e-6, 1e6), factor=st.floats(1.001, 100))
def test_difficulty_rises_in_spread_and_in_loss(s, l, factor):
    s, l = torch.tensor(s, dtype=torch.float64), torch.tensor(l, dtype=torch.float64)
    assert harmonic_mean(s * factor, l) > harmonic_mean(s, l)
    assert harmonic_mean(s, l * factor) > harmonic_mean(s, l)


@pytest.mark.parametrize(("s", "l", "rho"), [(0, 0, 0), (0, 3, 0), (3, 0, 0), (0, float("inf"), float("inf")),
                                       (2, float("inf"), float("inf")), (1e-310, 1e300, 2e-310)])  # fmt: skip
def test_difficulty_at_the_borders(s, l, rho):
    got = harmonic_mean(torch.tensor(s, dtype=torch.float64), torch.tensor(l, dtype=torch.float64))
    assert got == rho


@common
@given(sizes=lengths, M=st.integers(2, 4), seed=st.integers(0, 99), data=st.data())
def test_permuting_modalities_or_utterances_of_a_dialogue_changes_nothing(sizes, M, seed, data):
    logits, labels, offsets = problem(sizes, M, seed)
    step = ops.self_paced_step(logits, labels, offsets, 0.8)
    order = torch.cat([
        int(offsets[d]) + torch.tensor(data.draw(st.permutations(range(n))), dtype=torch.int64)
        for d, n in enumerate(sizes)
    ])  # fmt: skip
    modalities = data.draw(st.permutations(range(M)))
    moved = ops.self_paced_step(logits[modalities][:, order], labels[order], offsets, 0.8)
    torch.testing.assert_close(moved.spread, step.spread, equal_nan=True, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(moved.difficulty, step.difficulty[order], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(moved.loss, step.loss, rtol=1e-10, atol=1e-10)


@common
@given(sizes=lengths, M=st.integers(2, 7), seed=st.integers(0, 99))
def test_equal_modalities_are_never_hard(sizes, M, seed):
    logits, labels, offsets = problem(sizes, 1, seed)
    step = ops.self_paced_step(logits.expand(M, -1, -1), labels, offsets, 0.0)
    assert torch.equal(step.spread.nan_to_num(0), torch.zeros(len(sizes), dtype=torch.float64))
    assert not step.difficulty.any()
    assert step.weight.all()


@common
@given(sizes=lengths, seed=st.integers(0, 99))
def test_repeating_every_utterance_of_a_dialogue_doubles_its_spread(sizes, seed):
    logits, labels, offsets = problem(sizes, 3, seed)
    spread = ops.self_paced_step(logits, labels, offsets, 0.8).spread
    twice = ops.self_paced_step(logits.repeat_interleave(2, 1), labels.repeat_interleave(2), 2 * offsets, 0.8)
    torch.testing.assert_close(twice.spread, 2 * spread, equal_nan=True, rtol=1e-10, atol=1e-10)


@common
@given(sizes=lengths, seed=st.integers(0, 99), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_difficulty_depends_on_its_own_dialogue_alone_bitwise(sizes, seed, dtype):
    logits, labels, offsets = problem(sizes, 3, seed)
    logits = logits.to(dtype)
    whole = ops.self_paced_step(logits, labels, offsets, 0.8)
    for d in range(len(sizes)):
        own = slice(int(offsets[d]), int(offsets[d + 1]))
        alone = ops.self_paced_step(logits[:, own], labels[own], offsets[d : d + 2] - offsets[d], 0.8)
        assert torch.equal(alone.difficulty, whole.difficulty[own])
        assert torch.equal(alone.weight, whole.weight[own])


@common
@given(sizes=lengths, seed=st.integers(0, 99), low=st.floats(0, 3), high=st.floats(0, 3))
def test_a_higher_threshold_selects_no_less(sizes, seed, low, high):
    step = [ops.self_paced_step(*problem(sizes, 3, seed), x).weight for x in sorted((low, high))]
    assert (step[0] <= step[1]).all()


@common
@given(sizes=lengths, seed=st.integers(0, 99))
def test_with_two_modalities_the_spread_is_their_distance_over_root_two(sizes, seed):
    logits, labels, offsets = problem(sizes, 2, seed)
    step = ops.self_paced_step(logits, labels, offsets, 0.8)
    for d in range(len(sizes)):
        S = step.confidence[:, int(offsets[d]) : int(offsets[d + 1])].sum(1)
        if sizes[d]:
            torch.testing.assert_close(step.spread[d], (S[0] - S[1]).abs() / 2**0.5, rtol=1e-9, atol=1e-12)
        else:
            assert step.spread[d].isnan()
