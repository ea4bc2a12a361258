"""Two pictures of the results: how many times as fast ours is, and time against the number of utterances."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from spcl_fast.merc.files import write_atomically

from .tables import best_of_ours, read_all

COLORS = {"compile": "#4c72b0", "eager": "#dd8452", "published": "#937860"}  # from the bottom of a bar group upwards
ROW_INCHES = 0.36
PANELS_A_ROW = 3


def draw(folder: Path) -> list[Path]:
    """Draws `ratios.png` and `scaling.png` of all results in the folder; returns those that had something to show."""
    found = read_all(folder)
    written = []
    for name, figure in (("ratios", ratios(found)), ("scaling", scaling(found))):
        if figure is not None:
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=90)
            written.append(folder / f"{name}.png")
            write_atomically(written[-1], buffer.getvalue())
    return written


def ratios(found: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """A panel an op, a group of bars a size: the median of each rival over that of ours."""
    panels = {name: lines for name, result in found.items() if (lines := _lines(result["cells"]))}
    if not panels:
        return None
    heights = [len(lines) for lines in panels.values()]
    figure = Figure(figsize=(9, ROW_INCHES * sum(heights) + 0.45 * len(panels) + 1.4), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    shown_ratios = [ratio for lines in panels.values() for against in lines.values() for ratio in against.values()]
    for panel, (name, lines) in zip(axes, panels.items(), strict=True):
        _bars(panel, name, lines)
    axes[0].set(xscale="log", xlim=(min(0.5, min(shown_ratios) / 2), 4 * max(shown_ratios)))
    axes[0].xaxis.set_major_formatter(StrMethodFormatter("{x:,g} x"))
    axes[-1].set_xlabel("median time of the rival / median time of ours, in one run (log axis)")
    handles = {bar.get_label(): bar for panel in axes for bar in panel.containers}
    shown = [name for name in reversed(COLORS) if name in handles]
    figure.legend([handles[name] for name in shown], shown, loc="outside upper right", ncols=len(shown), frameon=False)
    figure.suptitle("How many times as fast ours is, float32", x=0.02, ha="left")
    return figure


def _lines(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Size and group -> rival -> ratio, of the fastest row of ours in float32 or on integers; the files have all."""
    lines = {}
    for cell in cells:
        if cell["size"].get("dtype", "float32") not in ("float32", "int64"):
            continue
        for row in best_of_ours(cell):
            against = {name: ratio for name, ratio in row["against"].items() if name in COLORS}
            if against:
                lines[", ".join(part for part in (cell["name"], row["group"]) if part)] = against
    return lines


def _bars(axes: Axes, name: str, lines: Mapping[str, Mapping[str, float]]) -> None:
    labels = list(lines)
    thick = 0.85 / len(COLORS)
    for rival, color in COLORS.items():
        at = [y for y, label in enumerate(labels) if rival in lines[label]]
        if not at:
            continue
        values = [lines[labels[y]][rival] for y in at]
        # Those that are there share the middle of their line.
        offset = [_place(rival, list(lines[labels[y]])) * thick for y in at]
        bars = axes.barh([y + o for y, o in zip(at, offset, strict=True)], values, thick, color=color, label=rival)
        axes.bar_label(bars, [_ratio(x) for x in values], padding=2, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_title(name, loc="left", fontsize=10, family="monospace")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)


def _place(rival: str, there: Sequence[str]) -> float:
    """Where a bar lies around the middle of its line, in thicknesses: the axis runs down, published comes first."""
    order = [name for name in reversed(COLORS) if name in there]
    return order.index(rival) - (len(order) - 1) / 2


def _ratio(x: float) -> str:
    return f"{x:,.0f} x" if x >= 100 else f"{x:.3g} x"


def scaling(found: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """A panel an op: ours on one thread and on all, and a copy of the bytes that it must move."""
    panels = {name: result["scaling"] for name, result in found.items() if result.get("scaling")}
    if not panels:
        return None
    wide = min(PANELS_A_ROW, len(panels))
    high = -(-len(panels) // wide)
    figure = Figure(figsize=(1.2 + 3.4 * wide, 0.9 + 2.9 * high), layout="constrained")
    axes = figure.subplots(high, wide, sharex=True, sharey=True, squeeze=False)
    for panel, (name, points) in zip(axes.flat, panels.items(), strict=False):
        _course(panel, name, points)
    for panel in list(axes.flat)[len(panels) :]:
        panel.set_axis_off()
    for panel in list(axes.flat)[: len(panels)]:
        panel.tick_params(labelbottom=True)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), fontsize=9, frameon=False)
    figure.supxlabel("utterances T", fontsize=10)
    figure.supylabel("median time of a call, ms", fontsize=10)
    return figure


def _course(axes: Axes, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    for provider, style, color in (("ours", "o-", "C0"), ("copy", "^:", "0.45")):
        for threads in sorted({p["threads"] for p in points if p["provider"] == provider}):
            of = [p for p in points if (p["provider"], p["threads"]) == (provider, threads)]
            several = f"{threads} thread{'s' if threads > 1 else ''}"
            label = f"ours, {several}" if provider == "ours" else f"copy of the same bytes, {several}"
            lighter = provider == "ours" and threads == 1
            axes.plot(
                [p["T"] for p in of],
                [p["p50_ms"] for p in of],
                "s--" if lighter else style,
                color="C9" if lighter else color,
                label=label,
                markersize=4,
            )
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_title(name, loc="left", fontsize=10, family="monospace")
    axes.grid(alpha=0.3)
