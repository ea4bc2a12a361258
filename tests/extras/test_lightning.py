"""The callback in lightning.Trainer."""

from __future__ import annotations

import logging

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, FaultyDataError, SelfPacedScheduler, pacing
from spcl_fast.integrations.lightning import CurriculumCallback

EPOCHS = 4
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Model(LightningModule):
    """Two heads; notes at what threshold and in which epoch every batch is trained."""

    def __init__(self, heads, scheduler, *, keeps_it=True):
        super().__init__()
        self.heads = heads
        if keeps_it:
            self.scheduler = scheduler
        self._scheduler = [scheduler]  # in a list, it is no submodule
        self.trained = []
        self.modes = []

    def step(self, batch):
        return self._scheduler[0](self.heads(batch["features"]), batch["labels"], batch["offsets"])

    def training_step(self, batch, index):
        scheduler = self._scheduler[0]
        self.modes.append(("train", scheduler.training))
        self.trained.append((self.current_epoch, index, float(batch["features"].sum()), float(scheduler.threshold)))
        return self.step(batch).loss

    def validation_step(self, batch, index):
        self.modes.append(("dev", self._scheduler[0].training))
        self.log("dev_loss", self.step(batch).loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Run:
    """One call of `fit`, and what came of it."""

    def __init__(self, model, callback, trainer):
        self.model, self.callback, self.trainer = model, callback, trainer

    @property
    def outcome(self):
        """What has to be the same after a resume."""
        weights = {name: x.clone() for name, x in self.model.heads.state_dict().items()}
        logged = {name: x for name, x in self.trainer.callback_metrics.items() if name.startswith("curriculum/")}
        scheduler = self.callback.scheduler
        return weights, logged, scheduler.epoch, float(scheduler.threshold)


@pytest.fixture
def fit(make_heads, dialogues, difficulty, collate, tmp_path):
    def make_loader(kind, workers):
        pace = pacing.LinearPace(start=0.3, total=2)
        if kind == "plain":
            return None, DataLoader(dialogues, batch_size=2, collate_fn=collate)
        if kind == "batches":
            lengths = torch.tensor([len(dialogue["labels"]) for dialogue in dialogues])
            sampler = CurriculumBatchSampler(8, max_utterances=8, lengths=lengths, difficulty=difficulty, pace=pace)
            return sampler, DataLoader(dialogues, batch_sampler=sampler, collate_fn=collate, num_workers=workers)
        sampler = CurriculumSampler(8, difficulty=difficulty, pace=pace)
        loader = StatefulDataLoader if kind == "stateful" else DataLoader
        return sampler, loader(dialogues, batch_size=2, sampler=sampler, collate_fn=collate, num_workers=workers)

    def run(kind="plain", *, workers=0, checkpoint=None, callbacks=(), dev=True, keeps_it=True, fault=None, **options):
        scheduler = SelfPacedScheduler(threshold=0.3, growth=1.3)
        model = Model(make_heads(), scheduler, keeps_it=keeps_it)
        sampler, loader = make_loader(kind, workers)
        callback = CurriculumCallback(
            "scheduler" if keeps_it else scheduler, sampler=sampler, modalities=("text", "audio")
        )
        trainer = Trainer(
            **{
                "max_epochs": EPOCHS,
                "reload_dataloaders_every_n_epochs": int(sampler is not None),
                "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
                **options,
            },
            accelerator="cpu",
            callbacks=[callback, *callbacks],
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if fault is not None:
            dialogues[0]["labels"][0] = fault
        dev = DataLoader(dialogues, batch_size=4, collate_fn=collate) if dev else None
        trainer.fit(model, loader, dev, ckpt_path=checkpoint)
        return Run(model, callback, trainer)

    return run


class EpochAtValidation(Callback):
    """Which epoch the scheduler is in when an evaluation ends."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        self.seen.append((trainer.sanity_checking, trainer.current_epoch, pl_module.scheduler.epoch))


@pytest.mark.parametrize(("interval", "times"), [(1.0, 1), (0.5, 2)])
def test_epoch_ends_once_and_after_its_validations(fit, interval, times):
    spy = EpochAtValidation()
    run = fit(callbacks=[spy], val_check_interval=interval)
    assert spy.seen == [(True, 0, 0)] + [(False, e, e) for e in range(EPOCHS) for _ in range(times)]
    assert run.callback.scheduler.epoch == EPOCHS
    thresholds = [0.3 * 1.3**e for e in range(EPOCHS)]
    assert [entry[3] for entry in run.model.trained] == pytest.approx([t for t in thresholds for _ in range(4)])
    assert int(run.trainer.callback_metrics["curriculum/steps"]) == 4  # neither the sanity check nor validation


def test_trainer_without_validation_ends_its_epochs_too(fit):
    run = fit(dev=False, num_sanity_val_steps=0)
    assert run.callback.scheduler.epoch == EPOCHS
    assert run.trainer.callback_metrics["curriculum/threshold"].item() == pytest.approx(0.3 * 1.3**3)


@pytest.mark.parametrize("keeps_it", [True, False], ids=["submodule", "own"])
def test_statistics_are_logged_and_modes_follow_the_trainer(fit, keeps_it):
    run = fit(keeps_it=keeps_it, max_epochs=2)
    logged = run.trainer.callback_metrics
    assert 0 < logged["curriculum/take_rate"] < 1
    assert logged["curriculum/confidence/text"] != logged["curriculum/confidence/audio"]
    assert set(run.model.modes) == {("train", True), ("dev", False)}
    if not keeps_it:
        assert not [name for name in run.model.state_dict() if "scheduler" in name]


RESUMES = {
    "every step, items": ("items", 0, {"every_n_train_steps": 1}, {}),
    "validation, batches": ("batches", 0, {"save_on_train_epoch_end": False}, {"val_check_interval": 0.5}),
    "end of epoch, items": ("items", 0, {"save_on_train_epoch_end": True}, {}),
    "every seventh step, batches, workers": ("batches", 2, {"every_n_train_steps": 7}, {}),
    "every fifth step, stateful, workers": ("stateful", 2, {"every_n_train_steps": 5}, {}),
    "end of epoch, no validation": ("plain", 0, {}, {"dev": False}),
}


@pytest.mark.parametrize(
    ("case", "keeps_it"), [*((case, True) for case in RESUMES), ("every step, items", False)], ids=str
)
def test_resume_is_exact_from_every_checkpoint(fit, tmp_path, case, keeps_it):
    kind, workers, when, options = RESUMES[case]
    saved = ModelCheckpoint(tmp_path / "saved", save_top_k=-1, filename="{step}", **when)
    whole = fit(kind, workers=workers, callbacks=[saved], keeps_it=keeps_it, **options)
    weights, logged, *rest = whole.outcome
    checkpoints = sorted((tmp_path / "saved").iterdir())
    assert len(checkpoints) >= 2
    for checkpoint in checkpoints:
        torch.load(checkpoint, weights_only=True)  # nothing in it but tensors and plain containers
        resumed = fit(kind, workers=workers, checkpoint=checkpoint, keeps_it=keeps_it, **options)
        same_weights, same_logged, *same_rest = resumed.outcome
        assert same_rest == rest, checkpoint.name
        torch.testing.assert_close(same_weights, weights, rtol=0, atol=0, msg=checkpoint.name)
        for name, value in same_logged.items():  # empty where no step was left
            assert value == logged[name], (checkpoint.name, name)
        left = resumed.model.trained
        assert left == whole.model.trained[len(whole.model.trained) - len(left) :], checkpoint.name


def test_batches_are_those_of_the_sampler_in_each_epoch(fit, difficulty):
    run = fit("items")
    counts = [sum(entry[0] == e for entry in run.model.trained) for e in range(EPOCHS)]
    assert counts == [2, 3, 4, 4]  # ceil(0.3 * 8), ceil(0.65 * 8), 8, 8 items in batches of 2


def test_two_callbacks_have_two_states():
    first, second = (CurriculumCallback(SelfPacedScheduler(), name=name) for name in ("student", "teacher"))
    assert first.state_key != second.state_key
    assert "student" in first.state_key


def test_faults_of_the_data_are_raised_at_the_end_of_the_epoch(fit):
    with pytest.raises(FaultyDataError, match="epoch 0 left out 1 label"):
        fit(fault=7, num_sanity_val_steps=0, dev=False)


def test_what_does_not_fit_is_refused_by_name(fit, dialogues, collate, make_heads, tmp_path):
    with pytest.raises(TypeError, match=r"scheduler must be a SelfPacedScheduler or a name \(got int\)"):
        CurriculumCallback(3)
    with pytest.raises(ValueError, match=r"reload_dataloaders_every_n_epochs=1.*\(got 0\)"):
        fit("items", reload_dataloaders_every_n_epochs=0)
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options |= {"max_epochs": 1, "enable_model_summary": False, "default_root_dir": tmp_path}
    loader = DataLoader(dialogues, batch_size=2, collate_fn=collate)
    model = Model(make_heads(), SelfPacedScheduler())
    missing = CurriculumCallback("curriculum")
    with pytest.raises(ValueError, match=r"must name a SelfPacedScheduler of Model \(got 'curriculum', no submodule\)"):
        Trainer(callbacks=[missing], **options).fit(model, loader)
    other = CurriculumCallback("scheduler", sampler=CurriculumSampler(8))
    trainer = Trainer(callbacks=[other], reload_dataloaders_every_n_epochs=1, **options)
    with pytest.raises(ValueError, match=r"sampler must be the one of the training loader"):
        trainer.fit(model, loader)


def test_checkpoint_without_the_sampler_is_refused(fit, tmp_path):
    saved = ModelCheckpoint(tmp_path / "saved", save_top_k=-1, filename="{step}")
    fit("plain", callbacks=[saved], max_epochs=1)
    (checkpoint,) = (tmp_path / "saved").iterdir()
    with pytest.raises(ValueError, match=r"sampler must be there as in the checkpoint, none \(got one\)"):
        fit("items", checkpoint=checkpoint)
