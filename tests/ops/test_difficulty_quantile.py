"""`ops.difficulty_quantile` against sorted lists, and its rows of the table of faults; on every backend."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from spcl_fast import _native, ops

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
PACES = (1e-9, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.999, 1.0)


def by_hand(values: list[float], pace: float) -> float:
    known = sorted(value for value in values if not math.isnan(value))
    rank = math.ceil(round(pace * len(known), 9))  # within 1e-9 of an integer is that integer, for so few
    return known[max(rank, 1) - 1] if known else NAN


def assert_threshold(difficulty: Tensor, pace: float) -> None:
    got = ops.difficulty_quantile(difficulty, pace)
    assert got.shape == ()
    assert got.dtype == difficulty.dtype
    expected = torch.tensor(by_hand(difficulty.double().tolist(), pace), dtype=difficulty.dtype)
    assert torch.equal(got, expected) or bool(got.isnan() & expected.isnan()), (got, expected, pace)


def hostile(T: int) -> dict[str, Tensor]:
    """Lists of T numbers that are hard on selection by pivots, by digits or by a sample."""
    mixed = torch.randn(T)
    for value, share in ((NAN, 0.3), (INF, 0.1), (-INF, 0.1), (0.0, 0.1), (-0.0, 0.1)):
        mixed[torch.rand(T) < share] = value
    spread = torch.randint(-(2**31), 2**31, (T,)).to(torch.int32).view(torch.float32)
    return {
        "normal": torch.randn(T),
        "equal": torch.full((T,), 0.7),
        "two values": torch.randint(2, (T,)).float(),
        "rising": torch.arange(T).float(),
        "falling": -torch.arange(T).float(),
        "subnormal": torch.randn(T) * 1e-43,
        "any bits": spread,
        "infinities and NaN": mixed,
        "all NaN": torch.full((T,), NAN),
        "one outlier": torch.zeros(T).index_fill_(0, torch.arange(min(T, 1)), 1e30),
        "many magnitudes": torch.exp(20 * torch.randn(T)),
        "periodic": (torch.arange(T) % 64).float(),
    }


# Sizes: none, few, the borders of a vector and of a block of 2048, and of what is gathered at once (16384).
@pytest.mark.parametrize("T", [0, 1, 2, 3, 15, 16, 17, 2047, 2048, 2049, 16384, 16385, 40_001])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_difficulty_quantile_is_the_order_statistic(T, dtype):
    for values in hostile(T).values():
        for pace in (0.01, 0.5, 0.73, 1.0) if T > 2000 else PACES:
            assert_threshold(values.to(dtype), pace)


def test_difficulty_quantile_of_doubles_that_differ_in_the_last_bit():
    bits = torch.tensor(0.5, dtype=torch.float64).view(torch.int64) + torch.arange(50_000) // 2
    values = bits[torch.randperm(50_000)].view(torch.float64)
    for pace in (1e-6, 0.3, 0.9):
        assert_threshold(values, pace)


def test_where_the_sample_misleads_the_answer_is_right():
    """A sample of every so manieth value sees none of the others, below, above and on both sides."""
    T = 50_000
    for low, high in ((0.0, 0.0), (5.0, 5.0), (0.0, 5.0)):
        values = 1 + torch.rand(T)
        unseen = torch.arange(T) % 47 != 0
        values[unseen] = torch.where(torch.rand(T) < 0.5, low, high)[unseen] + torch.rand(T)[unseen]
        for pace in (0.001, 0.2, 0.5, 0.8, 0.999):
            assert_threshold(values, pace)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zeros_are_one_value_and_come_back_positive(dtype):
    values = torch.tensor([-0.0, 0.0, -0.0, 1.0, -1.0], dtype=dtype)
    for pace in (0.4, 0.6, 0.8):
        got = ops.difficulty_quantile(values, pace)
        assert got.item() == 0
        assert not got.signbit()


def test_threshold_keeps_every_tie():
    difficulty = torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0, NAN, 5.0])
    threshold = ops.difficulty_quantile(difficulty, 0.4)  # ceil(2.4) of six
    assert threshold == 2
    assert (difficulty <= threshold).tolist() == [False, True, True, True, True, False, False]


def test_any_stride_is_read_in_place():
    for T in (100, 40_000):
        values = torch.randn(T)
        expected = ops.difficulty_quantile(values, 0.3)
        spaced = torch.full((3 * T,), NAN)[1::3]
        spaced.copy_(values)
        before = spaced.clone()
        assert torch.equal(ops.difficulty_quantile(spaced, 0.3), expected)
        assert torch.equal(spaced, before)
        assert torch.equal(ops.difficulty_quantile(torch.stack([values, -values], 1)[:, 0], 0.3), expected)
        assert ops.difficulty_quantile(torch.tensor([2.5]).expand(T), 0.3) == 2.5
    negated = torch.randn(50, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    assert torch.equal(ops.difficulty_quantile(negated, 0.3), ops.difficulty_quantile(negated.clone(), 0.3))


@settings(deadline=None)  # the first call on a GPU loads and compiles
@given(st.lists(st.floats(width=32), max_size=60), st.floats(1e-6, 1.0), st.randoms())
def test_permutations_change_nothing(values, pace, random):
    shuffled = random.sample(values, len(values))
    a, b = (ops.difficulty_quantile(torch.tensor(v), pace) for v in (values, shuffled))
    assert torch.equal(a, b) or bool(a.isnan() & b.isnan())


@settings(deadline=None)  # the first call on a GPU loads and compiles
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=60), st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_the_threshold_rises_with_the_pace(values, pace, other):
    low, high = (ops.difficulty_quantile(torch.tensor(values, dtype=torch.float64), p) for p in sorted((pace, other)))
    assert low <= high


def test_no_gradient():
    difficulty = torch.randn(9, requires_grad=True)
    assert not ops.difficulty_quantile(difficulty, 0.5).requires_grad


@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_wrong_input_is_refused(op):
    name, values = op.__name__, torch.randn(4)
    for pace in (0.0, -0.1, 1.0000001, INF, NAN):
        with pytest.raises(ValueError, match=rf"{name}: pace must be in \(0, 1\] \(got {pace}\)"):
            op(values, pace)
    for pace in (True, "0.5", None, torch.tensor(1), torch.tensor([0.5])):
        with pytest.raises(TypeError, match=f"{name}: pace must be a number"):
            op(values, pace)
    with pytest.raises(ValueError, match=rf"{name}: all tensors must be on one device .* pace on meta"):
        op(values, torch.tensor(0.5, device="meta"))
    with pytest.raises(ValueError, match=rf"{name}: difficulty must have 1 dimension\(s\) \(got shape \(2, 2\)\)"):
        op(values.view(2, 2), 0.5)
    with pytest.raises(TypeError, match=f"{name}: difficulty must hold floating point numbers"):
        op(values.long(), 0.5)
    with pytest.raises(TypeError, match=f"{name}: difficulty must be a tensor"):
        op([0.5], 0.5)


@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_compiles_without_a_graph_break(op):
    compiled = torch.compile(lambda x: op(x * 2, 0.3), fullgraph=True, dynamic=True, backend="aot_eager")
    for T in (7, 30, 1001):
        values = torch.randn(T)
        assert torch.equal(compiled(values), op(values * 2, 0.3))


@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_a_tensor_is_the_pace_that_it_holds(op):
    values = torch.randn(30)
    values[3] = NAN
    for dtype in DTYPES:
        for pace in (0.1, 0.3, 1.0):
            tensor = torch.tensor(pace, dtype=dtype, requires_grad=True)
            got = op(values, tensor)
            assert torch.equal(got, op(values, tensor.item()))
            assert not got.requires_grad
    assert ops.select_easiest(torch.randn(30), torch.tensor(0.1, dtype=torch.float64)).sum() == 3
    assert ops.select_easiest(torch.randn(30), torch.tensor(0.1)).sum() == 4  # the float32 lies above 0.1


@pytest.mark.host_only
@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_a_tensor_on_the_host_is_looked_at(op):
    for pace in (0.0, 1.5, NAN):
        with pytest.raises(ValueError, match=rf"{op.__name__}: pace must be in \(0, 1\] \(got {pace}\)"):
            op(torch.randn(4), torch.tensor(pace))


@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_another_pace_in_a_tensor_compiles_nothing_again(op):
    count = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, pace: op(x, pace), fullgraph=True, backend=count)
    values, compilations = torch.randn(1000), []
    for pace in (0.1, 0.35, 1.0):
        assert torch.equal(compiled(values, torch.tensor(pace, dtype=torch.float64)), op(values, pace))
        compilations.append(count.frame_count)
    assert compilations[0] > 0
    assert compilations == compilations[:1] * 3


@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_a_pace_that_nobody_looks_at_may_be_anything(op, backend):
    """Not by the kernels of the CPU, which look."""
    if backend == "cpu" and not _native.acts_as_device:
        pytest.skip("the host looks at the pace")
    compiled = torch.compile(lambda x, pace: op(x, pace), fullgraph=True, backend="aot_eager", dynamic=True)
    for T in (100, 20_000):
        values = torch.randn(T)
        values[::5], values[1::5] = NAN, -INF
        for pace in (0.0, -0.1, -INF, NAN):
            got = compiled(values, torch.tensor(pace))
            assert got.isnan() if op is ops.difficulty_quantile else not got.any()
        for pace in (1.5, INF):
            assert torch.equal(compiled(values, torch.tensor(pace)), op(values, 1.0))


@pytest.mark.parametrize("op", [ops.difficulty_quantile, ops.select_easiest])
def test_runs_where_there_is_no_data_to_wait_for(op):
    for pace in (0.5, torch.tensor(0.5, device="meta")):
        got = op(torch.empty(5, device="meta"), pace)
        assert got.device.type == "meta"
        assert got.shape == ((5,) if op is ops.select_easiest else ())
