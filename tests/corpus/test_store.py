"""What is written comes back, bit for bit and in place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from spcl_fast.corpus import CorpusWriter, Modality, open_corpus

MODALITIES = [
    Modality("text", num_classes=3, logits_dtype="float16", embedding_size=5, embedding_dtype="bfloat16"),
    Modality("audio", num_classes=3, logits_dtype="float32"),
    Modality("visual", embedding_size=2, embedding_dtype="float16"),
]


def numbers(rng: np.random.Generator, T: int, size: int, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return rng.integers(2**16, size=(T, size), dtype=np.uint16)
    return rng.normal(size=(T, size)).astype(dtype)


def make(lengths, seed=0, texts=False) -> dict:
    """What `add` takes, of dialogues of these lengths."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    T = int(offsets[-1])
    ids = [f"dialogue {d}" for d in range(len(lengths))] if texts else np.arange(len(lengths)) * 10
    return {
        "dialogue_id": ids,
        "speaker": rng.integers(-1, 3, T),
        "label": rng.choice([-100, 0, 1, 2], T),
        "logits": {m.name: numbers(rng, T, 3, m.logits_dtype) for m in MODALITIES if m.num_classes},
        "embeddings": {
            m.name: numbers(rng, T, m.embedding_size, m.embedding_dtype) for m in MODALITIES if m.embedding_size
        },
        "offsets": offsets,
    }


def part(of: dict, first: int, last: int) -> dict:
    """The dialogues first:last of these."""
    rows = slice(of["offsets"][first], of["offsets"][last])
    cut = {name: {m: x[rows] for m, x in of[name].items()} for name in ("logits", "embeddings")}
    cut |= {name: of[name][rows] for name in ("speaker", "label")}
    return cut | {
        "dialogue_id": of["dialogue_id"][first:last],
        "offsets": of["offsets"][first : last + 1] - of["offsets"][first],
    }


def write(folder, *parts: dict, **options) -> None:
    with CorpusWriter(folder, MODALITIES, **options) as writer:
        for one in parts:
            writer.add(**one)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("lengths", [[3, 0, 2, 5, 1], [0], [0, 0, 4], [1] * 20, [12]], ids=str)
def test_corpus_comes_back(tmp_path, lengths, texts):
    of = make(lengths, texts=texts)
    write(tmp_path / "c", of, class_names=["a", "b", "c"], utterances_per_shard=6)
    corpus = open_corpus(tmp_path / "c")
    assert (corpus.num_utterances, corpus.num_dialogues) == (sum(lengths), len(lengths))
    assert corpus.modalities == tuple(MODALITIES)
    assert (corpus.num_classes, corpus.manifest.class_names) == (3, ("a", "b", "c"))
    first = 0
    for info, shard in zip(corpus.shards, corpus, strict=True):
        wanted = part(of, first, first + info.dialogues)
        first += info.dialogues
        assert info.utterances <= 6 or info.dialogues == 1
        np.testing.assert_array_equal(shard.offsets, wanted["offsets"])
        assert list(shard.dialogue_id) == list(wanted["dialogue_id"])
        n = np.diff(wanted["offsets"])
        assert shard.utterance_index.tolist() == [i for length in n for i in range(length)]
        for name in ("speaker", "label"):
            np.testing.assert_array_equal(getattr(shard, name), wanted[name], strict=False)
            assert getattr(shard, name).dtype == np.int32
        for name in ("logits", "embeddings"):
            assert getattr(shard, name).keys() == wanted[name].keys()
            for m, values in wanted[name].items():
                np.testing.assert_array_equal(getattr(shard, name)[m], values, strict=True)
    assert first == len(lengths)


def test_how_it_is_added_does_not_matter(tmp_path):
    lengths = [3, 0, 2, 5, 1, 0, 0, 7, 1, 1, 9]
    of = make(lengths)
    write(tmp_path / "a", of, utterances_per_shard=6)
    write(tmp_path / "b", *(part(of, d, d + 1) for d in range(len(lengths))), utterances_per_shard=6)
    write(tmp_path / "c", part(of, 0, 5), part(of, 5, 5), part(of, 5, 11), utterances_per_shard=6)
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")


def test_columns_are_views_of_the_mapped_file(tmp_path):
    write(tmp_path, make([2000] * 3))
    (shard,) = open_corpus(tmp_path)
    with open("/proc/self/maps") as file:
        maps = [line.split() for line in file if line.rstrip().endswith(str(tmp_path / shard.info.name))]
    ranges = [tuple(int(x, 16) for x in words[0].split("-")) for words in maps]
    arrays = [shard.speaker, shard.label, *shard.logits.values(), *shard.embeddings.values()]
    for values in arrays:
        start = values.__array_interface__["data"][0]
        assert any(low <= start and start + values.nbytes <= high for low, high in ranges)
        assert values.flags.c_contiguous
        assert not values.flags.writeable
        assert start % 8 == 0
    del shard
    assert arrays[2].sum() == arrays[2].sum()  # an array keeps the map


def resident() -> int:
    """Bytes of this process that are no file's."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))


def test_a_corpus_takes_no_memory(tmp_path):
    T = 1_000_000
    with CorpusWriter(tmp_path, [Modality("text", embedding_size=20)]) as writer:
        values = np.ones((T, 20), np.float32)
        writer.add([0], np.zeros(T, np.int32), np.zeros(T, np.int32), embeddings={"text": values}, offsets=[0, T])
    del writer, values
    before = resident()
    shard = open_corpus(tmp_path).shard(0)
    assert shard.embeddings["text"][::1000].sum() == T // 1000 * 20
    assert shard.utterance_index is shard.utterance_index
    assert shard.utterance_index[-1] == T - 1
    assert resident() - before < 40_000_000  # of 88; the index is 4, and int64 on the way to it 16


def test_one_dialogue_may_be_longer_than_a_shard(tmp_path):
    of = make([2, 1000, 2])
    write(tmp_path, of, utterances_per_shard=10)
    assert [(s.dialogues, s.utterances) for s in open_corpus(tmp_path).shards] == [(1, 2), (1, 1000), (1, 2)]


def test_empty_dialogues_fill_a_shard_too(tmp_path):
    write(tmp_path, make([0] * 7), utterances_per_shard=3)
    assert [(s.dialogues, s.utterances) for s in open_corpus(tmp_path).shards] == [(3, 0), (3, 0), (1, 0)]


def test_what_cannot_be_a_number_is_stored(tmp_path):
    of = make([4])
    of["logits"]["audio"][:, 0] = [np.nan, np.inf, -np.inf, -0.0]
    of["label"][:] = [-7, 99, 2**31 - 1, -(2**31)]
    write(tmp_path, of)
    shard = open_corpus(tmp_path).shard(0)
    assert shard.logits["audio"].tobytes() == of["logits"]["audio"].tobytes()
    assert shard.label.tolist() == of["label"].tolist()


def test_inputs_of_any_layout_are_stored(tmp_path):
    of = make([3, 2])
    wanted = content_of(tmp_path / "a", of)
    strange = dict(of)
    strange["logits"] = {m: np.asfortranarray(x).astype(x.dtype.newbyteorder(">")) for m, x in of["logits"].items()}
    strange["embeddings"] = {m: np.repeat(x, 2, 0)[::2] for m, x in of["embeddings"].items()}
    strange |= {"speaker": of["speaker"].tolist(), "label": of["label"].astype(np.int16)[::-1][::-1]}
    strange |= {"dialogue_id": of["dialogue_id"].tolist(), "offsets": tuple(of["offsets"].tolist())}
    assert content_of(tmp_path / "b", strange) == wanted


def content_of(folder, of: dict) -> dict[str, bytes]:
    write(folder, of)
    return content(folder)


def test_torch_has_the_dtypes(tmp_path):
    torch = pytest.importorskip("torch")
    values = torch.randn(5, 3)
    kinds = ("float16", "bfloat16", "float32")
    stored = {kind: values.to(getattr(torch, kind)) for kind in kinds}
    arrays = {k: (x.view(torch.uint16) if k == "bfloat16" else x).numpy() for k, x in stored.items()}
    with CorpusWriter(tmp_path, [Modality(k, num_classes=3, logits_dtype=k) for k in kinds]) as writer:
        writer.add([0], [0] * 5, [0] * 5, arrays, offsets=[0, 5])
    shard = open_corpus(tmp_path).shard(0)
    for kind, wanted in stored.items():
        assert torch.equal(shard.tensor("logits", kind), wanted)
        assert shard.tensor("logits", kind).dtype == wanted.dtype
    with pytest.raises(KeyError):
        shard.tensor("embedding", "float16")


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("dialogue_id", [1], ValueError, "offsets: must have one entry more than the 1 dialogues (got 3)"),
        ("dialogue_id", [1.0, 2.0], TypeError, "dialogue_id: must be integers (got float64)"),
        ("dialogue_id", ["a", 1], TypeError, "all texts or all integers"),
        ("dialogue_id", ["a", "\ud800"], ValueError, "must be Unicode text"),
        ("dialogue_id", "ab", TypeError, "a sequence or an array"),
        ("dialogue_id", np.array([1, 2**63], np.uint64), ValueError, "dialogue_id: must fit int64"),
        ("speaker", [0] * 4, ValueError, "speaker: must have T = 5 entries, as offsets says (got 4)"),
        ("speaker", [0.0] * 5, TypeError, "speaker: must be integers (got float64)"),
        ("speaker", [True] * 5, TypeError, "speaker: must be integers (got bool)"),
        ("label", [2**31] * 5, ValueError, "label: must fit int32 (got 2147483648 to 2147483648)"),
        ("label", [[0] * 5], ValueError, "label: must have one dimension"),
        ("offsets", [0, 6, 5], ValueError, "offsets: must not decrease (got offsets[2] = 5 after 6)"),
        ("offsets", [1, 3, 5], ValueError, "offsets: must start at 0"),
        ("offsets", [0, 3, -5], ValueError, "offsets: must not decrease"),
        ("logits", None, ValueError, "logits.text: must be given (got none)"),
        ("logits", {"text": 1, "audio": 1}, TypeError, "logits.text: must be a NumPy array (got int)"),
        ("text", np.zeros((5, 3)), TypeError, "logits.text: must be float16 (got float64)"),
        ("text", np.zeros((5, 4), np.float16), ValueError, "logits.text: must be [5, 3] (got shape (5, 4))"),
        ("text", np.zeros((3, 5), np.float16).T[:4], ValueError, "logits.text: must be [5, 3]"),
        ("smell", np.zeros((5, 3)), ValueError, "logits: must be of modalities that store it (got 'smell')"),
    ],
)
def test_wrong_input_is_refused_before_any_of_it_is_taken(tmp_path, name, value, error, message):
    of = make([3, 2])
    wrong = dict(of)
    if name in ("text", "smell"):
        wrong["logits"] = {**of["logits"], name: value}
    else:
        wrong[name] = value
    with CorpusWriter(tmp_path / "a", MODALITIES) as writer:
        writer.add(**of)
        with pytest.raises(error) as refused:
            writer.add(**wrong)
        assert message in str(refused.value)
        writer.add(**of)
    write(tmp_path / "b", of, of)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_kind_of_identifier_stays(tmp_path):
    with CorpusWriter(tmp_path, MODALITIES) as writer:
        writer.add(**make([]))  # says nothing of it
        writer.add(**make([1], texts=True))
        with pytest.raises(TypeError, match=r"dialogue_id: must be string as before \(got int64\)"):
            writer.add(**make([1]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"modalities": []}, ValueError, "modalities: at least one"),
        ({"modalities": ["text"]}, TypeError, "must be of Modality"),
        ({"modalities": [Modality("a", 2), Modality("a", 2)]}, ValueError, "names must be distinct"),
        ({"modalities": [Modality("a", 2), Modality("b", 3)]}, ValueError, "must agree on the number of classes"),
        ({"class_names": ["a"]}, ValueError, "must agree on the number of classes"),
        ({"utterances_per_shard": 0}, ValueError, "utterances_per_shard: must be at least 1"),
        ({"utterances_per_shard": 1.0}, TypeError, "utterances_per_shard: must be an integer"),
    ],
)
def test_wrong_stores_are_refused_before_a_folder_is_made(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        CorpusWriter(tmp_path / "a", **({"modalities": MODALITIES} | options))
    assert not (tmp_path / "a").exists()


def test_empty_corpus(tmp_path):
    write(tmp_path)
    corpus = open_corpus(tmp_path)
    assert (len(corpus), list(corpus), corpus.num_utterances) == (0, [], 0)
    for index in (0, -1):
        with pytest.raises(IndexError, match=r"index must be in \[0, 0\)"):
            corpus.shard(index)


def test_a_corpus_travels_to_other_processes(tmp_path):
    import pickle

    write(tmp_path, make([2, 3]))
    again = pickle.loads(pickle.dumps(open_corpus(tmp_path)))
    assert again.shard(0).offsets.tolist() == [0, 2, 5]
