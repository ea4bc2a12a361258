"""read_table: rows in any order, of any source that gives an Arrow table, become dialogues; holes and nulls do not."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers import read_corpus, read_table, tables

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

T = 6
TEXT = np.arange(12, dtype=np.float32).reshape(T, 2)


def fixed(values, F):
    return pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(values).ravel()), F)


def columns(**changes):
    found = {
        "dialogue_id": ["b", "b", "b", "a", "a", "c"],
        "utterance_index": [0, 1, 2, 0, 1, 0],
        "speaker": ["Ross", "Joey", "Ross", "Joey", "Ross", "Ross"],
        "label": ["joy", "anger", "joy", "fear", "joy", "neutral"],
        "split": ["train", "train", "train", "valid", "valid", "test"],
        "sentence": ["Hi."] * T,
        "text": fixed(TEXT, 2),
        "audio": [[0.5, 1.5, 2.5]] * T,
    }
    return {name: x for name, x in (found | changes).items() if x is not None}


def table(**changes):
    return pa.table(columns(**changes))


def refusal(source, **options):
    with pytest.raises(DatasetError) as caught:
        read_table(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(data):
    assert data.dialogue_ids == ("b", "a", "c")
    assert data.split_names == ("train", "dev", "test")
    assert [data.class_names[y] for y in data.labels] == columns()["label"]
    assert data.class_names[0] == "neutral"  # MELD's order
    assert data.speakers.tolist() == [0, 1, 0, 0, 1, 0]
    assert data.offsets.tolist() == [0, 3, 5, 6]
    np.testing.assert_array_equal(data.features["text"], TEXT)
    assert {m: x.shape for m, x in data.features.items()} == {"text": (T, 2), "audio": (T, 3)}


def write(path, kind, source, **options):
    if kind == "parquet":
        parquet.write_table(source, path, **options)
    else:
        make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as file, make(file, source.schema, **options) as writer:
            writer.write_table(source, max_chunksize=2)
    return path


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_files(tmp_path, kind):
    file = write(tmp_path / ("t.parquet" if kind == "parquet" else "t.arrow"), kind, table())
    check(read_table(file))
    check(read_corpus(file))
    assert read_table(file).name == "t"


@pytest.mark.parametrize("options", [{}, {"compression": "lz4"}])
def test_compressed_file(tmp_path, options):
    check(read_table(write(tmp_path / "t.arrow", "file", table(), options=pa.ipc.IpcWriteOptions(**options))))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(T)))
def test_order_of_rows(order):
    data = read_table(table().take(order), name="t")
    firsts = list(dict.fromkeys(columns()["dialogue_id"][i] for i in order))
    assert data.dialogue_ids == tuple(firsts)
    place = {"b": [0, 1, 2], "a": [3, 4], "c": [5]}
    np.testing.assert_array_equal(data.features["text"], TEXT[[i for d in firsts for i in place[d]]])
    assert data.speakers.tolist() == [s for d in firsts for s in ([0, 1, 0], [0, 1], [0])["bac".index(d)]]


class Dataset:
    """What this package asks of a `datasets.Dataset`: rows in Arrow, and the names of its labels."""

    def __init__(self, source, names=None):
        label = type("ClassLabel", (), {"names": names})()
        self.source, self.features = source, {"label": label}

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def __getitem__(self, rows):
        assert rows == slice(None)
        return self.source


def test_objects():
    check(read_table(table()))
    check(read_table(Dataset(table())))
    check(read_table(pa.RecordBatchReader.from_batches(table().schema, table().to_batches())))
    labels = [1, 0, 1, 1, 1, 0]
    data = read_table(Dataset(table(label=labels), ["sad", "happy"]))
    assert data.class_names == ("sad", "happy")
    assert data.labels.tolist() == labels
    parts = {
        s: Dataset(table(split=None).slice(i, n)) for s, i, n in (("train", 0, 3), ("validation", 3, 2), ("test", 5, 1))
    }
    check(read_table(parts))
    parts = {s: table().slice(i, n) for s, i, n in (("train", 0, 3), ("val", 3, 2), ("test", 5, 1))}  # have the column
    check(read_table(parts))
    with pytest.raises(TypeError, match=r"source must be a file or give an Arrow table \(got int\)"):
        read_table(3)
    assert "holds no split" in refusal({})
    wrong = table(speaker=[1] * T)
    assert "its splits have different columns" in refusal({"train": table(), "test": wrong})


def test_data_frame():
    pandas = pytest.importorskip("pandas")
    check(read_table(pandas.DataFrame(columns() | {"text": list(TEXT)})))


def test_kinds_of_columns():
    check(read_table(table(text=pa.array(TEXT.tolist(), pa.large_list(pa.float64())))))
    check(read_table(table(text=fixed(TEXT.astype(np.float16), 2))))
    check(read_table(table(text=fixed(TEXT.astype(np.int8), 2))))
    encoded = {
        name: pa.array(columns()[name]).dictionary_encode() for name in ("dialogue_id", "speaker", "label", "split")
    }
    check(read_table(table(**encoded)))
    check(read_table(table(dialogue_id=pa.array(columns()["dialogue_id"], pa.large_string()))))
    check(read_table(table(utterance_index=pa.array(columns()["utterance_index"], pa.uint8()))))
    check(read_table(table(utterance_index=[i + 1 for i in columns()["utterance_index"]])))
    chunked = pa.concat_tables([table().slice(i, 2) for i in (0, 2, 4)])
    check(read_table(chunked))
    numbered = read_table(table(dialogue_id=[7, 7, 7, -1, -1, 0], speaker=[5, 3, 5, 3, 5, 5]))
    assert (numbered.dialogue_ids, numbered.speakers.tolist()) == (("7", "-1", "0"), [0, 1, 0, 0, 1, 0])


def test_labels_and_classes():
    data = read_table(table(label=[0, 2, -1, -100, 1, 0]))
    assert (data.class_names, data.labels.tolist()) == (("0", "1", "2"), [0, 2, -100, -100, 1, 0])
    assert read_table(table(label=[0, 2, 5, 1, 1, 0]), corpus="iemocap").class_names[5] == "fru"
    assert read_table(table(label=list("zyxzyx"))).class_names == ("x", "y", "z")
    assert read_table(table(label=list("zyxzyx")), class_names="zyx").class_names == ("z", "y", "x")
    words = ["Happy", "sadness", "neutral", "angry", "excited", "frustrated"]
    data = read_table(table(label=words), corpus="iemocap")
    assert data.labels.tolist() == list(range(6))
    assert any(note.startswith("IEMOCAP: 1 train+dev") or note.startswith("IEMOCAP: 2 train") for note in data.notes)
    assert "label: must be one of z, y (got 'x')" in refusal(table(label=list("zyxzyx")), class_names="zy")
    assert "labels of dialogue 'b': must be below 6" in refusal(table(label=[6] * T), corpus="iemocap")
    assert "label: must be one of hap" in refusal(table(label=["zzz"] * T), corpus="iemocap")
    for options, message in (
        ({"corpus": "movies"}, "corpus must be one of"),
        ({"split": "x"}, "split must be one of"),
        ({"corpus": "meld", "class_names": ["a"]}, "give one"),
    ):
        with pytest.raises(ValueError, match=message):
            read_table(table(), **options)


def test_splits_and_features():
    data = read_table(table(split=None))
    assert data.split_names == ("train", "dev")
    assert len(data.dialogues("dev")) == 1
    data = read_table(table(), features={"words": "text"})
    assert list(data.features) == ["words"]
    assert "features: 'sentence' is no list column of numbers; choose from text, audio" in refusal(
        table(), features={"words": "sentence"}
    )


def null_at(name, row):
    values = list(columns()[name]) if name != "text" else TEXT.tolist()
    values[row] = None
    return {name: pa.array(values, pa.list_(pa.float32(), 2)) if name == "text" else values}


BROKEN = {
    "no label, speaker": ({"label": None, "speaker": None}, "has no column speaker, label; it has dialogue_id"),
    "no features": ({"text": None, "audio": None}, "has no list column of numbers"),
    "hole": ({"utterance_index": [0, 1, 3, 0, 1, 0]}, "utterance_index of dialogue 'b': utterance 2 is missing"),
    "hole at start": ({"utterance_index": [0, 1, 2, 1, 2, 0]}, "of dialogue 'a': utterance 0 is missing"),
    "twice": ({"utterance_index": [0, 1, 1, 0, 1, 0]}, "utterance_index of dialogue 'b': utterance 1 is there twice"),
    "negative": ({"utterance_index": [-1, 0, 1, 0, 1, 0]}, "utterance_index: must begin at 0 or 1 (got -1)"),
    "index float": ({"utterance_index": [0.0] * T}, "utterance_index: must be integers (got double)"),
    "index large": ({"utterance_index": pa.array([2**64 - 1] * T, pa.uint64())}, "utterance_index: must fit int64"),
    "id float": ({"dialogue_id": [0.5] * T}, "dialogue_id: must be text or integers (got double)"),
    "ids alike": ({"dialogue_id": ["1"] * 3 + ["1 "] * 2 + ["1"]}, "utterance_index of dialogue '1'"),
    "split changes": ({"split": ["train", "test"] * 3}, "split: dialogue 'b' is in several"),
    "label float": ({"label": [0.0] * T}, "label: must be text or integers (got double)"),
    "label many": ({"label": [5000] * T}, "labels: must be classes, below 1000 (got 5000)"),
    "ragged": ({"audio": [[1.0]] * 5 + [[1.0, 2.0]]}, "audio: rows must have one length, 1 (got 2 at row 5)"),
    "no width": ({"audio": pa.array([[]] * T, pa.list_(pa.float32()))}, "audio: must have at least one number a row"),
    "null inside": ({"audio": [[1.0, None]] * T}, "audio: must hold no null (got one inside a row)"),
    "nan": ({"audio": [[1.0]] * 5 + [[float("nan")]]}, "audio: must be finite in float32 (got nan at row 5)"),
    "large": ({"audio": [[1.0]] * 5 + [[1e300]]}, "audio: must be finite in float32 (got 1e+300 at row 5)"),
    **{f"null {name}": (null_at(name, 2), f"{name}: must hold no null (got one at row 2)")
       for name in ("dialogue_id", "utterance_index", "speaker", "label", "split", "text")},
    "null in dictionary": (
        {"label": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 0, 0, 0]), pa.array(["joy", None]))},
        "label: must hold no null (got one at row 1)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_is_refused(name):
    changes, message = BROKEN[name]
    assert message in refusal(table(**changes))


def test_empty_table_and_doubled_column():
    assert "holds no utterance" in refusal(table().slice(0, 0))
    assert "has two columns text" in refusal(table().append_column("text", fixed(TEXT, 2)))


def test_broken_files(tmp_path):
    file = tmp_path / "t.arrow"
    assert refusal(file) == f"{file}: no such file"
    assert "is a directory" in refusal(tmp_path)
    for content in (b"", b"Hello, world", b"ARROW1", b"PAR1"):
        file.write_bytes(content)
        assert refusal(file).startswith(f"{os.fspath(file)}: ")
    for kind in ("file", "stream", "parquet"):
        content = write(file, kind, table()).read_bytes()
        for length in range(0, len(content) - 9, 97):
            file.write_bytes(content[:length])
            try:
                found = read_table(file)
            except DatasetError as error:
                assert str(error).startswith(f"{file}: ")  # noqa: PT017 - either is right
            else:  # a stream may end between two of its batches
                assert kind == "stream"
                assert found.num_utterances < T


def test_file_that_becomes_far_more_than_it_is(tmp_path, monkeypatch):
    n = 200_000
    many = pa.table({"dialogue_id": ["b"] * n, "text": pa.array(np.zeros(n))})
    file = write(tmp_path / "t.parquet", "parquet", many)
    monkeypatch.setattr(tables, "_MAX_RATIO", 2)
    monkeypatch.setattr(tables, "_SPARE", 1000)
    assert "holds more than 2 times its size" in refusal(file)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["file", "stream", "parquet"]), at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_damaged_file_is_read_or_refused(tmp_path_factory, kind, at, value):
    file = tmp_path_factory.mktemp("t") / "t.arrow"
    content = bytearray(write(file, kind, table()).read_bytes())
    content[at % len(content)] = value
    file.write_bytes(content)
    try:
        read_table(file)
    except DatasetError as error:
        assert str(error).startswith(f"{file}: ")  # noqa: PT017 - either is right


def test_pyarrow_is_imported_only_where_it_is_needed(monkeypatch, tmp_path):
    code = "import sys, spcl_fast.merc.readers; assert not {'torch', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"install spcl_fast\[corpus\]") as caught:
        read_table(tmp_path / "t.arrow")
    assert caught.value.name == "pyarrow"
