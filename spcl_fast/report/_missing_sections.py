"""What a report says of runs with missing modalities: sentences, tables, figures."""

from __future__ import annotations

from collections.abc import Sequence

from spcl_fast.merc.statistics import bootstrap_interval
from spcl_fast.report._charts import Looks, gains, looks_of
from spcl_fast.report._comparisons import FEWEST, Comparison
from spcl_fast.report._document import UNKNOWN, Block, Chart, Fold, Heading, Panel, Series, Table, Text, number
from spcl_fast.report._missing import MEASURES, Trial, compare_methods
from spcl_fast.report._study import Arm, labels_of, scores
from spcl_fast.report._tables import comparison_table
from spcl_fast.report._words import METHODS, MISSING_TERMS


def missing_section(trials: Sequence[Trial], notes: list[str]) -> list[Block]:
    """Scores by what is available, and every comparison."""
    groups = [group for trial in trials for group in trial.groups]
    looks = looks_of(groups)
    blocks: list[Block] = [Heading(2, "Missing modalities"), _score_chart(trials, looks)]
    blocks += [_score_table(trial) for trial in trials]
    blocks.append(Fold("Costs", [_cost_table(trial) for trial in trials]))
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


def _cost_table(trial: Trial) -> Table:
    """What each method costs: means over all its runs."""
    measures = (
        ("take_rate", "Take rate, %", 1, 100),
        ("seconds_per_epoch", "Seconds per epoch", 2, 1),
        ("curriculum_share", "Share of the curriculum, %", 1, 100),
        ("preparation_seconds", "Seconds of preparation", 1, 1),
    )
    rows = []
    for label in labels_of(trial.conditions):
        arms = [arm for group in trial.conditions if (arm := group.arm(label)) is not None]
        runs = [run for arm in arms for run in arm.runs.values()]
        cells = []
        for name, _, digits, scale in measures:
            values = [float(run[name]) for run in runs if run.get(name) is not None]
            cells.append(number(sum(values) / len(values), digits, scale) if values else UNKNOWN)
        rows.append((label, *cells))
    columns = ("Method", *(column for _, column, _, _ in measures))
    return Table(f"{trial.title}: costs of training, means over all runs", columns, rows)


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
