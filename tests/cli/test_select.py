"""`spcl-fast threshold` and `spcl-fast select`: what they say and write, and one line for what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spcl_fast import arrays
from spcl_fast.cli import main
from spcl_fast.corpus import CorpusWriter, Modality, SelectionIndex, open_corpus, rescore


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main([*map(str, arguments)])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Those of a corpus of six shards; some utterances have no label, and one dialogue is empty."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(4)
    modalities = [Modality("text", num_classes=3), Modality("audio", num_classes=3)]
    lengths = [*rng.integers(1, 20, 40).tolist(), 0]
    T = sum(lengths)
    labels = rng.integers(0, 3, T)
    labels[::11] = -100
    logits = {m.name: rng.standard_normal((T, 3)).astype(np.float32) for m in modalities}
    with CorpusWriter(folder / "corpus", modalities, utterances_per_shard=70) as writer:
        writer.add(np.arange(41), rng.integers(0, 2, T), labels, logits, offsets=np.cumsum([0, *lengths]))
    return rescore(open_corpus(folder / "corpus"), folder / "scores").scores


def whole(scores, name="difficulty", unit="utterance"):
    column = scores.column if unit == "utterance" else scores.dialogue_column
    return np.concatenate([column(name, i) for i in range(len(scores))])


def test_threshold_of_a_store(capsys, scores):
    assert len(scores) > 3
    difficulty = whole(scores)
    assert np.isnan(difficulty).any()
    code, said, err = run(capsys, "threshold", scores.folder, "--pace", 0.4, "--pace", 0.9, "--json")
    assert (code, err) == (0, "")
    found = json.loads(said)
    known = int((~np.isnan(difficulty)).sum())
    assert (found["column"], found["total"], found["known"]) == ("difficulty", len(difficulty), known)
    for row, pace in zip(found["thresholds"], (0.4, 0.9), strict=True):
        assert row["threshold"] == float(arrays.difficulty_quantile(difficulty, pace))
        assert (row["pace"], row["taken"]) == (pace, int(arrays.select_easiest(difficulty, pace).sum()))
    code, said, _ = run(capsys, "threshold", scores.folder, "--pace", 1, "--column", "loss.text", "--verify")
    assert code == 0
    assert f"loss.text: {len(difficulty)} utterances, {len(difficulty) - known} of them without a number" in said
    assert f"pace 1: {known} utterances up to {float(np.nanmax(whole(scores, 'loss.text')))!r}" in said
    code, said, _ = run(capsys, "threshold", scores.folder, "--pace", 0.5, "--by", "dialogue", "--json")
    of_dialogues = float(arrays.difficulty_quantile(whole(scores, "mean_difficulty", "dialogue"), 0.5))
    assert json.loads(said)["thresholds"][0]["threshold"] == of_dialogues


def test_select_writes_what_a_sampler_reads(capsys, scores, tmp_path):
    out, difficulty = tmp_path / "easy.selection", whole(scores)
    code, said, err = run(capsys, "select", scores.folder, "--pace", 0.4, "--out", out)
    assert (code, err) == (0, "")
    expected = np.flatnonzero(arrays.select_easiest(difficulty, 0.4))
    assert f"difficulty: {len(expected)} of {len(difficulty)} utterances" in said
    assert f"Written to {out}: {out.stat().st_size} bytes, as bits" in said
    assert np.array_equal(np.asarray(SelectionIndex(out)), expected)

    code, _, err = run(capsys, "select", scores.folder, "--pace", 0.4, "--out", out)
    assert (code, "is there already" in err) == (2, True)
    more = ("--by", "dialogue", "--column", "max_difficulty", "--form", "rows", "--force", "--json")
    code, said, err = run(capsys, "select", scores.folder, "--threshold", 0.8, "--out", out, *more)
    assert (code, err) == (0, "")
    found, index = json.loads(said), SelectionIndex(out)
    hardest = whole(scores, "max_difficulty", "dialogue")
    assert np.array_equal(np.asarray(index), np.flatnonzero(hardest <= np.float32(0.8)))
    assert (found["count"], found["rows"], found["unit"]) == (len(index), 41, "dialogue")
    assert (found["form"], found["bytes"], found["checksum"]) == ("rows", out.stat().st_size, index.checksum)


def test_a_file_of_numbers_serves_as_well(capsys, tmp_path):
    values = np.array([0.5, np.nan, 0.25, 0.75, np.inf])
    np.save(tmp_path / "own.npy", values)
    code, said, _ = run(capsys, "threshold", tmp_path / "own.npy", "--pace", 0.5, "--pace", 1, "--json")
    assert code == 0
    assert [row["threshold"] for row in json.loads(said)["thresholds"]] == [0.5, "inf"]
    code, _, _ = run(capsys, "select", tmp_path / "own.npy", "--threshold", 0.5, "--out", tmp_path / "s")
    assert np.asarray(SelectionIndex(tmp_path / "s")).tolist() == [0, 2]
    np.save(tmp_path / "none.npy", np.full(3, np.nan))
    code, said, _ = run(capsys, "threshold", tmp_path / "none.npy", "--pace", 0.5, "--json")
    assert json.loads(said)["thresholds"] == [{"pace": 0.5, "threshold": None, "taken": 0, "ties": 0}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pace", 0], "pace must be in (0, 1]"),
        (["--pace", 0.5, "--by", "turn"], "--by must be utterance or dialogue (got 'turn')"),
        (["--pace", 0.5, "--column", "hardness"], "must be one of loss.text"),
        (["--pace", 0.5, "--by", "dialogue", "--column", "length"], "length: must hold floating point numbers"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(capsys, scores, tmp_path, arguments, message):
    for command in (["threshold"], ["select", "--out", tmp_path / "s"]):
        code, said, err = run(capsys, *command, scores.folder, *arguments)
        assert (code, said, err.count("\n")) == (2, "", 1)
        assert message in err
    assert not (tmp_path / "s").exists()


def test_files_that_are_something_else_are_refused(capsys, tmp_path):
    (tmp_path / "text.npy").write_text("hello")
    np.save(tmp_path / "integers.npy", np.arange(3))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "own.npy", np.zeros(3))
    for name, message in (
        ("text.npy", "must be a folder of scores or a .npy file"),
        ("integers.npy", "must hold floating point numbers"),
        ("objects.npy", "object"),
        ("nothing.npy", "does not exist"),
        (".", "no such file, so there is no finished store here"),
    ):
        code, _, err = run(capsys, "threshold", tmp_path / name, "--pace", 0.5)
        assert (code, message in err.replace("\n", " ")) == (2, True), err
    code, _, err = run(capsys, "threshold", tmp_path / "own.npy", "--pace", 0.5, "--column", "loss")
    assert (code, "are for a folder of scores" in err) == (2, True)
    for wrong in ([], ["--pace", 0.5, "--threshold", 0.5]):
        code, _, err = run(capsys, "select", tmp_path / "own.npy", "--out", tmp_path / "s", *wrong)
        assert (code, "give either pace or threshold" in err) == (2, True)
