"""Stores on Arrow file systems: read as copies, written whole, and the bytes are those on a disk."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
from pathlib import Path

import fsspec  # torch brings it
import numpy as np
import pytest
from pyarrow import fs

from spcl_fast.corpus import (
    Manifest,
    Place,
    Scores,
    StoreCorrupt,
    global_threshold,
    open_corpus,
    place_of,
    read_manifest,
    rescore,
    rescore_rank,
    score_columns,
    write_manifest,
)
from spcl_fast.corpus._records import read_json, write_json
from spcl_fast.corpus.atomic import atomic_file, sweep_partial

spec = importlib.util.spec_from_file_location("rescoring", Path(__file__).with_name("rescoring.py"))
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)


class Unmoving(fs.FSSpecHandler):
    """A file system without a move."""

    def move(self, source, target):
        raise NotImplementedError("move")


def of_fsspec(handler=fs.FSSpecHandler):
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return fs.PyFileSystem(handler(memory))


MAKE = {"mock": fs._MockFileSystem, "unmoving": lambda: of_fsspec(Unmoving), "fsspec": of_fsspec, "subtree": None}


@pytest.fixture(params=MAKE)
def filesystem(request, tmp_path):
    if request.param == "subtree":
        (tmp_path / "tree").mkdir()
        return fs.SubTreeFileSystem(str(tmp_path / "tree"), fs.LocalFileSystem())
    return MAKE[request.param]()


def sent(folder: Path, place: Place) -> Place:
    """A copy of a folder there."""
    place.mkdir()
    for path in folder.iterdir():
        with place.filesystem.open_output_stream((place / path.name).path) as stream:
            stream.write(path.read_bytes())
    return place


def content(place: Place) -> dict[str, bytes]:
    return {path.name: path.open().read() for path in place.iterdir()}


def test_a_place_behaves_as_a_path_does(filesystem):
    place = Place(filesystem, "bucket/folder")
    assert (place / "file").name == "file"
    assert str(place / "file").endswith("://bucket/folder/file")
    assert not place.exists()
    assert list(place.iterdir()) == []
    place.mkdir()
    path = place / "file"
    with pytest.raises(FileNotFoundError, match="bucket/folder/file"):
        path.stat()
    with pytest.raises(FileNotFoundError):
        path.open()
    for content_ in (b"first", b"second one"):
        with atomic_file(path) as file:
            file.write(content_)
        assert path.open().read() == content_
    assert path.stat().st_size == 10
    assert (path.is_file(), path.is_dir(), place.is_dir()) == (True, False, True)
    with pytest.raises(FileExistsError, match="bucket/folder/file"), atomic_file(path, replace=False) as file:
        file.write(b"third")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"%d" % (1 // 0))
    assert [found.name for found in place.iterdir()] == ["file"]
    assert path.open().read() == b"second one"
    path.unlink()
    path.unlink(missing_ok=True)
    assert not path.exists()
    assert sweep_partial(place) == []
    assert place == Place(filesystem, "bucket/folder") != path


def test_records_and_manifests_there(filesystem):
    place = Place(filesystem, "folder")
    place.mkdir()
    write_json(place / "record.json", {"a": 1})
    assert read_json(place / "record.json") == {"a": 1}
    assert read_json(place / "other.json") is None
    with pytest.raises(StoreCorrupt, match=r"folder/manifest\.json: no such file"):
        read_manifest(place)
    write_manifest(place, Manifest((), class_names=("sad", "happy")))
    assert read_manifest(place).class_names == ("sad", "happy")


def test_a_corpus_there_is_rescored_to_there(tmp_path, filesystem):
    corpus = helpers.write_corpus(tmp_path / "corpus")
    wanted = rescore(corpus, tmp_path / "one").scores
    there = open_corpus(sent(tmp_path / "corpus", Place(filesystem, "data/corpus")))
    for here, copy in zip(corpus, there, strict=True):
        np.testing.assert_array_equal(here.logits["text"], copy.logits["text"])
        assert here.dialogue_id.tolist() == copy.dialogue_id.tolist()
    done = rescore(there, Place(filesystem, "data/scores"), memory=1 << 20, workers=2)
    assert content(Place(filesystem, "data/scores")) == helpers.content(tmp_path / "one")
    assert done.scores is not None
    assert global_threshold(score_columns(done.scores), 0.3) == global_threshold(score_columns(wanted), 0.3)
    (Place(filesystem, "data/scores") / "shard-000001.record.json").unlink()
    for rank in (1, 0):
        again = rescore_rank(there, Place(filesystem, "data/scores"), rank=rank, world_size=2, timeout=20)
    assert again.shards == 1
    assert content(Place(filesystem, "data/scores")) == helpers.content(tmp_path / "one")
    with pytest.raises(ValueError, match="is the corpus itself"):
        rescore(there, Place(filesystem, "data/corpus"))
    with pytest.raises(ValueError, match="data/scores: was begun with window 5, not 7"):
        rescore(there, Place(filesystem, "data/scores"), window=7)


def test_damage_there_is_found(tmp_path):
    filesystem = fs._MockFileSystem()
    corpus = helpers.write_corpus(tmp_path / "corpus")
    there = open_corpus(sent(tmp_path / "corpus", Place(filesystem, "corpus")))
    name = corpus.shards[1].name
    good = (tmp_path / "corpus" / name).read_bytes()
    for bad, message in (
        (good[:-70] + bytes([good[-70] ^ 1]) + good[-69:], r"damaged: its checksum is crc32c:"),
        (good[:-1], r"must have \d+ bytes"),
    ):
        with filesystem.open_output_stream(f"corpus/{name}") as stream:
            stream.write(bad)
        with pytest.raises(StoreCorrupt, match=rf"mock://corpus/{name}: shard 1: {message}"):
            there.shard(1)
    filesystem.delete_file(f"corpus/{name}")
    with pytest.raises(StoreCorrupt, match=rf"mock://corpus/{name}: shard 1: no such file"):
        there.shard(1)


def test_copies_are_gone_when_a_shard_is(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    helpers.write_corpus(tmp_path / "corpus")
    place = sent(tmp_path / "corpus", Place(fs._MockFileSystem(), "corpus"))
    shard = open_corpus(place).shard(0)
    assert not list((tmp_path / "temporary").iterdir())
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path / "temporary") in line]
    assert maps
    assert all("(deleted)" in line for line in maps)
    assert shard.logits["text"].shape[0] == shard.info.utterances


def test_uris_name_places(tmp_path, capsys):
    from spcl_fast.cli import main

    corpus = helpers.write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "one")
    assert place_of(f"file://{tmp_path}/corpus") == tmp_path / "corpus"
    with pytest.raises(SystemExit) as ended:
        main(["rescore", f"file://{tmp_path}/corpus", "--out", f"file://{tmp_path}/scores"])
    assert ended.value.code == 0, capsys.readouterr()
    assert helpers.content(tmp_path / "scores") == helpers.content(tmp_path / "one")
    place = place_of("mock:///there/scores")
    assert isinstance(place, Place)
    assert str(place / "x") == "mock://there/scores/x"
    assert place_of(place) is place
    assert place_of(fs._MockFileSystem()).path == ""
    assert place_of("a:/b") == Path("a:/b")
    with pytest.raises(ValueError, match=r"^nothing://x: must be a path or a URI that Arrow knows"):
        place_of("nothing://x")
    with pytest.raises(TypeError, match=r"filesystem: must be a pyarrow\.fs\.FileSystem \(got str\)"):
        Place("memory")


def test_a_place_on_a_file_system_that_can_be_pickled_can_be(tmp_path):
    place = Place(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "corpus")
    assert pickle.loads(pickle.dumps(place)) == place


def test_a_root_is_a_folder(tmp_path):
    helpers.write_corpus(tmp_path / "corpus")
    tree = fs.SubTreeFileSystem(str(tmp_path / "corpus"), fs.LocalFileSystem())
    corpus = open_corpus(tree)
    shutil.copytree(tmp_path / "corpus", tmp_path / "other")
    assert corpus.manifest == open_corpus(tmp_path / "other").manifest
    (tmp_path / "scores").mkdir()
    rescore(corpus, fs.SubTreeFileSystem(str(tmp_path / "scores"), fs.LocalFileSystem()))
    rescore(open_corpus(tmp_path / "other"), tmp_path / "one")
    assert helpers.content(tmp_path / "scores") == helpers.content(tmp_path / "one")
    assert isinstance(Scores(tmp_path / "scores"), Scores)
    assert os.listdir(tmp_path / "scores")


def test_of_two_that_begin_there_with_other_options_one_is_refused_at_its_end(tmp_path):
    corpus = helpers.write_corpus(tmp_path / "corpus")
    place = Place(fs._MockFileSystem(), "scores")

    def overtaken(utterances):
        if utterances == 0:  # at the beginning
            (place / "rescore.json").unlink()
            rescore(corpus, place, window=3, shards=[0])

    with pytest.raises(ValueError, match="scores: was begun with window 3, not 5"):
        rescore(corpus, place, shards=[1], on_progress=overtaken)
    done = rescore(corpus, place, window=3)
    assert done.reused == 1
    rescore(corpus, tmp_path / "one", window=3)
    assert content(place) == helpers.content(tmp_path / "one")
