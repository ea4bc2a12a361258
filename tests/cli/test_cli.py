"""The command line as a user meets it: what it prints and writes, and one clear line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spcl_fast.cli import main
from spcl_fast.merc.device import describe, find_device
from spcl_fast.merc.synthetic import make_synthetic


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    data = make_synthetic("meld-like", dialogues={"train": 12, "dev": 4, "test": 4})
    path = tmp_path_factory.mktemp("data") / "own.npz"
    np.savez(
        path,
        **data.features,
        feature_names=list(data.features),
        labels=np.where(data.labels < 0, -1, data.labels),
        speakers=data.speakers,
        offsets=data.offsets,
        split=data.split,
        split_names=list(data.split_names),
        class_names=list(data.class_names),
        dialogue_ids=list(data.dialogue_ids),
        vad=np.zeros((data.num_utterances, 3), np.float32),
    )
    return path


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


def test_version_help_and_no_arguments(capsys):
    assert run(capsys, "--version") == (0, "0.1.0\n", "")
    for arguments in ((), ("--help",)):
        code, out, err = run(capsys, *arguments)
        assert (code, err) == (0, "")
        assert all(word in out for word in ("demo", "train", "doctor"))


def test_doctor_says_what_runs(capsys):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert "reference" in out
    sections = json.loads(run(capsys, "doctor", "--json")[1])
    assert set(sections) == {"versions", "build", "machine", "backends", "ops"}


def test_demo_compares_and_draws(capsys, tmp_path):
    code, out, err = run(capsys, "demo", "--seeds", 1, "--epochs", 2, "--out", tmp_path)
    assert (code, err) == (0, "")
    for word in (
        "test weighted F1",
        "test macro F1",
        "modality ratio, text",
        "take rate",
        "seconds per epoch",
        "in the curriculum",
    ):
        assert word in out
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert set(numbers["summary"]) == {"no curriculum", "SPCL"}
    assert len(numbers["runs"]["SPCL"][0]["history"]) == 2
    assert (tmp_path / "curriculum.png").read_bytes().startswith(b"\x89PNG")


def test_train_writes_metrics_and_resumes(capsys, tmp_path, corpus):
    arguments = ["train", "--data", corpus, "--modalities", "text+visual,audio", "--out", tmp_path, "--hidden", 8]
    code, out, err = run(capsys, *arguments, "--epochs", 2, "--threshold", 0.5, "--growth", 1.5, "--seed", 4)
    assert (code, err) == (0, "")
    assert "text+visual alone" in out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["config"]["threshold"] == 0.5
    assert metrics["modalities"] == {"text+visual": 56, "audio": 24}
    assert metrics["device"] == describe(find_device("auto"))
    assert [e["curriculum"]["threshold"] for e in metrics["history"]] == [0.5, 0.75]
    assert 0 <= metrics["test"]["weighted_f1"] <= 1
    assert {p.name for p in tmp_path.iterdir()} == {"metrics.json", "curriculum.png", "model.pt", "last.pt"}

    code, _, err = run(capsys, *arguments, "--epochs", 3)
    assert code == 2
    assert "holds a run already" in err
    code, _, err = run(capsys, *arguments, "--epochs", 3, "--resume")
    assert code == 2
    assert "another run (growth 1.5 there, 1.25 here" in err
    code, _, err = run(capsys, *arguments, "--epochs", 3, "--threshold", 0.5, "--growth", 1.5, "--seed", 4, "--resume")
    assert (code, err) == (0, "")
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert again["history"][:2] == metrics["history"]
    assert len(again["history"]) == 3


def test_train_without_curriculum_on_one_modality(capsys, tmp_path, corpus):
    code, out, _ = run(
        capsys, "train", "--data", corpus, "--modalities", "text", "--curriculum", "none", "--epochs", 1,
        "--hidden", 8, "--out", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "text alone" in out
    assert json.loads((tmp_path / "metrics.json").read_text())["history"][0]["curriculum"]["take_rate"] == 1.0


def test_train_with_missing_modalities(capsys, tmp_path, corpus):
    arguments = [
        *("train", "--data", corpus, "--modalities", "text,audio,visual", "--model", "hardy", "--epochs", 2),
        *("--hidden", 4, "--neighbours", 1, "--teacher-epochs", 1),
    ]
    ways = {
        "fixed": ("--curriculum", "hardy", "--available", "at"),
        "lot": ("--curriculum", "none", "--missing", "utterance", "--missing-rate", 0.3, "--filling", "mean"),
    }
    for name, way in ways.items():
        code, out, err = run(capsys, *arguments, *way, "--out", tmp_path / name)
        assert (code, err) == (0, "")
        assert "the head of visual" in out
        assert "alone" not in out  # a head has seen the other modalities, and its own may be missing
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        told = {f"--{k.replace('_', '-')}": x for k, x in metrics["config"].items()}
        assert all(told[option] == x for option, x in zip(way[::2], way[1::2], strict=True))
        assert 0 <= metrics["test"]["macro_recall"] <= 1
        assert [entry["stage"] for entry in metrics["history"]] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", "{out}"], "--data"),
        (["train", "--data", "missing.npz", "--modalities", "text,audio", "--out", "{out}"], "missing.npz"),
        (["train", "--data", "{garbage}", "--modalities", "text,audio", "--out", "{out}"], "garbage.npz"),
        (["train", "--data", "{data}", "--out", "{out}"], "say --modalities, out of text, audio, visual"),
        (["train", "--data", "{data}", "--modalities", "text,audio", "--out", "{garbage}"], "garbage.npz"),
        (["TRAIN", "--modalities", "text,vad"], "'vad' is in the file but"),
        (["TRAIN", "--modalities", "text,smell"], "smell"),
        (["TRAIN", "--modalities", "text"], "needs at least 2"),
        (["TRAIN", "--curriculum", "x"], "none, spcl"),
        (["TRAIN", "--encoder", "x"], "gru, transformer"),
        (["TRAIN", "--growth", "0.5"], "growth must be at least 1"),
        (["TRAIN", "--curriculum", "hardy"], "curriculum 'hardy' needs the model 'hardy' (got 'late_fusion')"),
        (["TRAIN", "--available", "t"], "available must be 'all' but for the model 'hardy' (got 't', 'late_fusion')"),
        (["HARDY", "--missing", "often"], "missing must be one of fixed, utterance, dialogue (got 'often')"),
        (["HARDY", "--missing", "utterance", "--missing-rate", "1"], "missing_rate must lie in [0, 1) (got 1.0)"),
        (["HARDY", "--missing-rate", "0.3"], "missing_rate must be 0 where missing is 'fixed'"),
        (["HARDY", "--filling", "x"], "filling must be one of reconstruction, zero, mean (got 'x')"),
        (["HARDY", "--neighbours", "0"], "neighbours must be at least 1"),
        (["HARDY", "--available", "x"], "names or initials of text, audio, each once (got 'x')"),
        (["HARDY", "--modalities", "text", "--curriculum", "none"], "must have 2 to 8 modalities (got 1)"),
        (["HARDY", "--teacher-epochs", "0"], "teacher_epochs must be at least 1"),
        (["TRAIN", "--threshold", "nan"], "threshold must be at least 0"),
        (["TRAIN", "--epochs", "x"], "epochs"),
        (["TRAIN", "--device", "abacus"], "--device abacus"),
        (["TRAIN", "--device", "meta"], "--device meta"),
        (["TRAIN", "--device", "cuda:77"], "--device cuda:77"),
        (["TRAIN", "--threads", "100000"], "threads"),
        (["TRAIN", "--learning-rate", "1e30"], "diverged"),
        (["TRAIN", "--modalities", "text", "--curriculum", "none", "--learning-rate", "1e30"], "the model diverged"),
        (["TRAIN", "--resume"], "no run to continue"),
        (["demo", "--preset", "movies", "--out", "{out}"], "iemocap-like"),
        (["demo", "--growth", "0.5", "--out", "{out}"], "growth must be at least 1"),
        (["demo", "--seeds", "0"], "seeds"),
        (["train", "--speed", "11"], "--speed"),
        (["rehearse"], "rehearse"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(capsys, tmp_path, corpus, arguments, message):
    garbage = tmp_path / "garbage.npz"
    garbage.write_bytes(b"PK\x03\x04 this is not an archive")
    places = {"out": tmp_path / "out", "data": corpus, "garbage": garbage}
    if arguments[0] == "HARDY":
        arguments = ["TRAIN", "--model", "hardy", *arguments[1:]]
    if arguments[0] == "TRAIN":
        arguments = [*["train", "--data", "{data}", "--out", "{out}", "--modalities", "text,audio"], *arguments[1:]]
    code, _, err = run(capsys, *[a.format(**places) for a in arguments])
    assert code == 2
    assert err.startswith("spcl-fast: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_mistakes_leave_no_folder_behind(capsys, tmp_path, corpus):
    for wrong in (["--growth", 0.5], ["--device", "abacus"], ["--modalities", "text,smell"]):
        run(capsys, "train", "--data", corpus, "--modalities", "text,audio", "--out", tmp_path / "out", *wrong)
        assert not (tmp_path / "out").exists()


def test_an_unknown_backend_in_the_environment_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SPCL_FAST_BACKEND", "abacus")
    code, _, err = run(capsys, "demo", "--seeds", 1, "--epochs", 1, "--out", tmp_path)
    assert code == 2
    assert "SPCL_FAST_BACKEND" in err
    assert err.count("\n") == 1


def test_markup_in_a_folder_name_is_printed_as_it_is(capsys, tmp_path, corpus):
    out = tmp_path / "run[b]x"
    code, printed, _ = run(
        capsys, "train", "--data", corpus, "--modalities", "text,audio", "--epochs", 1, "--hidden", 4, "--out", out
    )
    assert code == 0
    assert f"Written to {out}: metrics.json" in printed


def test_an_interrupt_is_one_line(capsys, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("spcl_fast.merc.seeds.run_seeds", interrupted)
    code, _, err = run(capsys, "demo", "--out", tmp_path)
    assert code == 130
    assert err == "spcl-fast: interrupted; what was written is whole\n"


@pytest.mark.parametrize("command", ["train", "experiment", "rescore", "select"])
def test_an_interrupt_says_what_continues(capsys, monkeypatch, command):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("spcl_fast.cli.app", interrupted)
    code, _, err = run(capsys, command, "--out", "somewhere")
    how = {"train": ", and `train --resume` continues", "select": ""}.get(command, ", and the same command continues")
    assert (code, err) == (130, f"spcl-fast: interrupted; what was written is whole{how}\n")


def test_module_runs_as_the_command(capsys, monkeypatch):
    import runpy

    monkeypatch.setattr("sys.argv", ["spcl-fast", "--version"])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("spcl_fast", run_name="__main__")
    assert done.value.code == 0
    assert capsys.readouterr().out == "0.1.0\n"
