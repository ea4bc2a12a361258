"""`spcl-fast rescore`: options, output, exit codes."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from spcl_fast.cli import main
from spcl_fast.corpus import Scores, rescore

spec = importlib.util.spec_from_file_location("rescoring", Path(__file__).with_name("rescoring.py"))
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["rescore", *map(str, arguments)])
    return (stopped.value.code, *capsys.readouterr())


def test_command_writes_what_the_function_does(tmp_path, capsys):
    corpus = helpers.write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "function", window=3, columns=["difficulty", "coherence"])
    how = ("--window", 3, "--columns", "coherence,difficulty", "--workers", 2, "--memory", 64)
    code, out, err = run(capsys, tmp_path / "corpus", "--out", tmp_path / "command", *how)
    assert (code, err) == (0, "")
    assert f"{corpus.num_utterances:,} utterances in " in out
    assert "1 bad_label" in out
    assert helpers.content(tmp_path / "command") == helpers.content(tmp_path / "function")
    code, out, err = run(capsys, tmp_path / "corpus", "--out", tmp_path / "command", *how, "--json")
    facts = json.loads(out)
    assert (code, facts["shards"], facts["reused"], facts["finished"]) == (0, 0, len(corpus), True)
    assert facts["summary"]["utterances"] == corpus.num_utterances


def test_ranks_share_the_work(tmp_path, capsys, monkeypatch):
    corpus = helpers.write_corpus(tmp_path / "corpus")
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun sets them
    monkeypatch.setenv("RANK", "1")
    code, out, _ = run(capsys, tmp_path / "corpus", "--out", tmp_path / "ranks")
    assert code == 0
    assert "Rank 1 of 2 is through; rank 0 writes the manifest" in out
    monkeypatch.setenv("RANK", "0")
    code, out, _ = run(capsys, tmp_path / "corpus", "--out", tmp_path / "ranks")
    assert code == 0
    assert "Written to" in out
    rescore(corpus, tmp_path / "one")
    assert helpers.content(tmp_path / "one") == helpers.content(tmp_path / "ranks")


class Model(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, features, batch):
        return self.answer


def test_columns_may_stand_apart(tmp_path, capsys):
    helpers.write_corpus(tmp_path / "corpus", dialogues=4)
    assert run(capsys, tmp_path / "corpus", "--out", tmp_path / "scores", "--columns", "spread, difficulty")[0] == 0
    assert Scores(tmp_path / "scores").columns == ("spread", "difficulty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--window", 4), "window must be odd"),
        (("--columns", "losses"), "columns must be of loss"),
        (("--rank", 3), "--rank must be below --world-size 1"),
        (("--transitions", "nowhere.json"), "nowhere.json: cannot be read"),
        (("--model", "nothing"), "package.module:factory"),
        (("--model", "builtins:dict", "--device", "nowhere"), "must make a torch.nn.Module"),
        (("--model", "torch.nn:Identity", "--device", "nowhere"), "device nowhere: Expected one of cpu"),
        (("--model", "torch.nn:Module", "--device", "cuda:99"), "device cuda:99: "),
        (("--model", "the_users_own:list"), "the model must give a mapping of logits (got list)"),
        (("--model", "the_users_own:vector"), "the model's text must be ["),
        (("--model", "the_users_own:nothing"), "C] (got NoneType)"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, arguments, message):
    answers = {"list": [], "vector": {"text": torch.zeros(3)}, "nothing": {"text": None}}
    own = types.SimpleNamespace(**{name: functools.partial(Model, answer) for name, answer in answers.items()})
    monkeypatch.setitem(sys.modules, "the_users_own", own)
    helpers.write_corpus(tmp_path / "corpus", dialogues=4)
    code, out, err = run(capsys, tmp_path / "corpus", "--out", tmp_path / "scores", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("spcl-fast: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_an_interrupt_says_what_continues(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    helpers.write_corpus(tmp_path / "corpus", dialogues=4)
    monkeypatch.setattr("spcl_fast.corpus.rescore_rank", interrupted)
    code, out, err = run(capsys, tmp_path / "corpus", "--out", tmp_path / "scores")
    assert (code, out) == (130, "")
    assert err == "spcl-fast: interrupted; what was written is whole, and the same command continues\n"


def test_missing_corpus_is_named(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path / "nothing", "--out", tmp_path / "scores")
    assert code == 2
    assert "nothing/manifest.json: no such file" in err


def test_damaged_shard_is_named(tmp_path, capsys):
    corpus = helpers.write_corpus(tmp_path / "corpus")
    path = tmp_path / "corpus" / corpus.shards[1].name
    path.write_bytes(path.read_bytes()[:-1])
    code, _, err = run(capsys, tmp_path / "corpus", "--out", tmp_path / "scores")
    assert code == 2
    assert f"{path}: shard 1: " in err
