"""What the numbers support, in sentences made from the comparisons; they never say more than these do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spcl_fast.report._comparisons import FEWEST, LEVEL, Comparison
from spcl_fast.report._document import Block, Text, p_value, signed
from spcl_fast.report._study import CONTROLS, Group, labels_of, listed

Comparisons = Mapping[str, Sequence[Comparison]]


def conclusions(groups: Sequence[Group], comparisons: Comparisons) -> list[Block]:
    """A paragraph for all, and one point for each curriculum and control."""
    labels = labels_of(groups)
    if not comparisons:
        return [Text((_nothing(groups, labels),))]
    opening = [_overall(control, of_control) for control, of_control in comparisons.items()]
    both = _beyond_chance(comparisons, labels)
    points = [
        _point(label, control, [c for c in of_control if c.label == label])
        for control, of_control in comparisons.items()
        for label in dict.fromkeys(c.label for c in of_control)
    ]
    return [Text((" ".join([*opening, *both]),)), Text(tuple(points), is_list=True)]


def _nothing(groups: Sequence[Group], labels: Mapping[str, str]) -> str:
    if not groups:
        return "Not tested: the file has no finished run of the main comparison."
    if not any(curriculum in CONTROLS for curriculum in labels.values()):
        return "Not tested: there are no runs without a curriculum and none of a random control to compare with."
    return "Not tested: the file has runs of a control alone, and none of a curriculum to compare with it."


def _overall(control: str, comparisons: Sequence[Comparison]) -> str:
    tested = [c for c in comparisons if _is_tested(c)]
    if not tested:
        few = any(c.found for c in comparisons)
        return f"Against {control} nothing can be said: " + (
            f"no comparison has {FEWEST} or more seeds." if few else "no two runs share seed, data and backbone."
        )
    up, down = (sum(c.verdict == sign for c in tested) for sign in (1, -1))
    seeds = _range([c.found.n for c in tested if c.found])
    text = (
        f"Against {control}, {_count(len(tested), 'comparison')} with {seeds} seeds could be tested: weighted F1 on "
        f"test is higher in {up} of them and lower in {down}"
    )
    rest = len(tested) - up - down
    if rest:
        text += f"; in {'the other ' if up + down else 'all '}{rest} the difference cannot be told from chance"
    text += "."
    agree = sum(c.verdict != 0 and c.wilcoxon_adjusted < LEVEL for c in tested)
    if up + down:
        text += f" The rank test, which assumes less, confirms {agree} of the {up + down} differences."
    missing = len(comparisons) - len(tested)
    if missing:
        text += f" Not tested, for runs are missing: {missing}."
    return text


def _beyond_chance(comparisons: Comparisons, labels: Mapping[str, str]) -> list[str]:
    """Where a curriculum beats both training on everything and a random choice."""
    plain = [c for control, found in comparisons.items() if labels[control] == "none" for c in found]
    random = [c for control, found in comparisons.items() if labels[control] != "none" for c in found]
    if not plain or not any(_is_tested(c) for c in random):
        return ["Whether a gain comes from what a curriculum chooses is not tested: no random control can be compared."]
    won = {(c.group.title, c.label) for c in random if c.verdict > 0}
    lost = {(c.group.title, c.label) for c in random if _is_tested(c) and c.verdict <= 0}
    both = [c for c in plain if c.verdict > 0 and (c.group.title, c.label) in won - lost]
    if not both:
        return [
            "In no combination of data set and backbone is a curriculum shown to be better than both training on "
            "everything and a random choice, so no gain can be credited to what it chooses."
        ]
    where = listed([f"{c.label} on {c.group.title}" for c in both])
    return [f"Better than both training on everything and every random control tested: {where}."]


def _point(label: str, control: str, comparisons: Sequence[Comparison]) -> str:
    tested = [c for c in comparisons if _is_tested(c)]
    few = [c for c in comparisons if c.found and c.found.n < FEWEST]
    missing = [c for c in comparisons if not c.found]
    same = [c for c in comparisons if c.found and c.found.n >= FEWEST and not _is_tested(c)]
    parts = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        found = [c for c in tested if c.verdict == sign]
        if found:
            parts.append(f"{word} in {len(found)} of {len(tested)}: {'; '.join(_said(c) for c in found)}")
    rest = [c.found.difference for c in tested if c.verdict == 0 and c.found]
    if rest:
        reach = signed(rest[0]) if len(rest) == 1 else f"{signed(min(rest))} to {signed(max(rest))}"
        parts.append(f"no difference shown in {len(rest)} of {len(tested)} ({reach} points)")
    if few:
        parts.append(f"fewer than {FEWEST} seeds, so nothing is claimed: {_places(few)}")
    if same:
        parts.append(f"the same difference with every seed, which the t test cannot judge: {_places(same)}")
    if missing:
        parts.append(f"not tested: {_places(missing)}")
    return f"{label} against {control}: {'; '.join(parts)}."


def _said(c: Comparison) -> str:
    f = c.found
    if f is None:
        return c.group.title
    ends = f"{signed(f.low)} to {signed(f.high)}"
    return (
        f"{c.group.title} by {signed(f.difference)} points ({ends}, corrected p {p_value(c.t_adjusted)}, {f.n} seeds)"
    )


def _is_tested(c: Comparison) -> bool:
    return c.found is not None and c.found.n >= FEWEST and c.t_adjusted == c.t_adjusted


def _places(comparisons: Sequence[Comparison]) -> str:
    return "; ".join(c.group.title for c in comparisons)


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
