"""The README's code runs as it stands."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spcl_fast.cli import app
from spcl_fast.difficulty import registry
from spcl_fast.merc.readers import pickles

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def heads(features: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"text": features @ W[0], "audio": features @ W[1]}


W = torch.randn(2, 5, 3)


CORPORA = [block for block in BLOCKS if "spcl_fast.corpus" in block]
SAMPLERS = [block for block in BLOCKS if "Sampler(" in block and block not in CORPORA]
TRAINERS = [block for block in BLOCKS if "spcl_fast.integrations" in block]  # run by tests/extras
LOOPS = [block for block in BLOCKS if block not in SAMPLERS + TRAINERS + CORPORA]


@pytest.mark.parametrize("block", LOOPS, ids=["flat loop", "padded loop", "extended difficulty"])
def test_readme_loops_run(block, capsys):
    W.requires_grad_()
    flat = (torch.randn(9, 5), torch.randint(3, (9,)), torch.tensor([0, 4, 9]))
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    padded = (torch.randn(2, 4, 5), torch.randint(3, (2, 4)), mask)
    names = {
        "epochs": 2,
        "device": "cpu",
        "flat_loader": [flat] * 3,
        "padded_loader": [padded] * 3,
        "speaker_loader": [(*flat, torch.randint(2, (9,)))] * 3,
        "model": heads,
        "padded_model": heads,
        "model_with_embeddings": lambda x: (heads(x), {"text": x, "audio": x.flip(1)}),
        "optimizer": torch.optim.SGD([W], 0.1),
        "evaluate": lambda model: None,
    }
    exec(compile(block, str(README), "exec"), names)
    assert names["step"].loss.isfinite()
    assert ".to(device)" in block  # else the counters stay on the host
    if "weights" in names:
        assert names["weights"].shape == mask.shape
        assert not names["weights"][0, 3]
    elif "stats" in names:
        assert names["stats"].epoch == 1
        assert "1: took" in capsys.readouterr().out


def test_readme_sampler_runs():
    (block,) = SAMPLERS
    seen, lengths = [], torch.arange(1, 41)
    names = {
        "epochs": 11,
        "dialogues": list(range(40)),
        "difficulty": torch.rand(40),
        "lengths": lengths,
        "rank": 0,
        "world_size": 1,
        "collate": list,
        "model": None,
        "rescore": lambda model: torch.rand(40),
        "train": seen.append,
    }
    exec(compile(block, str(README), "exec"), names)
    assert len(seen[0]) == 1  # 1 % of 40
    assert all(sum(int(lengths[d]) for d in batch) <= 64 for batch in seen)
    assert sorted(sum(seen[-len(names["loader"]) :], [])) == list(range(40))  # noqa: RUF017
    assert names["checkpoint"]["epoch"] == 10


def test_readme_corpus_runs(monkeypatch, tmp_path):
    pytest.importorskip("pyarrow")
    from spcl_fast.corpus import select

    monkeypatch.chdir(tmp_path)
    select([torch.rand(50).numpy(), torch.rand(30).numpy()], out="easy.selection", pace=0.4)
    (block,) = CORPORA
    names: dict[str, object] = {}
    exec(compile(block, str(README), "exec"), names)
    assert sorted(names["sampler"]) == sorted(names["index"][:])
    assert len(names["index"]) == 32


def test_the_blocks_of_the_toolkit_run_one_after_the_other(monkeypatch):
    monkeypatch.setattr(registry._registry, "_factories", dict(registry._registry._factories))
    names: dict[str, object] = {}
    toolkit = README.parent / "docs" / "toolkit.md"
    blocks = re.findall(r"```python\n(.*?)```", toolkit.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block, str(toolkit), "exec"), names)
    assert len(names["half"]) == 8


def test_toolkit_lists_every_measurer():
    text = (README.parent / "docs" / "toolkit.md").read_text()
    listed = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE))))
    assert listed == set(registry.names())


def test_the_blocks_of_the_readers_run_one_after_the_other(monkeypatch, tmp_path):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readers"}
    text = (README.parent / "docs" / "readers.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block, "docs/readers.md", "exec"), names)
    assert names["corpus"].counts() == {"train": (18, 36), "dev": (2, 4), "test": (5, 10)}
    (shown,) = re.findall(r"# (byte \d+: .*)", text)
    assert names["refusal"] == shown
    assert names["friends"].dialogue_ids == ("b", "a")


def test_the_readers_page_lists_every_layout():
    text = (README.parent / "docs" / "readers.md").read_text()
    for layout, entries in pickles.LAYOUTS.items():
        assert f"| {layout} | {entries} |" in text


def test_documents_name_commands_and_options_that_exist():
    commands = {command.name: command.callback for command in app.registered_commands}
    for file in (README, README.parent / "docs" / "readers.md"):
        text = file.read_text()
        named = set(re.findall(r"spcl-fast (\w+)", text))
        assert named <= set(commands)
        options = set(re.findall(r"[ `](--[a-z]\S*?)[ `\n]", text)) - {"--extra-index-url", "--no-build-isolation"}
        known = {name for command in named for name in inspect.signature(commands[command]).parameters}
        assert options <= {f"--{name.replace('_', '-')}" for name in known}
        wanted = {"train", "doctor"} if file == README else {"train", "import"}
        assert wanted <= named
        assert ({"--data", "--resume"} if file == README else {"--corpus", "--split"}) <= options


def test_readme_tables_are_those_of_the_result_files():
    script = README.parent / "benchmarks" / "tables.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
