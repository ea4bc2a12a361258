"""`difficulty_histogram` by the CUDA kernel: its paths and borders, against the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import reference
from spcl_fast.reference import keys

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)


def made(T: int, dtype: torch.dtype) -> Tensor:
    values = torch.randn(T)
    if dtype == torch.int64:
        return (values * 1e18).long()
    values[torch.rand(T) < 0.1] = NAN
    return values.to(dtype)


def assert_histograms(values: Tensor) -> None:
    """At every level, along the digits of one of the values, and where nothing begins like this."""
    last = keys.levels(values.dtype) - 1
    for level in range(last + 1):
        below = keys.digit_at(values.dtype, level).below
        above = keys.key_of(values[:1]) >> below if level else torch.zeros(1, dtype=torch.int64)
        if level:
            above = above & ((1 << (64 - below)) - 1)
        for prefix in (above[0] if len(values) else torch.tensor(0), torch.tensor(-1)):
            got = torch.ops.spcl_fast.difficulty_histogram(values, prefix, level)
            assert torch.equal(got, reference.difficulty_histogram(values, prefix, level)), level


# Blocks have 512 threads with four pieces of 16 bytes: 8 halves, 4 float32 or 2 of 64 bits in a piece.
@pytest.mark.parametrize("T", [0, 1, 31, 513, 2047, 2048, 4096, 4097, 8192, 8193, 16_385, 40_001])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_histogram_at_the_borders_of_blocks_and_pieces(T: int, dtype: torch.dtype) -> None:
    assert_histograms(made(T, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_histogram_of_any_address_and_stride(dtype: torch.dtype) -> None:
    T = 9000
    storage = made(2 * T + 16, dtype)
    for start in range(9):
        assert_histograms(storage[start : start + T])
    assert_histograms(storage[3 : 3 + 2 * T : 2])
    assert_histograms(storage[1:2].expand(T))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_histogram_where_digits_repeat_in_every_order(dtype: torch.dtype) -> None:
    """Runs of equal digits are counted together; two values by turns never are."""
    T = 20_000
    runs = torch.arange(T) // 37 % 5
    for values in (torch.zeros(T), runs, torch.arange(T) % 2, runs.sort().values):
        assert_histograms(values.to(dtype))


def test_histogram_with_more_pieces_than_the_grid_takes_at_once() -> None:
    """1,056 blocks of 512 threads with four pieces, and then some."""
    T = 1056 * 512 * 4 * 2 + 12_345
    values = torch.arange(T)
    got = torch.ops.spcl_fast.difficulty_histogram(values, torch.tensor(1024 << 22), 3)  # 2^20 to a digit
    assert got[:5].tolist() == [2**20] * 4 + [T - 2**22]
    assert int(got.sum()) == T


def test_the_prefix_may_be_any_number() -> None:
    for dtype in DTYPES:
        values = made(100, dtype)
        for prefix in (-1, -(2**63), 2**63 - 1, 2048, 1 << 55):
            for level in range(keys.levels(dtype)):
                got = torch.ops.spcl_fast.difficulty_histogram(values, torch.tensor(prefix), level)
                assert torch.equal(got, reference.difficulty_histogram(values, torch.tensor(prefix), level))
                assert not got.any() or 0 < prefix < 1 << 53
