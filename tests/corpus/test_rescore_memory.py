"""Rescoring takes no more memory than it is given, however large a shard is."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore

CHILD = """
import json, sys
from spcl_fast.corpus import open_corpus, rescore
from spcl_fast.corpus._rescore_shard import _inputs
def peak():  # of this program alone: what getrusage says has that of its parent in it
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10
rescore(open_corpus(sys.argv[1]), sys.argv[2])  # all that is imported and allocated once
before = peak()
scores = rescore(open_corpus(sys.argv[3]), sys.argv[4], memory=int(sys.argv[5]), workers=2).scores
print(json.dumps({"taken": peak() - before, "scored": scores.summary["scored"]}))
"""


def write(folder, lengths, C=32):
    T = sum(lengths)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4096, C)).astype(np.float32)
    logits = {name: np.resize(values, (T, C)) for name in ("text", "audio")}
    with CorpusWriter(folder, [Modality(name, num_classes=C) for name in logits], utterances_per_shard=T) as writer:
        writer.add(
            np.arange(len(lengths)), np.zeros(T, int), np.arange(T) % C, logits, offsets=np.cumsum([0, *lengths])
        )


def test_memory_is_bounded_whatever_the_shard(tmp_path):
    write(tmp_path / "small", [3, 4])
    write(tmp_path / "large", [20] * 10_000 + [50_000] + [7] * 10_000)  # 320,000 utterances, 84 MB in one shard
    memory = 34 << 20
    folders = [str(tmp_path / name) for name in ("small", "small_scores", "large", "large_scores")]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *folders, str(memory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (tmp_path / "large" / "shard-000000.arrow").stat().st_size > 2 * memory
    assert found["scored"] == 320_000
    assert 4 << 20 < found["taken"] < memory


def test_many_dialogues_take_memory_too(tmp_path):
    D = 100_000
    write(tmp_path / "corpus", [1] * D, C=2)
    corpus = open_corpus(tmp_path / "corpus")
    message = r"shard 0 has 100000 dialogues, which takes 6 MB: memory must be at least that .* \(got 4 MB\)"
    with pytest.raises(ValueError, match=message):
        rescore(corpus, tmp_path / "scores", memory=4 << 20)
    assert rescore(corpus, tmp_path / "scores", memory=32 << 20).utterances == D
