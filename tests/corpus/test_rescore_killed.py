"""Rescoring under fire: killed at random moments it ends with the bytes of an undisturbed run."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from spcl_fast.corpus import rescore

spec = importlib.util.spec_from_file_location("rescoring", Path(__file__).with_name("rescoring.py"))
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)


def start(corpus, out, workers):
    child = multiprocessing.get_context("fork").Process(target=rescore, args=(corpus, out), kwargs={"workers": workers})
    child.start()
    return child


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments_it_continues(tmp_path, workers):
    corpus = helpers.write_corpus(tmp_path / "corpus", dialogues=200, longest=40, per_shard=160)
    began = time.monotonic()
    undisturbed = start(corpus, tmp_path / "whole", workers)
    undisturbed.join()
    seconds = time.monotonic() - began
    assert undisturbed.exitcode == 0
    rng = np.random.default_rng(workers)
    killed = 0
    for _ in range(200):  # until one gets to the end, however slow the machine is
        child = start(corpus, tmp_path / "killed", workers)
        child.join(seconds * rng.uniform(0.02, 0.2) * (1 + killed / 20))
        if child.exitcode is None:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        killed += 1
    assert child.exitcode == 0
    assert killed > 0
    assert helpers.content(tmp_path / "killed") == helpers.content(tmp_path / "whole")


def test_an_error_of_the_disk_leaves_what_was_done(tmp_path, monkeypatch):
    corpus = helpers.write_corpus(tmp_path / "corpus")
    rescore(corpus, tmp_path / "whole")
    real, calls = os.pwrite, []

    def full(descriptor, data, at):
        calls.append(at)
        if len(calls) == 100:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=r"No space left on device.*shard-00000\d\.(dialogues\.)?arrow"):
        rescore(corpus, tmp_path / "scores")
    assert not [name for name in helpers.content(tmp_path / "scores") if name.startswith(".")]
    monkeypatch.setattr(os, "pwrite", real)
    rescore(corpus, tmp_path / "scores")
    assert helpers.content(tmp_path / "scores") == helpers.content(tmp_path / "whole")
