"""The results of a cell as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(cell: Mapping[str, Any]) -> str:
    """The rows of one cell, the fastest first, then what ours is against every rival and floor, and who is off."""
    size = ", ".join(f"{k}={v}" for k, v in cell["size"].items())
    rows = sorted(cell["rows"], key=lambda r: (r["group"], r["p50_ms"]))
    names = [f"{r['provider']} {r['group']}".strip() for r in rows]
    forms = [r["form"] + (f" [{r['note']}]" if r["note"] else "") for r in rows]
    wide, wider = (max(map(len, column), default=0) for column in (names, forms))
    lines = [
        f"{cell['name']}: {size}",
        f"  {'':<{wide}}  {'':<{wider}}  threads      p20      p50      p80 ms   x strongest rival",
    ]
    for row, name, form in zip(rows, names, forms, strict=True):
        ratio = f"{row['times_as_fast']:.2f}" if "times_as_fast" in row else "-"
        lines.append(
            f"  {name:<{wide}}  {form:<{wider}}  {row['threads']:>7} {_times(row)}      {ratio:>8}{_extra(row)}"
        )
    for row, name in zip(rows, names, strict=True):
        if "against" in row:
            lines.append(f"  {name}, {row['form']}, {row['threads']} thread(s): speed is {_against(row)}")
    lines += [f"  off: {o['provider']} ({o['form']}): {o['reason']}" for o in cell["off"]]
    return "\n".join(lines)


def lesser(cell: Mapping[str, Any]) -> str:
    """Ours in the child process that had a lesser instruction set."""
    lines = [f"{cell['name']} with {cell['lesser']['instruction_set']}, in a process of its own: p20, p50, p80 ms"]
    for row in cell["lesser"]["rows"]:
        if row["role"] == "ours":
            name = f"{row['provider']} {row['group']}".strip()
            lines.append(
                f"  {name}, {row['form']}, {row['threads']} thread(s): {_times(row)}, speed is {_against(row)}"
            )
    return "\n".join(lines)


def _times(row: Mapping[str, Any]) -> str:
    return " ".join(f"{_short(row[p]):>8}" for p in ("p20_ms", "p50_ms", "p80_ms"))


def _against(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{ratio:.3g} x {other}" for other, ratio in row["against"].items())


def _extra(row: Mapping[str, Any]) -> str:
    parts = []
    if "gigabytes_per_second" in row:
        parts.append(f"{row['gigabytes_per_second']:.1f} GB/s")
    if "overhead_us" in row:
        parts.append(f"{row['overhead_us']:+.1f} us over the op")
    if row["peak_bytes"] is not None and row["role"] != "floor":
        parts.append(f"peak {row['peak_bytes'] / 2**20:.1f} MiB, workspace {row['workspace_bytes'] / 2**20:.1f}")
    return f"   ({'; '.join(parts)})" if parts else ""


def _short(ms: float) -> str:
    return f"{ms:.4f}" if ms < 1 else f"{ms:.4g}"
