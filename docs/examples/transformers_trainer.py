"""A curriculum in transformers.Trainer: `pip install 'spcl_fast[adapters]'`, then run this file.

An ordinary classifier with one head: the difficulty is its loss, judged anew in every step, and the sampler begins with
the texts that an estimate made beforehand calls easy. The model is small and untrained, so nothing is downloaded.
"""

from __future__ import annotations

import sys
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from spcl_fast import CurriculumSampler, SelfPacedScheduler, pacing
from spcl_fast.integrations.huggingface import CurriculumTrainerMixin

EPOCHS, WORDS = 3, 50


class CurriculumTrainer(CurriculumTrainerMixin, Trainer):
    """The Trainer, with a scheduler and a sampler."""


def main(folder: str) -> None:
    """Trains on made-up texts and leaves its checkpoints in a folder."""
    torch.manual_seed(0)
    texts = torch.randint(1, WORDS, (96, 8))
    labels = (texts < WORDS // 2).sum(1) > 4
    margin = ((texts < WORDS // 2).sum(1) - 4.5).abs()
    data = [{"input_ids": x, "labels": y} for x, y in zip(texts, labels.long(), strict=True)]

    config = BertConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    arguments = TrainingArguments(
        folder,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=16,
        learning_rate=2e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = CurriculumTrainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=data,
        eval_dataset=data[:32],
        scheduler=SelfPacedScheduler(threshold=0.7, growth=1.3, difficulty="loss"),
        sampler=CurriculumSampler(len(data), difficulty=-margin, pace=pacing.RootPace(start=0.3, total=EPOCHS - 1)),
    )
    trainer.train()
    for line in trainer.state.log_history:
        if "curriculum/take_rate" in line:
            print(
                f"epoch {line['epoch']:.0f}: took {line['curriculum/take_rate']:.0%} of {line['curriculum/scored']:.0f}"
            )
    # `trainer.train(resume_from_checkpoint=True)` continues at any checkpoint with the same order and threshold.


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else temporary)
