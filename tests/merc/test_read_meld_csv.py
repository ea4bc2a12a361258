"""read_meld_csv: MELD's tables and the features beside them."""

import csv
import os
import pickle

import numpy as np
import pytest

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers import read_corpus, read_meld_csv

# dialogue, utterance, speaker, emotion; out of order, as some copies are, and 2 has a gap
ROWS = [(0, 1, "Joey", "joy"), (0, 0, "Ross", "neutral"), (2, 3, "Ross", "anger"), (2, 0, "Dr. Leedbetter", "disgust")]
ORDER = [1, 0, 3, 2]  # of the rows, by dialogue and utterance
COLUMNS = ["Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season"]


def write(path, rows=ROWS, columns=COLUMNS, encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        for i, (dialogue, utterance, speaker, emotion) in enumerate(rows):
            table.writerow({
                **{"Sr No.": i, "Utterance": 'He said, "oh\n\u2019no"', "Speaker": speaker, "Emotion": emotion},
                **{"Sentiment": "x", "Dialogue_ID": dialogue, "Utterance_ID": utterance, "Season": 8},
            })  # fmt: skip
    return path


def values(F=3, seed=0):
    return np.random.default_rng(seed).standard_normal((len(ROWS), F)).astype(np.float32)


def refusal(path, features):
    with pytest.raises(DatasetError) as caught:
        read_meld_csv(path, features=features)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "train_sent_emo.csv")


def test_one_file(source, tmp_path):
    np.save(tmp_path / "text.npy", values())
    data = read_meld_csv(source, features={"text": tmp_path / "text.npy"}, split="own")
    assert data.dialogue_ids == ("train_dia0", "train_dia2")
    assert [data.class_names[y] for y in data.labels] == ["neutral", "joy", "disgust", "anger"]
    assert data.speakers.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(data.features["text"], values()[ORDER])
    assert data.notes[0] == "1 dialogues have gaps in the numbers of their utterances"
    assert data.dialogues("dev").tolist() in ([0], [1])  # one of two, by its name


def keyed(form):
    return {
        form.format(d, u) if isinstance(form, str) else (d, u): x for (d, u, *_), x in zip(ROWS, values(), strict=True)
    }


@pytest.mark.parametrize("form", ["dia{}_utt{}", "{}_{}", "dia{}_utt{}.mp4", None])
def test_features_by_utterance(source, tmp_path, form):
    file = tmp_path / "text.pkl"
    file.write_bytes(pickle.dumps(keyed(form), 2))
    np.testing.assert_array_equal(read_meld_csv(source, features={"text": file}).features["text"], values()[ORDER])


@pytest.mark.parametrize("place", ["{split}", "list"])
def test_folder_of_three_files(tmp_path, place):
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}_sent_emo.csv")
        np.save(tmp_path / f"audio_{split}.npy", values(2, len(split)).astype(np.float64))
    text = tmp_path / "text_{split}.pkl"
    if place == "list":
        text = tmp_path / "text.pkl"
        text.write_bytes(pickle.dumps([keyed(None)] * 3))
    else:
        for split in ("train", "dev", "test"):
            (tmp_path / f"text_{split}.pkl").write_bytes(pickle.dumps(keyed(None)))
    features = {"text": str(text), "audio": str(tmp_path / "audio_{split}.npy")}
    data = read_corpus(tmp_path, features=features)
    assert data.counts() == {"train": (2, 4), "dev": (2, 4), "test": (2, 4)}
    np.testing.assert_array_equal(data.features["text"], np.tile(values()[ORDER], (3, 1)))
    np.testing.assert_array_equal(data.features["audio"][8:], values(2, 4)[ORDER])
    assert "MELD: 2 dev dialogues, published 114" in data.notes

    one = {"text": str(tmp_path / "audio_train.npy")}
    assert "must be one file for each split, with {split} in its name" in refusal(tmp_path, one)


def test_other_encodings(tmp_path):
    np.save(tmp_path / "text.npy", values())
    for encoding in ("utf-8-sig", "cp1252"):
        data = read_meld_csv(write(tmp_path / "test.csv", encoding=encoding), features={"t": tmp_path / "text.npy"})
        assert data.split_names == ("test",)
        assert data.speakers.tolist() == [0, 1, 0, 1]


ROW = (0, 2, "Joey", "joy")
BROKEN = {
    "emotion": (
        [*ROWS, (0, 2, "Joey", "bored")],
        "line 11: Emotion must be one of neutral, surprise, fear, sadness, joy",
    ),
    "speaker": ([*ROWS, (0, 2, "", "joy")], "line 11: Speaker is empty"),
    "number": ([*ROWS, ("x", 2, "Joey", "joy")], "line 11: Dialogue_ID must be a number (got 'x')"),
    "negative": ([*ROWS, (0, -2, "Joey", "joy")], "line 11: Utterance_ID must be a number (got '-2')"),
    "twice": ([*ROWS, ROW, ROW], "line 13: utterance 2 of dialogue 0 is there twice"),
    "none": ([], "holds no dialogue"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tables(tmp_path, name):
    rows, message = BROKEN[name]
    np.save(tmp_path / "text.npy", np.zeros((len(rows), 1)))
    file = write(tmp_path / "train.csv", rows)
    assert refusal(file, {"text": tmp_path / "text.npy"}).startswith(f"{file}: {message}")


def test_missing_and_damaged_tables(tmp_path):
    features = {"text": "text.npy"}
    assert refusal(tmp_path, features).startswith(f"{tmp_path}: has none of the files train_sent_emo.csv")
    file = tmp_path / "train.csv"
    assert refusal(file, features) == f"{file}: no such file"
    file.write_text("Speaker,Emotion\nJoey,joy\n")
    assert refusal(file, features) == f"{file}: has no column Dialogue_ID, Utterance_ID"
    file.write_text("")
    assert "has no column Speaker, Emotion" in refusal(file, features)
    file.write_text('Speaker,Emotion,Dialogue_ID,Utterance_ID\n"Jo"ey,joy,1,2\n')
    assert f"{file}: line 2: no CSV" in refusal(file, features)
    file.write_text("Speaker,Emotion,Dialogue_ID,Utterance_ID\nJoey, joy ,1,\x1c2\n")
    assert "text.npy: no such file" in refusal(file, features)  # what strip() takes off, int() does not
    file.write_text("Speaker,Emotion,Dialogue_ID,Utterance_ID\nJoey,joy\n")
    assert f"{file}: line 2: Dialogue_ID is empty" in refusal(file, features)
    file.write_text("Speaker,Emotion,Dialogue_ID,Utterance_ID\n" + "x" * 200_000 + ",joy,1,2\n")
    assert "no CSV (field larger" in refusal(file, features)


def test_broken_features(source, tmp_path):
    file = tmp_path / "text.pkl"

    class Wicked:
        def __reduce__(self):
            return os.system, ("exit 1",)

    for value, message in (
        ([1], "must be a dict from utterance to features (got list)"),
        ({"a": 1}, "must have keys such as 'dia3_utt0', '3_0' or (3, 0) (got 'a')"),
        (Wicked(), "byte 28: asks for posix.system"),
    ):
        file.write_bytes(pickle.dumps(value, 4))
        assert refusal(source, {"text": file}).startswith(f"{file}: {message}")
    found = keyed(None)
    del found[2, 3]
    for value, message in (
        (found, "text of dialogue 'train_dia2': utterance 3 has no features"),
        (
            keyed(None) | {(2, 0): np.array([0, np.nan, 0])},
            "text of dialogue 'train_dia2': must be finite in float32 (got n",
        ),
        (keyed(None) | {(2, 0): np.zeros(2)}, "text of dialogue 'train_dia2': rows must have one length"),
    ):
        file.write_bytes(pickle.dumps(value))
        assert message in refusal(source, {"text": file})
    array = tmp_path / "text.npy"
    for content, message in (
        (values()[:3], "must be numbers [4, F], a row of the CSV each (got shape (3, 3))"),
        (values()[:, 0], "must be numbers [4, F]"),
        (values().astype(str), "must be numbers [4, F]"),
        (np.array([[None]] * 4), "holds Python objects, which are never unpickled"),
    ):
        np.save(array, content)
        assert message in refusal(source, {"text": array})
    array.write_bytes(array.read_bytes()[:40])
    assert f"{array}: the array:" in refusal(source, {"text": array})
    assert "lost.npy: no such file" in refusal(source, {"text": "lost.npy"})
    with pytest.raises(ValueError, match="features must name a file for each modality"):
        read_meld_csv(source, features={})
    with pytest.raises(ValueError, match="corpus must be 'meld' for MELD's tables"):
        read_corpus(source, corpus="iemocap")
    with pytest.raises(ValueError, match="split must be one of"):
        read_meld_csv(source, features={"text": file}, split="x")
