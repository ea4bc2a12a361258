"""What the numbers support, in sentences made from the comparisons; they never say more than these do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spcl_fast.report._comparisons import FEWEST, LEVEL, Comparison
from spcl_fast.report._document import Block, Fold, Text, p_value, signed
from spcl_fast.report._study import CONTROLS, Group, labels_of, short_titles

ENOUGH = 5  # seeds, below which a difference comes with a warning
Comparisons = Mapping[str, Sequence[Comparison]]


def conclusions(groups: Sequence[Group], comparisons: Comparisons) -> list[Block]:
    """A paragraph for each control, one on gains beyond chance, and to be opened a point for each curriculum."""
    labels = labels_of(groups)
    if not comparisons:
        return [Text((_nothing(groups, labels),))]
    titles = short_titles(groups)
    overall = [_overall(found, labels) for found in comparisons.values()]
    blocks: list[Block] = [Text((*overall, _beyond_chance(comparisons, labels, titles)))]
    for found in comparisons.values():
        points = [
            _point(label, [c for c in found if c.label == label], titles)
            for label in dict.fromkeys(c.label for c in found)
        ]
        title = f"Where, and by how many points, against {found[0].against}"
        blocks.append(Fold(title, [Text(tuple(points), is_list=True)], is_open=True))
    return blocks


def _nothing(groups: Sequence[Group], labels: Mapping[str, str]) -> str:
    if not groups:
        return "Not tested: the file has no finished run of the main comparison."
    if not any(curriculum in CONTROLS for curriculum in labels.values()):
        return "Not tested: there are no runs without a curriculum and none of a random control to compare with."
    return "Not tested: the file has runs of a control alone, and none of a curriculum to compare with it."


def _overall(comparisons: Sequence[Comparison], labels: Mapping[str, str]) -> str:
    """Of the curricula alone: the random controls are no gain for anyone, though their tests are corrected for."""
    control = comparisons[0].against
    asked = [c for c in comparisons if labels[c.label] not in CONTROLS]
    tested = [c for c in asked if c.is_tested]
    if not tested:
        if not asked:
            return f"Against {control}: there are no runs of a curriculum to compare."
        few = any(c.found for c in asked)
        why = f"no comparison has {FEWEST} or more seeds" if few else "no two scores can be paired"
        return f"Against {control}: not tested, for {why}."
    up, down = (sum(c.verdict == sign for c in tested) for sign in (1, -1))
    seeds = _range([c.found.n for c in tested if c.found])
    count = _count(len(tested), "comparison")
    text = f"Against {control}: of {count} of a curriculum, with {seeds} seeds each, weighted F1 "
    if up + down:
        text += f"on test is higher in {up} and lower in {down}"
        rest = len(tested) - up - down
        text += f"; in the other {rest} no difference is shown." if rest else "."
        found = [c for c in tested if c.verdict]
        text += certainty(comparisons, found)
    else:
        text += "on test is shown to differ in none."
    missing = len(asked) - len(tested)
    return text + (f" Not tested, for runs are missing: {missing}." if missing else "")


def certainty(comparisons: Sequence[Comparison], found: Sequence[Comparison]) -> str:
    """How far to trust the differences that were found among some comparisons."""
    text = _rank_test(comparisons, found)
    weak = sum(c.found.n < ENOUGH for c in found if c.found)
    if weak:
        text += f" Fewer than {ENOUGH} seeds carry {weak} of them, too few to show the bell shape that a t test needs."
    return text


def _rank_test(comparisons: Sequence[Comparison], found: Sequence[Comparison]) -> str:
    """Whether Wilcoxon's test says the same, and if it cannot, why."""
    agree = sum(c.wilcoxon_adjusted < LEVEL for c in found)
    tests = sum(c.wilcoxon_adjusted == c.wilcoxon_adjusted for c in comparisons)
    pairs = max(c.found.n for c in comparisons if c.found)
    smallest = tests * 2 ** (1 - pairs)
    if not agree and smallest >= LEVEL:
        return (
            f" The rank test, which assumes less, can confirm none: with {pairs} seeds and {tests} tests its smallest "
            f"corrected p is {p_value(min(1.0, smallest))}."
        )
    return f" The rank test, which assumes less, confirms {agree} of these {len(found)}."


def _beyond_chance(comparisons: Comparisons, labels: Mapping[str, str], titles: Mapping[str, str]) -> str:
    """Where a curriculum beats both training on everything and a random choice."""
    plain = [c for control, found in comparisons.items() if labels[control] == "none" for c in found]
    random = [c for control, found in comparisons.items() if labels[control] != "none" for c in found]
    if not any(c.is_tested for c in random):
        return "Whether gains come from what a curriculum chooses is not tested: no random control can be compared."
    if not any(c.is_tested for c in plain):
        return "Whether a curriculum is better than none is not tested: no run without one can be compared."
    won = {(c.group.title, c.label) for c in random if c.verdict > 0}
    kept = won - {(c.group.title, c.label) for c in random if c.is_tested and c.verdict <= 0}
    both = [c for c in plain if c.verdict > 0 and (c.group.title, c.label) in kept]
    if not both:
        return (
            "Nowhere is a curriculum shown to be better than both no curriculum and a random choice, so no gain can be "
            "credited to what it chooses."
        )
    names = dict.fromkeys(c.label for c in both)
    where = [f"{label} ({_places([c for c in both if c.label == label], titles)})" for label in names]
    return f"Better than both no curriculum and every random control tested there: {'; '.join(where)}."


def _point(label: str, comparisons: Sequence[Comparison], titles: Mapping[str, str]) -> str:
    tested = [c for c in comparisons if c.is_tested]
    few = [c for c in comparisons if c.found and c.found.n < FEWEST]
    missing = [c for c in comparisons if not c.found]
    same = [c for c in comparisons if c.found and c.found.n >= FEWEST and not c.is_tested]
    parts = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        found = [c for c in tested if c.verdict == sign]
        if found:
            parts.append(f"{word} in {len(found)} of {len(tested)} ({_places(found, titles, with_size=True)})")
    rest = [c.found.difference for c in tested if c.verdict == 0 and c.found]
    if rest:
        means = (
            f"mean {signed(rest[0])}" if len(rest) == 1 else f"means from {signed(min(rest))} to {signed(max(rest))}"
        )
        parts.append(f"no difference shown in {len(rest)} of {len(tested)} ({means})")
    if few:
        parts.append(f"fewer than {FEWEST} seeds, so nothing is claimed ({_places(few, titles)})")
    if same:
        parts.append(f"the same difference with every seed, which the t test cannot judge ({_places(same, titles)})")
    if missing:
        parts.append(f"not tested ({_places(missing, titles)})")
    return f"{label}: {'; '.join(parts)}."


def _places(comparisons: Sequence[Comparison], titles: Mapping[str, str], *, with_size: bool = False) -> str:
    """By data set: `MELD: MMGCN +1.2 [+0.8, +1.6], BiDDIN +1.0 [+0.2, +1.8]; CMU-MOSI: ...`."""
    found: dict[str, list[str]] = {}
    for c in comparisons:
        size = ""
        if with_size and c.found:
            size = f" {signed(c.found.difference)} [{signed(c.found.low)}, {signed(c.found.high)}]"
        found.setdefault(titles[c.group.data_title], []).append(f"{c.group.backbone_title}{size}")
    return "; ".join(f"{title}: {', '.join(names)}" for title, names in found.items())


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
