"""The adapters under DDP: two processes are one process with batches of twice as many dialogues."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spcl_fast import CurriculumSampler, SelfPacedScheduler
from spcl_fast.integrations.writers import scalars

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture
def expected(make_heads, dialogues, collate):
    """What one process in a plain loop gives."""
    heads, scheduler = make_heads(), SelfPacedScheduler(threshold=0.35, growth=1.3)
    optimizer, sampler = torch.optim.SGD(heads.parameters(), lr=0.5), CurriculumSampler(8)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        for i in (0, 4):
            batch = collate([dialogues[item] for item in order[i : i + 4]])
            optimizer.zero_grad()
            scheduler(heads(batch["features"]), batch["labels"], batch["offsets"]).loss.backward()
            optimizer.step()
        stats = scheduler.end_epoch()
    return heads.state_dict(), scalars(stats, modalities=("text", "audio"))


@pytest.mark.parametrize("host", ["lightning", "transformers"])
def test_two_processes_train_as_one_with_the_whole_batch(host, expected, tmp_path):
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT), host, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    weights, numbers = expected
    for rank in (0, 1):
        found = torch.load(tmp_path / f"found-{rank}.pt")
        for name, weight in weights.items():
            torch.testing.assert_close(torch.tensor(found[name]), weight)
        for name, value in numbers.items():
            times = 2 if name == "curriculum/steps" else 1
            assert found[name] == pytest.approx(times * value, rel=1e-5), name
