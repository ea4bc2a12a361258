"""read_npz: what it reads, what it refuses, and that no broken or hostile file gets past it."""

import functools
import io
import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.npz import read_npz

T = 7


def contents(**changes):
    """Arrays of a small valid file; a change to None leaves the array out."""
    rng = np.random.default_rng(0)
    arrays = {
        "feature_names": np.array(["text_glove", "text_lsa", "audio"]),
        "text_glove": rng.standard_normal((T, 4)).astype(np.float16),
        "text_lsa": rng.standard_normal((T, 3)).astype(np.float16),
        "audio": np.asfortranarray(rng.standard_normal((T, 2))),
        "vad": rng.standard_normal((T, 3)).astype(np.float16),
        "labels": np.array([0, 1, -1, 2, 2, 0, 1]),
        "speakers": np.array([0, 1, 0, 0, 1, 2, 0], np.int32),
        "offsets": np.array([0, 3, 3, 7]),
        "split": np.array([0, 1, 2]),
        "split_names": np.array(["train", "dev", "test"]),
        "class_names": np.array(["low", "middle", "high"]),
        "dialogue_ids": np.array(["a", "b", "c"]),
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


@pytest.fixture
def write(tmp_path):
    def write_file(save=np.savez, **changes):
        path = tmp_path / "corpus.npz"
        save(path, **contents(**changes))
        return path

    return write_file


def refusal(path, modalities=None):
    """The message of the refusal: one line that starts with the file."""
    with pytest.raises(DatasetError) as caught:
        read_npz(path, modalities)
    message = str(caught.value)
    assert message.startswith(f"{os.fspath(path)}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_read_npz_every_feature(write, save):
    data = read_npz(write(save))
    assert data.name == "corpus"
    assert {name: values.shape for name, values in data.features.items()} == {
        "text_glove": (T, 4),
        "text_lsa": (T, 3),
        "audio": (T, 2),
    }
    for name, values in data.features.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, contents()[name].astype(np.float32))
    assert data.labels.tolist() == [0, 1, -100, 2, 2, 0, 1]
    assert data.speakers.tolist() == [0, 1, 0, 0, 1, 2, 0]
    assert data.speakers.dtype == np.int64
    assert data.class_names == ("low", "middle", "high")
    assert data.dialogue_ids == ("a", "b", "c")
    assert data.counts() == {"train": (1, 2), "dev": (1, 0), "test": (1, 4)}
    assert data.notes == ()
    data.labels[0] = 1  # the arrays are the caller's own


@pytest.mark.parametrize("spec", ["text_lsa+text_glove,audio", " text_lsa + text_glove , audio", None])
def test_read_npz_joined_views(write, spec):
    data = read_npz(write(), ["text_lsa+text_glove", "audio"] if spec is None else spec)
    assert list(data.features) == ["text_lsa+text_glove", "audio"]
    joined = np.concatenate([contents()["text_lsa"], contents()["text_glove"]], axis=1)
    np.testing.assert_array_equal(data.features["text_lsa+text_glove"], joined.astype(np.float32))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "vad",
            "'vad' is in the file but not among its feature_names: it is an annotation, not an input; choose",
        ),
        ("labels", "'labels' is in the file but not among its feature_names"),
        ("visual", "'visual' is not in the file; choose from text_glove, text_lsa, audio"),
        ("audio,audio", "'audio' is used twice"),
        ("text_lsa,audio+text_lsa", "'text_lsa' is used twice"),
        ("", "an item is empty"),
        ("audio,", "an item is empty in 'audio,'"),
        ("audio++text_lsa", "an item is empty"),
        ([], "must name at least one"),
        (["audio,text_lsa"], "'audio,text_lsa' is not in the file"),
    ],
)
def test_read_npz_refuses_modalities(write, spec, message):
    assert message in refusal(write(), spec)


def test_read_npz_names_of_another_byte_order(write):
    assert read_npz(write(class_names=np.array(["lów", "middle", "high"], ">U8"))).class_names[0] == "lów"


def test_read_npz_never_reads_an_annotation(write):
    assert read_npz(write(vad=np.array([{"pickled": 1}], dtype=object))).num_utterances == T


class Bomb:
    """Unpickling one would be noticed."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def poisoned(value, dtype=np.float16):
    values = np.ones((T, 2), dtype)
    values[5, 1] = value
    return values


BROKEN = {
    "no labels": ({"labels": None}, "has no array labels"),
    "no offsets, no split": ({"offsets": None, "split": None}, "has no array offsets, split"),
    "no feature_names": ({"feature_names": None}, "has no array feature_names"),
    "labels float": (
        {"labels": np.zeros(T)},
        r"labels: must be integers with 1 dimension (got float64 of shape (7,))",
    ),
    "labels bool": ({"labels": np.zeros(T, bool)}, "labels: must be integers"),
    "labels rank": ({"labels": np.zeros((T, 1), int)}, "got int64 of shape (7, 1)"),
    "labels scalar": ({"labels": np.array(3)}, "got int64 of shape ()"),
    "labels high": ({"labels": np.array([0, 1, 2, 3, 0, 0, 0])}, "labels: must be in [0, 3), or -100"),
    "labels huge": (
        {"labels": np.full(T, 2**64 - 1, np.uint64)},
        "labels: must fit int64 (got 18446744073709551615)",
    ),
    "labels huge, swapped": ({"labels": np.full(T, 2**64 - 1, ">u8")}, "labels: must fit int64"),
    "labels short": ({"labels": np.zeros(6, int)}, "text_glove: must be as long as labels, 6"),
    "feature nan": ({"audio": poisoned(np.nan)}, "audio: must be finite (got audio[5, 1] = nan)"),
    "feature inf": ({"audio": poisoned(np.inf)}, "audio[5, 1] = inf"),
    "feature past float32": ({"audio": poisoned(1e300, np.float64)}, "features['audio'][5, 1] = inf"),
    "feature integer": ({"audio": np.ones((T, 2), int)}, "audio: must be floating point with 2 dimensions"),
    "feature complex": ({"audio": np.ones((T, 2), complex)}, "audio: must be floating point"),
    "feature rank": ({"audio": np.ones((T, 2, 2))}, "audio: must have 1 or 2 dimensions"),
    "feature width": ({"audio": np.ones((T, 0))}, "audio: must have at least one column"),
    "feature short": ({"audio": np.ones((T - 1, 2))}, "audio: must be as long as labels, 7"),
    "feature missing": ({"audio": None}, "feature_names: must name feature arrays of the file (got 'audio')"),
    "feature is labels": ({"feature_names": np.array(["labels"])}, "must name feature arrays of the file"),
    "feature twice": ({"feature_names": np.array(["audio", "audio"])}, "'audio' a second time"),
    "feature none": ({"feature_names": np.array([], "U1")}, "feature_names: must name at least one"),
    "feature plus": (
        {"feature_names": np.array(["a+b"]), "a+b": np.ones((T, 1))},
        "must be free of ',', '+'",
    ),
    "offsets unsorted": ({"offsets": np.array([0, 5, 3, 7])}, "offsets[2] = 3 after 5"),
    "offsets end": ({"offsets": np.array([0, 2, 3, 8])}, "offsets: must end at T = 7"),
    "split range": ({"split": np.array([0, 1, 3])}, "split: must be in [0, 3)"),
    "ids length": ({"dialogue_ids": np.array(["a"])}, "dialogue_ids: must name the D = 3 dialogues"),
    "names bytes": ({"class_names": np.array([b"low", b"high"])}, "class_names: must be strings"),
    "pickled labels": ({"labels": np.array([Bomb()] * T, object)}, "labels: holds Python objects, never"),
    "pickled feature": ({"audio": np.array([[Bomb()]] * T, object)}, "audio: holds Python objects, never"),
    "structured": ({"labels": np.zeros(T, [("a", int)])}, "labels: its header describes no plain array"),
    "dates": ({"labels": np.zeros(T, "M8[s]")}, "labels: its header describes no plain array"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_read_npz_names_the_fault(write, fault):
    changes, message = BROKEN[fault]
    assert message.replace("never", "which are never unpickled") in refusal(write(**changes))


def with_header(header, data=b"", magic=b"\x93NUMPY\x01\x00"):
    """A valid file, but for its labels: these have the header and data given, under a right checksum."""
    file = io.BytesIO()
    np.savez(file, **contents(labels=None))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("labels.npy", magic + struct.pack("<H", len(header)) + header + data)
    return file.getvalue()


def plain(shape, descr="<i8", order="False"):
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin-1")


HOSTILE = {
    "absurd shape": (plain("(1000000000000000000,)"), "takes 8000000000000000000 bytes, but 0 are there"),
    "overflowing shape": (plain("(4294967296, 4294967296)"), "but 0 are there"),
    "overflowing to zero": (plain("(0, 9999999999999999999)"), "is too large"),
    "digits without end": (plain("(" + "9" * 5000 + ",)"), "describes no plain array"),
    "negative shape": (plain("(-1,)"), "describes no plain array"),
    "nothing wide": (plain("(1000000000000000000,)", "<U0"), "bytes, but 0 are there"),
    "very wide": (plain("(1,)", "<U999999999"), "labels: "),
    "unknown dtype": (plain("(0,)", "<i3"), "unknown dtype '<i3'"),
    "nested": (b"(" * 60000, "describes no plain array"),
    "code": (
        b"{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (0,), }",
        "no plain array",
    ),
    "not ended": (b"{'descr': '<i8', 'fortran_order': ", "describes no plain array"),
    "empty": (b"", "describes no plain array"),
    "object": (plain("(0,)", "|O"), "holds Python objects"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_read_npz_hostile_header(tmp_path, fault):
    header, message = HOSTILE[fault]
    path = tmp_path / "hostile.npz"
    path.write_bytes(with_header(header))
    assert message in refusal(path)


def test_read_npz_header_of_another_format(tmp_path):
    path = tmp_path / "hostile.npz"
    path.write_bytes(with_header(b"", magic=b"\x93NUMPY\x03\x00"))
    assert "labels: not an .npy array of format 1 or 2" in refusal(path)


@pytest.mark.parametrize("code_point", [0x7FFFFFFF, 0x110000, 0xD800])
def test_read_npz_name_that_is_no_text(tmp_path, code_point):
    path = tmp_path / "corpus.npz"
    np.savez(path, **contents(dialogue_ids=None))
    with zipfile.ZipFile(path, "a") as archive, archive.open("dialogue_ids.npy", "w") as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", 60) + plain("(1,)", "<U1")[:-1].ljust(60))
        member.write(struct.pack("<I", code_point))
    assert "dialogue_ids: holds what is no Unicode text" in refusal(path)  # NumPy raises SystemError


@pytest.mark.parametrize(
    ("packed", "unpacked", "message"),
    [
        (None, 2**31, "labels: claims 2147483648 bytes, more than the file can hold"),
        (2**31, 2**31, "labels: claims 2147483648 bytes, more than the file can hold"),
        (None, 200, r"labels: truncated, 184 of 200 bytes"),
    ],
)
def test_read_npz_member_that_lies_about_its_size(tmp_path, packed, unpacked, message):
    path = tmp_path / "corpus.npz"
    np.savez_compressed(path, **contents())
    content = bytearray(path.read_bytes())
    at = content.rindex(b"labels.npy") - 46  # the entry of the central directory
    if packed is not None:
        content[at + 20 : at + 24] = struct.pack("<I", packed)
    content[at + 24 : at + 28] = struct.pack("<I", unpacked)
    path.write_bytes(content)
    assert message in refusal(path)


def test_read_npz_other_compression(tmp_path):
    path, source = tmp_path / "corpus.npz", io.BytesIO()
    np.savez(source, **contents())
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "compression method 14" in refusal(path)


def test_read_npz_missing_directory_or_not_an_archive(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.npz")
    assert "is a directory" in refusal(tmp_path)
    assert "no such file" in refusal("corpus\0.npz")
    assert "not a readable .npz file" in refusal("x" * 5000)
    for name, content in {"empty": b"", "text": b"labels,features\n", "npy": b"\x93NUMPY\x01\x00"}.items():
        (tmp_path / name).write_bytes(content)
        assert "not a readable .npz file" in refusal(tmp_path / name)


@functools.cache
def valid_file(compressed):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **contents())
    return file.getvalue()


def reads_the_same_or_is_refused(path, content):
    """A damaged file may read to what was written, since not every byte is content; else it is refused."""
    path.write_bytes(content)
    try:
        data = read_npz(path)
    except DatasetError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
        return
    arrays = contents()
    assert list(data.features) == arrays["feature_names"].tolist()
    for name, values in data.features.items():
        np.testing.assert_array_equal(values, arrays[name].astype(np.float32))
    np.testing.assert_array_equal(data.labels, np.where(arrays["labels"] == -1, -100, arrays["labels"]))
    for name in ("speakers", "offsets", "split"):
        np.testing.assert_array_equal(getattr(data, name), arrays[name])
    for name in ("split_names", "class_names", "dialogue_ids"):
        assert getattr(data, name) == tuple(arrays[name].tolist())


@pytest.fixture(scope="module")
def damaged_path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "corpus.npz"


flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(compressed=st.booleans(), flips=flips)
def test_read_npz_flipped_bytes(damaged_path, compressed, flips):
    content = bytearray(valid_file(compressed))
    for place, mask in flips:
        content[int(place * len(content))] ^= mask
    reads_the_same_or_is_refused(damaged_path, bytes(content))


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("compressed", [False, True])
def test_read_npz_every_byte_of_the_directory_flipped(damaged_path, compressed, mask):
    content = valid_file(compressed)
    for at in range(content.index(b"PK\x01\x02"), len(content)):
        damaged = bytearray(content)
        damaged[at] ^= mask
        reads_the_same_or_is_refused(damaged_path, bytes(damaged))


@pytest.mark.parametrize("compressed", [False, True])
def test_read_npz_truncated(damaged_path, compressed):
    content = valid_file(compressed)
    for length in range(0, len(content), 7):
        damaged_path.write_bytes(content[:length])
        refusal(damaged_path)


@settings(max_examples=100, deadline=None)
@given(cut=st.tuples(st.integers(0, 4000), st.integers(1, 400)), insert=st.binary(max_size=200))
def test_read_npz_spliced(damaged_path, cut, insert):
    content = valid_file(False)
    start, length = cut
    reads_the_same_or_is_refused(damaged_path, content[:start] + insert + content[start + length :])


@settings(max_examples=200, deadline=None)
@given(
    header=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)),
    data=st.binary(max_size=60),
)
def test_read_npz_any_header(damaged_path, header, data):
    damaged_path.write_bytes(with_header(header, data))
    refusal(damaged_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "modalities", "shape", "counts", "notes"),
    [
        (
            "iemocap_6way",
            "text_lsa+text_glove,audio",
            (151, 7433, 6),
            [(108, 5163), (12, 647), (31, 1623)],
            0,
        ),
        ("iemocap_full", "text_lsa,audio", (151, 10039, 6), [(108, 5163), (12, 647), (31, 1623)], 0),
        ("meld", "text_lsa,audio", (1432, 13708, 7), [(1038, 9989), (114, 1109), (280, 2610)], 1),
        ("mosi", None, (93, 2199, 2), [(53, 1252), (9, 195), (31, 752)], 0),
    ],
)
def test_read_npz_real_files(data_dir, file, modalities, shape, counts, notes):
    data = read_npz(data_dir / f"{file}.npz", modalities)
    assert (data.num_dialogues, data.num_utterances, data.num_classes) == shape
    assert list(data.counts().values()) == counts
    assert len(data.notes) == notes
    assert all("MELD: 1038 train dialogues, published 1039" in note for note in data.notes)
    if modalities is not None:
        assert list(data.features) == modalities.split(",")


@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "annotation"), [("iemocap_6way", "vad"), ("meld", "sentiment"), ("mosi", "sentiment_score")]
)
def test_read_npz_real_annotations_are_no_input(data_dir, file, annotation):
    message = refusal(data_dir / f"{file}.npz", annotation)
    assert f"'{annotation}' is in the file but not among its feature_names" in message
