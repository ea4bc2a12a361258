"""A curriculum in lightning.Trainer: `pip install 'spcl_fast[adapters]'`, then run this file.

The scheduler is a submodule of the LightningModule, the callback ends its epochs and saves its state, and the sampler
begins with the shortest dialogues.
"""

from __future__ import annotations

import logging

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from spcl_fast import CurriculumBatchSampler, SelfPacedScheduler, pacing
from spcl_fast.integrations.lightning import CurriculumCallback

EPOCHS, CLASSES = 4, 3


class TwoModalities(LightningModule):
    """A head of logits for each modality; their sum is the prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"text": nn.Linear(16, CLASSES), "audio": nn.Linear(16, CLASSES)})
        self.scheduler = SelfPacedScheduler(threshold=0.4, growth=1.4)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Logits `[T, C]` of each modality."""
        return {name: head(features) for name, head in self.heads.items()}

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        """The step takes the place of the loss function."""
        features, labels, offsets = batch
        return self.scheduler(self(features), labels, offsets).loss

    def validation_step(self, batch: tuple[Tensor, ...], _: int) -> None:
        """In evaluation mode the loss is the plain mean."""
        features, labels, offsets = batch
        self.log("dev_loss", self.scheduler(self(features), labels, offsets).loss, batch_size=len(labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any optimizer."""
        return torch.optim.Adam(self.parameters(), lr=0.05)


def collate(dialogues: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Whole dialogues, concatenated, and where each begins."""
    features, labels = (torch.cat(parts) for parts in zip(*dialogues, strict=True))
    return features, labels, torch.tensor([0, *(len(y) for _, y in dialogues)]).cumsum(0)


def main() -> None:
    """Trains on made-up dialogues."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    lengths = torch.randint(2, 12, (40,))
    truth = torch.randn(16, CLASSES)
    features = [torch.randn(int(n), 16) for n in lengths]
    dialogues = [(x, (x @ truth + torch.randn(len(x), CLASSES)).argmax(1)) for x in features]

    pace = pacing.LinearPace(start=0.4, total=EPOCHS - 1)
    sampler = CurriculumBatchSampler(
        len(dialogues), max_utterances=40, lengths=lengths, difficulty=lengths.float(), pace=pace
    )
    model = TwoModalities()
    curriculum = CurriculumCallback("scheduler", sampler=sampler, modalities=("text", "audio"))
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[curriculum],
        reload_dataloaders_every_n_epochs=1,  # each epoch has a length of its own
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    dev = DataLoader(dialogues, batch_size=10, collate_fn=collate)
    trainer.fit(model, DataLoader(dialogues, batch_sampler=sampler, collate_fn=collate), dev)
    logged = trainer.callback_metrics
    print(
        f"epoch {EPOCHS - 1}: took {logged['curriculum/take_rate']:.0%} of {int(logged['curriculum/scored'])} "
        f"utterances at {logged['curriculum/threshold']:.2f}, dev loss {logged['dev_loss']:.2f}"
    )


if __name__ == "__main__":
    main()
