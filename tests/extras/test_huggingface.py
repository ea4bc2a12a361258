"""The mixin and the callback in transformers.Trainer."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, SelfPacedScheduler, pacing
from spcl_fast.integrations.huggingface import CurriculumCallback, CurriculumTrainerMixin
from spcl_fast.merc.files import CheckpointError

EPOCHS = 4
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class Model(nn.Module):
    """Two heads behind a mapping with "logits"; notes every batch that is trained."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads
        self.trained = []

    def forward(self, features):
        if self.training:
            self.trained.append(float(features.sum()))
        return {"logits": self.heads(features)}


class CurriculumTrainer(CurriculumTrainerMixin, Trainer):
    pass


@pytest.fixture
def make(make_heads, dialogues, difficulty, collate, tmp_path):
    def make_sampler(kind):
        pace = pacing.LinearPace(start=0.3, total=2)
        if kind == "items":
            return CurriculumSampler(8, difficulty=difficulty, pace=pace)
        if kind == "batches":
            lengths = torch.tensor([len(dialogue["labels"]) for dialogue in dialogues])
            return CurriculumBatchSampler(8, max_utterances=8, lengths=lengths, difficulty=difficulty, pace=pace)
        return None

    def trainer(kind="plain", folder="out", *, scheduler=None, epoch_length=None, model=None, **options):
        settings = {"num_train_epochs": EPOCHS, "save_strategy": "no", "logging_strategy": "no", **options}
        arguments = TrainingArguments(
            str(tmp_path / folder),
            per_device_train_batch_size=2,
            per_device_eval_batch_size=4,
            learning_rate=0.05,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            **settings,
        )
        return CurriculumTrainer(
            Model(make_heads()) if model is None else model,
            arguments,
            data_collator=collate,
            train_dataset=dialogues,
            eval_dataset=dialogues,
            scheduler=scheduler or SelfPacedScheduler(threshold=0.3, growth=1.3),
            sampler=make_sampler(kind),
            epoch_length=epoch_length,
        )

    return trainer


def history(trainer):
    return [line for line in trainer.state.log_history if "curriculum/take_rate" in line]


def test_training_is_that_of_a_plain_loop_with_the_scheduler(make, make_heads, dialogues, collate):
    trainer = make("items", max_grad_norm=0.0, lr_scheduler_type="constant")
    trainer.train()
    heads, scheduler = make_heads(), SelfPacedScheduler(threshold=0.3, growth=1.3)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=0.05, weight_decay=0.0)
    order = make("items")._order
    for epoch in range(EPOCHS):
        order.set_epoch(epoch)
        items = list(order)
        for i in range(0, 8, 2):
            batch = collate([dialogues[item] for item in items[i : i + 2]])
            optimizer.zero_grad()
            scheduler(heads(batch["features"]), batch["labels"], batch["offsets"]).loss.backward()
            optimizer.step()
        stats = scheduler.end_epoch()
        line = history(trainer)[epoch]
        assert line["curriculum/take_rate"] == stats.take_rate
        assert line["curriculum/confidence/audio"] == pytest.approx(stats.confidence[1])
        assert line["epoch"] == epoch + 1
    torch.testing.assert_close(trainer.model.heads.state_dict(), heads.state_dict())
    assert torch.equal(trainer.curriculum_scheduler.threshold, scheduler.threshold)


def test_evaluation_is_the_plain_mean_and_counts_nothing(make, dialogues, collate):
    trainer = make()
    metrics = trainer.evaluate()
    batches = [collate(dialogues[:4]), collate(dialogues[4:])]
    with torch.no_grad():
        losses = [
            nn.functional.cross_entropy(sum(trainer.model.heads(b["features"]).values()), b["labels"]) for b in batches
        ]
    assert metrics["eval_loss"] == pytest.approx(float(sum(losses) / 2), rel=1e-5)
    assert trainer.curriculum_scheduler.check().steps == 0


RESUMES = {
    "every step, items": ("items", {"save_strategy": "steps", "save_steps": 1}),
    "epoch, batches": ("batches", {"save_strategy": "epoch", "eval_strategy": "epoch"}),
    "steps, batches": ("batches", {"save_strategy": "steps", "save_steps": 3}),
    "accumulating, items, workers": (
        "items",
        {"save_strategy": "steps", "save_steps": 3, "gradient_accumulation_steps": 2, "dataloader_num_workers": 2},
    ),
    "epoch, plain": ("plain", {"save_strategy": "epoch"}),
}


@pytest.mark.parametrize("case", RESUMES)
def test_resume_is_exact_from_every_checkpoint(make, tmp_path, case):
    kind, options = RESUMES[case]
    whole = make(kind, "whole", **options)
    whole.train()
    checkpoints = sorted((tmp_path / "whole").glob("checkpoint-*"))
    assert len(checkpoints) >= 2
    for checkpoint in checkpoints:
        torch.load(checkpoint / "spcl_fast.pt", weights_only=True)
        resumed = make(kind, "resumed", **options)
        resumed.train(resume_from_checkpoint=str(checkpoint))
        torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
        assert torch.equal(resumed.curriculum_scheduler.threshold, whole.curriculum_scheduler.threshold)
        assert resumed.curriculum_scheduler.epoch == EPOCHS
        left = resumed.model.trained
        assert left == whole.model.trained[len(whole.model.trained) - len(left) :], checkpoint.name
        expected = {name: x for name, x in history(whole)[-1].items() if name.startswith("curriculum/")}
        assert expected.items() <= history(resumed)[-1].items(), checkpoint.name


def test_every_epoch_has_as_many_steps_whatever_is_selected(make):
    trainer = make("items")
    trainer.train()
    assert trainer.state.global_step == trainer.state.max_steps == 4 * EPOCHS
    firsts = [trainer.model.trained[4 * e : 4 * e + 4] for e in range(EPOCHS)]
    assert len({round(x, 4) for x in firsts[0]}) < 4  # three dialogues, seen again
    assert firsts[2] != firsts[3]  # another order in another epoch
    short = make("items", epoch_length=4, num_train_epochs=2)
    short.train()
    assert short.state.global_step == 2 * 2


def test_model_with_one_head_and_columns_for_the_scheduler(tmp_path):
    """Samples are utterances; `ids` is no argument of the model, and is not removed for that."""

    class Classifier(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs)

    class Sees(CurriculumTrainer):
        def curriculum_step(self, model, outputs, inputs):
            seen.append(inputs["ids"].tolist())
            return super().curriculum_step(model, outputs, inputs)

    seen = []
    data = [{"inputs": torch.randn(4), "labels": i % 3, "ids": 100 + i, "unused": i} for i in range(8)]
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=4, use_cpu=True, report_to=[], disable_tqdm=True
    )
    scheduler = SelfPacedScheduler(threshold=1.0, difficulty="loss")
    trainer = Sees(Classifier(4, 3), arguments, train_dataset=data, eval_dataset=data, scheduler=scheduler)
    trainer.train()
    assert sorted(seen[0] + seen[1]) == list(range(100, 108))
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.predict(data).predictions.shape == (8, 3)


def test_callback_alone_serves_a_loss_function(make_heads, dialogues, collate, tmp_path, caplog):
    scheduler = SelfPacedScheduler(threshold=0.3, growth=1.3)

    class Plain(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            scheduler.train(model.training)
            outputs = model(inputs["features"])
            loss = scheduler(outputs["logits"], inputs["labels"], inputs["offsets"]).loss
            return (loss, outputs) if return_outputs else loss

    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=2, use_cpu=True, report_to=[], disable_tqdm=True
    )
    arguments.remove_unused_columns = False
    trainer = Plain(Model(make_heads()), arguments, data_collator=collate, train_dataset=dialogues)
    trainer.add_callback(CurriculumCallback(scheduler))
    with caplog.at_level("INFO", logger="spcl_fast"):
        trainer.train()
    assert scheduler.epoch == 2
    assert [record.getMessage()[:18] for record in caplog.records] == ["curriculum epoch 0", "curriculum epoch 1"]


def test_gradient_of_micro_batches_is_the_mean_of_theirs(make, make_heads, dialogues, collate):
    class Gradient(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            self.of_text = model.heads.text.weight.grad.clone()

    spy = Gradient()
    trainer = make("items", epoch_length=8, num_train_epochs=1, gradient_accumulation_steps=4, max_grad_norm=0.0)
    trainer.add_callback(spy)
    trainer.train()
    assert trainer.state.global_step == 1
    heads, scheduler, items = (
        make_heads(),
        SelfPacedScheduler(threshold=0.3),
        list(make("items", epoch_length=8)._order),
    )
    batches = [collate([dialogues[item] for item in items[i : i + 2]]) for i in range(0, len(items), 2)]
    steps = [scheduler(heads(batch["features"]), batch["labels"], batch["offsets"]) for batch in batches]
    (sum(step.loss for step in steps) / len(steps)).backward()
    torch.testing.assert_close(spy.of_text, heads.text.weight.grad)


def test_what_does_not_fit_is_refused_by_name(make, tmp_path):
    with pytest.raises(TypeError, match=r"CurriculumTrainer: scheduler must be a SelfPacedScheduler \(got str\)"):
        make(scheduler="spcl")
    for argument, got, message in (
        ("sampler", [1, 2], r"sampler must be a CurriculumSampler or CurriculumBatchSampler \(got list\)"),
        ("sampler", CurriculumSampler(8, world_size=2), r"world_size of the sampler must be 1 \(got 2\)"),
        ("epoch_length", 0, r"epoch_length must be at least 1 \(got 0\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            CurriculumTrainer(scheduler=SelfPacedScheduler(), **{argument: got})


def test_checkpoint_of_another_curriculum_is_refused(make, tmp_path):
    make("items", "saved", epoch_length=8, num_train_epochs=1, save_strategy="epoch").train()
    (checkpoint,) = (tmp_path / "saved").glob("checkpoint-*")
    other = SelfPacedScheduler(threshold=0.9)
    with pytest.raises(ValueError, match="saved with other settings"):
        make("items", "other", scheduler=other).train(resume_from_checkpoint=str(checkpoint))
    with pytest.raises(CheckpointError, match=r"epoch_length must be that of the run, 6 \(got 8\)"):
        make("items", "other", epoch_length=6).train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "spcl_fast.pt").unlink()
    with pytest.raises(CheckpointError, match=r"spcl_fast.pt"):
        make("items", "other").train(resume_from_checkpoint=str(checkpoint))
