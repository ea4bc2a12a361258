"""`difficulty_quantile` by the CUDA kernels: each of their paths and borders, against sorted values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import _native, reference

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FEW = 1 << 14  # values that one block holds


def assert_threshold(values: Tensor, pace: float) -> None:
    got = torch.ops.spcl_fast.difficulty_quantile(values, pace)
    expected = reference.difficulty_quantile(values, pace)
    assert (got.dtype, got.shape) == (values.dtype, ())
    assert torch.equal(got, expected) or bool(got.isnan() & expected.isnan()), (got, expected, pace)


# A warp's share of few values is 512; then blocks have 512 threads with four pieces of 16 bytes.
@pytest.mark.parametrize("T", [1, 31, 33, 511, 513, FEW - 1, FEW, FEW + 1, 2 * FEW, 2 * FEW + 3, 70_001])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quantile_at_the_borders_of_blocks_and_pieces(T: int, dtype: torch.dtype) -> None:
    values = torch.randn(T).to(dtype)
    values[torch.rand(T) < 0.1] = NAN
    for pace in (1e-9, 0.3, 1.0):
        assert_threshold(values, pace)


@pytest.mark.parametrize("T", [100, FEW + 100])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quantile_of_any_address_and_stride(T: int, dtype: torch.dtype) -> None:
    storage = torch.randn(2 * T + 16).to(dtype)
    for start in range(0, 9, 1 if T < FEW else 4):
        assert_threshold(storage[start : start + T], 0.4)
    assert_threshold(storage[start + 1 : start + T], 0.4)
    assert_threshold(storage[3 : 3 + 2 * T : 2], 0.4)
    assert_threshold(storage[:1].expand(T), 0.4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [2000, FEW + 2000])
def test_quantile_where_digits_repeat_in_every_order(T: int, dtype: torch.dtype) -> None:
    """Runs of equal digits are counted together; two values by turns never are."""
    runs = torch.arange(T) // 37 % 5
    for values in (torch.zeros(T), runs, torch.arange(T) % 2, runs.sort().values, runs.sort(descending=True).values):
        for pace in (0.2, 0.5, 0.9):
            assert_threshold(values.to(dtype), pace)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [1000, FEW + 1000])
def test_quantile_tells_infinity_from_nan_of_either_sign(T: int, dtype: torch.dtype) -> None:
    """Their keys begin with the same digits."""
    values = torch.full((T,), INF, dtype=dtype)
    values[::3] = NAN
    values[1::3] = -torch.tensor(NAN, dtype=dtype)
    values[:: T // 4] = -INF
    for pace in (0.001, 0.01, 0.5, 1.0):
        assert_threshold(values, pace)
    assert_threshold(torch.full((T,), NAN, dtype=dtype), 0.5)
    assert_threshold(torch.full((T,), -INF, dtype=dtype), 0.5)


def test_every_digit_of_a_double_counts() -> None:
    """Six digits: values that differ in one of them alone."""
    for T in (500, FEW + 500):
        for shift in (0, 8, 9, 20, 31, 42, 53):
            bits = torch.tensor(1.5, dtype=torch.float64).view(torch.int64) + (torch.arange(T) % 7 << shift)
            for pace in (0.1, 0.6):
                assert_threshold(bits.view(torch.float64), pace)


def test_quantile_with_more_pieces_than_the_grid_takes_at_once() -> None:
    """1,056 blocks of 512 threads with four pieces, and then some."""
    T = 1056 * 512 * 4 * 2 + 12_345
    values = -torch.arange(T, dtype=torch.float64)  # the last ones are the smallest
    for pace in (1e-9, 12_000 / T):
        assert torch.ops.spcl_fast.difficulty_quantile(values, pace) == values[-max(1, round(pace * T))]


def test_the_same_bits_in_every_call() -> None:
    values = torch.randn(3 * FEW)
    first = torch.ops.spcl_fast.difficulty_quantile(values, 0.3)
    for _ in range(5):
        assert torch.equal(torch.ops.spcl_fast.difficulty_quantile(values, 0.3), first)


def a_pace(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype)


@pytest.mark.parametrize("T", [1, 100, FEW, FEW + 1, 3 * FEW])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pace_on_the_device_is_read_there(T: int, dtype: torch.dtype) -> None:
    values = torch.randn(T).to(dtype)
    for kind in DTYPES:
        for value in (0.07, 0.3, 1.0):
            pace = a_pace(value, kind)
            got = torch.ops.spcl_fast.difficulty_quantile(values, None, pace)
            assert torch.equal(got, torch.ops.spcl_fast.difficulty_quantile(values, float(pace)))


@pytest.mark.parametrize("T", [100, FEW + 100])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pace_on_the_device_may_be_anything(T: int, dtype: torch.dtype) -> None:
    if not _native.acts_as_device and torch.get_default_device().type == "cpu":
        pytest.skip("the host looks at the pace")
    values = torch.randn(T).to(dtype)
    values[::3] = -INF
    for value in (0.0, -0.5, -INF, NAN):
        assert torch.ops.spcl_fast.difficulty_quantile(values, None, a_pace(value)).isnan()
    for value in (1.5, INF):
        assert torch.ops.spcl_fast.difficulty_quantile(values, None, a_pace(value)) == values.max()
    tiny = a_pace(5e-324)
    assert torch.ops.spcl_fast.difficulty_quantile(values, None, tiny) == -INF


def test_no_values() -> None:
    for dtype in DTYPES:
        got = torch.ops.spcl_fast.difficulty_quantile(torch.empty(0, dtype=dtype), 0.5)
        assert got.dtype == dtype
        assert got.isnan()
