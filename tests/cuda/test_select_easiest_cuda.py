"""`select_easiest` by the CUDA kernels: each of their paths and borders, against a stable sort."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import _native, reference

NAN = float("nan")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FEW = CHUNK = 1 << 14  # values that one block holds, and those whose ties are counted together


def assert_selection(values: Tensor, pace: float) -> None:
    got = torch.ops.spcl_fast.select_easiest(values, pace)
    assert (got.dtype, got.shape) == (torch.bool, values.shape)
    assert torch.equal(got, reference.select_easiest(values, pace)), pace


@pytest.mark.parametrize("T", [1, 31, 33, 511, 513, FEW - 1, FEW, FEW + 1, 2 * CHUNK, 2 * CHUNK + 3, 50_001])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_selection_at_the_borders_of_blocks_and_pieces(T: int, dtype: torch.dtype) -> None:
    few_ties, many_ties = torch.randn(T).to(dtype), torch.randint(3, (T,)).to(dtype)
    for values in (few_ties, many_ties):
        values[torch.rand(T) < 0.1] = NAN
        for pace in (1e-9, 0.4, 1.0):
            assert_selection(values, pace)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_last_tie_may_lie_anywhere(dtype: torch.dtype) -> None:
    """First, last and on both sides of a lane, a warp, a step of a block and a chunk."""
    for T in (FEW, 3 * CHUNK):
        values = torch.ones(T, dtype=dtype)
        for rank in (1, 2, 32, 33, 512, 513, 1023, 1024, 1025, 2049, T // 3, T // 3 + 1, 2 * T // 3, T - 1, T):
            got = torch.ops.spcl_fast.select_easiest(values, rank / T)
            assert got.nonzero().flatten().tolist() == list(range(rank))


@pytest.mark.parametrize("T", [100, CHUNK + 100])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_selection_of_any_address_and_stride(T: int, dtype: torch.dtype) -> None:
    storage = torch.randint(20, (2 * T + 16,)).to(dtype)
    for start in range(0, 9, 1 if T < FEW else 4):
        assert_selection(storage[start : start + T], 0.4)
    assert_selection(storage[start + 1 : start + T], 0.4)
    assert_selection(storage[3 : 3 + 2 * T : 2], 0.4)
    assert_selection(storage[:1].expand(T), 0.4)


def test_ties_in_more_chunks_than_a_block_looks_at_together() -> None:
    T = 259 * CHUNK + 5
    values = torch.tensor(2.5, dtype=torch.float16).expand(T)
    for chunk in (0, 255, 256, 259):
        rank = min(chunk * CHUNK + 3, T)
        got = torch.ops.spcl_fast.select_easiest(values, rank / T)
        assert int(got.sum()) == rank
        assert bool(got[:rank].all())


def test_ties_spread_thinly_over_chunks() -> None:
    values = torch.full((20 * CHUNK,), 3.0)
    values[:: CHUNK // 2 + 1] = 1.0
    values[1 :: CHUNK // 2 + 1] = 2.0
    for taken in (1, 39, 40, 41, 60, 79, 80, 81):
        assert_selection(values, taken / len(values))


def test_nothing_is_taken_where_nothing_is_known() -> None:
    for T in (0, 5, FEW + 5):
        assert not torch.ops.spcl_fast.select_easiest(torch.full((T,), NAN), 1.0).any()


@pytest.mark.parametrize("T", [1, 100, FEW, FEW + 1, 3 * CHUNK])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pace_on_the_device_is_read_there(T: int, dtype: torch.dtype) -> None:
    values = torch.randint(50, (T,)).to(dtype)
    for kind in DTYPES:
        for value in (0.07, 0.3, 1.0):
            pace = torch.tensor(value, dtype=kind)
            got = torch.ops.spcl_fast.select_easiest(values, None, pace)
            assert torch.equal(got, torch.ops.spcl_fast.select_easiest(values, float(pace)))


@pytest.mark.parametrize("T", [100, FEW + 100, 3 * CHUNK])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pace_on_the_device_may_be_anything(T: int, dtype: torch.dtype) -> None:
    """Where nothing is to be taken, -Inf is not either: its key is the smallest, 0."""
    if not _native.acts_as_device and torch.get_default_device().type == "cpu":
        pytest.skip("the host looks at the pace")
    values = torch.randn(T).to(dtype)
    values[::3], values[1::3] = -float("inf"), NAN
    for value in (0.0, -0.5, -float("inf"), NAN):
        assert not torch.ops.spcl_fast.select_easiest(values, None, torch.tensor(value)).any()
    for value in (1.5, float("inf")):
        taken = torch.ops.spcl_fast.select_easiest(values, None, torch.tensor(value))
        assert torch.equal(taken, ~values.isnan())


def test_more_than_2_to_the_31_values() -> None:
    if torch.get_default_device().type == "cpu":
        pytest.skip("4 GB of values, for a GPU")
    T = 2**31 + 7
    values = torch.ones(T, dtype=torch.float16)
    values[-1] = 0
    got = torch.ops.spcl_fast.select_easiest(values, (T - 3) / T)
    assert int(got.sum()) == T - 3
    assert got[-5:].tolist() == [True, False, False, False, True]
    assert torch.ops.spcl_fast.difficulty_quantile(values, 1 / T) == 0
