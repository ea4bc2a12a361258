"""Rescoring gives the numbers of the ops, in any pieces, and says what it did."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spcl_fast import DialogueBatch, arrays
from spcl_fast.corpus import CorpusWriter, Modality, StoreCorrupt, open_corpus, plan, rescore
from spcl_fast.corpus._records import read_json, write_json
from spcl_fast.corpus._slices import slice_rows, slices
from spcl_fast.difficulty import ExtendedDifficulty, StepInputs

spec = importlib.util.spec_from_file_location("rescoring", Path(__file__).with_name("rescoring.py"))
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
content, expected, transition_counts, write_corpus = (
    helpers.content,
    helpers.expected,
    helpers.transition_counts,
    helpers.write_corpus,
)


def check(corpus, scores, C, **how):
    counts = transition_counts(corpus, C)
    for i, shard in enumerate(corpus):
        wanted = expected(shard, C, counts, **how)
        for name in scores.columns:
            np.testing.assert_array_equal(scores.column(name, i, verify=True), wanted[name], err_msg=name)


@pytest.mark.parametrize(
    ("M", "C", "dtype"), [(3, 5, "float16"), (2, 7, "float32"), (3, 20, "bfloat16"), (3, 3, "float16")]
)
def test_rescore_gives_the_numbers_of_the_ops(tmp_path, M, C, dtype):
    corpus = write_corpus(tmp_path / "corpus", M=M, C=C, dtype=dtype)
    assert len(corpus) > 3
    scores = rescore(corpus, tmp_path / "scores").scores
    assert len(scores.columns) == 2 * M + 6
    check(corpus, scores, C)


@pytest.mark.parametrize("memory", [512 << 20, 24 << 10])  # mapped as a whole, and given back slice by slice
def test_modalities_may_be_stored_in_different_dtypes(tmp_path, monkeypatch, memory):
    monkeypatch.setattr("spcl_fast.corpus._rescore_shard.slice_rows", lambda _: 64)
    dtypes = {"text": "float32", "audio": "float16", "visual": "bfloat16"}
    parts = [next(iter(write_corpus(tmp_path / dtype, dtype=dtype, per_shard=10_000))) for dtype in dtypes.values()]
    logits = {name: part.logits[name] for name, part in zip(dtypes, parts, strict=True)}
    modalities = [Modality(name, 5, dtype) for name, dtype in dtypes.items()]
    with CorpusWriter(tmp_path / "corpus", modalities, utterances_per_shard=300) as writer:
        writer.add(parts[0].dialogue_id, parts[0].speaker, parts[0].label, logits, offsets=parts[0].offsets)
    corpus = open_corpus(tmp_path / "corpus")
    assert corpus.shards[0].bytes > 24 << 8
    check(corpus, rescore(corpus, tmp_path / "scores", memory=memory).scores, 5)


def test_rescore_compares_embeddings(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", embedding_size=6)
    check(corpus, rescore(corpus, tmp_path / "scores", source="embedding").scores, 5, source="embedding")


def test_rescore_goes_by_slices_and_long_dialogues(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus", dialogues=12, longest=6000, per_shard=1 << 20, faults=True)
    monkeypatch.setattr("spcl_fast.corpus._rescore_shard.slice_rows", lambda row_bytes: 700)
    assert len(list(slices(corpus.shard(0).offsets, 700))) > 9
    check(corpus, rescore(corpus, tmp_path / "scores").scores, 5)


def test_slices_of_wide_rows_are_short():
    assert [slice_rows(n) for n in (1, 512, 4096, 1 << 20)] == [1 << 16, 1 << 16, 8192, 1024]


def test_slices_are_whole_dialogues():
    offsets = np.array([0, 0, 3, 3, 13, 15, 15])
    assert list(slices(offsets, 4)) == [(0, 3), (3, 4), (4, 6)]
    assert list(slices(offsets, 4, 1, 4)) == [(1, 3), (3, 4)]
    assert list(slices(np.array([0]), 4)) == []


def test_dialogues_have_a_file_of_their_own(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    scores = rescore(corpus, tmp_path / "scores").scores
    for i, shard in enumerate(corpus):
        assert scores.offsets(i).tolist() == shard.offsets.tolist()
        step = arrays.self_paced_step(list(shard.logits.values()), shard.label, shard.offsets, None)
        np.testing.assert_array_equal(scores.dialogue_column("spread", i), step.spread)
        for d in range(len(shard.offsets) - 1):
            rows = slice(shard.offsets[d], shard.offsets[d + 1])
            known = step.difficulty[rows][~np.isnan(step.difficulty[rows])]
            losses = step.utterance_loss[rows][~np.isnan(step.utterance_loss[rows])]
            assert scores.dialogue_column("scored", i)[d] == len(losses)
            if len(known):
                assert scores.dialogue_column("max_difficulty", i)[d] == known.max()
                assert scores.dialogue_column("mean_difficulty", i)[d] == pytest.approx(known.mean(), rel=1e-6)
                assert scores.dialogue_column("mean_loss", i)[d] == pytest.approx(losses.mean(), rel=1e-6)
            else:
                assert math.isnan(scores.dialogue_column("max_difficulty", i)[d])


def test_summary_is_that_of_the_whole_corpus(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    scores = rescore(corpus, tmp_path / "scores").scores
    summary = scores.summary
    shards = list(corpus)
    logits = [np.concatenate([shard.logits[name] for shard in shards]) for name in ("text", "audio", "visual")]
    label = np.concatenate([shard.label for shard in shards])
    offsets = np.concatenate([[0], np.concatenate([np.diff(shard.offsets) for shard in shards]).cumsum()])
    step = arrays.self_paced_step(logits, label, offsets, None)
    assert (summary["scored"], summary["nonfinite"], summary["bad_label"]) == step.totals[0:1] + step.totals[2:4]
    assert summary["nonfinite"] > 0
    assert summary["bad_label"] == 1
    assert summary["ignored"] == np.count_nonzero(label == -100) > 0
    assert summary["utterances"] == corpus.num_utterances
    assert summary["dialogues"] == corpus.num_dialogues
    assert summary["mean_loss"] == pytest.approx(step.totals.loss_sum / step.totals.scored)
    confidence = list(summary["mean_confidence"].values())
    assert confidence == pytest.approx((step.totals.confidence_sum / step.totals.scored).tolist())
    assert summary["transitions"] == transition_counts(corpus, 5).tolist()
    histogram = summary["histograms"]["difficulty"]
    difficulty = step.difficulty[~np.isnan(step.difficulty)]
    assert sum(histogram["count"]) == len(difficulty)
    for lowest, highest, count in zip(histogram["lowest"], histogram["highest"], histogram["count"], strict=True):
        assert np.count_nonzero((difficulty >= lowest) & (difficulty <= highest)) == count
    wanted = arrays.difficulty_histogram(step.difficulty, 0, 0)
    assert wanted[histogram["digit"]].tolist() == histogram["count"]


def test_extended_difficulty_is_that_of_the_measurer(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", embedding_size=4)
    counts = transition_counts(corpus, 5)
    weights = {"incoherence": 0.5, "transition": 0.75, "surprisal": 0.25}
    scores = rescore(corpus, tmp_path / "scores", difficulty="extended", source="embedding", **weights).scores
    measurer = ExtendedDifficulty(**weights, transition_counts=torch.tensor(counts))
    for i, shard in enumerate(corpus):
        names = list(shard.logits)
        logits = [torch.tensor(shard.logits[name]) for name in names]
        label, speaker, offsets = (torch.tensor(x) for x in (shard.label, shard.speaker, shard.offsets))
        embeddings = [torch.tensor(shard.embeddings[name]) for name in names]
        extra = measurer.extra(StepInputs(logits, label, offsets, speakers=speaker, embeddings=embeddings))
        step = arrays.self_paced_step(
            list(shard.logits.values()), shard.label, shard.offsets, None, extra_difficulty=extra.numpy()
        )
        np.testing.assert_allclose(scores.column("difficulty", i), step.difficulty, rtol=2e-6, atol=1e-6)


def test_columns_are_chosen_and_halves_are_rounded(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    every = rescore(corpus, tmp_path / "all").scores
    scores = rescore(
        corpus, tmp_path / "few", columns=["difficulty", "loss", "confidence.audio"], dtype="float16"
    ).scores
    assert scores.columns == ("loss.text", "loss.audio", "loss.visual", "confidence.audio", "difficulty")
    for name in scores.columns:
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(scores.column(name, 1), every.column(name, 1).astype(np.float16))
    assert not list((tmp_path / "few").glob("*.transitions.json"))


def test_workers_and_memory_change_no_byte(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "one")
    rescore(corpus, tmp_path / "three", workers=3, memory=3 << 20)
    assert content(tmp_path / "one") == content(tmp_path / "three")


def test_processes_share_a_folder(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    first, second = plan(corpus, 2)
    assert rescore(corpus, tmp_path / "two", shards=second).scores is None
    assert not (tmp_path / "two" / "manifest.json").exists()
    done = rescore(corpus, tmp_path / "two", shards=first)
    assert done.scores is not None
    assert (done.shards, done.reused) == (len(first), 0)
    rescore(corpus, tmp_path / "one")
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 100])
def test_plan_covers_every_shard_once(tmp_path, world_size):
    corpus = write_corpus(tmp_path / "corpus")
    ranges = plan(corpus, world_size)
    assert len(ranges) == world_size
    assert [index for shards in ranges for index in shards] == list(range(len(corpus)))
    if world_size <= 3:
        sizes = [sum(corpus.shards[i].utterances for i in shards) for shards in ranges]
        assert max(sizes) <= corpus.num_utterances / world_size + 90


def test_rescore_continues_and_does_nothing_twice(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "whole")
    wanted = content(tmp_path / "whole")
    seen = []
    again = rescore(corpus, tmp_path / "whole", on_progress=seen.append)
    assert (again.shards, again.reused, seen) == (0, len(corpus), [corpus.num_utterances])
    (tmp_path / "whole" / "manifest.json").unlink()
    (tmp_path / "whole" / "shard-000001.record.json").unlink()
    (tmp_path / "whole" / "shard-000002.arrow").write_bytes(b"short")
    (tmp_path / "whole" / "shard-000003.record.json").write_text("{")
    assert rescore(corpus, tmp_path / "whole").shards == 3
    assert content(tmp_path / "whole") == wanted


def test_rescore_does_a_shard_again_whose_input_is_another(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    path = tmp_path / "scores" / "shard-000000.record.json"
    rescore(corpus, tmp_path / "scores", shards=[0])
    record, text = read_json(path), path.read_text()
    write_json(path, {**record, "input": {**record["input"], "checksum": "crc32c:00000000"}})
    assert rescore(corpus, tmp_path / "scores", shards=[0]).shards == 1
    assert path.read_text() == text


def test_other_options_and_another_corpus_are_refused_by_field(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "scores", shards=[0])
    other = write_corpus(tmp_path / "vectors", embedding_size=3)
    rescore(other, tmp_path / "again", shards=[0])
    with pytest.raises(ValueError, match=r"again: was begun with window 5, not 7; source 'prediction', not 'emb"):
        rescore(other, tmp_path / "again", window=7, source="embedding")
    with pytest.raises(ValueError, match="was begun with corpus '"):
        rescore(write_corpus(tmp_path / "other", seed=1), tmp_path / "scores")
    with pytest.raises(ValueError, match="is the corpus itself"):
        rescore(corpus, tmp_path / "corpus")


def test_transitions_of_another_corpus(tmp_path):
    corpus, other = write_corpus(tmp_path / "corpus"), write_corpus(tmp_path / "other", seed=1)
    counts = transition_counts(other, 5)
    rescore(other, tmp_path / "of_other")
    (tmp_path / "counts.json").write_text(json.dumps(counts.tolist()))
    wanted = [expected(shard, 5, counts)["surprisal"] for shard in corpus]
    for k, source in enumerate((counts, tmp_path / "counts.json", tmp_path / "of_other")):
        scores = rescore(corpus, tmp_path / f"scores{k}", transitions=source).scores
        for i, surprisal in enumerate(wanted):
            np.testing.assert_array_equal(scores.column("surprisal", i), surprisal)
    for bad in (counts[:4], counts - 100, counts.astype(float), [[1], [2, 3]]):
        with pytest.raises(ValueError, match="must be a matrix of 5 x 5 integers"):
            rescore(corpus, tmp_path / "bad", transitions=bad)
    with pytest.raises(ValueError, match=r"nowhere\.json: cannot be read"):
        rescore(corpus, tmp_path / "bad", transitions=str(tmp_path / "nowhere.json"))


@pytest.mark.parametrize("memory", [512 << 20, 64 << 10])  # compared at once, and piece by piece
def test_damaged_shard_is_named_and_the_others_stay(tmp_path, memory):
    corpus = write_corpus(tmp_path / "corpus", C=20, dtype="float32")
    assert corpus.shards[2].bytes > 64 << 8
    path = tmp_path / "corpus" / corpus.shards[2].name
    good = path.read_bytes()
    path.write_bytes(good[:-70] + bytes([good[-70] ^ 1]) + good[-69:])
    how = {"memory": memory, "columns": ["difficulty"]}
    with pytest.raises(StoreCorrupt, match=r"shard-000002\.arrow: shard 2: damaged"):
        rescore(corpus, tmp_path / "scores", **how)
    path.unlink()
    with pytest.raises(StoreCorrupt, match=r"shard-000002\.arrow: shard 2: "):
        rescore(corpus, tmp_path / "scores", **how, workers=2)
    path.write_bytes(good)
    done = rescore(corpus, tmp_path / "scores", **how)
    assert done.reused >= 2
    assert done.scores is not None


def test_labels_that_change_between_the_passes_are_noticed(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "whole")
    wanted = content(tmp_path / "whole")
    for name in ("manifest.json", "shard-000001.record.json"):
        (tmp_path / "whole" / name).unlink()
    path = tmp_path / "whole" / "shard-000001.transitions.json"
    record = read_json(path)
    record["transitions"][0][0] += 1
    write_json(path, record)
    with pytest.raises(StoreCorrupt, match="had other labels"):
        rescore(corpus, tmp_path / "whole")
    rescore(corpus, tmp_path / "whole")
    assert content(tmp_path / "whole") == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 4}, "window must be odd"),
        ({"window": 2.0}, "window must be an integer"),
        ({"dtype": "float64"}, "dtype must be one of"),
        ({"difficulty": "hard"}, "difficulty must be one of"),
        ({"aggregate": "max"}, "aggregate must be one of"),
        ({"source": "logits"}, "source must be one of"),
        ({"source": "embedding"}, "needs embeddings of one size"),
        ({"columns": []}, "at least one name"),
        ({"columns": "loss"}, "must be a list"),
        ({"columns": ["los"]}, r"columns must be of loss, confidence, loss\.text"),
        ({"incoherence": math.nan}, "incoherence must be finite"),
        ({"transition": -1}, "transition must be finite"),
        ({"surprisal": "1"}, "surprisal must be a number"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"memory": 1.5}, "memory must be an integer"),
        ({"shards": [99]}, "shards must be in"),
        ({"checkpoint": "x.pt"}, "checkpoint is of a model"),
        ({"memory": 3000}, r"shard 0 has \d+ utterances .* takes 1 MB: memory must be at least that"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    corpus = write_corpus(tmp_path / "corpus", dialogues=4)
    with pytest.raises((TypeError, ValueError), match=message):
        rescore(corpus, tmp_path / "scores", **options)


def test_one_modality_has_a_loss_alone(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", M=1)
    with pytest.raises(ValueError, match="'spcl' needs two modalities"):
        rescore(corpus, tmp_path / "scores")
    scores = rescore(corpus, tmp_path / "scores", difficulty="loss").scores
    assert not {"spread", "coherence"} & set(scores.columns)
    np.testing.assert_array_equal(scores.column("difficulty", 0), scores.column("utterance_loss", 0))


def test_nothing_is_rescored_to_nothing(tmp_path):
    with CorpusWriter(tmp_path / "none", [Modality("a", num_classes=2), Modality("b", num_classes=2)]):
        pass
    scores = rescore(open_corpus(tmp_path / "none"), tmp_path / "scores").scores
    assert (len(scores), scores.summary["mean_loss"], scores.summary["transitions"]) == (0, None, None)
    with CorpusWriter(tmp_path / "empty", [Modality("a", num_classes=2), Modality("b", num_classes=2)]) as writer:
        nothing = np.zeros((0, 2), np.float32)
        writer.add([1, 2], [], [], {"a": nothing, "b": nothing}, offsets=[0, 0, 0])
    scores = rescore(open_corpus(tmp_path / "empty"), tmp_path / "empty_scores").scores
    assert scores.column("difficulty", 0).shape == (0,)
    assert scores.offsets(0).tolist() == [0, 0, 0]
    assert np.isnan(scores.dialogue_column("spread", 0)).all()


class Sum(torch.nn.Module):
    """Logits that show what a model is given."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, features, batch):
        assert isinstance(batch, DialogueBatch)
        assert batch.num_utterances == len(next(iter(features.values())))
        positions = torch.cat([torch.arange(n) for n in batch.lengths.tolist()])
        return {
            name: self.scale * values[:, :3] + 0.01 * positions[:, None] + 0.1 * batch.speakers[:, None]
            for name, values in features.items()
        }


def make():
    return Sum()


@pytest.mark.parametrize("batch_utterances", [1, 40, 10_000])
def test_model_gives_the_logits(tmp_path, monkeypatch, batch_utterances):
    monkeypatch.setitem(sys.modules, "the_users_own", sys.modules[__name__])
    corpus = write_corpus(tmp_path / "corpus", embedding_size=4, faults=False)
    model = Sum()
    model.scale.data.fill_(1.5)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pt")
    how = {"model": "the_users_own:make", "checkpoint": tmp_path / "model.pt", "batch_utterances": batch_utterances}
    scores = rescore(corpus, tmp_path / "scores", **how).scores
    for i, shard in enumerate(corpus):
        position = (np.arange(shard.info.utterances) - np.repeat(shard.offsets[:-1], np.diff(shard.offsets)))[:, None]
        logits = [
            (
                torch.tensor(1.5) * torch.tensor(e[:, :3])
                + 0.01 * torch.tensor(position)
                + 0.1 * torch.tensor(shard.speaker)[:, None]
            ).numpy()
            for e in shard.embeddings.values()
        ]
        step = arrays.self_paced_step(logits, shard.label, shard.offsets, None)
        np.testing.assert_array_equal(scores.column("difficulty", i), step.difficulty)
    torch.save({"other": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt: does not fit the model"):
        rescore(corpus, tmp_path / "bad", **{**how, "checkpoint": tmp_path / "other.pt"})
    with pytest.raises(ValueError, match="was begun with checkpoint"):
        rescore(corpus, tmp_path / "scores", **{**how, "checkpoint": None})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nocolon", "must be package.module:factory"),
        ("no_such_package:make", "cannot be imported"),
        ("math:no_such", "cannot be imported"),
        ("builtins:dict", r"must make a torch\.nn\.Module"),
    ],
)
def test_wrong_model_is_refused(tmp_path, model, message):
    corpus = write_corpus(tmp_path / "corpus", dialogues=3)
    with pytest.raises(ValueError, match=message):
        rescore(corpus, tmp_path / "scores", model=model)
