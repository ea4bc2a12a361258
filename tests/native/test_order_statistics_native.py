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
LARGEST = torch.iinfo(torch.int64).max


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


@pytest.mark.host_only
def test_a_pace_in_a_tensor_has_the_same_rank_and_any_value_has_one() -> None:
    sizes = [*range(50), 999, 10**6 + 1, 2**31, 2**40 + 1]
    for pace in (5e-324, 1e-9, 0.07, 0.1, 1 / 3, 0.7, 1.0):
        expected = [_arrays.rank_at(pace, n) for n in sizes]
        assert rank_of_pace(torch.tensor(pace, dtype=torch.float64), torch.tensor(sizes)).tolist() == expected
        half = torch.tensor(pace, dtype=torch.bfloat16)
        assert rank_of_pace(half, torch.tensor(sizes)).tolist() == [_arrays.rank_at(float(half), n) for n in sizes]
    for pace, share in ((0.0, 0), (-1.0, 0), (-math.inf, 0), (math.nan, 0), (1.0000001, 1), (1e300, 1), (math.inf, 1)):
        expected = [share * n for n in sizes]
        assert [_arrays.rank_at(pace, n) for n in sizes] == expected
        assert rank_of_pace(torch.tensor(pace, dtype=torch.float64), torch.tensor(sizes)).tolist() == expected


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_opcheck_of_a_pace_in_a_tensor(op: str, dtype: torch.dtype) -> None:
    torch.library.opcheck(raw(op).default, (torch.randn(50), None, torch.tensor(0.3, dtype=dtype)))


@pytest.mark.parametrize("op", OPS)
def test_raw_ops_refuse_a_wrong_pace_in_a_tensor(op: str) -> None:
    values, pace = torch.randn(4), torch.tensor(0.5)
    for wrong, rule in (
        ((None,), r"pace must be a number or a tensor \(got none\)"),
        ((0.5, pace), r"pace must be a number or a tensor \(got both\)"),
        ((None, pace[None]), r"pace must be a number or a 0-dim tensor \(got \[1\]\)"),
        ((None, torch.tensor(1)), "pace must be float16"),
    ):
        with pytest.raises(RuntimeError, match=f"{op}: {rule}"):
            raw(op)(values, *wrong)
    shrunk = torch.tensor(0.5)
    shrunk.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=f"{op}: pace must lie inside its storage"):
        raw(op)(values, None, shrunk)


@pytest.mark.host_only
@pytest.mark.parametrize("op", OPS)
def test_the_kernels_of_the_cpu_look_at_a_pace_in_a_tensor(op: str) -> None:
    for pace in (0.0, 1.5, float("nan")):
        with pytest.raises(RuntimeError, match=rf"{op}: pace must be in \(0, 1\]"):
            raw(op)(torch.randn(4), None, torch.tensor(pace))


@pytest.mark.host_only
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_the_number_of_threads_changes_no_count(threads: int) -> None:
    before = torch.get_num_threads()
    for values in (*problems(), torch.randint(-(2**63), LARGEST, (70_001,))):
        for level, prefix in ((0, 0), (1, 1520)):
            expected = arrays.difficulty_histogram(values.numpy(), prefix, level)  # serial
            try:
                torch.set_num_threads(threads)
                got = raw("difficulty_histogram")(values, torch.tensor(prefix), level).numpy()
            finally:
                torch.set_num_threads(before)
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64], ids=str)
def test_opcheck_of_the_histogram(dtype: torch.dtype) -> None:
    values = torch.randn(50, 2).to(dtype)
    for level in (0, 1):
        torch.library.opcheck(raw("difficulty_histogram").default, (values[:, 1], torch.tensor(3), level))


def test_the_raw_histogram_refuses_wrong_input() -> None:
    values, prefix, op = torch.randn(4), torch.tensor(0), raw("difficulty_histogram")
    for wrong, rule in (
        ((values.view(2, 2), prefix, 0), r"difficulty must be \[T\] \(got \[2, 2\]\)"),
        ((values.long().view(2, 2), prefix, 0), r"difficulty must be \[T\] \(got \[2, 2\]\)"),
        ((values.int(), prefix, 0), "difficulty must be float16"),
        ((values, prefix[None], 0), r"prefix must be a 0-dim int64 tensor \(got \[1\] of Long\)"),
        ((values, prefix.int(), 0), r"prefix must be a 0-dim int64 tensor \(got \[\] of Int\)"),
        ((values, prefix, 3), r"level must be in \[0, 3\) for this dtype \(got 3\)"),
        ((values.half(), prefix, 2), r"level must be in \[0, 2\) for this dtype \(got 2\)"),
        ((values.long(), prefix, -1), r"level must be in \[0, 6\) for this dtype \(got -1\)"),
    ):
        with pytest.raises(RuntimeError, match=f"difficulty_histogram: {rule}"):
            op(*wrong)
    for shrunk in (torch.randn(100), torch.zeros(100, dtype=torch.int64)):
        shrunk.untyped_storage().resize_(40)
        with pytest.raises(RuntimeError, match="difficulty_histogram: difficulty must lie inside its storage"):
            op(shrunk, prefix, 0)


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
    zero = torch.tensor(0)
    assert torch.equal(raw("difficulty_histogram")(far, zero, 0), raw("difficulty_histogram")(near, zero, 0))


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
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_histograms_of_arrays_are_those_of_the_torch_op(dtype: type) -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(dtype)
    values[::7] = LARGEST if dtype is np.int64 else np.nan
    for part in (values, values[::-3], values[:0]):
        for level, prefix in ((0, 0), (1, 1500), (1, np.int32(1024)), (1, -1)):
            got = arrays.difficulty_histogram(part, prefix, level)
            assert got.dtype == np.int64
            expected = raw("difficulty_histogram")(torch.from_numpy(part.copy()), torch.tensor(int(prefix)), level)
            np.testing.assert_array_equal(got, expected.numpy())
    assert arrays.difficulty_histogram(values, 0, 0).sum() == 1000 - len(values[::7])


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("difficulty", "prefix", "level", "error", "rule"),
    [
        ([0.5], 0, 0, TypeError, r"difficulty must be a NumPy array \(got list\)"),
        (np.zeros((2, 2)), 0, 0, ValueError, r"difficulty must be \[T\] \(got \(2, 2\)\)"),
        (np.zeros(2, np.int32), 0, 0, TypeError, "difficulty must be float16, float32 or float64"),
        (np.zeros(2, ">i8"), 0, 0, TypeError, "native byte order"),
        (np.zeros(2), 0.0, 0, TypeError, r"prefix must be an integer \(got float\)"),
        (np.zeros(2), 0, True, TypeError, r"level must be an integer \(got bool\)"),
        (np.zeros(2), 2**63, 0, ValueError, r"prefix must fit in 64 bits \(got 9223372036854775808\)"),
        (np.zeros(2), 0, 6, ValueError, r"level must be in \[0, 6\) for this dtype \(got 6\)"),
        (np.zeros(2, np.float16), 0, -1, ValueError, r"level must be in \[0, 2\) for this dtype \(got -1\)"),
    ],
)
def test_histograms_of_arrays_refuse_wrong_input(difficulty, prefix, level, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        arrays.difficulty_histogram(difficulty, prefix, level)


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
