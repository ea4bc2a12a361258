"""write_npz: what it writes, read_npz reads back bit by bit; the same corpus gives the same bytes."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast.merc.dataset import DatasetError, DialogueDataset
from spcl_fast.merc.npz import read_npz, write_npz
from spcl_fast.merc.synthetic import make_synthetic

ARRAYS = ("labels", "speakers", "offsets", "split")
NAMES = ("split_names", "class_names", "dialogue_ids")


def same(a: DialogueDataset, b: DialogueDataset) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in NAMES:
        assert getattr(a, name) == getattr(b, name)
    assert list(a.features) == list(b.features)
    for modality, values in a.features.items():
        assert b.features[modality].dtype == np.float32
        np.testing.assert_array_equal(values.view(np.uint32), b.features[modality].view(np.uint32))  # -0.0 too


@pytest.fixture
def corpus():
    return make_synthetic("iemocap-like", dialogues={"train": 3, "dev": 1, "test": 1})


def test_round_trip(corpus, tmp_path):
    path = tmp_path / "folder" / "own.npz"
    write_npz(path, corpus)
    data = read_npz(path)
    same(corpus, data)
    assert data.name == "own"
    assert [file.name for file in path.parent.iterdir()] == ["own.npz"]


def test_same_corpus_same_bytes(corpus, tmp_path):
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, corpus)
    content = (tmp_path / "a.npz").read_bytes()
    assert content == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def one(values, **changes):
    T = len(values)
    found = {
        **{"name": "one", "features": {"text": values}, "labels": np.full(T, -100), "speakers": np.full(T, -1)},
        **{"offsets": np.array([0, 0, T]), "split": np.array([0, 0]), "split_names": ("train",), "class_names": ("é",)},
        "dialogue_ids": ("", "中"),
    }
    return DialogueDataset(**(found | changes))


def stored_dtype(path):
    with np.load(path) as file:
        return file["text"].dtype


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=6), half=st.booleans())
def test_any_features(tmp_path_factory, values, half):
    array = np.array(values, np.float32).reshape(-1, 1)
    if half:
        array = np.clip(array, -65504, 65504).astype(np.float16).astype(np.float32)
    data, path = one(array), tmp_path_factory.mktemp("npz") / "one.npz"
    write_npz(path, data)
    same(data, read_npz(path))
    with np.errstate(over="ignore"):
        assert stored_dtype(path) == (np.float16 if (array.astype(np.float16) == array).all() else np.float32)


def test_columns_in_another_order(tmp_path):
    for array in (np.asfortranarray(np.ones((3, 2), np.float32) / 3), np.ones((3, 4), np.float32)[:, ::2] / 3):
        write_npz(tmp_path / "one.npz", one(array))
        np.testing.assert_array_equal(read_npz(tmp_path / "one.npz").features["text"], array)


def test_empty_corpus(tmp_path):
    data = one(
        np.zeros((0, 2), np.float32), offsets=np.array([0]), split=np.zeros(0, int), dialogue_ids=(), split_names=()
    )
    write_npz(tmp_path / "one.npz", data)
    same(data, read_npz(tmp_path / "one.npz"))


@pytest.mark.parametrize("name", ["labels", "feature_names", "a+b", "a,b", "a b", "a/b", "a\n", "a\\b"])
def test_names_that_the_format_has_no_form_for(corpus, tmp_path, name):
    with pytest.raises(DatasetError, match="features: names must be free of"):
        write_npz(tmp_path / "own.npz", replace(corpus, features={name: corpus.features["text"]}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
def test_text_that_the_format_has_no_form_for(corpus, tmp_path, text):
    ids = (text, *corpus.dialogue_ids[1:])
    with pytest.raises(DatasetError, match="dialogue_ids: must be Unicode text without zeros"):
        write_npz(tmp_path / "own.npz", replace(corpus, dialogue_ids=ids))


def test_failed_write_leaves_the_old_file(corpus, tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    write_npz(path, corpus)
    old = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            write_npz(path, make_synthetic("meld-like", dialogues={"train": 1}))
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.data
@pytest.mark.parametrize("file", ["iemocap_6way", "mosi"])
def test_real_files(data_dir, tmp_path, file):
    data = read_npz(data_dir / f"{file}.npz")
    write_npz(tmp_path / f"{file}.npz", data)
    again = read_npz(tmp_path / f"{file}.npz")
    same(data, again)
    assert again.notes == data.notes
