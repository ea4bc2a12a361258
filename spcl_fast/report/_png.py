"""A chart as a PNG, for documents."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spcl_fast.report._document import Chart, Look, Panel
from spcl_fast.report._plotly import log_ticks, rows_of
from spcl_fast.report._style import COLORS

_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")
_SHAPES = ("o", "s", "D", "^", "v", "P", "X")


def draw_chart(chart: Chart) -> bytes:
    """Draws all panels, two side by side, with one legend below."""
    columns = min(2, len(chart.panels))
    rows = math.ceil(len(chart.panels) / columns)
    heights = [max(_height(panel) for panel in chart.panels[r * columns : (r + 1) * columns]) for r in range(rows)]
    lines = math.ceil(len(chart.legend) / 4)
    figure = Figure(figsize=(5.4 * columns, sum(heights) + 0.28 * lines), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, panel in zip(grid.flat, chart.panels, strict=False):
        _draw(axes, panel)
    for axes in list(grid.flat)[len(chart.panels) :]:
        axes.set_axis_off()
    points = any(panel.categories for panel in chart.panels)
    handles = [_handle(label, look, points) for label, look in chart.legend.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()


def _height(panel: Panel) -> float:
    if not panel.categories:
        return 2.8
    return 1.1 + max(0.3 * len(panel.categories), 0.16 * rows_of(panel))


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(_plain(panel.title), fontsize="medium")
    axes.set(xlabel=_plain(panel.x_title), ylabel=_plain(panel.y_title))
    axes.grid(alpha=0.3)
    for series in panel.series:
        color = COLORS[series.look.color]
        x, y, low, high = (_numbers(values) for values in (series.x, series.y, series.low, series.high))
        if not panel.categories:
            axes.plot(x, y, _DASHES[series.look.dash], color=color)
            if low:
                axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
            continue
        if low:
            axes.hlines(y, low, high, color=color)
        fill = [color if solid else "white" for solid in series.filled]
        axes.scatter(x, y, c=fill, edgecolors=color, marker=_SHAPES[series.look.shape], zorder=3, s=28)
    if panel.categories:
        axes.set_yticks(range(len(panel.categories)), [_plain(name) for name in panel.categories])
        axes.set_ylim(len(panel.categories) - 0.5, -0.5)
    if panel.mark_zero:
        axes.axvline(0, color="0.3", linewidth=1)
    if panel.is_log:
        axes.set_yscale("log")
        ticks = log_ticks([y for series in panel.series for y in (*series.y, *series.low, *series.high) if y])
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    if panel.x_range:
        axes.set_xlim(panel.x_range)
    if panel.whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _handle(label: str, look: Look, points: bool) -> Line2D:
    style: Any = "none" if points else _DASHES[look.dash]
    marker = _SHAPES[look.shape] if points else ""
    return Line2D([], [], color=COLORS[look.color], linestyle=style, marker=marker, label=_plain(label))


def _plain(text: str) -> str:
    """A `$` in a name is no formula."""
    return text.replace("$", r"\$")


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if x is None else x for x in values]
