"""Properties of `ops.window_coherence` that hold for every input, searched by hypothesis."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

lengths = st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda x: sum(x) > 0)
windows = st.sampled_from([1, 3, 5, 7, 15, 33, 99])
sources = st.sampled_from(["embedding", "prediction"])
common = settings(max_examples=40, deadline=None)


def problem(sizes, seed, dtype=torch.float32):
    """Embeddings in which all that can be wrong is wrong now and then."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    T = sum(sizes)
    e = torch.randn(3, T, 9, generator=generator, dtype=dtype)
    chance = torch.rand(3, T, generator=generator)
    e[chance < 0.1] = 0
    e[(chance > 0.1) & (chance < 0.13)] = float("nan")
    present = torch.rand(3, T, generator=generator) < 0.9
    return e, torch.tensor([0, *sizes]).cumsum(0), present


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


@common
@given(sizes=lengths, window=windows, source=sources, seed=st.integers(0, 2**31))
def test_a_dialogue_has_the_same_coherence_in_every_batch(sizes, window, source, seed):
    e, offsets, present = problem(sizes, seed)
    whole = ops.window_coherence(e, offsets, window=window, source=source, present=present)
    for d, size in enumerate(sizes):
        rows = slice(int(offsets[d]), int(offsets[d + 1]))
        alone = ops.window_coherence(
            e[:, rows], torch.tensor([0, size]), window=window, source=source, present=present[:, rows]
        )
        assert same(alone, whole[rows])


@common
@given(sizes=lengths, window=windows, source=sources, seed=st.integers(0, 2**31))
def test_order_of_modalities_and_of_time_does_not_count(sizes, window, source, seed):
    e, offsets, present = problem(sizes, seed, torch.float64)
    options = {"window": window, "source": source}
    expected = ops.window_coherence(e, offsets, present=present, **options)
    turned = ops.window_coherence(e[[2, 0, 1]], offsets, present=present[[2, 0, 1]], **options)
    torch.testing.assert_close(turned, expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    backwards = torch.tensor([0, *sizes[::-1]]).cumsum(0)
    got = ops.window_coherence(e.flip(1), backwards, present=present.flip(1), **options).flip(0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@common
@given(sizes=lengths, window=windows, source=sources, seed=st.integers(0, 2**31))
def test_values_lie_in_range_and_lengths_of_vectors_do_not_count(sizes, window, source, seed):
    e, offsets, present = problem(sizes, seed, torch.float64)
    got = ops.window_coherence(e, offsets, window=window, source=source, present=present)
    known = got[~got.isnan()]
    assert ((known >= (-1 if source == "embedding" else 0)) & (known <= 1)).all()
    factor = torch.tensor([2.0, 0.25, 8.0], dtype=torch.float64).view(3, 1, 1)
    other = e * factor if source == "embedding" else e + factor
    again = ops.window_coherence(other, offsets, window=window, source=source, present=present)
    torch.testing.assert_close(again, got, rtol=1e-12, atol=1e-12, equal_nan=True)


@common
@given(sizes=lengths, seed=st.integers(0, 2**31))
def test_a_wide_window_is_the_mean_of_the_dialogue(sizes, seed):
    e, offsets, present = problem(sizes, seed, torch.float64)
    one = ops.window_coherence(e, offsets, window=1, present=present)
    wide = ops.window_coherence(e, offsets, window=999, present=present)
    faulty = (present & e.isnan().any(-1)).any(0)
    for d, size in enumerate(sizes):
        rows = slice(int(offsets[d]), int(offsets[d + 1]))
        expected = one[rows].nanmean().expand(size).masked_fill(faulty[rows], float("nan"))
        torch.testing.assert_close(wide[rows], expected, rtol=1e-12, atol=1e-12, equal_nan=True)
