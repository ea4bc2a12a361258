"""A report as one HTML file that asks no host for anything."""

from __future__ import annotations

import json
from html import escape
from itertools import groupby
from typing import Any

from plotly.offline import get_plotlyjs

from spcl_fast.report._document import Block, Chart, Document, Fold, Heading, Look, Table, Text
from spcl_fast.report._plotly import panel_as_plotly
from spcl_fast.report._style import COLORS, CSS, SCRIPT

# The reader's browser itself refuses whatever is not in the file.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_DASHES = ("", "6 3", "2 2", "6 2 2 2")
_SHAPES = (
    '<circle cx="14" cy="6" r="4"/>',
    '<rect x="10.5" y="2.5" width="7" height="7"/>',
    '<path d="M14 1l5 5-5 5-5-5z"/>',
    '<path d="M14 1.5l5 9h-10z"/>',
    '<path d="M14 10.5l5-9h-10z"/>',
    '<path d="M12.5 1.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z"/>',
    '<path d="M10 4l2-2 2 2 2-2 2 2-2 2 2 2-2 2-2-2-2 2-2-2 2-2z"/>',
)


def as_html(document: Document) -> str:
    """The whole page, plotly.js included."""
    page = _Page()
    body = "\n".join(page.block(block) for block in document.blocks)
    items = "".join(f'<li><a href="#{name}">{escape(text)}</a></li>' for name, text in page.contents)
    panels = json.dumps(page.panels, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(document.title)}</title>
<style>{CSS}</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header><h1>{escape(document.title)}</h1>
<nav aria-label="Contents"><ul>{items}</ul></nav>
<noscript><p>The charts need JavaScript; every number is in the tables, too.</p></noscript></header>
<main id="content">
{body}
</main>
<script type="application/json" id="panels">{panels}</script>
<script>{get_plotlyjs()}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


class _Page:
    """Blocks to HTML; gathers the panels to be drawn and the headings for the contents."""

    def __init__(self) -> None:
        self.panels: list[dict[str, Any]] = []
        self.contents: list[tuple[str, str]] = []
        self._captions = 0

    def block(self, block: Block) -> str:
        if isinstance(block, Heading):
            return self._heading(block)
        if isinstance(block, Text):
            return _text(block)
        if isinstance(block, Table):
            return self._table(block)
        if isinstance(block, Chart):
            return self._chart(block)
        return self._fold(block)

    def _heading(self, heading: Heading) -> str:
        if heading.level > 2:
            return f"<h{heading.level}>{escape(heading.text)}</h{heading.level}>"
        name = f"section-{len(self.contents) + 1}"
        self.contents.append((name, heading.text))
        return f'<h2 id="{name}">{escape(heading.text)}</h2>'

    def _fold(self, fold: Fold) -> str:
        inner = "\n".join(self.block(block) for block in fold.blocks)
        state = " open" if fold.is_open else ""
        return f"<details{state}><summary><h3>{escape(fold.title)}</h3></summary>\n{inner}\n</details>"

    def _table(self, table: Table) -> str:
        """The caption stands above the box, so that it stays in place when the table scrolls."""
        self._captions += 1
        name = f"table-{self._captions}"
        shown = range(int(table.is_grouped), len(table.columns))
        head = "".join(f'<th scope="col"{_align(table, c)}>{escape(table.columns[c])}</th>' for c in shown)
        bodies = []
        for group, rows in groupby(table.rows, key=lambda row: row[0] if table.is_grouped else ""):
            lines = [f"<tr>{''.join(_cell(table, c, row[c]) for c in shown)}</tr>" for row in rows]
            if table.is_grouped:
                title = f'<th scope="rowgroup" colspan="{len(shown)}" class="group"><span>{escape(group)}</span></th>'
                lines.insert(0, f"<tr>{title}</tr>")
            bodies.append(f"<tbody>{chr(10).join(lines)}</tbody>")
        return (
            f'<p class="caption" id="{name}">{escape(table.caption)}</p>\n'
            f'<div class="box" role="region" aria-labelledby="{name}" tabindex="0"><table aria-labelledby="{name}">'
            f"<thead><tr>{head}</tr></thead>\n{chr(10).join(bodies)}</table></div>"
        )

    def _chart(self, chart: Chart) -> str:
        boxes = []
        for panel in chart.panels:
            drawn = panel_as_plotly(panel)
            label = escape(f"{panel.title}. {chart.alt}")
            height = drawn["layout"]["height"]
            boxes.append(
                f'<div><p class="title">{escape(panel.title)}</p><div role="img" aria-label="{label}" '
                f'data-panel="{len(self.panels)}" style="height:{height}px"></div></div>'
            )
            self.panels.append(drawn)
        points = any(panel.categories for panel in chart.panels)
        buttons = "".join(
            f'<button type="button" aria-pressed="true" value="{escape(escape(label, quote=False))}">'
            f"{_key(look, points)}{escape(label)}</button>"
            for label, look in chart.legend.items()
        )
        legend = f'<div class="legend" role="group" aria-label="Show or hide">{buttons}</div>' if buttons else ""
        caption = f"<figcaption>{escape(chart.caption)}</figcaption>"
        return f'<figure>{legend}<div class="panels">{"".join(boxes)}</div>{caption}</figure>'


def _text(text: Text) -> str:
    if text.is_list:
        return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in text.lines)}</ul>"
    return "\n".join(f"<p>{escape(line)}</p>" for line in text.lines)


def _cell(table: Table, column: int, cell: str) -> str:
    tag, scope = ("th", ' scope="row"') if column < table.heads else ("td", "")
    return f"<{tag}{scope}{_align(table, column)}>{escape(cell)}</{tag}>"


def _align(table: Table, column: int) -> str:
    return ' class="text"' if table.is_text(column) else ""


def _key(look: Look, points: bool) -> str:
    color = COLORS[look.color]
    drawn = _SHAPES[look.shape] if points else f'<path d="M0 6h28" stroke-dasharray="{_DASHES[look.dash]}"/>'
    style = f'fill="{color}"' if points else f'stroke="{color}" stroke-width="2.5"'
    return f'<svg width="28" height="12" aria-hidden="true" {style}>{drawn}</svg>'
