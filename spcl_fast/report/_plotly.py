"""A panel as Plotly draws it: traces and layout as plain data; the colours of the page come in there."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from spcl_fast.report._document import Panel, Series
from spcl_fast.report._style import COLORS

DASHES = ("solid", "dash", "dot", "dashdot")
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x")
_WIDEST = 20  # letters of a category in a line, so that it leaves room for the data on a small screen


def panel_as_plotly(panel: Panel) -> dict[str, Any]:
    """`{"data": [...], "layout": {...}}`; a colour of null in a marker is the page's background."""
    data = [trace for series in panel.series for trace in (_points(series) if panel.categories else _lines(series))]
    x = {"title": {"text": _shown(panel.x_title), "standoff": 8}, "automargin": True, "zeroline": False}
    y: dict[str, Any] = {"title": {"text": _shown(panel.y_title), "standoff": 8}, "automargin": True, "zeroline": False}
    height = 270
    if panel.categories:
        count = len(panel.categories)
        names = [
            "<br>".join(_shown(line) for line in textwrap.wrap(name, _WIDEST) or [""]) for name in panel.categories
        ]
        y |= {"tickmode": "array", "tickvals": list(range(count)), "ticktext": names, "range": [count - 0.5, -0.5]}
        y |= {"showgrid": False}
        height = 84 + max(34 * count, 15 * rows_of(panel))
    if panel.is_log:
        ticks = log_ticks([v for series in panel.series for v in (*series.y, *series.low, *series.high) if v])
        y |= {"type": "log", "tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    if panel.x_range:
        x |= {"range": list(panel.x_range)}
    if panel.whole_x:
        longest = max((len(series.x) for series in panel.series), default=1)
        x |= {"dtick": max(1, round(longest / 6)), "tick0": 0 if longest > 6 else 1}
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8, "pad": 2},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "family": "system-ui, sans-serif"},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest" if panel.categories else "x unified",
        "xaxis": x,
        "yaxis": y,
    }
    if panel.mark_zero:
        line = {"width": 1.5}
        layout["shapes"] = [
            {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "line": line}
        ]
    return {"data": data, "layout": layout}


def rows_of(panel: Panel) -> int:
    """In how many heights points lie."""
    return len({y for series in panel.series for y in series.y})


def log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 of each power of ten between the smallest and the largest value, or 1 alone where that is too many."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    all_ticks = [float(f"{k}e{power}") for power in range(first, last + 1) for k in (1, 2, 5)]
    ticks = [tick for tick in all_ticks if 0.8 * min(values) <= tick <= 1.25 * max(values)]
    return ticks if len(ticks) <= 8 else [tick for tick in ticks if f"{tick:e}"[0] == "1"]


def _points(series: Series) -> list[dict[str, Any]]:
    color = COLORS[series.look.color]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": _shown(series.label),
        "x": series.x,
        "y": series.y,
        "marker": {
            "size": 9,
            "symbol": SHAPES[series.look.shape],
            "color": [color if solid else None for solid in series.filled],
            "line": {"color": color, "width": 1.8},
        },
        "hoverinfo": "text",
        "text": [_shown(text) for text in series.hover],
    }
    if any(end is not None for end in series.low):
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [_between(x, end) for x, end in zip(series.x, series.high, strict=True)],
            "arrayminus": [_between(end, x) for x, end in zip(series.x, series.low, strict=True)],
            "color": color,
            "thickness": 1.8,
            "width": 0,
        }
    return [trace]


def _between(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else high - low


def _lines(series: Series) -> list[dict[str, Any]]:
    color, name = COLORS[series.look.color], _shown(series.label)
    line = {
        "type": "scatter",
        "mode": "lines" if len(series.x) > 1 else "lines+markers",
        "name": name,
        "x": series.x,
        "y": series.y,
        "line": {"color": color, "width": 2, "dash": DASHES[series.look.dash]},
        "hovertemplate": "%{y:.4~g}",
    }
    if not series.low:
        return [line]
    known = [i for i, end in enumerate(series.low) if end is not None]
    band = {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [series.x[i] for i in (*known, *reversed(known))],
        "y": [*(series.low[i] for i in known), *(series.high[i] for i in reversed(known))],
        "fill": "toself",
        "fillcolor": color + "26",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    return [band, line]


def _shown(text: str) -> str:
    """Plotly reads some markup in texts; a name has none."""
    return html.escape(text, quote=False)
