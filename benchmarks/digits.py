"""Self-paced learning of scikit-learn's digits (1797 images of 8 x 8, ten classes): the run of CurML and ours.

Both train the same small classifier with the same batches. What an epoch trains on is the choice of a function of the
losses, so that two choices that are equal in every epoch end with the same parameters, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from spcl_fast import CurriculumSampler, SelfPacedScheduler, ops, pacing
from spcl_fast.thresholds import QuantileThreshold, threshold_at_pace

from .providers import curml

BATCH = 64
CLASSES = 10


class Digits(NamedTuple):
    """Images `float32[N, 64]` in [0, 1] and labels `int64[N]`."""

    x: Tensor
    y: Tensor


class Choice(NamedTuple):
    """What an epoch trains on: rows in rising order, and of all samples the weights; None: all are 1."""

    rows: Tensor
    weights: Tensor | None


#: the losses of all samples under the present model and the 0-based epoch -> what to train on
Choose = Callable[[Tensor, int], Choice]


class Schedule(NamedTuple):
    """A pace in CurML's words, `function` being "linear", "geom" or "root-p", and in ours."""

    function: str
    start: float
    total: int

    def ours(self, formula: str = "curml") -> pacing.Pace:
        """The same of `spcl_fast.pacing`; the literature's formula with "paper"."""
        settings = {"start": self.start, "total": self.total, "formula": formula}
        if self.function.startswith("root-"):
            return pacing.RootPace(power=int(self.function[5:]), **settings)
        return {"linear": pacing.LinearPace, "geom": pacing.GeometricPace}[self.function](**settings)


def load() -> Digits:
    """All of it, in the order of the file."""
    images = load_digits()
    return Digits(torch.from_numpy(images.data).float() / 16, torch.from_numpy(images.target).long())


def make_model(seed: int, hidden: int = 64) -> nn.Module:
    """64 inputs, a hidden layer, ten logits."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            bound = (6 / sum(parameter.shape)) ** 0.5 if parameter.ndim == 2 else 0.0
            parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
    return model


def make_optimizer(model: nn.Module, rate: float = 0.1) -> torch.optim.Optimizer:
    """Plain stochastic gradient descent with momentum, as their image classifier has it."""
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)


def theirs(scheme: str, schedule: Schedule, select: Callable[[Tensor, float], curml.Selection]) -> Choose:
    """The choice of CurML and CurBench; `scheme` is "hard" or one of `curml.weights`."""

    def choose(loss: Tensor, epoch: int) -> Choice:
        chosen = select(loss, curml.pace(*schedule, epoch))
        if scheme == "hard":
            return Choice(torch.as_tensor(chosen.rows).sort().values, None)
        return Choice(torch.arange(loss.shape[0]), curml.weights(scheme, loss, chosen.threshold))

    return choose


def ours(scheme: str, schedule: Schedule, formula: str = "curml") -> Choose:
    """The same with the parts of this package."""
    pace = schedule.ours(formula)
    name, _, degree = scheme.partition("-")
    parameters = {"degree": float(degree), "formula": formula} if degree else {}
    name = {"logarithmic": "log"}.get(name, name)

    def choose(loss: Tensor, epoch: int) -> Choice:
        N = loss.shape[0]
        if scheme == "hard":
            sampler = CurriculumSampler(N, difficulty=loss, pace=pace, formula=formula)
            sampler.set_epoch(epoch)
            return Choice(torch.tensor(list(sampler)).sort().values, None)
        threshold = threshold_at_pace(loss, pace(epoch), formula=formula)
        return Choice(torch.arange(N), ops.self_paced_weights(loss, threshold, scheme=name, **parameters))

    return choose


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Digits, choice: Choice, order: torch.Generator
) -> None:
    """One pass over the rows of the choice, shuffled; the mean of the weighted losses of each batch."""
    rows = choice.rows[torch.randperm(len(choice.rows), generator=order)]
    for batch in rows.split(BATCH):
        loss = nn.functional.cross_entropy(model(data.x[batch]), data.y[batch], reduction="none")
        if choice.weights is not None:
            loss = loss * choice.weights[batch]
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()


def run(choose: Choose, data: Digits, epochs: int, seed: int) -> tuple[list[Choice], nn.Module]:
    """Trains by extra passes, as CurML does; returns what every epoch trained on, and the model."""
    model, order = make_model(seed), torch.Generator().manual_seed(seed)
    optimizer, choices = make_optimizer(model), []
    for epoch in range(epochs):
        choices.append(choose(curml.measured(model, data.x, data.y, BATCH), epoch))
        train_epoch(model, optimizer, data, choices[-1], order)
    return choices, model


class InTraining:
    """Self-paced learning without passes of its own: the losses are those of the training pass of the epoch before.

    The first epoch trains on everything; from then on the share of the losses that the pace lets in, the others having
    weight 0 (or less weight, by a soft scheme).
    """

    def __init__(self, pace: pacing.Pace | float, num_samples: int, **settings: object) -> None:
        threshold = QuantileThreshold(pace, over="epoch", num_utterances=num_samples)
        self.scheduler = SelfPacedScheduler(threshold, difficulty="loss", **settings)  # type: ignore[arg-type]

    def train_epoch(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Digits,
        order: torch.Generator,
        weights: Tensor | None = None,
    ) -> None:
        """One pass over all samples, shuffled; `weights`, `[N]`, receives what each had."""
        for batch in torch.randperm(len(data.y), generator=order).split(BATCH):
            step = self.scheduler(model(data.x[batch]), data.y[batch], ids=batch)
            optimizer.zero_grad()
            step.loss.backward()
            optimizer.step()
            if weights is not None:
                weights[batch] = step.weight
        self.scheduler.end_epoch()
