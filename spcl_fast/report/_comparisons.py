"""Each curriculum against each control, in pairs of the same seed, data and backbone, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from spcl_fast.merc.statistics import PairedComparison, holm, paired_comparison
from spcl_fast.report._study import CONTROLS, Arm, Group, labels_of, score, trained_alike

LEVEL = 0.05
FEWEST = 3  # with fewer seeds nothing is claimed


#: The other random controls go by SPCL's rule, and so have about its take rate.
CONTROLLED = {"thinning": ("stochastic", "stochastic_turn"), "random_hardness": ("hardy", "hardy_same_label")}


class Comparison(NamedTuple):
    """Weighted F1 of an arm minus that of a control; `found` is None, and both p are NaN, where no runs pair up.

    `against` names the control in a sentence.
    """

    group: Group
    label: str
    against: str
    found: PairedComparison | None
    t_adjusted: float
    wilcoxon_adjusted: float

    @property
    def is_tested(self) -> bool:
        """Whether there is enough for a claim."""
        return self.found is not None and self.found.n >= FEWEST and not math.isnan(self.t_adjusted)

    @property
    def verdict(self) -> int:
        """1 or -1 where the corrected t test tells the difference from 0, else 0."""
        if self.found is None or not self.is_tested or self.t_adjusted >= LEVEL:
            return 0
        return 1 if self.found.difference > 0 else -1


def compare(groups: Sequence[Group], notes: list[str]) -> dict[str, list[Comparison]]:
    """Label of a control -> comparisons of every arm with it, also those that are missing in a group.

    The p values are corrected over all comparisons with the same control in `groups`. Runs whose training settings
    differ are not compared; a note says how many.
    """
    labels = labels_of(groups)
    results: dict[str, list[Comparison]] = {}
    for control in (label for label, curriculum in labels.items() if curriculum in CONTROLS):
        others = [label for label, curriculum in labels.items() if _is_compared(curriculum, labels[control])]
        against = "no curriculum" if labels[control] == "none" else f"the control “{control}”"
        pairs = [(group, label, _paired(group, label, control, notes)) for group in groups for label in others]
        t = holm([_t(found) for _, _, found in pairs])
        wilcoxon = holm([None if found is None else found.wilcoxon_p for _, _, found in pairs])
        if pairs:
            results[control] = [
                Comparison(group, label, against, found, t[i], wilcoxon[i])
                for i, (group, label, found) in enumerate(pairs)
            ]
    return results


def _is_compared(curriculum: str, control: str) -> bool:
    """Everything with no curriculum, and what is no control itself with the random choice that belongs to it."""
    if control == "none":
        return curriculum != "none"
    if curriculum in CONTROLS:
        return False
    own = next((name for name, of in CONTROLLED.items() if curriculum in of), None)
    return control == own if own else control not in CONTROLLED


def _paired(group: Group, label: str, control: str, notes: list[str]) -> PairedComparison | None:
    treated, base = group.arm(label), group.arm(control)
    if treated is None or base is None:
        return None
    seeds = [seed for seed in treated.runs if _known(treated, seed) and _known(base, seed)]
    alike = [seed for seed in seeds if trained_alike(treated.runs[seed], base.runs[seed])]
    if len(alike) < len(seeds):
        notes.append(
            f"{group.title}: {len(seeds) - len(alike)} pair(s) of {label} and {control} were not compared, "
            "for they were trained with other settings of the model."
        )
    if not alike:
        return None
    if base.curriculum == "thinning" and _shares(treated) != _shares(base):
        notes.append(f"{group.title}: {label} and {control} took other shares, so they differ not by the choice alone.")
    values = [[score(arm.runs[seed], "weighted_f1") or 0.0 for seed in alike] for arm in (treated, base)]
    return paired_comparison(*values)


def _shares(arm: Arm) -> set[tuple[object, ...]]:
    """What share of a batch the runs were to take, by epoch."""
    configs = [run.get("config") or {} for run in arm.runs.values()]
    return {(config.get("pace_start"), config.get("pace_epochs")) for config in configs}


def _known(arm: Arm, seed: int) -> bool:
    return seed in arm.runs and score(arm.runs[seed], "weighted_f1") is not None


def _t(found: PairedComparison | None) -> float:
    """NaN also where all differences are the same: the t test knows no spread then, and proves nothing."""
    if found is None or (found.low == found.high and found.difference != 0):
        return math.nan
    return found.t_p
