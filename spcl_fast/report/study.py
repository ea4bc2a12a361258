"""The report of a study: one page, its tables in Markdown, its charts as pictures."""

from __future__ import annotations

from pathlib import Path

from spcl_fast.merc.files import write_atomically
from spcl_fast.merc.results import Results
from spcl_fast.report._html import as_html
from spcl_fast.report._markdown import as_markdown
from spcl_fast.report._png import draw_chart
from spcl_fast.report._sections import make_document
from spcl_fast.report._study import make_study


def write_report(results: Results, folder: Path, *, pictures: bool = True) -> list[Path]:
    """Writes `report.html`, `report.md` and a PNG for each chart.

    The page says in words what the numbers support, and shows what that rests on: mean scores with 95 % intervals
    (`bootstrap_interval`), paired differences to the controls with a t test and Wilcoxon's, each corrected by Holm over
    all comparisons with that control (`paired_comparison`, `holm`), the course of every curriculum, the balance of the
    modalities, dialogue length and ablations. It is one file with everything in it and asks no host for anything.
    What is missing is left out, and named as not tested where it was to be compared.

    Args:
        results: what `read_results` gave; any part of a study, with curricula of any name.
        folder: where to write; made where there is none. Files of an earlier report of the same names are replaced,
            each whole or not at all.
        pictures: whether PNGs are drawn; without them `report.md` has tables alone.

    Returns:
        The files written: page, Markdown, pictures. Deterministic for the same versions of the libraries.

    Raises:
        ValueError: no rows.
        OSError: a file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.merc.results import Results
        >>> from spcl_fast.report.study import write_report
        >>> row = {"part": "main", "data": "meld", "modalities": ["text", "audio"], "backbone": "mmgcn", "seed": 0}
        >>> rows = [{**row, "curriculum": name, "label": name, "test": {"weighted_f1": f1}}
        ...         for name, f1 in (("none", 0.57), ("spcl", 0.58))]
        >>> [path.name for path in write_report(Results(rows, []), Path("report"), pictures=False)]
        ['report.html', 'report.md']
    """
    if not results.rows:
        raise ValueError("write_report: results must hold at least one run (got none)")
    document = make_document(make_study(results.rows, results.notes))
    page, text = folder / "report.html", folder / "report.md"
    files = {page: as_html(document).encode(), text: as_markdown(document, pictures=pictures).encode()}
    for chart in document.charts() if pictures else ():
        files[folder / f"{chart.name}.png"] = draw_chart(chart)
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)
