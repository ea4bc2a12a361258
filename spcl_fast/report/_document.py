"""What a report is made of, for any renderer: texts, tables and charts, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

UNKNOWN = "–"  # noqa: RUF001, a dash for what is not known


class Heading(NamedTuple):
    """A heading of level 2 or 3."""

    level: int
    text: str


class Text(NamedTuple):
    """A paragraph, or a list of points."""

    lines: tuple[str, ...]
    is_list: bool = False


class Table(NamedTuple):
    """Cells as shown; the first `heads` columns name the row, those of `texts` hold words, the rest numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    heads: int = 1
    texts: frozenset[int] = frozenset()

    @property
    def is_grouped(self) -> bool:
        """Whether rows that share their first name may stand under it."""
        return self.heads == 2

    def is_text(self, column: int) -> bool:
        """Whether a column is aligned to the left."""
        return column < self.heads or column in self.texts


class Look(NamedTuple):
    """Which of the colours, dashes and marker shapes a label has, the same in all charts."""

    color: int
    dash: int
    shape: int


class Series(NamedTuple):
    """Points or a line. `low` and `high` are the ends of intervals along x for points, a band along y for lines.

    None is a gap. `filled` tells points that are drawn solid from hollow ones, `hover` is shown on them.
    """

    label: str
    look: Look
    x: Sequence[float | None]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    filled: Sequence[bool] = ()
    hover: Sequence[str] = ()


class Panel(NamedTuple):
    """One pair of axes: points in rows of `categories`, which y counts from the top, or lines where there are none."""

    title: str
    x_title: str
    y_title: str
    series: list[Series]
    categories: tuple[str, ...] = ()
    is_log: bool = False
    whole_x: bool = False
    mark_zero: bool = False
    x_range: tuple[float, float] | None = None


class Chart(NamedTuple):
    """Panels side by side under one legend; `name` is that of its file, `alt` says in words what it shows."""

    name: str
    caption: str
    alt: str
    panels: list[Panel]
    looks: Mapping[str, Look]

    @property
    def legend(self) -> dict[str, Look]:
        """Label -> look of those that are drawn, in the order of `looks`; empty where there is one alone."""
        drawn = {series.label for panel in self.panels for series in panel.series}
        return {label: look for label, look in self.looks.items() if label in drawn} if len(drawn) > 1 else {}


class Fold(NamedTuple):
    """Blocks that a reader opens."""

    title: str
    blocks: list[Block]
    is_open: bool = False


Block = Heading | Text | Table | Chart | Fold


class Document(NamedTuple):
    """A report: the title, and its blocks in order."""

    title: str
    blocks: list[Block]

    def charts(self) -> list[Chart]:
        """All of them, those in folds too."""
        return _charts(self.blocks)


def _charts(blocks: list[Block]) -> list[Chart]:
    found: list[Chart] = []
    for block in blocks:
        if isinstance(block, Chart):
            found.append(block)
        elif isinstance(block, Fold):
            found += _charts(block.blocks)
    return found


def signed(x: float, digits: int = 1, scale: float = 100) -> str:
    """With sign: `+1.2`, and `0.0` for what rounds to it; in points by default."""
    text = number(x, digits, scale)
    return f"+{text}" if x > 0 and text.strip("0.") else text


def number(x: float, digits: int = 1, scale: float = 100) -> str:
    """Without sign where it is positive; in percent by default."""
    if x != x:
        return UNKNOWN
    text = f"{abs(scale * x):.{digits}f}"
    return f"−{text}" if x < 0 and text.strip("0.") else text  # noqa: RUF001


def p_value(p: float) -> str:
    """Three digits are enough."""
    return UNKNOWN if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"
