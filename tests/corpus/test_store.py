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
