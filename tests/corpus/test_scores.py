"""The store of scores: written in pieces, read in place, trusted in nothing."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spcl_fast.corpus import Scores, StoreCorrupt, _pages, checksum, rescore
from spcl_fast.corpus._column_file import ColumnFile
from spcl_fast.corpus._records import edges_of_digit

spec = importlib.util.spec_from_file_location("rescoring", Path(__file__).with_name("rescoring.py"))
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)


@pytest.fixture
def scores(tmp_path):
    return rescore(helpers.write_corpus(tmp_path / "corpus"), tmp_path / "scores").scores


def test_column_is_a_view_of_the_file_that_other_tools_read(scores):
    column = scores.column("difficulty", 1)
    assert not column.flags.writeable
    assert not column.flags.owndata
    with pa.ipc.open_file(str(scores.folder / scores.shards[1].name)) as file:
        table = file.read_all()
    assert table.column_names == list(scores.columns)
    np.testing.assert_array_equal(table["difficulty"].to_numpy(), column)


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_column_file_is_what_arrow_would_write(tmp_path, rows):
    dtypes = {"a": np.dtype("<f4"), "b": np.dtype("<f2"), "c": np.dtype("<i8")}
    values = {name: np.arange(rows).astype(dtype) for name, dtype in dtypes.items()}
    with (tmp_path / "pieces.arrow").open("x+b") as file:
        columns = ColumnFile(file, dtypes, rows)
        for first in range(0, rows, 3):  # columns in any order
            if first:
                with pytest.raises(ValueError, match="every column must be complete"):
                    columns.checksum()
            for name in ("c", "a", "b"):
                columns.write(name, values[name][first : first + 3])
    batch = pa.record_batch(
        list(values.values()), pa.schema([pa.field(n, pa.from_numpy_dtype(d), False) for n, d in dtypes.items()])
    )
    with pa.ipc.new_file(str(tmp_path / "whole.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    whole = (tmp_path / "whole.arrow").read_bytes()
    assert (tmp_path / "pieces.arrow").read_bytes() == whole
    assert (columns.size, columns.checksum()) == (len(whole), checksum(whole))


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000, 12345])
def test_checksum_of_a_file_is_that_of_its_bytes(tmp_path, monkeypatch, size):
    monkeypatch.setattr(_pages, "_PIECE", 1000)
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    (tmp_path / "file").write_bytes(data)
    assert _pages.checksum_of_file(tmp_path / "file") == (size, checksum(data))


def test_pages_that_are_released_come_back(tmp_path):
    values = np.arange(100_000)
    values.tofile(tmp_path / "file")
    mapped = np.memmap(tmp_path / "file", values.dtype, "r")
    for part in (mapped, mapped[3:99_000], mapped[:10], mapped[:0]):
        _pages.release(part)
    np.testing.assert_array_equal(mapped, values)


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_edges_of_a_digit_hold_its_numbers(dtype):
    from spcl_fast import arrays

    values = np.array([-np.inf, -3.5, -1e-5, 0, 1e-6, 0.3, 1, 1.2, 2, 700, np.inf], dtype)
    for value in values:
        (digit,) = arrays.difficulty_histogram(value[None], 0, 0).nonzero()[0].tolist()
        lowest, highest = edges_of_digit(digit, np.dtype(dtype))
        assert lowest <= value <= highest
        below, above = np.nextafter(np.array([lowest, highest], dtype), np.array([-np.inf, np.inf], dtype))
        for outside in {below, above} - {lowest, highest}:
            if outside == outside:
                assert arrays.difficulty_histogram(np.array([outside], dtype), 0, 0)[digit] == 0


def test_damage_is_found(scores):
    path = scores.folder / scores.shards[0].name
    good = path.read_bytes()
    path.write_bytes(good[:-80] + bytes([good[-80] ^ 4]) + good[-79:])
    with pytest.raises(StoreCorrupt, match=r"shard-000000\.arrow: shard 0: "):
        scores.column("difficulty", 0, verify=True)
    path.write_bytes(good[:-1])
    with pytest.raises(StoreCorrupt, match=r"shard-000000\.arrow: shard 0: must have \d+ bytes"):
        scores.column("difficulty", 0)
    path.unlink()
    with pytest.raises(StoreCorrupt, match=r"shard-000000\.arrow: shard 0: no such file"):
        scores.column("difficulty", 0)


def test_what_is_not_there_is_named(scores, tmp_path):
    with pytest.raises(ValueError, match=r"column: must be one of loss\.text, .* \(got 'easiness'\)"):
        scores.column("easiness", 0)
    with pytest.raises(ValueError, match=r"dialogue_column: must be one of length, .* \(got 'difficulty'\)"):
        scores.dialogue_column("difficulty", 0)
    for index in (-1, len(scores)):
        with pytest.raises(IndexError, match="shard: must be in"):
            scores.column("difficulty", index)
    with pytest.raises(StoreCorrupt, match="no finished store here"):
        Scores(tmp_path)
    with pytest.raises(StoreCorrupt, match="format"):
        Scores(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("columns", ["a", "a"], "names must be distinct"),
        ("columns", "difficulty", "must be a list"),
        ("dtype", "float64", "must be one of float32, float16"),
        ("summary", [], "must be an object"),
        ("options", None, "must be an object"),
    ],
)
def test_hostile_manifest_is_refused(scores, field, value, message):
    from spcl_fast.corpus import write_manifest

    manifest = scores.manifest
    write_manifest(scores.folder, type(manifest)(**{**vars(manifest), "extra": {**manifest.extra, field: value}}))
    with pytest.raises(StoreCorrupt, match=message):
        Scores(scores.folder)


def test_manifest_is_strict_json_with_no_machine_in_it(scores):
    text = (scores.folder / "manifest.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert str(scores.folder) not in text
    assert "seconds" not in text


def test_example_of_the_document_runs(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text()
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "rescore(" in code)
    helpers.write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "docs/corpus.md", "exec"), names)
    assert names["scores"].summary["scored"] > 0


def test_table_of_the_costs_is_that_of_the_record():
    from spcl_fast.cli.bench import load_benchmarks

    root = Path(__file__).resolve().parents[2]
    corpus = importlib.import_module(f"{load_benchmarks(root).__package__}.corpus")
    record, text = json.loads(corpus.RECORD.read_text()), corpus.DOC.read_text()
    assert corpus.filled(text, record) == text
    with pytest.raises(ValueError, match="marks of the table 'rescoring' once"):
        corpus.filled(text.replace("<!-- rescoring", "<!-- others"), record)
