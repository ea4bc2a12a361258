"""`ops.select_easiest` against sorted lists, and its rows of the table of faults; on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def by_hand(difficulty: Tensor, rank: int) -> list[bool]:
    values = difficulty.double().tolist()
    order = sorted((t for t, value in enumerate(values) if value == value), key=values.__getitem__)  # stable
    taken = set(order[:rank])
    return [t in taken for t in range(len(values))]


def test_ties_go_by_index_and_nan_is_never_taken():
    difficulty = torch.tensor([2.0, NAN, 1.0, 2.0, INF, 2.0, -INF, NAN])
    assert ops.select_easiest(difficulty, 0.5).tolist() == by_hand(difficulty, 3)
    assert ops.select_easiest(difficulty, 0.51).nonzero().flatten().tolist() == [0, 2, 3, 6]
    assert ops.select_easiest(difficulty, 1.0).tolist() == (~difficulty.isnan()).tolist()
    zeros = torch.tensor([0.0, -0.0, 0.0, -0.0])
    assert ops.select_easiest(zeros, 0.5).tolist() == [True, True, False, False]


# Few ties, some, nothing but ties; sizes on both sides of a vector, of what is gathered at once, and of a chunk.
@pytest.mark.parametrize("distinct", [1, 2, 40, 10**9])
@pytest.mark.parametrize("T", [0, 1, 2, 17, 2049, 16_384, 16_385, 32_769, 70_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_select_easiest_takes_exactly_the_rank(distinct, T, dtype):
    difficulty = (torch.randint(distinct, (T,)) / min(distinct, 512)).to(dtype)
    difficulty[torch.rand(T) < 0.2] = NAN
    n = int((~difficulty.isnan()).sum())
    for eighths in (1, 4, 7, 8):
        rank = -(-n * eighths // 8)
        got = ops.select_easiest(difficulty, eighths / 8)
        assert (got.dtype, got.shape) == (torch.bool, (T,))
        assert int(got.sum()) == rank
        assert got.tolist() == by_hand(difficulty, rank)


def test_nothing_is_taken_where_nothing_is_known():
    for T in (0, 5, 40_000):
        assert not ops.select_easiest(torch.full((T,), NAN), 1.0).any()


@pytest.mark.parametrize("T", [100, 50_000])
def test_the_selection_lies_at_the_threshold(T):
    for difficulty in (torch.rand(T), torch.rand(T).half(), torch.randint(9, (T,)).double()):
        for pace in (0.01, 0.5, 0.99):
            threshold = ops.difficulty_quantile(difficulty, pace)
            taken = ops.select_easiest(difficulty, pace)
            assert difficulty[taken].max() == threshold
            assert (difficulty[~taken] >= threshold).all()


@settings(deadline=None)  # the first call on a GPU loads and compiles
@given(
    st.lists(st.one_of(st.floats(width=32), st.integers(0, 3).map(float)), max_size=60),
    st.floats(1e-6, 1.0),
    st.floats(1e-6, 1.0),
)
def test_what_a_pace_takes_a_larger_one_takes_too(values, pace, other):
    fewer, more = (ops.select_easiest(torch.tensor(values), p) for p in sorted((pace, other)))
    assert not (fewer & ~more).any()


def test_any_stride_is_read_in_place():
    for T in (100, 40_000):
        values = torch.randint(50, (T,)).float()
        expected = ops.select_easiest(values, 0.3)
        assert torch.equal(ops.select_easiest(torch.stack([values, -values], 1)[:, 0], 0.3), expected)
        got = ops.select_easiest(torch.tensor([2.5]).expand(T), 0.3)
        assert got.nonzero().flatten().tolist() == list(range(3 * T // 10))


def test_ties_go_by_id_where_ids_are_given():
    difficulty = torch.tensor([2.0, NAN, 1.0, 2.0, INF, 2.0, -INF, NAN])
    ids = torch.tensor([70, 1, 5, -3, 9, 2**63 - 1, 8, 2])
    for pace, taken in ((0.5, [2, 3, 6]), (0.6, [0, 2, 3, 6]), (0.8, [0, 2, 3, 5, 6])):
        assert ops.select_easiest(difficulty, pace, ids=ids).nonzero().flatten().tolist() == taken
    assert not ops.select_easiest(torch.full((4,), NAN), 1.0, ids=torch.arange(4)).any()
    assert ops.select_easiest(torch.empty(0), 0.5, ids=torch.arange(0)).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("distinct", [1, 5, 10**9])
def test_the_order_of_ids_is_that_of_the_index(distinct, dtype):
    difficulty = (torch.randint(distinct, (3000,)) / min(distinct, 512)).to(dtype)
    difficulty[::7] = NAN
    order = torch.randperm(3000)
    for pace in (0.001, 0.4, 1.0):
        expected = ops.select_easiest(difficulty, pace)
        assert torch.equal(ops.select_easiest(difficulty, pace, ids=torch.arange(3000) - 2**62), expected)
        assert torch.equal(ops.select_easiest(difficulty[order], pace, ids=order), expected[order])


def test_wrong_ids_are_refused():
    difficulty = torch.randn(4)
    with pytest.raises(TypeError, match=r"select_easiest: ids must hold int64 \(got torch.int32\)"):
        ops.select_easiest(difficulty, 0.5, ids=torch.arange(4, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"select_easiest: ids must have shape \(4,\) \(got \(3,\)\)"):
        ops.select_easiest(difficulty, 0.5, ids=torch.arange(3))
    with pytest.raises(ValueError, match=r"select_easiest: all tensors must be on one device .* ids on meta"):
        ops.select_easiest(difficulty, 0.5, ids=torch.arange(4, device="meta"))


def test_no_gradient_and_inputs_are_not_written():
    difficulty = torch.randn(9, requires_grad=True)
    before = difficulty.clone()
    assert not ops.select_easiest(difficulty, 0.5).requires_grad
    assert torch.equal(difficulty, before)
