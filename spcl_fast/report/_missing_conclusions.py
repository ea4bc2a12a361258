"""What the numbers support of runs with missing modalities, in sentences made from the comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spcl_fast.report._comparisons import FEWEST, LEVEL, Comparison
from spcl_fast.report._conclusions import certainty
from spcl_fast.report._document import Block, Text, signed
from spcl_fast.report._missing import AVERAGE, Trial, compare_methods
from spcl_fast.report._study import Group, labels_of, listed, short_titles


def missing_conclusions(trials: Sequence[Trial]) -> list[Block]:
    """How much there is, what the averages over the subsets support, and whether hardness has a part in it."""
    titles = short_titles([group for trial in trials for group in trial.conditions])
    decisive = compare_methods([group for trial in trials for group in trial.decisive], [])
    subsets = compare_methods([group for trial in trials for group in trial.conditions], [])
    blocks: list[Block] = [Text((_extent(trials, titles),))]
    if not decisive:
        blocks.append(Text(("Missing modalities: not tested, for there is nothing to compare with.",)))
    for family in decisive:
        blocks += _against(family, titles)
    lines = [_in_one_place(family) for family in subsets] if any(trial.average for trial in trials) else []
    return [*blocks, Text((*lines, _credit(decisive, trials, titles)))]


def _extent(trials: Sequence[Trial], titles: Mapping[str, str]) -> str:
    arms = [arm for trial in trials for group in trial.conditions for arm in group.arms]
    methods = list(labels_of([group for trial in trials for group in trial.conditions]))
    seeds = sorted({len(arm.runs) for arm in arms})
    each = f"{seeds[0]} to {seeds[-1]} seeds each" if len(seeds) > 1 else f"{seeds[0]} seed{'s' * (seeds[0] > 1)}"
    where = "; ".join(f"{titles[t.title]}: {', '.join(g.backbone for g in t.conditions)}" for t in trials)
    return (
        f"{sum(len(arm.runs) for arm in arms)} runs with missing modalities. What was available of {where}. "
        f"{len(methods)} method{'s' * (len(methods) > 1)} ({listed(methods)}), {each}."
    )


def _against(family: Sequence[Comparison], titles: Mapping[str, str]) -> list[Block]:
    """Each method against one control: where it is higher, lower, not shown to differ, or not tested."""
    points = []
    for label in dict.fromkeys(c.label for c in family):
        places: dict[str, list[str]] = {}
        for c in family:
            if c.label == label:
                verdict, size = _verdict(c)
                places.setdefault(verdict, []).append(f"{_place(c.group, titles)}{size}")
        points.append(f"{label}: {'; '.join(f'{verdict} on {listed(names)}' for verdict, names in places.items())}.")
    found = [c for c in family if c.verdict]
    over = ", averaged over the subsets" if all(c.group.backbone == AVERAGE for c in family) else ""
    lead = (
        f"Weighted F1 on test{over}, against {family[0].against}, in points; verdicts after Holm's correction, "
        "intervals without:"
    )
    blocks: list[Block] = [Text((lead,)), Text(tuple(points), is_list=True)]
    return [*blocks, Text((certainty(family, found).strip(),))] if found else blocks


def _place(group: Group, titles: Mapping[str, str]) -> str:
    title = titles[group.data_title]
    return title if group.backbone == AVERAGE else f"{title} with {group.backbone}"


def _verdict(c: Comparison) -> tuple[str, str]:
    """What is said of a comparison, and the size of the difference where there are enough seeds."""
    if c.found is None:
        return "not tested", ""
    if c.found.n < FEWEST:
        return f"not tested, with fewer than {FEWEST} seeds,", ""
    size = f" {signed(c.found.difference)} [{signed(c.found.low)}, {signed(c.found.high)}]"
    if not c.is_tested:
        return "the same difference with every seed, which the t test cannot judge,", size
    return {1: "higher", -1: "lower", 0: "not shown to differ"}[c.verdict], size


def _in_one_place(family: Sequence[Comparison]) -> str:
    tested = [c for c in family if c.is_tested]
    up, down = (sum(c.verdict == sign for c in tested) for sign in (1, -1))
    return (
        f"Of {len(tested)} comparisons with {family[0].against} in one place alone, corrected on their own, weighted "
        f"F1 is higher in {up} and lower in {down}."
    )


def _credit(decisive: Sequence[Sequence[Comparison]], trials: Sequence[Trial], titles: Mapping[str, str]) -> str:
    """Whether what hardness says is worth anything: more than reconstruction alone, and more than chance."""
    labels = labels_of([group for trial in trials for group in trial.conditions])
    of_hardy = [[c for c in family if labels[c.label] == "hardy" and c.is_tested] for family in decisive]
    of_hardy = [family for family in of_hardy if family]
    if len(of_hardy) < 2:
        return (
            "Whether hardness has a part in it is not tested: that needs HARDY beside reconstruction without a "
            "curriculum and beside random hardness."
        )
    won = [{(c.group.title, c.label) for c in family if c.verdict > 0} for family in of_hardy]
    both = set.intersection(*won)
    if not both:
        return (
            "Nowhere is HARDY shown to be better than both reconstruction without a curriculum and random hardness, "
            f"so no gain can be credited to hardness (t test, corrected p < {LEVEL})."
        )
    where = [_place(c.group, titles) for c in of_hardy[0] if (c.group.title, c.label) in both]
    return (
        "Better than both reconstruction without a curriculum and random hardness, so that hardness has a part in it: "
        f"HARDY on {listed(where)}."
    )
