"""The raw ops of order statistics, their arrays, and the rule of the rank in both languages."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from spcl_fast import _arrays, arrays, backends
from spcl_fast.reference.rank_of_pace import rank_of_pace

OPS = ("difficulty_quantile", "select_easiest")


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def raw(op: str):
    return getattr(torch.ops.spcl_fast, op)


def assert_rank(pace: float, sizes: list[int]) -> None:
    """The decimal that a pace is written as, times n, rounded up; in both languages."""
    expected = [math.ceil(Fraction(str(pace)) * n) for n in sizes]
    assert [_arrays.rank_at(pace, n) for n in sizes] == expected, pace
    assert rank_of_pace(pace, torch.tensor(sizes)).tolist() == expected, pace


@pytest.mark.host_only
def test_the_rank_is_that_of_the_written_decimal() -> None:
    """0.1 * 30 is 3.0000000000000004 in floating point, and 0.07 * 100 is 7.000000000000001."""
    assert _arrays.rank_at(0.1, 30) == 3
    assert _arrays.rank_at(0.07, 100) == 7
    sizes = [*range(300), 999, 1000, 1001, 12_345, 10**6, 10**6 + 1, 10**9, 10**9 + 7, 2**31, 2**40, 2**40 + 1]
    for thousandths in range(1, 1001):
        assert_rank(thousandths / 1000, sizes)


@pytest.mark.host_only
def test_the_rank_of_paces_with_more_digits() -> None:
    source = random.Random(0)
    for _ in range(2000):
        digits = source.randint(1, 6)
        pace = max(1, source.randrange(10**digits)) / 10**digits
        assert_rank(pace, [source.randrange(1, 2 ** source.randint(1, 28)) for _ in range(20)])


@pytest.mark.host_only
def test_the_rank_of_any_pace_is_the_same_in_both_languages_and_never_out_of_range() -> None:
    source = random.Random(1)
    for _ in range(5000):
        pace = source.choice([source.random() or 1.0, 1 / source.randint(1, 10**6), 10 ** source.uniform(-300, 0)])
        n = source.randrange(1, 2 ** source.randint(1, 40))
        rank = _arrays.rank_at(pace, n)
        assert rank == int(rank_of_pace(pace, torch.tensor(n)))
        assert 1 <= rank <= n
        exact = math.ceil(Fraction(pace) * n)
        assert rank in (exact, exact - 1, exact + 1)
    for pace in (5e-324, 1e-9, 0.5, 1.0):
        assert _arrays.rank_at(pace, 0) == 0 == int(rank_of_pace(pace, torch.tensor(0)))
    for divisor in range(1, 2000):
        assert _arrays.rank_at(1 / divisor, 7 * divisor) == 7  # a pace computed with one rounding


def problems() -> Iterator[torch.Tensor]:
    for T in (0, 1, 100, 16_385, 70_001, 200_003):
        yield torch.randn(T)
        yield torch.randint(5, (T,)).float()
        yield torch.where(torch.rand(T) < 0.4, float("nan"), torch.rand(T))


@pytest.mark.host_only
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("op", OPS)
def test_the_number_of_threads_changes_no_bit(op: str, threads: int) -> None:
    before = torch.get_num_threads()
    for values in problems():
        for pace in (0.003, 0.4, 1.0):
            expected = getattr(arrays, op)(values.numpy(), pace)  # serial
            try:
                torch.set_num_threads(threads)
                got = raw(op)(values, pace).numpy()
            finally:
                torch.set_num_threads(before)
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_opcheck(op: str, dtype: torch.dtype) -> None:
    for values in (torch.randn(50, dtype=dtype), torch.randn(50, 2, dtype=dtype)[:, 1]):  # it knows no equal NaN
        torch.library.opcheck(raw(op).default, (values, 0.3))


@pytest.mark.parametrize("op", OPS)
def test_raw_ops_refuse_wrong_input(op: str) -> None:
    values = torch.randn(4)
    for pace in (0.0, 1.5, float("nan")):
        with pytest.raises(RuntimeError, match=rf"{op}: pace must be in \(0, 1\]"):
            raw(op)(values, pace)
    with pytest.raises(RuntimeError, match=rf"{op}: difficulty must be \[T\] \(got \[2, 2\]\)"):
        raw(op)(values.view(2, 2), 0.5)
    with pytest.raises(RuntimeError, match=rf"{op}: difficulty must be float16"):
        raw(op)(values.long(), 0.5)
    shrunk = torch.randn(100)
    shrunk.untyped_storage().resize_(40)
    with pytest.raises(RuntimeError, match=f"{op}: difficulty must lie inside its storage"):
        raw(op)(shrunk, 0.5)


def test_addresses_are_64_bit() -> None:
    torch.utils.deterministic.fill_uninitialized_memory = False  # 4 GiB, of which 17 pages are touched
    try:
        storage = torch.empty(2**31 + 8, dtype=torch.float16)
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = True
    far = storage.as_strided((17,), (2**27,))
    near = torch.randn(17).half()
    far.copy_(near)
    for op in OPS:
        assert torch.equal(raw(op)(far, 0.4), raw(op)(near, 0.4))


@pytest.mark.host_only
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("T", [0, 1, 100, 50_000])
def test_arrays_are_the_torch_ops(dtype: type, T: int) -> None:
    values = np.random.default_rng(0).normal(size=T).astype(dtype)
    values[::7] = np.nan
    for pace in (0.01, np.float32(0.5), 1):
        threshold = arrays.difficulty_quantile(values, pace)
        assert type(threshold) is dtype
        expected = raw("difficulty_quantile")(torch.from_numpy(values), float(pace)).numpy()
        assert threshold.tobytes() == expected.tobytes()
        taken = arrays.select_easiest(values, pace)
        assert taken.dtype == bool
        np.testing.assert_array_equal(taken, raw("select_easiest")(torch.from_numpy(values), float(pace)).numpy())
    assert arrays.difficulty_quantile(values[:1], 1.0).tobytes() in (dtype(np.nan).tobytes(), values[:1].tobytes())


@pytest.mark.host_only
def test_arrays_of_any_stride_read_only_and_mapped(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 500, 40_000).astype(np.float32)
    expected = arrays.difficulty_quantile(values, 0.3), arrays.select_easiest(values, 0.3)
    np.save(tmp_path / "values.npy", values)
    record = np.zeros(40_000, np.dtype([("flag", "i1"), ("value", "f4")]))  # unaligned, 5 bytes apart
    record["value"] = values
    backwards = np.ascontiguousarray(values[::-1])[::-1]
    read_only = values.copy()
    read_only.flags.writeable = False
    for view in (np.load(tmp_path / "values.npy", mmap_mode="r"), record["value"], backwards, read_only):
        assert arrays.difficulty_quantile(view, 0.3) == expected[0]
        np.testing.assert_array_equal(arrays.select_easiest(view, 0.3), expected[1])


@pytest.mark.host_only
@pytest.mark.parametrize("function", [arrays.difficulty_quantile, arrays.select_easiest])
@pytest.mark.parametrize(
    ("difficulty", "pace", "error", "rule"),
    [
        ([0.5], 0.5, TypeError, r"difficulty must be a NumPy array \(got list\)"),
        (np.zeros((2, 2)), 0.5, ValueError, r"difficulty must be \[T\] \(got \(2, 2\)\)"),
        (np.zeros(()), 0.5, ValueError, r"difficulty must be \[T\]"),
        (np.zeros(2, int), 0.5, TypeError, "difficulty must be float16, float32 or float64"),
        (np.zeros(2, ">f4"), 0.5, TypeError, "native byte order"),
        (np.zeros(2), True, TypeError, r"pace must be a number \(got bool\)"),
        (np.zeros(2), "1", TypeError, r"pace must be a number \(got str\)"),
        (np.zeros(2), 0, ValueError, r"pace must be in \(0, 1\] \(got 0.0\)"),
        (np.zeros(2), 1.5, ValueError, r"pace must be in \(0, 1\] \(got 1.5\)"),
        (np.zeros(2), float("nan"), ValueError, r"pace must be in \(0, 1\] \(got nan\)"),
    ],
)
def test_arrays_refuse_wrong_input(function, difficulty, pace, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=f"{function.__name__}: {rule}|{rule}"):
        function(difficulty, pace)
