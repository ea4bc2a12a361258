"""`spcl-fast import`: what it writes and says, and one line for every file it refuses."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest

from spcl_fast.cli import main
from spcl_fast.merc.npz import read_npz

IDS = [f"Ses0{s}" for s in range(1, 13)]


def entries() -> tuple:
    def of(value):
        return dict.fromkeys(IDS, value)

    features = (of(np.eye(2, F, dtype=np.float32)) for F in (4, 3, 2))
    return (of(["a", "b"]), of(["M", "F"]), of([0, 5]), *features, of(["Hi.", "Oh."]), IDS[:10], IDS[10:])


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "iemocap.pkl"
    path.write_bytes(pickle.dumps(entries(), 2))
    return path


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["import", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


def test_import_writes_what_train_reads(capsys, tmp_path, source):
    out = tmp_path / "folder" / "own.npz"
    code, said, err = run(capsys, source, "--out", out)
    assert (code, err) == (0, "")
    assert "iemocap: 9 dialogues (18 utterances) train, 1 dialogues (2 utterances) dev, 2 dialogues" in said
    assert "6 classes: hap sad neu ang exc fru; text 4, audio 3, visual 2." in said
    assert "Note: IEMOCAP: 10 train+dev dialogues, published 120" in said
    assert f"train with --data {out} --modalities text,audio,visual" in said
    data = read_npz(out)
    assert (data.num_dialogues, list(data.features)) == (12, ["text", "audio", "visual"])

    code, _, err = run(capsys, source, "--out", out)
    assert (code, "is there already" in err) == (2, True)
    code, _, err = run(capsys, source, "--out", out, "--force", "--features", "words=text", "--split", "spcl")
    assert (code, err) == (0, "")
    assert list(read_npz(out).features) == ["words"]


def test_import_reads_every_format(capsys, tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pa.table({
        **{"dialogue_id": ["a", "b", "c"], "utterance_index": [0, 0, 0], "speaker": ["x"] * 3, "label": ["joy"] * 3},
        **{"split": ["train", "val", "test"], "text": [[1.0, 2.0]] * 3},
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "t.parquet")
    with pa.OSFile(str(tmp_path / "t.dat"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "dev_sent_emo.csv").write_text("Speaker,Emotion,Dialogue_ID,Utterance_ID\nJoey,joy,3,0\n")
    np.save(tmp_path / "text.npy", np.ones((1, 2)))
    features = ["--features", f"text={tmp_path / 'text.npy'}"]
    for arguments in (["t.parquet"], ["t.dat", "--format", "arrow"], ["dev_sent_emo.csv", *features], ["", *features]):
        out = tmp_path / "own.npz"
        code, _, err = run(capsys, tmp_path / arguments[0], *arguments[1:], "--out", out, "--force")
        assert (code, err) == (0, "")
        assert read_npz(out).features["text"].shape[1] == 2


def test_import_does_not_replace_what_it_reads(capsys, tmp_path, source):
    own = tmp_path / "own.npz"  # under whatever name
    own.hardlink_to(source)
    before = source.read_bytes()
    code, said, err = run(capsys, source, "--out", own, "--force")
    assert (code, said) == (2, "")
    assert f"--out must be another file than what is read (got {own})" in err
    code, _, err = run(capsys, own, "--format", "pickle", "--out", own, "--force")
    assert (code, "another file than what is read" in err) == (2, True)
    assert own.read_bytes() == source.read_bytes() == before

    table, features = tmp_path / "dev_sent_emo.csv", tmp_path / "text.npz"
    table.write_text("Speaker,Emotion,Dialogue_ID,Utterance_ID\nJoey,joy,3,0\n")
    np.savez(features, np.ones((1, 2)))
    before = features.read_bytes()
    for place in (tmp_path, table):
        code, _, err = run(
            capsys, place, "--format", "meld-csv", "--features", "text=text.npz", "--out", features, "--force"
        )
        assert (code, "another file than what is read" in err) == (2, True)
    assert features.read_bytes() == before


class Wicked:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lost.pkl", "--out", "{out}"], "lost.pkl: no such file"),
        (["{wicked}", "--out", "{out}"], "asks for posix.system"),
        (["{garbage}", "--out", "{out}"], "garbage.pkl: byte 0: not a pickle"),
        (["{garbage}", "--format", "arrow", "--out", "{out}"], "not a readable Arrow or Parquet file"),
        (["{garbage}", "--format", "parquet", "--out", "{out}"], "not a readable Arrow or Parquet file"),
        (["{garbage}", "--format", "meld-csv", "--features", "text=x.npy", "--out", "{out}"], "has no column Speaker"),
        (["{garbage}", "--format", "meld-csv", "--out", "{out}"], "features must name a file for each modality"),
        (["{garbage}", "--format", "xml", "--out", "{out}"], "format must be one of auto, pickle"),
        (["{source}", "--out", "own.csv"], "--out must end in .npz (got own.csv)"),
        (["{source}", "--out", "{source}/own.npz"], "iemocap.pkl"),
        (["{source}", "--corpus", "movies", "--out", "{out}"], "corpus must be one of iemocap, meld, mosi"),
        (["{source}", "--corpus", "mosi", "--out", "{out}"], "labels of dialogue 'Ses01': must be below 2"),
        (["{source}", "--split", "x", "--out", "{out}"], "split must be one of own, spcl"),
        (["{source}", "--features", "text", "--out", "{out}"], "--features must be MODALITY=SOURCE"),
        (["{source}", "--features", "a=text", "--features", "a=audio", "--out", "{out}"], "a is given twice"),
        (["{source}", "--features", "text=smell", "--out", "{out}"], "'smell' is not in the file"),
        (["{source}", "--features", "a+b=text", "--out", "{out}"], "names must be free of"),
        (["{source}"], "--out"),
        (["--out", "{out}"], "source"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, source, arguments, message):
    garbage, wicked = tmp_path / "garbage.pkl", tmp_path / "wicked.pkl"
    garbage.write_bytes(b"Hello, world\n")
    wicked.write_bytes(pickle.dumps((Wicked(), *entries()[1:]), 4))
    names = {"out": tmp_path / "own.npz", "garbage": garbage, "wicked": wicked, "source": source}
    code, out, err = run(capsys, *[argument.format(**names) for argument in arguments])
    assert (code, out) == (2, "")
    assert message in err
    assert (err.count("\n"), err.startswith("spcl-fast: error: ")) == (1, True)
    assert not (tmp_path / "own.npz").exists()


def test_missing_pyarrow_says_what_to_install(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    code, _, err = run(capsys, tmp_path / "t.parquet", "--out", tmp_path / "own.npz")
    assert (code, err) == (2, "spcl-fast: error: this command needs pyarrow: install spcl_fast[corpus]\n")
