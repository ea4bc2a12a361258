"""Thresholds and selections over shards: those of one array, however it is cut; files that are whole or refused."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spcl_fast import arrays, ops
from spcl_fast.corpus import SelectionIndex, write_selection
from spcl_fast.corpus.columns import dialogue_columns, dialogue_difficulty
from spcl_fast.corpus.selection import global_threshold, global_thresholds, select

DTYPES = (np.float16, np.float32, np.float64)
PACES = (1e-9, 0.1, 1 / 3, 0.5, 0.9, 1.0)


def hostile(dtype, T=3000, seed=0):
    """NaN, infinities, both zeros, subnormal numbers and many ties."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(T)
    values[1::3] = values[1::3].round(1)
    values[2::7] *= np.finfo(dtype).smallest_normal / 8
    for value, first in ((np.nan, 0), (np.inf, 1), (-np.inf, 2), (0.0, 3), (-0.0, 4)):
        values[first::29] = value
    return values.astype(dtype)


def cut(values, *at):
    return np.split(values, at)


CUTS = ((), (1,), (0, 0, 1700), (3000,), (7, 512, 513, 1025, 2999))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", CUTS, ids=str)
def test_threshold_is_that_of_the_shards_laid_end_to_end(dtype, at):
    corpus = hostile(dtype)
    known = int((~np.isnan(corpus)).sum())
    for found, pace in zip(global_thresholds(cut(corpus, *at), PACES), PACES, strict=True):
        expected = ops.difficulty_quantile(torch.from_numpy(corpus), pace).numpy()
        assert found.value.dtype == dtype
        assert found.value.tobytes() == expected.tobytes()
        assert found.taken == math.ceil(pace * known - 1e-9)
        assert found.ties == found.taken - (corpus < found.value).sum()
        assert (found.known, found.total) == (known, len(corpus))
        assert global_threshold(cut(corpus, *at), pace).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("dtype", "passes"), [(np.float16, 2), (np.float32, 3), (np.float64, 6)])
def test_all_paces_take_the_passes_of_one(dtype, passes):
    class Shards:
        opened = 0

        def __iter__(self):
            self.opened += 1
            yield from cut(hostile(dtype), 1000)

    shards = Shards()
    global_thresholds(shards, PACES)
    assert shards.opened == passes + 1  # the first looks at dtypes and lengths alone
    assert global_thresholds(shards, []) == []


def test_threshold_of_little_or_nothing():
    for shards in ([], [np.zeros(0, np.float32)], [np.full(5, np.nan, np.float32)]):
        (found,) = global_thresholds(shards, [0.5])
        assert np.isnan(found.value)
        assert found.value.dtype == np.float32
        assert (found.taken, found.ties, found.known) == (0, 0, 0)
    assert global_threshold([np.array([2.5])], 0.1) == 2.5
    assert global_threshold(np.array([2.5, 1.0]), 0.5) == 1.0


@hypothesis.settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.floats(width=32) | st.integers(0, 3).map(float), max_size=30), max_size=5),
    st.floats(1e-6, 1),
    st.sampled_from(["rows", "bits"]),
)
def test_selection_is_select_easiest_for_any_values_and_cuts(tmp_path_factory, shards, pace, form):
    shards = [np.array(shard, np.float32) for shard in shards]
    corpus = np.concatenate([np.zeros(0, np.float32), *shards])
    expected = np.flatnonzero(arrays.select_easiest(corpus, pace))
    path = tmp_path_factory.getbasetemp() / "any.selection"
    found = select(shards, pace=pace, out=path, form=form)
    assert np.asarray(found).tolist() == list(found) == expected.tolist()
    assert np.array_equal(np.asarray(SelectionIndex(path)), expected)


@pytest.mark.parametrize("form", ["rows", "bits"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_selection_takes_exactly_as_many_with_ties_by_row(dtype, form, tmp_path):
    corpus = hostile(dtype)
    before = np.zeros(0, np.int64)
    for pace in (1e-9, 1 / 3, 1.0):
        expected = np.flatnonzero(ops.select_easiest(torch.from_numpy(corpus), pace).numpy())
        contents = set()
        for i, at in enumerate(CUTS):
            path = tmp_path / f"{i}.selection"
            found = select(cut(corpus, *at), pace=pace, out=path, form=form)
            assert np.array_equal(np.asarray(found), expected)
            assert (found.rows, found.form, found.about["pace"]) == (len(corpus), form, pace)
            contents.add(path.read_bytes())
        assert len(contents) == 1  # the same bytes however the corpus is cut
        assert np.isin(before, expected).all()
        before = expected


def test_selection_up_to_a_threshold_keeps_every_tie_and_rounds_as_the_ops_do(tmp_path):
    corpus = hostile(np.float32)
    for threshold in (0.1, 0.0, -0.0, math.inf, -math.inf, -7.0, 1e300):
        with np.errstate(over="ignore"):
            expected = np.flatnonzero(corpus <= np.float32(threshold))
        found = select(cut(corpus, 5, 900), threshold=threshold, out=tmp_path / "s")
        assert np.array_equal(np.asarray(found), expected)
        if math.isfinite(threshold):
            assert np.array_equal(expected, np.flatnonzero(arrays.self_paced_weights(corpus, threshold)))


def test_memory_maps_are_read_in_place(tmp_path):
    corpus = hostile(np.float32, 40_000)
    maps = []
    for i, part in enumerate(cut(corpus, 10_000, 10_001)):
        np.save(tmp_path / f"{i}.npy", part)
        maps.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
    found = select(maps, pace=0.3, out=tmp_path / "s")
    assert np.array_equal(np.asarray(found), np.flatnonzero(arrays.select_easiest(corpus, 0.3)))


def test_the_smaller_form_is_taken(tmp_path):
    corpus = np.arange(100_000, dtype=np.float32)
    sizes = {}
    for pace in (0.001, 0.4):
        for form in ("rows", "bits", "auto"):
            path = tmp_path / f"{form}"
            sizes[form] = (select([corpus], pace=pace, out=path, form=form).form, path.stat().st_size)
        assert sizes["auto"] == min(sizes["rows"], sizes["bits"], key=lambda x: x[1])
        assert sizes["auto"][0] == ("rows" if pace < 0.018 else "bits")


def test_a_selection_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "s"
    select([np.arange(5.0)], pace=0.4, out=path)
    before = path.read_bytes()

    class Changing:
        opened = 0

        def __iter__(self):
            self.opened += 1
            yield np.arange(5.0) if self.opened < 8 else np.arange(4.0)

    with pytest.raises(ValueError, match=r"masks must have 2 of 5 rows chosen \(got 2 of 4\)"):
        select(Changing(), pace=0.4, out=path)

    class Broken:
        opened = 0

        def __iter__(self):
            self.opened += 1
            yield np.arange(5.0)
            if self.opened == 8:
                raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        select(Broken(), pace=0.4, out=path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s"]
    with pytest.raises(OSError, match="nowhere"):
        select([np.arange(5.0)], pace=0.4, out=tmp_path / "nowhere" / "s")


def test_an_open_index_keeps_what_it_has_when_the_file_is_replaced(tmp_path):
    old = select([np.arange(5.0)], pace=0.4, out=tmp_path / "s")
    select([np.arange(5.0)[::-1]], pace=0.4, out=tmp_path / "s")
    assert np.asarray(old).tolist() == [0, 1]
    assert np.asarray(SelectionIndex(tmp_path / "s")).tolist() == [3, 4]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (iter([np.zeros(3)]), TypeError, r"columns must be a sequence of arrays.*\(got list_iterator\)"),
        (3, TypeError, r"columns must be a sequence"),
        ([[1.0]], TypeError, r"must be NumPy arrays \(got list for shard 0\)"),
        ([np.ma.array([1.0])], TypeError, "must be NumPy arrays"),
        ([np.zeros(2), np.zeros(2, np.float32)], TypeError, "must be of one dtype .got float32 and float64"),
        ([np.zeros(2, np.int64)], TypeError, r"must be float16, float32 or float64 .*\(got <i8 "),
        ([np.zeros(2, ">f4")], TypeError, r"in native byte order \(got >f4 "),
        ([np.zeros((2, 1))], ValueError, r"must be \[T\] each \(got shape \(2, 1\) for shard 0\)"),
    ],
)
def test_columns_at_fault_are_named(columns, error, message, tmp_path):
    with pytest.raises(error, match=message):
        global_threshold(columns, 0.5)
    with pytest.raises(error, match=message):
        select(columns, threshold=0.5, out=tmp_path / "s")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "give either pace or threshold"),
        ({"pace": 0.5, "threshold": 0.5}, ValueError, "give either pace or threshold"),
        ({"pace": 0.0}, ValueError, r"pace must be in \(0, 1\]"),
        ({"pace": True}, TypeError, "pace must be a number"),
        ({"threshold": math.nan}, ValueError, "threshold must be a number that is not NaN"),
        ({"pace": 0.5, "form": "json"}, ValueError, "form must be one of 'auto', 'rows', 'bits'"),
        ({"pace": 0.5, "unit": "row"}, ValueError, "unit must be one of 'utterance', 'dialogue'"),
    ],
)
def test_settings_out_of_their_domain_are_named(settings, error, message, tmp_path):
    with pytest.raises(error, match=message):
        select([np.zeros(3)], out=tmp_path / "s", **settings)


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    class Shards:
        """40 million values, of which one shard is held."""

        shard = np.random.default_rng(0).random(1 << 18, dtype=np.float32)

        def __iter__(self):
            return iter([self.shard] * 152)

    for form in ("rows", "bits"):
        tracemalloc.start()
        found = select(Shards(), pace=0.02, out=tmp_path / form, form=form)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (found.rows, len(found)) == (152 << 18, -(-(152 << 18) // 50))
        assert peak < 8e6  # a byte a row would be 40 MB


def test_masks_and_words_that_do_not_fit_are_refused(tmp_path):
    for mask in (np.zeros(3), [True], np.zeros((2, 2), bool)):
        with pytest.raises(TypeError, match=r"masks must be arrays bool\[n\]"):
            write_selection(tmp_path / "s", [mask], rows=3, count=0)
    with pytest.raises(ValueError, match="about must fit into a page"):
        write_selection(tmp_path / "s", [], rows=0, count=0, about={"word": "x" * 5000})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_dialogues_by_mean_and_max(dtype, aggregate, tmp_path):
    corpus = np.abs(hostile(dtype, 900))
    rng = np.random.default_rng(5)
    offsets = np.sort(np.concatenate([[0, 0, 900, 900], rng.integers(0, 900, 60)]))
    of = {"mean": lambda x: x.astype(np.float64).sum() / len(x), "max": np.max}[aggregate]
    parts = [corpus[a:b][~np.isnan(corpus[a:b])] for a, b in pairwise(offsets)]
    expected = np.array([of(part) if len(part) else np.nan for part in parts]).astype(dtype)
    found = dialogue_difficulty(corpus, offsets, aggregate=aggregate)
    assert found.dtype == dtype
    assert np.allclose(found, expected, rtol=1e-3 if dtype == np.float16 else 1e-6, equal_nan=True)
    shards = dialogue_columns([corpus, corpus], [offsets, offsets.astype(np.int32)], aggregate)
    chosen = select(shards, pace=0.5, unit="dialogue", out=tmp_path / "s")
    assert np.array_equal(np.asarray(chosen), np.flatnonzero(arrays.select_easiest(np.tile(found, 2), 0.5)))
    assert (chosen.unit, chosen.rows) == ("dialogue", 2 * len(found))


def test_dialogues_at_fault_are_named():
    for offsets in (np.array([0, 2]), np.array([1, 3]), np.array([0, 2, 1, 3]), np.zeros(0, np.int64)):
        with pytest.raises(ValueError, match="offsets must run from 0 to 3 without falling"):
            dialogue_difficulty(np.zeros(3), offsets)
    with pytest.raises(TypeError, match="offsets must be an array"):
        dialogue_difficulty(np.zeros(3), np.array([0.0, 3.0]))
    with pytest.raises(ValueError, match="aggregate must be one of 'mean', 'max'"):
        dialogue_columns([], [], "sum")
    with pytest.raises(TypeError, match="offsets must be a sequence"):
        dialogue_columns([], iter([]))
    with pytest.raises(ValueError, match="zip"):
        list(dialogue_columns([np.zeros(1)], []))
