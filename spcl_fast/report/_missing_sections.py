"""What a report says of runs with missing modalities: sentences, tables, figures."""

from __future__ import annotations

from collections.abc import Sequence

from spcl_fast.merc.statistics import bootstrap_interval
from spcl_fast.report._charts import Looks, gains, looks_of
from spcl_fast.report._comparisons import FEWEST, LEVEL, Comparison
from spcl_fast.report._document import UNKNOWN, Block, Chart, Fold, Heading, Panel, Series, Table, Text, number, signed
from spcl_fast.report._missing import AVERAGE, MEASURES, Trial, compare_methods
from spcl_fast.report._study import Arm, Group, labels_of, listed, scores
from spcl_fast.report._tables import comparison_table
from spcl_fast.report._words import METHODS, MISSING_TERMS

Families = Sequence[Sequence[Comparison]]


def missing_conclusions(trials: Sequence[Trial]) -> list[Block]:
    """How much there is, what the averages over the subsets support, and whether hardness has a part in it."""
    decisive = compare_methods([group for trial in trials for group in trial.decisive], [])
    subsets = compare_methods([group for trial in trials for group in trial.conditions], [])
    lines = [_extent(trials)]
    if not decisive:
        lines.append("Missing modalities: not tested, for there is nothing to compare with.")
    lines += [_against(family) for family in decisive]
    if any(trial.average for trial in trials):
        lines += [_by_subset(family) for family in subsets]
    lines.append(_credit(decisive, trials))
    return [Text(tuple(lines))]


def missing_section(trials: Sequence[Trial], notes: list[str]) -> list[Block]:
    """Scores by what is available, and every comparison."""
    groups = [group for trial in trials for group in trial.groups]
    looks = looks_of(groups)
    blocks: list[Block] = [Heading(2, "Missing modalities"), _score_chart(trials, looks)]
    blocks += [_score_table(trial) for trial in trials]
    averages = compare_methods([trial.average for trial in trials if trial.average], notes)
    subsets = compare_methods([group for trial in trials for group in trial.conditions], notes)
    for name, families, title in (
        ("missing-average", averages, "Averages over the subsets"),
        ("missing", subsets, "Each of what is available"),
    ):
        if not families:
            continue
        blocks += [Heading(3, f"{title}: comparisons"), Text(("Corrected on their own.",))]
        for family in families:
            chart = gains(family, family[0].against, looks, name)
            if chart.panels:
                blocks.append(chart)
            tables: list[Block] = [
                _comparison_table(trial.title, of_data)
                for trial in trials
                if (of_data := [c for c in family if c.group.data_title == trial.title])
            ]
            blocks.append(Fold(f"{title}, against {family[0].against}", tables, is_open=name == "missing-average"))
    return blocks


def missing_words(trials: Sequence[Trial]) -> list[Block]:
    """What the methods and the measures are."""
    labels = labels_of([group for trial in trials for group in trial.conditions])
    known = tuple(f"{label}: {METHODS[name]}" for label, name in labels.items() if name in METHODS)
    terms = tuple(f"{term}: {meaning}" for term, meaning in MISSING_TERMS.items())
    return [Heading(3, "Missing modalities"), Text((*known, *terms), is_list=True)]


def _extent(trials: Sequence[Trial]) -> str:
    arms = [arm for trial in trials for group in trial.conditions for arm in group.arms]
    methods = list(labels_of([group for trial in trials for group in trial.conditions]))
    seeds = sorted({len(arm.runs) for arm in arms})
    each = f"{seeds[0]} to {seeds[-1]} seeds each" if len(seeds) > 1 else f"{seeds[0]} seed{'s' * (seeds[0] > 1)}"
    where = "; ".join(f"{t.title}: {', '.join(g.backbone for g in t.conditions)}" for t in trials)
    return (
        f"{sum(len(arm.runs) for arm in arms)} runs with missing modalities. What was available of "
        f"{where}. {len(methods)} method{'s' * (len(methods) > 1)} ({listed(methods)}), {each}."
    )


def _against(family: Sequence[Comparison]) -> str:
    """Each method against one control, by data set."""
    is_mean = all(c.group.backbone == AVERAGE for c in family)
    said = [
        f"{label} {_listed_verdicts([c for c in family if c.label == label], is_mean)}"
        for label in dict.fromkeys(c.label for c in family)
    ]
    over = ", averaged over the subsets" if is_mean else ""
    return f"Weighted F1 on test{over}, against {family[0].against}: {'; '.join(said)}."


def _listed_verdicts(comparisons: Sequence[Comparison], is_mean: bool) -> str:
    return ", ".join(f"{_verdict(c)} on {_place(c.group, is_mean)}" for c in comparisons)


def _place(group: Group, is_mean: bool) -> str:
    return group.data_title if is_mean else f"{group.data_title} ({group.backbone})"


def _verdict(c: Comparison) -> str:
    """A word, and the points where there are any."""
    if c.found is None:
        return "not tested"
    size = signed(c.found.difference)
    if c.found.n < FEWEST:
        return f"not tested with fewer than {FEWEST} seeds"
    if not c.is_tested:
        return f"the same with every seed ({size}), which the t test cannot judge,"
    ends = f"{size} [{signed(c.found.low)}, {signed(c.found.high)}]"
    return f"{ ({1: 'higher', -1: 'lower'}.get(c.verdict, 'not shown to differ')) } ({ends})"


def _by_subset(family: Sequence[Comparison]) -> str:
    tested = [c for c in family if c.is_tested]
    up, down = (sum(c.verdict == sign for c in tested) for sign in (1, -1))
    return (
        f"Of {len(tested)} comparisons with {family[0].against} in one place alone, corrected on their own, weighted "
        f"F1 is higher in {up} and lower in {down}."
    )


def _credit(decisive: Families, trials: Sequence[Trial]) -> str:
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
    where = [_place(c.group, c.group.backbone == AVERAGE) for c in of_hardy[0] if (c.group.title, c.label) in both]
    return (
        "Better than both reconstruction without a curriculum and random hardness, so that hardness has a part in it: "
        f"HARDY on {listed(where)}."
    )


def _score_table(trial: Trial) -> Table:
    """Means over the seeds with their intervals: a row for each measure and method."""
    rows = []
    for name, measure in MEASURES.items():
        for label in labels_of(trial.groups):
            cells = tuple(_cell(group.arm(label), name) for group in trial.groups)
            if any(cell != UNKNOWN for cell in cells):
                rows.append((measure, label, *cells))
    columns = ("Measure", "Method", *(group.backbone for group in trial.groups))
    caption = f"{trial.title}: scores on test by what is available, %, means over seeds with 95 % intervals"
    return Table(caption, columns, rows, heads=2)


def _cell(arm: Arm | None, name: str) -> str:
    values = [] if arm is None else scores(arm, name)
    if not values:
        return UNKNOWN
    mean = number(sum(values) / len(values))
    if len(values) == 1:
        return mean
    low, high = bootstrap_interval(values)
    return f"{mean} ({number(low)} to {number(high)})"


def _comparison_table(title: str, comparisons: Sequence[Comparison]) -> Table:
    table = comparison_table(title, comparisons)
    return table._replace(columns=("Available", "Method", *table.columns[2:]))


def _score_chart(trials: Sequence[Trial], looks: Looks) -> Chart:
    """Weighted F1 of every method by what is available, a panel for each data set."""
    panels = []
    for trial in trials:
        rows = tuple(group.backbone for group in trial.groups)
        labels = list(labels_of(trial.groups))
        step = 0.8 / len(labels)
        all_series = []
        for k, label in enumerate(labels):
            found = [(i, scores(arm, "weighted_f1")) for i, g in enumerate(trial.groups) if (arm := g.arm(label))]
            found = [(i, values) for i, values in found if values]
            if not found:
                continue
            means = [sum(values) / len(values) for _, values in found]
            ends = [bootstrap_interval(values) if len(values) >= FEWEST else None for _, values in found]
            all_series.append(
                Series(
                    label,
                    looks[label],
                    x=[100 * mean for mean in means],
                    y=[i + (k - (len(labels) - 1) / 2) * step for i, _ in found],
                    low=[None if e is None else 100 * e.low for e in ends],
                    high=[None if e is None else 100 * e.high for e in ends],
                    filled=[True] * len(found),
                    hover=[
                        f"{label}, {rows[i]}: {number(mean)} %, {len(values)} seed(s)"
                        for (i, values), mean in zip(found, means, strict=True)
                    ],
                )
            )
        panels.append(Panel(trial.title, "weighted F1 on test, %", "", all_series, rows))
    return Chart(
        "missing-scores",
        f"Weighted F1 on test by what is available: mean over seeds and 95 % interval (from {FEWEST} seeds on).",
        "Weighted F1 on test of every method, for each choice of the modalities that are available. The tables of "
        "scores have the numbers.",
        [panel for panel in panels if panel.series],
        looks,
    )
