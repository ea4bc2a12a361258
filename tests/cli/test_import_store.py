"""`spcl-fast import --store`: every kind of source becomes a store."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from spcl_fast.cli import main
from spcl_fast.corpus import open_corpus
from spcl_fast.merc.npz import write_npz
from spcl_fast.merc.synthetic import make_synthetic


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["import", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


@pytest.fixture
def table() -> pa.Table:
    logits = pa.array([[1.0, 2.0]] * 4, pa.list_(pa.float16(), 2))
    return pa.table({
        **{"dialogue_id": ["a", "a", "b", "c"], "utterance_index": [0, 1, 0, 0], "speaker": ["x", "y", "x", "x"]},
        **{"label": ["joy", "sadness", "joy", "joy"], "split": ["train", "train", "dev", "train"]},
        **{"logits.text": logits, "faces": [[1.0]] * 4},
    })  # fmt: skip


def test_tables_and_folders_of_them(capsys, tmp_path, table):
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(table.slice(0, 2), folder / "0.parquet")
    pq.write_table(table.slice(2), folder / "1.parquet")
    (folder / "notes.txt").touch()
    code, said, err = run(capsys, folder, "--store", "--out", tmp_path / "a", "--class-names", "joy,sadness")
    assert (code, err) == (0, "")
    assert "Corpus(" in said
    assert "3 dialogues, 4 utterances, 1 shard; text, faces" in said
    assert open_corpus(tmp_path / "a").shard(0).label.tolist() == [0, 1, 0, 0]
    code, _, err = run(capsys, folder, "--store", "--out", tmp_path / "a", "--class-names", "joy,sadness")
    assert (code, "holds a store already: replace it with --force" in err, err.count("\n")) == (2, True, 1)

    one = folder / "0.parquet"
    arguments = [*("--store", "--out", tmp_path / "a", "--force", "--only", "train", "--logits", "words=logits.text")]
    code, _, err = run(capsys, one, *arguments, "--class-names", "sadness,joy", "--utterances-per-shard", 1)
    assert (code, err) == (0, "")
    corpus = open_corpus(tmp_path / "a")
    assert [m.name for m in corpus.modalities] == ["words"]
    assert corpus.shard(0).label.tolist() == [1, 0]


def test_corpora_that_fit_in_memory(capsys, tmp_path):
    data = make_synthetic("meld-like", dialogues={"train": 3, "dev": 2})
    write_npz(tmp_path / "c.npz", data)
    code, _, err = run(capsys, tmp_path / "c.npz", "--store", "--out", tmp_path / "a", "--features", "words=text")
    assert (code, err) == (0, "")
    corpus = open_corpus(tmp_path / "a")
    assert (corpus.num_dialogues, [m.name for m in corpus.modalities]) == (5, ["words"])
    np.testing.assert_array_equal(corpus.shard(0).embeddings["words"], data.features["text"])

    part = lambda value: dict.fromkeys(range(12), value)  # noqa: E731
    entries = {"label": part([0, 2]), "speaker": part(["M", "F"]), "text": part(np.ones((2, 3)))}
    (tmp_path / "iemocap.pkl").write_bytes(pickle.dumps({**entries, "trainVid": list(range(10)), "testVid": [10, 11]}))
    code, _, err = run(capsys, tmp_path / "iemocap.pkl", "--store", "--out", tmp_path / "b", "--only", "test")
    assert (code, err) == (0, "")
    assert open_corpus(tmp_path / "b").num_dialogues == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lost.npz"], "lost.npz: no such file"),
        (["lost.parquet"], "lost.parquet"),
        (["{table}"], "label: texts need class_names"),
        (["{table}", "--corpus", "movies"], "corpus must be one of iemocap, meld, mosi"),
        (["{table}", "--corpus", "meld", "--only", "x", "--logits", "a=lost"], "lost must be a list column of numbers"),
        (["{table}", "--logits", "a"], "--logits must be MODALITY=SOURCE"),
        (["{table}", "--class-names", "a,b"], "label: must be one of a, b (got 'joy')"),
        (["lost.pkl", "--class-names", "a,b"], "--logits and --class-names are for tables"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, table, arguments, message):
    pq.write_table(table, tmp_path / "t.parquet")
    filled = [argument.format(table=tmp_path / "t.parquet") for argument in arguments]
    code, out, err = run(capsys, *filled, "--store", "--out", tmp_path / "a")
    assert (code, out) == (2, "")
    assert message in err
    assert (err.count("\n"), err.startswith("spcl-fast: error: ")) == (1, True)
