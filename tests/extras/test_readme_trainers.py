"""The README's code for the trainers of others runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from transformers import TrainingArguments

from spcl_fast import SelfPacedScheduler

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = [b for b in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "spcl_fast.integrations" in b]


class Model(LightningModule):
    """What the README's comment says of it."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads
        self.scheduler = SelfPacedScheduler(threshold=0.4, growth=1.2)

    def training_step(self, batch, index):
        return self.scheduler(self.heads(batch["features"]), batch["labels"], batch["offsets"]).loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Classifier(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs)


@pytest.mark.parametrize("block", BLOCKS, ids=["lightning", "transformers"])
def test_readme_trainers_run(block, make_heads, dialogues, collate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Model(make_heads())
    names = {
        "epochs": 2,
        "lightning_model": model,
        "flat_loader": torch.utils.data.DataLoader(dialogues, batch_size=2, collate_fn=collate),
        "classifier": Classifier(4, 3),
        "arguments": TrainingArguments("out", use_cpu=True, report_to=[], disable_tqdm=True),
        "dataset": [{"inputs": torch.randn(4), "labels": i % 3} for i in range(8)],
    }
    exec(compile(block, str(README), "exec"), names)
    trained = names.get("scheduler", model.scheduler)
    assert trained.epoch == (3 if "scheduler" in names else 2)  # 3 is what transformers does by default
