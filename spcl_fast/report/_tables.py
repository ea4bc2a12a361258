"""The tables of a study: scores, comparisons, classes, balance, the search of settings."""

from __future__ import annotations

import json
from collections.abc import Sequence

from spcl_fast.merc.statistics import bootstrap_interval
from spcl_fast.report._comparisons import Comparison
from spcl_fast.report._document import UNKNOWN, Table, number, p_value, signed
from spcl_fast.report._measures import balance_values
from spcl_fast.report._study import Arm, Group, Run, backbone_title, data_title, described, score, scores


def score_table(title: str, groups: Sequence[Group]) -> Table:
    """How good and how fast every arm is: means over its seeds."""
    rows: list[tuple[str, ...]] = []
    for group in groups:
        for arm in group.arms:
            f1 = scores(arm, "weighted_f1")
            ends = bootstrap_interval(f1) if len(f1) > 1 else None
            rows.append(
                (
                    group.backbone_title,
                    arm.label,
                    str(len(arm.runs)),
                    _mean(f1, 1),
                    UNKNOWN if ends is None else f"{number(ends.low)} to {number(ends.high)}",
                    _mean(scores(arm, "macro_f1"), 1),
                    _mean(scores(arm, "accuracy"), 1),
                    _mean(_of_runs(arm, "take_rate"), 1),
                    _mean(_of_runs(arm, "seconds_per_epoch"), 2, 1),
                    _mean(_of_runs(arm, "curriculum_share"), 1),
                )
            )
    columns = (
        *("Backbone", "Curriculum", "Seeds", "Weighted F1, %", "95 % interval", "Macro F1, %", "Accuracy, %"),
        *("Take rate, %", "Seconds per epoch", "Share of the curriculum, %"),
    )
    return Table(f"{title}: scores on test and costs, means over seeds", columns, rows, heads=2)


def comparison_table(title: str, comparisons: Sequence[Comparison]) -> Table:
    """Each curriculum against one control; pairs of runs of the same seed."""
    rows: list[tuple[str, ...]] = []
    for c in comparisons:
        found = c.found
        if found is None:
            rows.append((c.group.backbone_title, c.label, "0", "not tested", *([UNKNOWN] * 6)))
            continue
        ends = UNKNOWN if found.low != found.low else f"{signed(found.low, 2)} to {signed(found.high, 2)}"
        rows.append(
            (
                c.group.backbone_title,
                c.label,
                str(found.n),
                signed(found.difference, 2),
                ends,
                p_value(found.t_p),
                p_value(c.t_adjusted),
                p_value(found.wilcoxon_p),
                p_value(c.wilcoxon_adjusted),
                f"{found.wins} / {found.ties} / {found.losses}",
            )
        )
    columns = (
        *("Backbone", "Curriculum", "Pairs", "Difference, points", "95 % interval", "p, t test", "corrected"),
        *("p, Wilcoxon", "corrected", "Win / tie / loss"),
    )
    caption = f"{title}: weighted F1 on test against {comparisons[0].against}"
    return Table(caption, columns, rows, heads=2)


def class_table(title: str, groups: Sequence[Group]) -> Table | None:
    """F1 of every class; None where no run knows it."""
    names = next((group.class_names for group in groups if group.class_names), ())
    rows: list[tuple[str, ...]] = []
    for group in groups:
        for arm in group.arms:
            known = [f1 for run in arm.runs.values() if (f1 := (run.get("test") or {}).get("class_f1"))]
            cells = [_mean([f1[c] for f1 in known if f1[c] is not None], 1) for c in range(len(names))]
            if known and group.class_names == names:
                rows.append((group.backbone_title, arm.label, *cells))
    return Table(f"{title}: F1 of each class on test, %", ("Backbone", "Curriculum", *names), rows, 2) if rows else None


def balance_table(title: str, groups: Sequence[Group]) -> Table | None:
    """How evenly the modalities have learned; None where no run knows."""
    measures = (
        ("accuracy_variance", "Variance of accuracy, points²", 1, 1),
        ("loss_disparity", "Disparity of losses, nats", 3, 1),
        ("modality_ratio", "Modality ratio", 2, 1),
        ("agreement", "Agreement", 3, 1),
        ("multimodal_gain", "Multimodal gain, points", 1, 100),
    )
    rows: list[tuple[str, ...]] = []
    for group in groups:
        for arm in group.arms:
            accuracy = [(run.get("test") or {}).get("modality_accuracy") or [] for run in arm.runs.values()]
            alone = [
                _mean([x[m] for x in accuracy if len(x) > m and x[m] is not None], 1)
                for m in range(len(group.modalities))
            ]
            cells = [_mean(balance_values(arm, name), digits, scale) for name, _, digits, scale in measures]
            if any(cell != UNKNOWN for cell in (*alone, *cells)):
                rows.append((group.backbone_title, arm.label, *alone, *cells))
    columns = (
        *("Backbone", "Curriculum", *(f"{m[:1].upper()}{m[1:]} alone, %" for m in groups[0].modalities)),
        *(column for _, column, _, _ in measures),
    )
    return Table(f"{title}: balance of the modalities, means over seeds", columns, rows, 2) if rows else None


def search_table(rows: Sequence[Run]) -> Table:
    """What the search tried, and the setting with the best mean on dev."""
    places: dict[tuple[str, str, str], dict[str, list[Run]]] = {}
    for row in rows:
        place = (data_title(row["data"], row["modalities"]), backbone_title(row["backbone"]), row["label"])
        tried = json.dumps(row.get("setting"), sort_keys=True)
        places.setdefault(place, {}).setdefault(tried, []).append(row)
    cells: list[tuple[str, ...]] = []
    for place, settings in places.items():
        best: tuple[float, str] = (-1.0, UNKNOWN)
        whole = max(len(runs) for runs in settings.values())  # the study does not choose by fewer seeds either
        for runs in settings.values():
            known = [x for run in runs if (x := score(run, "weighted_f1", "dev")) is not None]
            if len(known) == whole and sum(known) / whole > best[0]:
                best = sum(known) / len(known), described(runs[0].get("setting")) or UNKNOWN
        runs_made = sum(len(runs) for runs in settings.values())
        found = number(best[0]) if best[0] >= 0 else UNKNOWN
        cells.append((*place, str(len(settings)), str(runs_made), found, best[1]))
    columns = (
        *("Data set", "Backbone", "Curriculum", "Settings", "Runs", "Best weighted F1 on dev, %"),
        "Its setting",
    )
    return Table("Settings tried on dev; test was not looked at", columns, cells, heads=3, texts=frozenset({6}))


def _of_runs(arm: Arm, name: str) -> list[float]:
    return [float(run[name]) for run in arm.runs.values() if run.get(name) is not None]


def _mean(values: Sequence[float], digits: int, scale: float = 100) -> str:
    return number(sum(values) / len(values), digits, scale) if values else UNKNOWN
