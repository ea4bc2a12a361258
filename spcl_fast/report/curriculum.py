"""The course of a curriculum: threshold, take rate, loss and modality ratio by epoch."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from spcl_fast.merc.files import write_atomically

History = Sequence[Mapping[str, Any]]


def plot_curriculum(histories: Mapping[str, Sequence[History]], modalities: Sequence[str], path: Path) -> None:
    """Draws four panels to `path` (PNG): the mean over seeds, and the range between them as a band.

    Args:
        histories: name of a configuration -> one history a seed, as in `Result.history`. Epochs without a
            curriculum's statistics leave a gap, and so do numbers that are not finite.
        modalities: names, in the order of the modality ratios.
        path: file to write, whole or not at all; its folder is made.

    Raises:
        ValueError: fewer names than modality ratios.
        OSError: the file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.report.curriculum import plot_curriculum
        >>> epoch = {"threshold": 0.4, "take_rate": 0.5, "loss": 1.5, "modality_ratio": (1.25, 1.0)}
        >>> history = [{"curriculum": epoch}, {"curriculum": {**epoch, "threshold": 0.48, "take_rate": 0.75}}]
        >>> plot_curriculum({"SPCL": [history]}, ["text", "audio"], Path("curriculum.png"))
        >>> Path("curriculum.png").read_bytes()[1:4]
        b'PNG'
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    threshold, take_rate, loss, ratio = figure.subplots(2, 2).flat
    for color, (name, seeds) in enumerate(histories.items()):
        for axes, key, scale in ((threshold, "threshold", 1), (take_rate, "take_rate", 100), (loss, "loss", 1)):
            _line(axes, _values(seeds, key) * scale, name, f"C{color}", "-")
        ratios = _values(seeds, "modality_ratio")
        if len(modalities) < ratios.shape[-1] and not np.isnan(ratios).all():
            raise ValueError(
                f"plot_curriculum: modalities must name the {ratios.shape[-1]} of {name!r} (got {len(modalities)})"
            )
        for m in range(ratios.shape[-1] if ratios.ndim == 3 else 0):
            style = ("-", "--", ":", "-.")[m % 4]
            _line(ratio, ratios[:, :, m], f"{name}, {modalities[m]}", f"C{color}", style)

    threshold.set(title="Threshold", ylabel="difficulty")
    take_rate.set(title="Take rate", ylabel="% of the training utterances", ylim=(0, 105))
    loss.set(title="Training loss, all utterances", ylabel="nats")
    ratio.set(title="Modality ratio, selected utterances", ylabel="confidence / weakest modality's")
    if any((line.get_ydata() > 0).any() for line in threshold.lines):  # a threshold of 0 has no place on a log axis
        threshold.set_yscale("log")
        threshold.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        threshold.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        threshold.yaxis.set_minor_formatter(NullFormatter())
    for axes in (threshold, take_rate, loss, ratio):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    write_atomically(path, buffer.getvalue())


def _values(seeds: Sequence[History], key: str) -> np.ndarray:
    """`[seed, epoch]` or `[seed, epoch, modality]`; NaN where an epoch has none or a run ended sooner."""
    rows = [[None if e["curriculum"] is None else e["curriculum"][key] for e in history] for history in seeds]
    width = max((len(np.atleast_1d(x)) for row in rows for x in row if x is not None), default=1)
    longest = max((len(row) for row in rows), default=0)
    values = np.full((len(rows), longest, width), math.nan)
    for s, row in enumerate(rows):
        for e, x in enumerate(row):
            if x is not None:
                values[s, e] = x
    values[~np.isfinite(values)] = math.nan
    return values if key == "modality_ratio" else values[:, :, 0]


def _line(axes: Axes, values: np.ndarray, label: str, color: str, style: str) -> None:
    seen = ~np.isnan(values).all(0)
    epochs = np.flatnonzero(seen)
    if not len(epochs):
        return
    values = values[:, seen]
    axes.plot(epochs, np.nanmean(values, 0), style, color=color, label=label)
    axes.fill_between(epochs, np.nanmin(values, 0), np.nanmax(values, 0), color=color, alpha=0.15, linewidth=0)
