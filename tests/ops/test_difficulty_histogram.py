"""`ops.difficulty_histogram` against keys counted one by one, and its rows of the table of faults; on every backend."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from spcl_fast import ops, reference
from spcl_fast.ops import _radix_select

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = {16: torch.int16, 32: torch.int32, 64: torch.int64}
INFINITY = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80, torch.float32: 0x7F800000, torch.float64: 0x7FF0 << 48}
WIDTHS = {16: (11, 5), 32: (11, 11, 10), 64: (11, 11, 11, 11, 11, 9)}
LARGEST = torch.iinfo(torch.int64).max


def keys_by_hand(values: Tensor) -> list[int]:
    """Of those that count: how many numbers are smaller, with -0 and 0 as one."""
    if values.dtype == torch.int64:
        return [value + 2**63 for value in values.tolist() if value != LARGEST]
    size = 8 * values.element_size()
    stored = values.clone().view(INTEGERS[size]).tolist()
    known = [bits for bits, value in zip(stored, values.double().tolist(), strict=True) if not math.isnan(value)]
    return [(bits if bits >= 0 else -(bits + 2 ** (size - 1))) + INFINITY[values.dtype] for bits in known]


def levels_of(dtype: torch.dtype) -> list[tuple[int, int, int]]:
    """Each level of a dtype, its bits and the bits behind it."""
    size = 64 if dtype == torch.int64 else torch.finfo(dtype).bits
    widths = WIDTHS[size]
    return [(level, bits, size - sum(widths[: level + 1])) for level, bits in enumerate(widths)]


def assert_histograms(values: Tensor) -> None:
    """At every level, below the prefixes of three of the values and one that none has."""
    keys = keys_by_hand(values)
    for level, bits, behind in levels_of(values.dtype):
        prefixes = {key >> (bits + behind) for key in (keys[:1] + keys[-1:] + sorted(keys)[len(keys) // 2 :][:1])}
        for prefix in prefixes | {0, -1, 5}:
            got = ops.difficulty_histogram(values, torch.tensor(prefix), level)
            assert (got.dtype, got.shape) == (torch.int64, (2**bits,))
            expected = Counter((key >> behind) % 2**bits for key in keys if key >> (bits + behind) == prefix)
            assert {bucket: int(got[bucket]) for bucket in got.nonzero().flatten().tolist()} == expected, (
                level,
                prefix,
            )


def hostile(T: int, dtype: torch.dtype) -> dict[str, Tensor]:
    if dtype == torch.int64:
        wide = torch.randint(-(2**63), 2**63 - 1, (T,))
        wide[::7], wide[1::7], wide[2::7] = LARGEST, LARGEST - 1, -LARGEST - 1
        return {"any": wide, "near": torch.randint(-9, 9, (T,)), "one": torch.full((T,), 3)}
    mixed = torch.randn(T)
    for value, first in ((NAN, 0), (INF, 1), (-INF, 2), (0.0, 3), (-0.0, 4), (-NAN, 5)):
        mixed[first::9] = value
    size = torch.finfo(dtype).bits
    any_bits = torch.randint(-(2 ** (size - 1)), 2 ** (size - 1) - 1, (T,)).to(INTEGERS[size]).view(dtype)
    tiny = (torch.randn(T).double() * torch.finfo(dtype).smallest_normal / 8).to(dtype)
    return {"mixed": mixed.to(dtype), "any bits": any_bits, "subnormal": tiny, "equal": torch.full((T,), 0.3).to(dtype)}


# Sizes: none, few, and past the borders of a vector, of a block of 2048 and of a thread's share.
@pytest.mark.parametrize("T", [0, 1, 17, 300, 2049, 33_000])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64], ids=str)
def test_difficulty_histogram_counts_the_digits_of_keys(T, dtype):
    for values in hostile(T, dtype).values():
        assert_histograms(values)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_is_not_counted_beside_infinity(dtype):
    """Their keys begin with the same digits; the keys of a negative NaN lie behind all."""
    values = torch.tensor([INF, NAN, -NAN, INF, NAN]).to(dtype)
    prefix = torch.tensor(0)
    for level, bits, _ in levels_of(dtype):
        histogram = ops.difficulty_histogram(values, prefix, level)
        assert int(histogram.sum()) == int(histogram.max()) == 2
        prefix = (prefix << bits) + histogram.argmax()
    assert int(prefix) % 2**64 == 2 * INFINITY[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [5, 20_000])
def test_the_histograms_of_shards_lead_to_the_threshold_of_all(T, dtype):
    values = torch.cat([*hostile(T, dtype).values()])
    shards = values.split([T, 0, len(values) - T])

    def count(prefix: Tensor, level: int) -> Tensor:
        return sum(ops.difficulty_histogram(shard, prefix, level) for shard in shards)

    for pace in (1e-9, 0.2, 0.55, 1.0):
        threshold, ties = _radix_select.threshold(count, values[:0], pace)
        assert torch.equal(threshold, reference.difficulty_quantile(values, pace))
        assert not threshold.signbit() or threshold < 0
        taken = int((values < threshold).sum() + ties)
        assert taken == int(reference.select_easiest(values, pace).sum())


def test_any_stride_is_read_in_place():
    for T in (100, 40_000):
        for values in (torch.randn(T), torch.randint(-5, 5, (T,))):
            expected = ops.difficulty_histogram(values, torch.tensor(0), 0)
            assert torch.equal(
                ops.difficulty_histogram(torch.stack([values, -values], 1)[:, 0], torch.tensor(0), 0), expected
            )
            assert ops.difficulty_histogram(values[:1].expand(T), torch.tensor(0), 0).max() == T
    negated = torch.randn(50, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    got = ops.difficulty_histogram(negated, torch.tensor(0), 0)
    assert torch.equal(got, ops.difficulty_histogram(negated.clone(), torch.tensor(0), 0))


def test_no_gradient_and_inputs_are_not_written():
    difficulty, prefix = torch.randn(9, requires_grad=True), torch.tensor(0)
    before = difficulty.clone()
    assert not ops.difficulty_histogram(difficulty, prefix, 0).requires_grad
    assert torch.equal(difficulty, before)
    assert prefix == 0


def test_wrong_input_is_refused():
    name, values, prefix = "difficulty_histogram", torch.randn(4), torch.tensor(0)
    for level in (-1, 3, 2**70):
        with pytest.raises(ValueError, match=rf"{name}: level must be in \[0, 3\) for torch.float32 \(got {level}\)"):
            ops.difficulty_histogram(values, prefix, level)
    for dtype, levels in ((torch.float16, 2), (torch.bfloat16, 2), (torch.float64, 6), (torch.int64, 6)):
        with pytest.raises(ValueError, match=rf"level must be in \[0, {levels}\) for {dtype}"):
            ops.difficulty_histogram(values.to(dtype), prefix, levels)
    for level in (True, 1.0, None, prefix):
        with pytest.raises(TypeError, match=f"{name}: level must be an integer"):
            ops.difficulty_histogram(values, prefix, level)
    with pytest.raises(TypeError, match=f"{name}: prefix must be a tensor"):
        ops.difficulty_histogram(values, 0, 0)
    with pytest.raises(TypeError, match=rf"{name}: prefix must hold an int64 \(got torch.int32\)"):
        ops.difficulty_histogram(values, prefix.int(), 0)
    with pytest.raises(ValueError, match=rf"{name}: prefix must have 0 dimension\(s\) \(got shape \(1,\)\)"):
        ops.difficulty_histogram(values, prefix[None], 0)
    with pytest.raises(ValueError, match=rf"{name}: difficulty must have 1 dimension\(s\) \(got shape \(2, 2\)\)"):
        ops.difficulty_histogram(values.view(2, 2), prefix, 0)
    with pytest.raises(TypeError, match=f"{name}: difficulty must hold floating point numbers or int64"):
        ops.difficulty_histogram(values.int(), prefix, 0)
    with pytest.raises(ValueError, match=f"{name}: all tensors must be on one device .* prefix on meta"):
        ops.difficulty_histogram(values, prefix.to("meta"), 0)


def test_compiles_without_a_graph_break():
    function = torch.compile(
        lambda x, prefix: ops.difficulty_histogram(x * 2, prefix, 1), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for T in (7, 30, 1001):
        values, prefix = torch.rand(T), torch.tensor(0b10111110111)
        assert torch.equal(function(values, prefix), ops.difficulty_histogram(values * 2, prefix, 1))


def test_runs_where_there_is_no_data_to_wait_for():
    prefix = torch.empty((), device="meta", dtype=torch.int64)
    for dtype, level, length in ((torch.float32, 2, 1024), (torch.bfloat16, 0, 2048)):
        got = ops.difficulty_histogram(torch.empty(5, device="meta", dtype=dtype), prefix, level)
        assert got.device.type == "meta"
        assert (got.shape, got.dtype) == ((length,), torch.int64)
