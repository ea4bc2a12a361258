"""Trains in every process that torchrun starts, with lightning or transformers; the first writes what came of it.

Two processes with batches of two dialogues have to give what one process with batches of four gives.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, SelfPacedScheduler

sys.path.insert(0, str(Path(__file__).parent))
from conftest import LENGTHS, Heads, collate_dialogues

EPOCHS = 2


def data() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"features": torch.randn(n, 4, generator=generator), "labels": torch.randint(3, (n,), generator=generator)}
        for n in LENGTHS
    ]


def with_lightning(folder: str, rank: int, world_size: int) -> dict[str, float]:
    from lightning.pytorch import LightningModule, Trainer

    from spcl_fast.integrations.lightning import CurriculumCallback

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.heads = Heads()
            self.scheduler = SelfPacedScheduler(threshold=0.35, growth=1.3)

        def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
            return self.scheduler(self.heads(batch["features"]), batch["labels"], batch["offsets"]).loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sampler = CurriculumBatchSampler(8, batch_size=4 // world_size, rank=rank, world_size=world_size)
    model = Model()
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=world_size,
        strategy="ddp" if world_size > 1 else "auto",
        callbacks=[CurriculumCallback("scheduler", sampler=sampler, modalities=("text", "audio"))],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data(), batch_sampler=sampler, collate_fn=collate_dialogues))
    logged = {name: float(x) for name, x in trainer.callback_metrics.items()}
    return {**logged, **{name: x.tolist() for name, x in model.heads.state_dict().items()}}


def with_transformers(folder: str, rank: int, world_size: int) -> dict[str, float]:
    from transformers import Trainer, TrainingArguments

    from spcl_fast.integrations.huggingface import CurriculumTrainerMixin

    class CurriculumTrainer(CurriculumTrainerMixin, Trainer):
        pass

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = Heads()

        def forward(self, features: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
            return {"logits": self.heads(features)}

    arguments = TrainingArguments(
        folder,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=4 // world_size,
        learning_rate=0.5,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        save_strategy="steps",
        save_steps=3,
        logging_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    model = Model()
    trainer = CurriculumTrainer(
        model,
        arguments,
        data_collator=collate_dialogues,
        train_dataset=data(),
        scheduler=SelfPacedScheduler(threshold=0.35, growth=1.3),
        sampler=CurriculumSampler(8),
    )
    trainer.train()
    logged = [line for line in trainer.state.log_history if "curriculum/take_rate" in line][-1]
    return {**logged, **{name: x.tolist() for name, x in model.heads.state_dict().items()}}


def main(host: str, folder: str) -> None:
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = {"lightning": with_lightning, "transformers": with_transformers}[host](folder, rank, world_size)
    torch.save(found, f"{folder}/found-{rank}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
