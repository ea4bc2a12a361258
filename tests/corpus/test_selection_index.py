"""A selection in its file: an array that is not loaded, and nothing at all where the file is damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spcl_fast.corpus import SelectionIndex, StoreCorrupt, write_selection
from spcl_fast.corpus import _selection_file as file_format
from spcl_fast.corpus.checksum import checksum


@pytest.fixture(params=["rows", "bits"])
def chosen(request, tmp_path):
    """An index and the rows that are in it: gaps of whole blocks, full blocks, a ragged end."""
    rng = np.random.default_rng(3)
    mask = rng.random(9001) < 0.4
    mask[1024:4000] = False
    mask[5000:6500] = True
    path = tmp_path / "own.selection"
    write_selection(path, np.split(mask, [3, 700]), rows=len(mask), count=int(mask.sum()), form=request.param)
    return SelectionIndex(path), np.flatnonzero(mask), mask


def test_index_is_an_array_that_is_not_loaded(chosen):
    found, rows, mask = chosen
    n = len(rows)
    assert len(found) == n
    assert [found[i] for i in (0, 1, n // 2, n - 1, -1, -n)] == rows[[0, 1, n // 2, n - 1, -1, -n]].tolist()
    assert type(found[0]) is int
    positions = np.random.default_rng(0).integers(-n, n, (50, 3))
    assert np.array_equal(found[positions], rows[positions])
    for part in (slice(None), slice(5, 5), slice(7, 3), slice(-40, None), slice(1, n, 7), slice(None, None, -1)):
        assert np.array_equal(found[part], rows[part])
        assert found[part].dtype == np.int64
    assert list(found) == rows.tolist()
    assert np.array_equal(np.asarray(found), rows)
    assert np.asarray(found, dtype=np.float64).dtype == np.float64
    for first, last in ((0, 9001), (3, 3), (1, 9000), (511, 513), (1024, 4000), (4999, 6502), (9001, 9001)):
        assert np.array_equal(found.mask(first, last), mask[first:last])
    for wrong in (n, -n - 1, np.array([0, n])):
        with pytest.raises(IndexError, match="positions must be in"):
            found[wrong]
    with pytest.raises(IndexError, match="positions must be integers"):
        found[0.5]
    for first, last in ((-1, 3), (4, 3), (0, 9002)):
        with pytest.raises(IndexError, match=r"rows in \[0, 9001\]"):
            found.mask(first, last)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, np.uint64])
def test_positions_of_any_integers_are_looked_up(chosen, dtype):
    found, rows, _ = chosen
    positions = np.array([0, 3, 100, *([-1, -100] if np.iinfo(dtype).min < 0 else [])], dtype)
    assert np.array_equal(found[positions], rows[positions])
    assert found[positions[-1]] == rows[positions[-1]]


def test_bits_are_those_that_other_tools_read(chosen):
    found, rows, mask = chosen
    raw = found.path.read_bytes()[file_format.HEADER :]
    if found.form == "rows":
        assert np.array_equal(np.frombuffer(raw, "<i8"), rows)
    else:
        bits = np.unpackbits(np.frombuffer(raw[: -(-len(mask) // 512) * 64], np.uint8), bitorder="little")
        assert np.array_equal(bits[: len(mask)].astype(bool), mask)
        assert not bits[len(mask) :].any()


@pytest.mark.parametrize("form", ["rows", "bits"])
def test_selections_of_nothing_and_of_all(form, tmp_path):
    for mask in (np.zeros(0, bool), np.zeros(600, bool), np.ones(600, bool), np.ones(512, bool)):
        path = tmp_path / "s"
        write_selection(path, [mask], rows=len(mask), count=int(mask.sum()), form=form)
        found = SelectionIndex(path)
        assert np.array_equal(np.asarray(found), np.flatnonzero(mask))
        assert list(found) == np.flatnonzero(mask).tolist()
        assert found[np.zeros(0, np.int64)].shape == (0,)
        assert np.array_equal(found.mask(0, len(mask)), mask)


def test_a_changed_or_shortened_file_is_refused_with_its_name(chosen):
    found, _, _ = chosen
    raw = found.path.read_bytes()
    rng = np.random.default_rng(1)
    places = [*range(0, 300, 13), *rng.integers(0, len(raw), 20).tolist(), len(raw) - 1]
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << int(rng.integers(8))
        found.path.write_bytes(damaged)
        with pytest.raises(StoreCorrupt, match=found.path.name):
            SelectionIndex(found.path)
    for length in (0, 10, file_format.HEADER - 1, file_format.HEADER, len(raw) - 1):
        found.path.write_bytes(raw[:length])
        with pytest.raises(StoreCorrupt, match=found.path.name):
            SelectionIndex(found.path)
    found.path.write_bytes(raw + b"\0")
    with pytest.raises(StoreCorrupt, match="bytes"):
        SelectionIndex(found.path)
    found.path.unlink()
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        SelectionIndex(found.path)


SOUND = {"version": 1, "form": "rows", "unit": "utterance", "rows": 9, "count": 0, "about": {}, "checksum": ""}


@pytest.mark.parametrize(
    "header",
    [
        SOUND | {"version": 2},
        SOUND | {"rows": -1},
        SOUND | {"count": 10},
        SOUND | {"rows": 2**63, "count": 2**63},
        SOUND | {"rows": 9.0},
        SOUND | {"count": True},
        SOUND | {"form": "pickle"},
        SOUND | {"unit": 3},
        SOUND | {"about": []},
        SOUND | {"checksum": None},
        SOUND | {"rows": 2**61, "count": 2**60},
        {},
        [],
        None,
    ],
)
def test_a_header_that_lies_is_refused_before_anything_is_made(header, tmp_path):
    text = json.dumps(header).encode().ljust(file_format.HEADER - len(f"{file_format.MAGIC} {checksum(b'')}\n"))
    (tmp_path / "s").write_bytes(f"{file_format.MAGIC} {checksum(text)}\n".encode() + text)
    with pytest.raises(StoreCorrupt, match=str(tmp_path / "s")):
        SelectionIndex(tmp_path / "s")


def test_a_header_of_deep_nesting_is_refused(tmp_path):
    text = (b"[" * 4000).ljust(file_format.HEADER - len(f"{file_format.MAGIC} {checksum(b'')}\n"))
    (tmp_path / "s").write_bytes(f"{file_format.MAGIC} {checksum(text)}\n".encode() + text)
    with pytest.raises(StoreCorrupt, match="JSON"):
        SelectionIndex(tmp_path / "s")
