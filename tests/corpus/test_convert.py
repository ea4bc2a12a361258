"""Tables into stores and back: every value, in parts of any size, and one line for what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from spcl_fast.corpus import CorpusWriter, Modality, convert, open_corpus
from spcl_fast.corpus.convert import store_dataset, store_table, to_record_batches, write_parquet

LENGTHS = [3, 1, 7, 2, 1, 1, 12, 4]


def fixed(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def table_of(lengths=LENGTHS, texts=True, base=0, **columns) -> pa.Table:
    rng = np.random.default_rng(0)
    T = sum(lengths)
    dialogue = np.repeat(np.arange(len(lengths)), lengths)
    found = {
        "dialogue_id": [f"d{d}" for d in dialogue] if texts else dialogue,
        "utterance_index": np.concatenate([np.arange(n) for n in lengths] or [[]]).astype(np.int32) + base,
        "speaker": rng.integers(-3, 3, T),
        "label": rng.integers(-2, 3, T),
        "logits.text": fixed(rng.normal(size=(T, 3)).astype(np.float16)),
        "logits.audio": fixed(rng.normal(size=(T, 3)).astype(np.float32)),
        "embedding.text": fixed(rng.normal(size=(T, 5))),
        "faces": rng.normal(size=(T, 2)).round(3).tolist(),
        "sentence": ["never looked at"] * T,
    }
    return pa.table(found | columns)


def rows_of(array: pa.Array) -> np.ndarray:
    return np.array(array.to_pylist(), np.float64)


def check(corpus, table: pa.Table, lengths=LENGTHS) -> None:
    assert [m.name for m in corpus.modalities] == ["text", "audio", "faces"]
    text, audio, faces = corpus.modalities
    assert (text.num_classes, text.logits_dtype, text.embedding_size, text.embedding_dtype) == (
        3,
        "float16",
        5,
        "float32",
    )
    assert (audio.logits_dtype, faces.num_classes, faces.embedding_size) == ("float32", None, 2)
    shards = list(corpus)
    lengths_found = np.concatenate([np.diff(shard.offsets) for shard in shards])
    assert lengths_found.tolist() == lengths
    first = np.cumsum([0, *lengths])[:-1]
    ids = [x for shard in shards for x in shard.dialogue_id.tolist()]
    assert ids == [table["dialogue_id"][int(row)].as_py() for row in first]
    joined = lambda of: np.concatenate([of(shard) for shard in shards])  # noqa: E731
    label, speaker = np.array(table["label"]), np.array(table["speaker"])
    np.testing.assert_array_equal(joined(lambda s: s.label), np.where(label < 0, -100, label))
    np.testing.assert_array_equal(joined(lambda s: s.speaker), np.maximum(speaker, -1))
    for name in ("text", "audio"):
        np.testing.assert_array_equal(joined(lambda s: s.logits[name]), rows_of(table[f"logits.{name}"]))  # noqa: B023
    np.testing.assert_array_equal(
        joined(lambda s: s.embeddings["text"]), rows_of(table["embedding.text"]).astype(np.float32)
    )
    np.testing.assert_array_equal(joined(lambda s: s.embeddings["faces"]), rows_of(table["faces"]).astype(np.float32))


@pytest.mark.parametrize("rows", [1, 2, 5, 1000])
@pytest.mark.parametrize("form", ["parquet", "file", "stream", "table", "reader"])
def test_tables_of_every_form_and_batches_of_any_size(tmp_path, monkeypatch, form, rows):
    monkeypatch.setattr("spcl_fast.corpus._tables.ROWS", rows)
    table, path = table_of(texts=rows != 2, base=int(rows == 5)), tmp_path / "t"
    source = path
    if form == "parquet":
        pq.write_table(table, path, row_group_size=10)
    elif form in ("file", "stream"):
        new = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    elif form == "table":
        source = table
    else:
        source = table.to_reader(max_chunksize=rows)
    corpus = store_table(source, tmp_path / "store", utterances_per_shard=10)
    assert [shard.utterances for shard in corpus.shards] == [4, 10, 1, 12, 4]
    check(corpus, table)


def test_files_one_after_the_other(tmp_path):
    whole = table_of()
    cut = 11  # after the third dialogue
    pq.write_table(whole.slice(0, cut), tmp_path / "0.parquet")
    with pa.OSFile(str(tmp_path / "1.arrow"), "wb") as file, pa.ipc.new_file(file, whole.schema) as writer:
        writer.write_table(whole.slice(cut))
    check(store_table([tmp_path / "0.parquet", str(tmp_path / "1.arrow")], tmp_path / "store"), whole)


def test_files_that_do_not_fit_are_refused(tmp_path):
    whole, paths = table_of(), [tmp_path / f"{i}.parquet" for i in range(3)]
    pq.write_table(whole.slice(0, 11), paths[0])
    pq.write_table(whole.slice(0, 0), paths[1])
    other = whole.set_column(5, "logits.audio", whole["logits.audio"].cast(pa.list_(pa.float16(), 3)))
    for wrong in (other, whole.drop_columns(["faces"]), whole.rename_columns({"faces": "hands"})):
        pq.write_table(wrong.slice(11), paths[2])
        with pytest.raises(ValueError, match=r"2\.parquet: must have what the first file has"):
            store_table(paths, tmp_path / "store")
    pq.write_table(whole.slice(10), paths[2])
    pq.write_table(whole.slice(0, 10), paths[0])  # the third dialogue is in two files
    with pytest.raises(ValueError, match=r"2\.parquet: utterance_index: rows of a dialogue must follow each other"):
        store_table(paths, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []
    pq.write_table(whole.slice(11), paths[2])
    pq.write_table(whole.slice(0, 11), paths[0])
    check(store_table(paths, tmp_path / "store"), whole)


def test_there_and_back(tmp_path):
    modalities = [Modality("text", 2, "bfloat16", 3, "float16"), Modality("audio", 2)]
    rng = np.random.default_rng(1)
    bits = rng.normal(size=(9, 2)).astype(np.float32).view(np.uint32) >> 16
    logits = {"text": bits.astype(np.uint16), "audio": rng.normal(size=(9, 2)).astype(np.float32)}
    embeddings = {"text": rng.normal(size=(9, 3)).astype(np.float16)}
    with CorpusWriter(tmp_path / "a", modalities, class_names=["sad", "happy"], utterances_per_shard=6) as writer:
        writer.add([5, 9, 2, -1], [0, 1, -1] * 3, [0, 1, -100] * 3, logits, embeddings, offsets=[0, 3, 3, 6, 9])
    corpus = open_corpus(tmp_path / "a")
    write_parquet(corpus, tmp_path / "a.parquet", rows_per_group=4)
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        assert max(file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)) == 4
    again = store_table(tmp_path / "a.parquet", tmp_path / "b")
    assert again.manifest.class_names == ("sad", "happy")
    assert [m.logits_dtype for m in again.modalities] == ["float32", "float32"]
    (shard,) = again
    assert (shard.dialogue_id.tolist(), shard.offsets.tolist()) == ([5, 2, -1], [0, 3, 6, 9])  # without the empty one
    assert (shard.speaker.tolist(), shard.label.tolist()) == ([0, 1, -1] * 3, [0, 1, -100] * 3)
    np.testing.assert_array_equal(shard.logits["text"], (bits << 16).view(np.float32))
    np.testing.assert_array_equal(shard.logits["audio"], logits["audio"])
    np.testing.assert_array_equal(shard.embeddings["text"], embeddings["text"], strict=True)
    write_parquet(again, tmp_path / "b.parquet", rows_per_group=4)
    assert pq.read_table(tmp_path / "b.parquet").equals(pq.read_table(tmp_path / "a.parquet"))


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_batches_of_any_size_are_the_same_rows(tmp_path, rows):
    corpus = store_table(table_of(), tmp_path / "store", utterances_per_shard=10)
    found = pa.Table.from_batches(to_record_batches(corpus, rows_per_batch=rows))
    wanted = pa.Table.from_batches(to_record_batches(corpus))
    assert found.equals(wanted)
    assert max(len(batch) for batch in to_record_batches(corpus, rows_per_batch=rows)) <= rows
    assert found["utterance_index"].equals(table_of()["utterance_index"])
    with pytest.raises(ValueError, match="rows_per_batch: must be at least 1"):
        list(to_record_batches(corpus, rows_per_batch=0))


def test_empty_table(tmp_path):
    table = table_of().slice(0, 0)
    with pytest.raises(ValueError, match="faces: lists of no fixed size need a first row"):
        store_table(table, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    corpus = store_table(table.drop_columns(["faces"]), tmp_path / "store")
    write_parquet(corpus, tmp_path / "e.parquet")
    assert store_table(tmp_path / "e.parquet", tmp_path / "again").num_utterances == 0


def test_texts_become_numbers(tmp_path):
    speaker = ["Ross", "Joey", "Ross", "Joey", "Rachel", "Ross"]
    table = table_of([3, 3], speaker=speaker, label=["sad", "happy", "sad", "sad", "happy", "sad"])
    for encoded in (table, table.set_column(2, "speaker", table["speaker"].dictionary_encode())):
        corpus = store_table(encoded, tmp_path / "store", class_names=["happy", "sad", "angry"], replace=True)
        (shard,) = corpus
        assert (shard.speaker.tolist(), shard.label.tolist()) == ([0, 1, 0, 0, 1, 2], [1, 0, 1, 1, 0, 1])


def test_columns_are_chosen(tmp_path):
    table = table_of()
    corpus = store_table(table, tmp_path / "a", logits={"words": "logits.text"}, embeddings={"words": "faces"})
    assert corpus.modalities == (Modality("words", 3, "float16", 2, "float32"),)
    store_table(table, tmp_path / "b", embeddings={"x": "logits.audio"})
    assert open_corpus(tmp_path / "b").modalities == (Modality("x", embedding_size=3),)


def test_one_split_is_taken(tmp_path):
    split = np.repeat(["train", "train", "dev", "train", "test", "dev", "train", "train"], LENGTHS).tolist()
    table = table_of(split=split)
    check(store_table(table, tmp_path / "a"), table)
    corpus = store_table(table, tmp_path / "dev", split="dev")
    assert [n for shard in corpus for n in np.diff(shard.offsets)] == [7, 1]
    assert store_table(table, tmp_path / "none", split="other").num_utterances == 0


class Dataset:
    """What `datasets` gives: an arrow format in parts, and features that name the classes."""

    class Label:
        names = ("a", "b", "c")

    def __init__(self, table):
        self.table, self.features = table, {"label": self.Label()}

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def iter(self, batch_size):
        yield from (self.table.slice(start, 5) for start in range(0, len(self.table), 5))


def test_datasets_are_taken_in_parts(tmp_path):
    table = table_of()
    corpus = store_table(Dataset(table), tmp_path / "store")
    check(corpus, table)
    assert corpus.manifest.class_names == ("a", "b", "c")


def changed(name, change):
    def of(table):
        values = table[name].to_pylist()
        change(values)
        return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))

    return of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["speaker", "label"]), "has no column speaker, label; it has dialogue_id"),
        (lambda t: t.append_column("label", t["label"]), "has two columns label"),
        (lambda t: t.append_column("embedding.faces", t["faces"]), "has two columns for the embedding of faces"),
        (lambda t: t.select(["dialogue_id", "utterance_index", "speaker", "label"]), "no list column of numbers"),
        (changed("label", lambda v: v.__setitem__(3, None)), "label: must hold no null"),
        (changed("speaker", lambda v: v.__setitem__(3, None)), "speaker: must hold no null"),
        (changed("dialogue_id", lambda v: v.__setitem__(3, None)), "dialogue_id: must hold no null"),
        (changed("utterance_index", lambda v: v.__setitem__(3, None)), "utterance_index: must hold no null"),
        (changed("logits.text", lambda v: v.__setitem__(3, None)), "logits.text: must hold no null"),
        (changed("faces", lambda v: v[3].__setitem__(0, None)), "faces: must hold no null"),
        (changed("faces", lambda v: v[3].append(1.0)), "faces: rows must have 2 numbers (got 3)"),
        (changed("label", lambda v: v.__setitem__(3, 2**40)), "label: must fit int32"),
        (changed("utterance_index", lambda v: v.__setitem__(5, 9)), "(got 9 at 1 of dialogue 'd2')"),
        (changed("utterance_index", lambda v: v.__setitem__(0, 2)), "(got 2 at 0 of dialogue 'd0')"),
        (changed("dialogue_id", lambda v: v.__setitem__(5, "d0")), "(got 1 at 0 of dialogue 'd0')"),
        (lambda t: t.set_column(1, "utterance_index", t["dialogue_id"]), "utterance_index: must be integers"),
        (lambda t: t.set_column(0, "dialogue_id", t["faces"]), "dialogue_id: must be text or integers"),
        (lambda t: t.set_column(3, "label", t["dialogue_id"]), "label: texts need class_names"),
    ],
)
def test_wrong_tables_are_refused_and_leave_nothing(tmp_path, change, message):
    table = change(table_of())
    with pytest.raises(ValueError) as refused:
        store_table(table, tmp_path / "store", utterances_per_shard=4)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "store").exists() or list((tmp_path / "store").iterdir()) == []


def test_wrong_arguments_are_refused(tmp_path):
    table = table_of()
    for source in (3, b"text", {"train": table}):
        with pytest.raises((TypeError, OSError)):
            store_table(source, tmp_path / "store")
    with pytest.raises(FileNotFoundError, match=r"no such file.*lost\.parquet"):
        store_table(tmp_path / "lost.parquet", tmp_path / "store")
    with pytest.raises(ValueError, match="at least one file is needed"):
        store_table([], tmp_path / "store")
    with pytest.raises(ValueError, match="has no column split"):
        store_table(table, tmp_path / "store", split="train")
    with pytest.raises(ValueError, match="sentence must be a list column of numbers; those are logits"):
        store_table(table, tmp_path / "store", logits={"text": "sentence"})
    with pytest.raises(ValueError, match="must agree on the number of classes"):
        store_table(table, tmp_path / "store", class_names=["a"])


@pytest.mark.parametrize("form", ["parquet", "file", "stream"])
def test_damaged_files_are_refused_in_one_line(tmp_path, form):
    path, table = tmp_path / "t", table_of([2, 3])
    if form == "parquet":
        pq.write_table(table, path)
    else:
        new = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table)
    content, rng, said = path.read_bytes(), np.random.default_rng(0), []
    for i in range(60):
        broken = bytearray(content if i % 3 else content[: rng.integers(len(content))])
        for at in rng.integers(len(broken), size=3) if len(broken) else []:
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            store_table(path, tmp_path / "store", replace=True)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 20
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in said)


def test_corpora_in_memory_become_stores(tmp_path, monkeypatch):
    from spcl_fast.merc.synthetic import make_synthetic

    data = make_synthetic("meld-like", dialogues={"train": 5, "dev": 3, "test": 2})
    whole = store_dataset(data, tmp_path / "all", utterances_per_shard=20)
    assert (whole.num_dialogues, whole.num_utterances) == (10, data.num_utterances)
    assert whole.manifest.class_names == data.class_names
    for name, values in data.features.items():
        np.testing.assert_array_equal(np.concatenate([s.embeddings[name] for s in whole]), values, strict=True)
    np.testing.assert_array_equal(np.concatenate([s.label for s in whole]), data.labels)
    np.testing.assert_array_equal(np.concatenate([s.speaker for s in whole]), data.speakers)
    dev = store_dataset(data, tmp_path / "dev", split="dev")
    assert dev.shard(0).dialogue_id.tolist() == list(data.dialogue_ids[5:8])
    with pytest.raises(ValueError, match="split must be one of"):
        store_dataset(data, tmp_path / "x", split="other")


def test_parquet_that_cannot_be_written_leaves_the_old(tmp_path, monkeypatch):
    corpus = store_table(table_of(), tmp_path / "store")
    (tmp_path / "a.parquet").write_bytes(b"old")

    def broken(*_, **__):
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(convert, "to_record_batches", broken)
    with pytest.raises(OSError, match=r"No space left on device.*a\.parquet"):
        write_parquet(corpus, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"store", "a.parquet"}
