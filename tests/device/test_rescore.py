"""Rescoring by a model on a GPU."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

pytest.importorskip("pyarrow")

from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore

HERE = torch.get_default_device()


@pytest.fixture(autouse=True)
def as_a_program_runs():
    """Without the tests' default device and deterministic mode: a program has neither."""
    torch.use_deterministic_algorithms(False)
    torch.set_default_device(None)
    yield
    torch.set_default_device(HERE)


class Signs(torch.nn.Module):
    """Exact on any device: each number times a power of two, and turned by who speaks and by the place of the batch."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, features, batch):
        turn = (1 - 2 * (batch.speakers % 2)).unsqueeze(1)
        return {name: 2 * self.scale * values * turn for name, values in features.items()}


def make():
    return Signs()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_model_on_a_gpu_gives_what_it_gives_on_the_host(tmp_path, monkeypatch, dtype):
    monkeypatch.setitem(sys.modules, "the_users_own", sys.modules[__name__])
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 60, 700)
    T = int(lengths.sum())
    offsets = np.concatenate([[0], lengths.cumsum()])
    numbers = rng.integers(-24, 25, (2, T, 5)) / 8  # exact in every dtype
    stored = {"float16": np.float16, "float32": np.float32}.get(dtype)
    if stored is None:
        logits = [(values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for values in numbers]
    else:
        logits = [values.astype(stored) for values in numbers]
    names = ("text", "audio")
    modalities = [Modality(name, num_classes=5, logits_dtype=dtype) for name in names]
    with CorpusWriter(tmp_path / "corpus", modalities, utterances_per_shard=5000) as writer:
        label, speaker = rng.integers(0, 5, T), rng.integers(0, 3, T)
        writer.add(np.arange(700), speaker, label, dict(zip(names, logits, strict=True)), offsets=offsets)
    corpus = open_corpus(tmp_path / "corpus")
    how = {"model": "the_users_own:make", "batch_utterances": 600}  # many batches in flight before one is waited for
    host = rescore(corpus, tmp_path / "host", **how).scores
    there = rescore(corpus, tmp_path / "there", **how, device=str(HERE)).scores
    assert len(there) > 3
    for shard in range(len(there)):
        for name in there.columns:
            np.testing.assert_array_equal(there.column(name, shard), host.column(name, shard), err_msg=name)
