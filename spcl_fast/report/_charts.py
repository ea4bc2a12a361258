"""The charts of a study, as data: gains, courses of the curricula, balance, dialogue length."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from spcl_fast.report._comparisons import FEWEST, Comparison
from spcl_fast.report._document import Chart, Look, Panel, Series, number, p_value, signed
from spcl_fast.report._measures import balance_values
from spcl_fast.report._study import Arm, Group, by_data, labels_of, listed

COLORS = 7  # besides the grey of those that train on everything
DASHES = 4
MOST_IN_A_ROW = 6  # arms; more of them get a row of their own
Looks = dict[str, Look]


def looks_of(groups: Sequence[Group]) -> Looks:
    """Label -> look: grey for the control without curriculum, the others in turn."""
    looks, k = {}, 0
    for label, curriculum in labels_of(groups).items():
        if curriculum == "none":
            looks[label] = Look(0, 1, 0)
        else:
            looks[label] = Look(1 + k % COLORS, k // COLORS % DASHES, 1 + k % 6)
            k += 1
    return looks


def gains(comparisons: Sequence[Comparison], control: str, looks: Looks, name: str) -> Chart:
    """Differences to one control with their intervals: a panel for each data set, or for each group of many arms."""
    against = comparisons[0].against
    arms = list(dict.fromkeys(c.label for c in comparisons))
    groups = list({c.group.title: c.group for c in comparisons}.values())
    panels = []
    has_rows = len(arms) > MOST_IN_A_ROW or len(groups) == 1  # whose names stand beside them
    if has_rows:
        for group in groups:
            of_group = [c for c in comparisons if c.group.title == group.title]
            rows = [label for label in arms if any(c.label == label and c.found for c in of_group)]
            panels.append(_gain_panel(group.title, of_group, tuple(rows), looks, lambda c, at=rows: at.index(c.label)))
    else:
        for title, of_data in by_data(groups).items():
            names = tuple(group.backbone_title for group in of_data)
            step = 0.8 / len(arms)

            def place(c: Comparison, names: tuple[str, ...] = names, step: float = step) -> float:
                return names.index(c.group.backbone_title) + (arms.index(c.label) - (len(arms) - 1) / 2) * step

            panels.append(
                _gain_panel(title, [c for c in comparisons if c.group.data_title == title], names, looks, place)
            )
    tested = [c for c in comparisons if c.found is not None]
    better, worse = (sum(c.verdict == sign for c in tested) for sign in (1, -1))
    return Chart(
        f"gains-{name}-{_slug(control)}",
        f"Weighted F1 on test minus that of {against}, same seed, in points: mean and 95 % interval (Student's t, not "
        f"corrected; from {FEWEST} seeds on). Solid marks: p < 0.05 after Holm's correction. "
        "Right of the line is better.",
        f"Differences in weighted F1 to {against} with 95 % intervals, for {len(tested)} comparisons: {better} better "
        f"and {worse} worse after correction. The table of comparisons has the numbers.",
        [panel._replace(x_range=_reach(panels)) for panel in panels if panel.series],
        {} if has_rows else looks,
    )


def _reach(panels: Sequence[Panel]) -> tuple[float, float]:
    """One scale for all, so that they can be compared."""
    all_series = [series for panel in panels for series in panel.series]
    ends = [x for s in all_series for x in (*s.x, *s.low, *s.high) if x is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _gain_panel(
    title: str, comparisons: Sequence[Comparison], rows: tuple[str, ...], looks: Looks, place: Callable[..., float]
) -> Panel:
    series = []
    for label in dict.fromkeys(c.label for c in comparisons):
        of_label = [(c, c.found) for c in comparisons if c.label == label and c.found is not None]
        if of_label:
            series.append(
                Series(
                    label,
                    looks[label],
                    x=[100 * f.difference for _, f in of_label],
                    y=[place(c) for c, _ in of_label],
                    low=[_known(100 * f.low) if f.n >= FEWEST else None for _, f in of_label],
                    high=[_known(100 * f.high) if f.n >= FEWEST else None for _, f in of_label],
                    filled=[c.verdict != 0 for c, _ in of_label],
                    hover=[
                        f"{c.label}, {c.group.backbone_title}: {signed(f.difference)} [{signed(f.low)}, "
                        f"{signed(f.high)}], corrected p {p_value(c.t_adjusted)}, {f.n} seed(s)"
                        for c, f in of_label
                    ],
                )
            )
    return Panel(title, "difference in weighted F1, points", "", series, rows, mark_zero=True)


def course(group: Group, looks: Looks) -> Chart | None:
    """Threshold, take rate, dev weighted F1 and modality ratio by epoch; None where no run has a timeline."""
    shown = [arm for arm in group.arms if any(run.get("timeline") for run in arm.runs.values())]
    panels = []
    for key, title, unit, scale in (
        ("threshold", "Threshold", "difficulty", 1),
        ("take_rate", "Take rate", "% of the utterances in the batches", 100),
        ("dev_weighted_f1", "Weighted F1 on dev", "%", 100),
    ):
        courses = [(arm.label, _course(arm, key)) for arm in shown]
        if key == "threshold":  # one that stays at 0 is none: what is taken is decided otherwise
            courses = [(label, values) for label, values in courses if np.nan_to_num(values).any()]
        lines = [line for label, values in courses if (line := _line(label, looks[label], scale * values))]
        positive = all(y > 0 for line in lines for y in (*line.y, *line.low) if y is not None)
        panels.append(Panel(title, "epoch", unit, lines, is_log=key == "threshold" and positive, whole_x=True))
    ratios = []
    for arm in shown:
        values = _course(arm, "modality_ratio", len(group.modalities))
        for m in range(len(group.modalities)):
            line = _line(arm.label, looks[arm.label]._replace(dash=m % DASHES), values[:, :, m])
            ratios += [line] if line else []
    kinds = ("solid", "dashed", "dotted", "dash-dotted")
    names = [f"{kinds[m % DASHES]}: {modality}" for m, modality in enumerate(group.modalities)]
    panels.append(Panel(f"Modality ratio ({', '.join(names)})", "epoch", "× the weakest", ratios, whole_x=True))  # noqa: RUF001
    panels = [panel for panel in panels if panel.series]
    if not panels:
        return None
    said = []
    for panel in panels[:-1] if ratios else panels:
        for line in panel.series:
            first, last = ([y for y in line.y if y is not None][i] for i in (0, -1))
            said.append(f"{panel.title} of {line.label} from {first:.3g} to {last:.3g}")
    return Chart(
        f"course-{_slug(group.data)}-{_slug('-'.join(group.modalities))}-{_slug(group.backbone)}",
        f"{group.title}: mean over the seeds that still train in an epoch, and the range between them.",
        f"By epoch, {group.title}. {'; '.join(said)}.",
        panels,
        looks,
    )


def balance(groups: Sequence[Group], looks: Looks, name: str) -> Chart:
    """Variance of the modalities' accuracy and disparity of their losses, by data set and backbone: means."""
    panels = []
    for title, of_data in by_data(groups).items():
        rows = tuple(group.backbone_title for group in of_data)
        for key, unit in (("accuracy_variance", "points squared"), ("loss_disparity", "nats")):
            series = []
            for label in labels_of(of_data):
                found = [(i, group.arm(label)) for i, group in enumerate(of_data)]
                points = [(i, sum(x) / len(x)) for i, arm in found if arm and (x := balance_values(arm, key))]
                if points:
                    hover = [f"{label}, {rows[i]}: {number(x, 3, 1)}" for i, x in points]
                    means: list[float | None] = [x for _, x in points]
                    places: list[float | None] = [float(i) for i, _ in points]
                    series.append(Series(label, looks[label], means, places, hover=hover, filled=[True] * len(points)))
            what = "Variance of accuracy" if key == "accuracy_variance" else "Disparity of losses"
            panels.append(Panel(f"{what}: {title}", unit, "", series, rows))
    return Chart(
        f"balance-{name}",
        "How unevenly the modalities have learned, on test, mean over seeds: further left is more even.",
        "Variance of the accuracy and disparity of the losses of the modalities, for each data set, backbone and "
        "curriculum. The table of balance has the numbers.",
        [panel for panel in panels if panel.series],
        looks,
    )


def lengths(of_data: Sequence[Group], looks: Looks) -> Chart | None:
    """Difficulty and take rate of dialogues by their length, for one data set; None where no run has them."""
    panels = []
    for group in of_data:
        for key, what, unit, scale in (
            ("difficulty", "Difficulty", "mean difficulty", 1),
            ("take_rate", "Take rate", "% taken", 100),
        ):
            lines = []
            for arm in group.arms:
                bins = [
                    b for run in arm.runs.values() if (b := run.get("by_length")) and b.get("length") and b.get(key)
                ]
                bins = [b for b in bins if len(b["length"]) == len(bins[0]["length"])]
                if not bins:
                    continue
                x = _mean(np.array([b["length"] for b in bins], dtype=float))
                line = _line(arm.label, looks[arm.label], scale * np.array([b[key] for b in bins], dtype=float), x)
                lines += [line] if line else []
            if lines:
                panels.append(Panel(f"{what}: {group.backbone_title}", "utterances in the dialogue", unit, lines))
    if not panels:
        return None
    title = of_data[0].data_title
    return Chart(
        f"length-{_slug(of_data[0].data)}-{_slug('-'.join(of_data[0].modalities))}",
        f"{title}: dialogues in groups of similar length; mean over epochs and seeds, and the range between seeds.",
        f"Difficulty and take rate by dialogue length, {title}, for "
        f"{listed(list(dict.fromkeys(line.label for panel in panels for line in panel.series)))}.",
        panels,
        looks,
    )


def _course(arm: Arm, key: str, width: int | None = None) -> np.ndarray:
    """`[seed, epoch]`, or `[seed, epoch, width]`; NaN for what is not known, and after the end of a run."""
    rows = [(run.get("timeline") or {}).get(key) or [] for run in arm.runs.values()]
    longest = max((len(row) for row in rows), default=0)
    values = np.full((len(rows), longest, width or 1), math.nan)
    for s, row in enumerate(rows):
        for e, x in enumerate(row):
            if x is not None:
                values[s, e] = np.array(x, dtype=float)
    return values if width else values[:, :, 0]


def _line(label: str, look: Look, values: np.ndarray, x: np.ndarray | None = None) -> Series | None:
    """Mean and range of `[seed, point]`; None where nothing is known."""
    if not values.size or np.isnan(values).all():
        return None
    places = np.arange(1, values.shape[1] + 1) if x is None else x
    seen = np.where(np.isnan(values), -math.inf, values), np.where(np.isnan(values), math.inf, values)
    several = np.isfinite(values).sum(0).max() > 1
    return Series(
        label,
        look,
        _list(places),
        _list(_mean(values)),
        _list(seen[1].min(0)) if several else [],
        _list(seen[0].max(0)) if several else [],
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the seeds that know it; NaN where none does."""
    count = np.isfinite(values).sum(0)
    return np.where(count > 0, np.nansum(values, 0) / np.maximum(count, 1), math.nan)


def _list(values: np.ndarray) -> list[float | None]:
    return [_known(float(f"{x:.6g}")) for x in values]


def _known(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
