"""A report in Markdown: tables, and the charts as pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from spcl_fast.report._document import Block, Chart, Document, Fold, Heading, Table, Text


def as_markdown(document: Document, *, pictures: bool) -> str:
    """The whole document; without pictures the charts are left out."""
    parts: list[str] = []
    for part in reversed(_blocks(document.blocks, pictures)):
        if not (_level(part) and (not parts or 0 < _level(parts[-1]) <= _level(part))):  # no heading without a content
            parts.append(part)
    return "\n\n".join([f"# {_plain(document.title)}", *reversed(parts)]) + "\n"


def _level(part: str) -> int:
    """Of a heading; 0 for all else, where a # would be escaped."""
    return len(part) - len(part.lstrip("#"))


def _blocks(blocks: Sequence[Block], pictures: bool) -> list[str]:
    found: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            found.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Text) and block.is_list:
            found.append("\n".join(f"- {_plain(line)}" for line in block.lines))
        elif isinstance(block, Text):
            found += [_plain(line) for line in block.lines]
        elif isinstance(block, Table):
            found += [f"**{_plain(block.caption)}**", _table(block)]
        elif isinstance(block, Chart) and pictures:
            found += [f"![{_plain(block.alt)}]({block.name}.png)", f"*{_plain(block.caption)}*"]
        elif isinstance(block, Fold):
            found += [f"### {_plain(block.title)}", *_blocks(block.blocks, pictures)]
    return found


def _table(table: Table) -> str:
    rule = ["---" if table.is_text(c) else "---:" for c in range(len(table.columns))]
    rows = [[_plain(cell) for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _plain(text: str) -> str:
    """What is a name in the file is no markup here."""
    return re.sub(r"([\\`*_\[\]<>|#$])", r"\\\1", " ".join(text.split()))
