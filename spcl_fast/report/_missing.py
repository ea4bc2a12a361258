"""Runs with missing modalities, as groups: one for each data set and what is available of it, and their average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from spcl_fast.report._comparisons import Comparison, compare
from spcl_fast.report._study import Arm, Group, Run, data_rank, labels_of, score

#: Scores of a run -> what a table calls them.
MEASURES = {
    "weighted_f1": "Weighted F1",
    "accuracy": "Accuracy (WA)",
    "macro_recall": "Macro recall (UA)",
}
AVERAGE = "average over the subsets"
_FILLINGS = {"reconstruction": "reconstruction", "zero": "zero filling", "mean": "mean filling"}
_AGAINST = {"none": "reconstruction without a curriculum", "random_hardness": "random hardness"}


class Trial(NamedTuple):
    """A data set: a group for each of what is available, whose "backbone" says what that is; its arms are methods.

    `average` has the mean over the proper subsets for each seed that has them all; None where there are fewer than two.
    """

    conditions: tuple[Group, ...]
    average: Group | None

    @property
    def title(self) -> str:
        """Such as `CMU-MOSI, text, audio and visual`."""
        return self.conditions[0].data_title

    @property
    def groups(self) -> tuple[Group, ...]:
        """The conditions, and last their average."""
        return self.conditions if self.average is None else (*self.conditions, self.average)

    @property
    def decisive(self) -> tuple[Group, ...]:
        """What conclusions rest on: the average where there is one."""
        return self.conditions if self.average is None else (self.average,)


class _Condition(NamedTuple):
    """What is available; sorts fixed subsets first, the smaller first."""

    missing: str
    rate: float
    size: int
    available: tuple[str, ...]

    @property
    def label(self) -> str:
        """Such as `audio + text`, or `each utterance lacks 30 % of audio + text`."""
        names = " + ".join(self.available)
        return names if self.missing == "fixed" else f"each {self.missing} lacks {100 * self.rate:g} % of {names}"


def make_trials(runs: Iterable[Run]) -> list[Trial]:
    """The runs by data set, condition and method; of runs with one seed in one place the last stands."""
    places: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        places.setdefault((run["data"], tuple(run["modalities"])), []).append(run)
    trials = [_trial(data, modalities, of_data) for (data, modalities), of_data in places.items()]
    return sorted(trials, key=lambda trial: data_rank(trial.conditions[0].data))


def compare_methods(groups: Sequence[Group], notes: list[str]) -> list[list[Comparison]]:
    """Each method against reconstruction without a curriculum, and HARDY against random hardness."""
    labels = labels_of(groups)
    return [
        [c._replace(against=_AGAINST[labels[control]]) for c in found]
        for control, found in compare(groups, notes).items()
        if labels[control] in _AGAINST
    ]


def _trial(data: str, modalities: tuple[str, ...], runs: Sequence[Run]) -> Trial:
    names = _method_names(runs)
    methods: dict[_Condition, dict[str, list[Run]]] = {}
    for run in runs:
        methods.setdefault(_condition(run), {}).setdefault(names[_method(run)], []).append(run)
    class_names = next((tuple(run["class_names"]) for run in runs if run.get("class_names")), ())
    conditions = sorted(methods)

    def group(title: str, arms: Iterable[Arm]) -> Group:
        order = {label: place for place, label in enumerate(labels_of([Group("", (), "", (), tuple(arms))]))}
        return Group(data, modalities, title, class_names, tuple(sorted(arms, key=lambda arm: order[arm.label])))

    groups = {c: group(c.label, [_arm(label, found) for label, found in methods[c].items()]) for c in conditions}
    subsets = [groups[c] for c in conditions if c.missing == "fixed" and c.size < len(modalities)]
    average = None
    if len(subsets) > 1:
        average = group(AVERAGE, [arm for label in labels_of(subsets) if (arm := _averaged(label, subsets)).runs])
    return Trial(tuple(groups.values()), average)


def _condition(run: Run) -> _Condition:
    from spcl_fast.hardy.protocols import parse_available

    config = run["config"]
    available = tuple(sorted(parse_available(config.get("available", "all"), run["modalities"])))
    return _Condition(config.get("missing", "fixed"), config.get("missing_rate", 0.0), len(available), available)


def _method(run: Run) -> tuple[str, str, str]:
    """What makes two runs of one condition runs of one method."""
    return run["config"].get("filling", "reconstruction"), run["label"], run["backbone"]


def _method_names(runs: Iterable[Run]) -> dict[tuple[str, str, str], str]:
    """A name for each method, with its backbone where that alone tells two of them apart."""
    names: dict[tuple[str, str, str], str] = {}
    for run in runs:
        filling, label, _ = method = _method(run)
        if run["curriculum"] == "none":
            names[method] = _FILLINGS.get(filling, filling)
        else:
            names[method] = label if filling == "reconstruction" else f"{label}, {_FILLINGS.get(filling, filling)}"
    found = list(names.values())
    return {m: name if found.count(name) == 1 else f"{name} ({m[2]})" for m, name in names.items()}


def _arm(label: str, runs: Sequence[Run]) -> Arm:
    """Its curriculum is "zero" or "mean" for what fills in so, for neither is the control that "none" is."""
    curriculum, filling = runs[0]["curriculum"], runs[0]["config"].get("filling", "reconstruction")
    if filling != "reconstruction":
        curriculum = filling if curriculum == "none" else f"{curriculum}, {filling}"
    return Arm(curriculum, label, {run["seed"]: run for run in sorted(runs, key=lambda run: run["seed"])})


def _averaged(label: str, subsets: Sequence[Group]) -> Arm:
    """The means over the subsets, of the seeds that have a run in each."""
    arms = [arm for group in subsets if (arm := group.arm(label)) is not None]
    seeds = set.intersection(*(set(arm.runs) for arm in arms)) if len(arms) == len(subsets) else set()
    runs = {seed: _mean_run([arm.runs[seed] for arm in arms]) for seed in sorted(seeds)}
    return Arm(arms[0].curriculum, label, runs)


def _mean_run(runs: Sequence[Run]) -> Mapping[str, Any]:
    """One run with the mean scores of several; a score that one of them lacks is not known."""
    scores = {name: [score(run, name) for run in runs] for name in MEASURES}
    known = {name: [x for x in values if x is not None] for name, values in scores.items()}
    means = {name: fmean(values) if len(values) == len(runs) else None for name, values in known.items()}
    return {"seed": runs[0]["seed"], "config": runs[0]["config"], "test": means}
