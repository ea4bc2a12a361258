"""Test accuracy on digits without a curriculum, with CurML's and CurBench's self-paced learning, and with ours.

    python -m benchmarks.curml_accuracy [--seeds 5]

writes `benchmarks/results/curml_accuracy.json`. A third of the images is for testing; the training labels are as they
are, or each is drawn anew with a probability of 0.4. All train the same model from the same parameters for as many
epochs. `forwards` and `backwards` count samples that went through the model in that direction, for the curriculum too.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

import spcl_fast
from spcl_fast.merc.files import write_json

from . import digits
from .providers import curml

EPOCHS = 30
SCHEDULE = digits.Schedule("linear", 0.2, 20)
NOISES = (0.0, 0.4)
Trained = tuple[torch.nn.Module, int, int]


def split(seed: int, noise: float) -> tuple[digits.Digits, digits.Digits]:
    """Training data, whose labels are drawn anew with the probability `noise`, and test data."""
    x, y = digits.load()
    generator = torch.Generator().manual_seed(1000 + seed)
    rows = torch.randperm(len(y), generator=generator)
    train, test = rows[len(y) // 3 :], rows[: len(y) // 3]
    labels = y[train]
    anew = torch.rand(len(train), generator=generator) < noise
    drawn = torch.randint(digits.CLASSES, (len(train),), generator=generator)
    return digits.Digits(x[train], torch.where(anew, drawn, labels)), digits.Digits(x[test], y[test])


def without(data: digits.Digits, seed: int) -> Trained:
    """All samples in every epoch."""
    model, order = digits.make_model(seed), torch.Generator().manual_seed(seed)
    optimizer, everything = digits.make_optimizer(model), digits.Choice(torch.arange(len(data.y)), None)
    for _ in range(EPOCHS):
        digits.train_epoch(model, optimizer, data, everything, order)
    return model, EPOCHS * len(data.y), EPOCHS * len(data.y)


def by_extra_passes(choose: digits.Choose) -> Callable[[digits.Digits, int], Trained]:
    """Losses measured before every epoch."""

    def trained(data: digits.Digits, seed: int) -> Trained:
        choices, model = digits.run(choose, data, EPOCHS, seed)
        rows = sum(len(choice.rows) for choice in choices)
        return model, EPOCHS * len(data.y) + rows, rows

    return trained


def in_training(weighting: str) -> Callable[[digits.Digits, int], Trained]:
    """Ours: losses of the training pass."""

    def trained(data: digits.Digits, seed: int) -> Trained:
        model, order = digits.make_model(seed), torch.Generator().manual_seed(seed)
        optimizer = digits.make_optimizer(model)
        curriculum = digits.InTraining(SCHEDULE.ours(), len(data.y), weighting=weighting)
        for _ in range(EPOCHS):
            curriculum.train_epoch(model, optimizer, data, order)
        return model, EPOCHS * len(data.y), EPOCHS * len(data.y)

    return trained


ARMS: dict[str, Callable[[digits.Digits, int], Trained]] = {
    "none": without,
    "CurBench, hard": by_extra_passes(digits.theirs("hard", SCHEDULE, curml.easiest_by_topk)),
    "CurML 28c2dd0, hard (first rows)": by_extra_passes(digits.theirs("hard", SCHEDULE, curml.first_rows)),
    "CurBench, linear": by_extra_passes(digits.theirs("linear", SCHEDULE, curml.easiest_by_topk)),
    "ours, hard, extra passes": by_extra_passes(digits.ours("hard", SCHEDULE)),
    "ours, hard, training pass": in_training("hard"),
    "ours, linear, training pass": in_training("linear"),
}


def accuracy(model: torch.nn.Module, data: digits.Digits) -> float:
    """The share that is right."""
    with torch.no_grad():
        return float((model(data.x).argmax(-1) == data.y).float().mean())


def measured(noise: float, seeds: int) -> dict[str, dict[str, object]]:
    """Every arm with every seed; prints a line each."""
    found: dict[str, dict[str, object]] = {}
    for name, train in ARMS.items():
        scores = []
        for seed in range(seeds):
            train_data, test_data = split(seed, noise)
            model, forwards, backwards = train(train_data, seed)
            scores.append(accuracy(model, test_data))
        mean, sd = statistics.fmean(scores), statistics.stdev(scores)
        print(f"noise {noise:g}, {name}: {100 * mean:.2f} ± {100 * sd:.2f}", flush=True)
        passes = {"forwards": forwards, "backwards": backwards}
        found[name] = {"test_accuracy": scores, "mean": mean, "sd": sd, **passes}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_json(
        Path(__file__).parent / "results" / "curml_accuracy.json",
        {
            "script": "benchmarks/curml_accuracy.py",
            "versions": {
                "spcl_fast": spcl_fast.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "device": f"cpu, {platform.machine()}",
            "seeds": list(range(arguments.seeds)),
            "epochs": EPOCHS,
            "pace": {"function": SCHEDULE.function, "start": SCHEDULE.start, "total": SCHEDULE.total},
            "by_noise": {f"{noise:g}": measured(noise, arguments.seeds) for noise in NOISES},
        },
    )


if __name__ == "__main__":
    main()
