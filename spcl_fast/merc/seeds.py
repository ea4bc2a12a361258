"""The same data under several configurations and seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.trainer import Result, TrainConfig, Trainer


class Summary(NamedTuple):
    """Mean over seeds of one configuration; `*_sd` are sample standard deviations (NaN for one seed).

    Scores are of the test split at the best dev epoch, as shares in [0, 1]. `modality_ratio` is of the last
    epoch, over the selected utterances. `curriculum_share` is the part of the training time spent in the
    curriculum, forward and backward.

    Example:
        >>> import torch
        >>> from spcl_fast.merc.evaluation import evaluate
        >>> from spcl_fast.merc.seeds import summarize
        >>> from spcl_fast.merc.trainer import Result
        >>> stats = {"take_rate": 1.0, "modality_ratio": (2.0, 1.0)}
        >>> history = [{"epoch": 0, "curriculum": stats, "seconds": 2.0, "curriculum_seconds": 0.5}]
        >>> score = evaluate([torch.zeros(2, 2)], torch.tensor([0, 1]))
        >>> scores = [score._replace(weighted_f1=f1) for f1 in (0.25, 0.75)]
        >>> summary = summarize([Result(0, score, score, history) for score in scores])
        >>> summary.weighted_f1, round(summary.weighted_f1_sd, 3), summary.curriculum_share
        (0.5, 0.354, 0.25)
    """

    weighted_f1: float
    weighted_f1_sd: float
    accuracy: float
    accuracy_sd: float
    macro_f1: float
    macro_f1_sd: float
    modality_accuracy: tuple[float, ...]
    modality_ratio: tuple[float, ...]
    first_take_rate: float
    take_rate: float
    seconds_per_epoch: float
    curriculum_share: float


def run_seeds(
    dataset: DialogueDataset,
    configs: Mapping[str, TrainConfig],
    seeds: Iterable[int],
    *,
    device: str = "cpu",
    on_epoch: Callable[[str, int, dict[str, Any]], None] | None = None,
) -> dict[str, list[Result]]:
    """Trains every configuration with every seed.

    Args:
        dataset: the corpus, the same for all.
        configs: name -> configuration; its own seed is replaced.
        seeds: the seeds, the same for all, so that comparisons are paired.
        device: where to train.
        on_epoch: called with (name, seed, entry of the history) after every epoch.

    Returns:
        name -> one `Result` a seed, in the order given; deterministic as `Trainer` is.

    Raises:
        ValueError: what `Trainer` refuses, and a run that diverges.

    Example:
        >>> from spcl_fast.merc.seeds import run_seeds
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> from spcl_fast.merc.trainer import TrainConfig
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> configs = {name: TrainConfig(curriculum=name, epochs=1, hidden=4) for name in ("none", "spcl")}
        >>> results = run_seeds(corpus, configs, seeds=[0])
        >>> {name: len(of_seeds) for name, of_seeds in results.items()}
        {'none': 1, 'spcl': 1}
    """
    results: dict[str, list[Result]] = {name: [] for name in configs}
    for seed in seeds:
        for name, config in configs.items():
            trainer = Trainer(dataset, replace(config, seed=seed), device=device)
            report = None
            if on_epoch is not None:
                report = lambda entry, name=name, seed=seed: on_epoch(name, seed, entry)  # noqa: E731
            results[name].append(trainer.fit(on_epoch=report))
    return results


def summarize(results: list[Result]) -> Summary:
    """Means over the seeds of one configuration.

    Args:
        results: its finished runs, at least one, each of at least one epoch.

    Returns:
        The means and deviations.

    Raises:
        ValueError: no results, or one without the test set.

    Example:
        >>> from spcl_fast.merc.seeds import run_seeds, summarize
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> from spcl_fast.merc.trainer import TrainConfig
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> results = run_seeds(corpus, {"spcl": TrainConfig(epochs=1, hidden=4)}, seeds=[0])
        >>> summary = summarize(results["spcl"])
        >>> 0 <= summary.weighted_f1 <= 1, summary.weighted_f1_sd  # one seed has no deviation
        (True, nan)
    """
    if not results:
        raise ValueError("summarize: results must hold at least one run (got none)")
    tests = [r.test for r in results if r.test is not None]
    if len(tests) < len(results):
        raise ValueError("summarize: results must have scored the test set (got one that has not)")
    f1 = [test.weighted_f1 for test in tests]
    accuracy = [test.accuracy for test in tests]
    macro = [test.macro_f1 for test in tests]
    first, last = ([r.history[e]["curriculum"] for r in results] for e in (0, -1))
    epochs = [entry for r in results for entry in r.history]
    seconds = sum(e["seconds"] for e in epochs)
    nan = float("nan")
    return Summary(
        weighted_f1=statistics.fmean(f1),
        weighted_f1_sd=statistics.stdev(f1) if len(f1) > 1 else nan,
        accuracy=statistics.fmean(accuracy),
        accuracy_sd=statistics.stdev(accuracy) if len(f1) > 1 else nan,
        macro_f1=statistics.fmean(macro),
        macro_f1_sd=statistics.stdev(macro) if len(f1) > 1 else nan,
        modality_accuracy=_mean_of_each(test.modality_accuracy for test in tests),
        modality_ratio=_mean_of_each(x["modality_ratio"] for x in last),
        first_take_rate=statistics.fmean(x["take_rate"] for x in first),
        take_rate=statistics.fmean(x["take_rate"] for x in last),
        seconds_per_epoch=seconds / len(epochs),
        curriculum_share=sum(e["curriculum_seconds"] for e in epochs) / seconds,
    )


def _mean_of_each(rows: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(statistics.fmean(column) for column in zip(*rows, strict=True))
