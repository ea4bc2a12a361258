"""A manifest that breaks a rule is refused before anything is opened, whoever wrote it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")

from spcl_fast.corpus import (
    SCORES_FORMAT,
    CorpusWriter,
    Manifest,
    Modality,
    ShardInfo,
    StoreCorrupt,
    checksum,
    read_manifest,
    write_manifest,
)

CRC = "crc32c:00000000"
SHARDS = (
    ShardInfo("shard-000000.arrow", 3, 2, 0, 1000, CRC, 500, CRC),
    ShardInfo("b.arrow", 4, 1, 3, 1000, CRC, 500, CRC),
)
MODALITIES = (Modality("text", num_classes=2), Modality("audio", 2, "bfloat16", 5, "float16"))
MANIFEST = Manifest(SHARDS, MODALITIES, ("sad", "happy"), "string", extra={"summary": [1, 2.5, None, {"é": True}]})


def sealed(value) -> str:
    """As somebody would write it who means the checksum to hold."""
    if isinstance(value, dict):
        value.pop("checksum", None)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        value["checksum"] = checksum(text.encode())
    return json.dumps(value)


def changed(folder, change) -> str:
    write_manifest(folder, MANIFEST)
    value = json.loads((folder / "manifest.json").read_text())
    found = change(value)
    return sealed(value if found is None else found)


def refusal(folder, text: str | bytes, **options) -> str:
    (folder / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StoreCorrupt) as refused:
        read_manifest(folder, **options)
    said = str(refused.value)
    assert said.startswith(f"{folder / 'manifest.json'}: ")
    assert len(said) < 600
    return said


def test_manifest_comes_back(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    found = read_manifest(tmp_path)
    assert found == MANIFEST
    assert (found.utterances, found.dialogues, found.num_classes) == (7, 3, 2)
    scores = replace(MANIFEST, format="spcl_fast scores", class_names=None)
    write_manifest(tmp_path, scores)
    assert read_manifest(tmp_path, "spcl_fast scores") == scores
    with pytest.raises(StoreCorrupt, match="format: must be 'spcl_fast corpus'"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "/etc/passwd.arrow", "must be letters"),
        ("name", "../a.arrow", "must be letters"),
        ("name", "a/b.arrow", "must be letters"),
        ("name", "a\\b.arrow", "must be letters"),
        ("name", ".a.arrow", "must be letters"),
        ("name", "a.arrow\n", "must be letters"),
        ("name", "a\0.arrow", "must be text"),
        ("name", "manifest.json", "must be letters"),
        ("name", "b.dialogues.arrow", "not in .dialogues.arrow"),
        ("name", "b.arrow", "must be distinct"),
        ("name", "a" * 999 + ".arrow", "must be text of 1 to 1000"),
        ("name", "a" * 900 + ".arrow", "must be letters"),
        ("name", "", "must be text"),
        ("name", 3, "must be text"),
        ("utterances", -1, "must be an integer in [0, "),
        ("utterances", 2**63, "must be an integer in [0, "),
        ("utterances", 10**400, "must be an integer in [0, "),
        ("utterances", 3.0, "must be an integer in [0, "),
        ("utterances", True, "must be an integer in [0, "),
        ("utterances", "3", "must be an integer in [0, "),
        ("utterances", None, "must be an integer in [0, "),
        ("utterances", 4, "first_utterance: must be an integer in [4, 4] (got 3)"),
        ("dialogues", -1, "must be an integer in [0, "),
        ("dialogues", 501, "must be large enough"),
        ("first_utterance", 1, "must be an integer in [0, 0]"),
        ("bytes", 10, "must be large enough"),
        ("bytes", 2**60, "must be an integer in [0, "),
        ("checksum", 5, "must be text"),
        ("dialogue_bytes", -5, "must be an integer in [0, "),
        ("more", 1, "a field that is not known (got 'more')"),
    ],
)
def test_hostile_shards_are_refused(tmp_path, field, value, message):
    said = refusal(tmp_path, changed(tmp_path, lambda top: top["shards"][0].update({field: value})))
    assert message in said
    assert "shards" in said


@pytest.mark.parametrize("field", list(ShardInfo.__dataclass_fields__))
def test_missing_field_is_refused(tmp_path, field):
    said = refusal(tmp_path, changed(tmp_path, lambda top: top["shards"][1].pop(field) and None))
    assert f"shards[1]: has no field {field}" in said


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "text", "modalities: names must be distinct"),
        ("name", "a,b", "name: must be 1 to 100 characters"),
        ("name", "a b", "name: must be 1 to 100 characters"),
        ("name", "\ud800", "name: must be 1 to 100 characters"),
        ("name", ["x"], "name: must be 1 to 100 characters"),
        ("num_classes", 3, "must have C = 2 classes (got 3)"),
        ("num_classes", 0, "num_classes: must be an integer in [1, "),
        ("num_classes", True, "num_classes: must be an integer in [1, "),
        ("num_classes", 10**9, "num_classes: must be an integer in [1, "),
        ("num_classes", None, "logits_dtype: must be None"),
        ("embedding_size", -3, "embedding_size: must be an integer in [1, "),
        ("embedding_size", 2**20, "must be large enough for its rows"),
        ("logits_dtype", "float64", "logits_dtype: must be one of float16, bfloat16, float32"),
        ("logits_dtype", ["float16"], "logits_dtype: must be one of float16, bfloat16, float32"),
        ("more", 0, "a field that is not known"),
    ],
)
def test_hostile_modalities_are_refused(tmp_path, field, value, message):
    assert message in refusal(tmp_path, changed(tmp_path, lambda top: top["modalities"][1].update({field: value})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda top: top.update(version=2), "this release reads version 1 (got 2)"),
        (lambda top: top.update(version=True), "version: must be an integer"),
        (lambda top: top.update(format="other"), "format: must be 'spcl_fast corpus' (got 'other')"),
        (lambda top: top.update(format=None), "format: must be text"),
        (lambda top: top.update(more=1), "a field that is not known (got 'more')"),
        (lambda top: top.update(shards={}), "shards: must be a list"),
        (lambda top: top.update(shards=[1]), "shards[0]: must be an object (got 1)"),
        (lambda top: top.update(class_names=[]), "must have C = 0 classes"),
        (lambda top: top.update(class_names="ab"), "class_names: must be a list"),
        (lambda top: top.update(class_names=["a", "a"]), "class_names: names must be distinct"),
        (lambda top: top.update(class_names=["a", ""]), "class_names[1]: must be text"),
        (lambda top: top.update(dialogue_id="uuid"), "dialogue_id: must be one of int64, string"),
        (lambda top: top.update(extra=[]), "extra: must be an object"),
        (lambda top: top.pop("extra") and None, "has no field extra"),
        (lambda top: top.pop("class_names") and None, "has no field class_names"),
        (lambda top: [top], "manifest: must be an object"),
        (lambda top: "text", "manifest: must be an object"),
    ],
)
def test_hostile_manifests_are_refused(tmp_path, change, message):
    assert message in refusal(tmp_path, changed(tmp_path, change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not strict JSON"),
        (b"\xff\xfe", "not strict JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 900 + b"]" * 900, "must be an object"),
        (b'{"version": 1, "version": 1}', "a key that is there twice"),
        (b'{"version": NaN}', "NaN is no number of JSON"),
        (b'{"version": 1e999}', "1e999 is too large"),
        (b'{"version": ' + b"9" * 5000 + b"}", "not strict JSON"),
        (b"{}" + b" " * 2**24, "must be at most 16777216 bytes"),
    ],
    ids=lambda x: str(x[:20]),
)
def test_what_is_no_manifest_is_refused(tmp_path, text, message):
    assert message in refusal(tmp_path, text)


def test_manifest_that_is_no_file_is_refused(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreCorrupt, match=r"manifest\.json: no such file"):
            read_manifest(folder)


def test_twins_among_many_names_are_found(tmp_path):
    names = [f"{i}.arrow" for i in range(10_000)] + ["9999.arrow"]
    entries = [
        dict(vars(SHARDS[0]), name=name, utterances=0, first_utterance=0, dialogues=0, bytes=0) for name in names
    ]
    text = changed(tmp_path, lambda top: top.update(shards=entries))
    assert "must be distinct" in refusal(tmp_path, text)


def test_write_refuses_what_could_not_be_read(tmp_path):
    for wrong in (
        replace(MANIFEST, shards=(replace(SHARDS[0], name="../x.arrow"),)),
        replace(MANIFEST, shards=SHARDS[1:]),
        replace(MANIFEST, class_names=("a",)),
        replace(MANIFEST, extra={"x": float("nan")}),
        replace(MANIFEST, format="\0"),
    ):
        with pytest.raises(ValueError):
            write_manifest(tmp_path, wrong)
    with pytest.raises(TypeError):
        write_manifest(tmp_path, replace(MANIFEST, extra={"x": object()}))
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_byte_is_found(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    text = (tmp_path / "manifest.json").read_bytes()
    for i in range(len(text)):
        flipped = bytearray(text)
        flipped[i] ^= 1 << (i % 8 if i % 2 else 5)  # the sixth bit tells small from large letters
        (tmp_path / "manifest.json").write_bytes(flipped)
        try:
            assert read_manifest(tmp_path) == MANIFEST  # a space that became another one
        except StoreCorrupt:
            continue


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = [("shards", 0, name) for name in ShardInfo.__dataclass_fields__]
PLACES += [("modalities", 1, name) for name in Modality.__dataclass_fields__]
PLACES += [(name,) for name in ("format", "version", "modalities", "class_names", "dialogue_id", "shards", "extra")]


@settings(deadline=None, max_examples=40)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_read_or_refused(tmp_path_factory, place, value):
    def change(top):
        for key in place[:-1]:
            top = top[key]
        top[place[-1]] = value

    folder = tmp_path_factory.mktemp("store")
    (folder / "manifest.json").write_text(changed(folder, change), "utf-8")
    try:
        found = read_manifest(folder)
    except StoreCorrupt:
        return
    write_manifest(folder, found)
    assert read_manifest(folder) == found


@pytest.mark.parametrize("most", range(2300, 2600, 13))
def test_a_writer_of_too_many_shards_hears_of_it_at_the_first(tmp_path, monkeypatch, most):
    monkeypatch.setattr("spcl_fast.corpus.manifest._MOST_BYTES", {"spcl_fast corpus": most})
    rows = ([0], [0], {"text": np.zeros((1, 2), np.float32)})
    modalities = [Modality("text", num_classes=2)]

    writer = CorpusWriter(tmp_path / "corpus", modalities, utterances_per_shard=1)
    many = (list(map(str, range(20))), [0] * 20, [0] * 20, {"text": np.zeros((20, 2), np.float32)})
    with pytest.raises(ValueError, match=r"room for \d+ such shards: larger ones are needed \(got 1\)") as refused:
        writer.add(*many, offsets=range(21))
    assert list((tmp_path / "corpus").iterdir()) == []
    room = int(str(refused.value).split("room for ")[1].split()[0])
    with CorpusWriter(tmp_path / "corpus", modalities, utterances_per_shard=1) as writer:
        for dialogue in range(room):
            writer.add([str(dialogue)], *rows, offsets=[0, 1])
    assert most - 260 < (tmp_path / "corpus" / "manifest.json").stat().st_size <= most
    assert len(read_manifest(tmp_path / "corpus").shards) == room


def test_scores_of_every_corpus_have_room_for_their_summary(tmp_path):
    write_manifest(tmp_path, Manifest((), format=SCORES_FORMAT, extra={"summary": "x" * 2**24}))
    assert len(read_manifest(tmp_path, SCORES_FORMAT).extra["summary"]) == 2**24
    with pytest.raises(ValueError, match="must be at most 33554432 bytes"):
        write_manifest(tmp_path, Manifest((), format=SCORES_FORMAT, extra={"summary": "x" * 2**25}))
