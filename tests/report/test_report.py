"""The report as a reader meets it: page, Markdown and pictures, of whole and of partial studies."""

from __future__ import annotations

import html
import itertools
import json
import re
from html.parser import HTMLParser

import plotly.graph_objects
import pytest

from spcl_fast.merc.results import Results
from spcl_fast.merc.statistics import bootstrap_interval
from spcl_fast.report._charts import balance, course, gains, lengths, looks_of
from spcl_fast.report._comparisons import compare
from spcl_fast.report._document import Text
from spcl_fast.report._markdown import as_markdown
from spcl_fast.report._plotly import log_ticks, panel_as_plotly
from spcl_fast.report._sections import make_document
from spcl_fast.report._study import make_study
from spcl_fast.report._tables import balance_table, class_table, comparison_table, score_table, search_table
from spcl_fast.report.study import write_report

ALONE = {"meta", "img", "br", "link", "input", "path", "circle", "rect"}


class Page(HTMLParser):
    """Elements with their attributes, all text outside scripts and styles; every element is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ALONE:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ALONE:
            assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif self._open and self._open[-1] != "style":
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def pages(folder, found, *, pictures=False):
    files = write_report(Results(found, ["a note"]), folder, pictures=pictures)
    assert all(path.is_file() for path in files)
    return Page((folder / "report.html").read_text()), (folder / "report.md").read_text()


@pytest.fixture
def whole(rows):
    study = [*rows.study(0.02), *rows.study(0.0, backbone="biddin"), *rows.study(0.01, data="mine")]
    study += rows.arm("my own", [0.5, 0.51, 0.52], part="ablation")
    return [*study, {**rows.one("spcl", 0, None, part="search"), "test": None}]


def test_page_is_one_file_that_asks_no_host_for_anything(whole, tmp_path):
    page, _ = pages(tmp_path, whole)
    addresses = [a[key] for _, a in page.elements for key in ("src", "href", "action", "data") if key in a]
    assert addresses
    assert all(address.startswith("#") for address in addresses)
    assert not page.all("link")
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert sum("Plotly" in script and len(script) > 1_000_000 for script in page.scripts) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]


def test_page_can_be_read_without_seeing_it(whole, tmp_path):
    page, _ = pages(tmp_path, whole)
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    names = {a["id"] for _, a in page.elements if "id" in a}
    assert len(names) == sum("id" in a for _, a in page.elements)
    assert all(a["href"][1:] in names for a in page.all("a"))
    for table in page.all("table"):
        assert table["aria-labelledby"] in names
    charts = [a for a in page.all("div") if a.get("role") == "img"]
    assert charts
    assert all(len(chart["aria-label"]) > 40 for chart in charts)
    boxes = [a for a in page.all("div") if a.get("class") == "box"]
    assert len(boxes) == len(page.all("table"))
    assert all(box["tabindex"] == "0" and box["role"] == "region" for box in boxes)
    assert all(cell.get("scope") in ("row", "col", "rowgroup") for cell in page.all("th"))


def test_figures_are_what_plotly_takes_and_every_place_has_one(whole, tmp_path):
    page, _ = pages(tmp_path, whole)
    panels = json.loads(next(script for script in page.scripts if script.startswith("[{")))
    places = [int(a["data-panel"]) for a in page.all("div") if "data-panel" in a]
    assert places == list(range(len(panels)))
    for panel in panels:
        assert panel["data"]
        for trace in panel["data"]:
            colors = trace.get("marker", {}).get("color")
            if colors:  # the page puts its own background in place of null
                trace["marker"]["color"] = [color or "white" for color in colors]
        plotly.graph_objects.Figure(panel)  # refuses what it does not know


def test_names_of_a_file_are_no_markup(rows, tmp_path):
    name = "# <b onclick=x>$a_b$ | *c* [d](e)</b></script>"
    study = [{**row, "label": f"{name} {row['curriculum']}"} for row in rows.study(0.02, backbone=name, data=name)]
    page, text = pages(tmp_path, study)
    assert name in page.text
    assert not page.all("b")
    panels = next(script for script in page.scripts if script.startswith("[{"))
    assert "<" not in panels  # which could end the script
    names = {trace["name"] for panel in json.loads(panels) for trace in panel["data"]}
    assert names == {
        html.escape(f"{name} {curriculum}", quote=False) for curriculum in ("none", "spcl", "random_utterances")
    }
    assert "\\# \\<b onclick=x\\>\\$a\\_b\\$ \\| \\*c\\* \\[d\\](e)\\</b\\>\\</script\\>" in text
    assert all(re.fullmatch(r"[a-z0-9-]+", chart.name) for chart in make_document(make_study(study)).charts())


def test_pictures_of_the_markdown_are_there(whole, tmp_path):
    _, text = pages(tmp_path, [r for r in whole if r["backbone"] == "mmgcn" and r["data"] == "meld"], pictures=True)
    named = re.findall(r"\]\(([^)]*\.png)\)", text)
    assert sorted(named) == sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(named) == len(set(named)) == 7  # gains over two controls, also in the ablation; course, balance, length
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in named)


def test_charts_of_like_names_do_not_meet_in_one_file(rows):
    study = make_study([*rows.study(0.02, backbone="a b"), *rows.study(0.02, backbone="a-b")])
    names = [chart.name for chart in make_document(study).charts()]
    assert len(names) == len(set(names))


def test_without_pictures_no_heading_stands_over_nothing(whole):
    text = as_markdown(make_document(make_study(whole)), pictures=False)
    assert "](" not in text
    lines = [line for line in text.splitlines() if line]
    for line, after in zip(lines, [*lines[1:], "# end"], strict=True):
        if line.startswith("#"):
            level = len(line.split(" ")[0])
            assert not (after.startswith("#") and len(after.split(" ")[0]) <= level), line


def test_tables_have_the_numbers_of_the_runs(rows):
    (group,) = make_study(rows.study(0.02)).main
    scores = score_table("MELD", [group])
    low, high = bootstrap_interval([r["test"]["weighted_f1"] for r in rows.study(0.02) if r["curriculum"] == "none"])
    interval = f"{100 * low:.1f} to {100 * high:.1f}"
    assert scores.rows[0] == ("MMGCN", "none", "6", "50.8", interval, "25.0", "75.0", "62.5", "0.25", "6.2")
    assert [row[3] for row in scores.rows] == ["50.8", "50.8", "52.9"]
    spcl = comparison_table("MELD", compare([group], [])["none"]).rows[1]
    assert spcl[:5] == ("MMGCN", "SPCL", "6", "+2.02", "+1.86 to +2.17")
    assert spcl[-1] == "6 / 0 / 0"
    assert class_table("MELD", [group]).columns[2:] == ("joy", "anger")
    assert class_table("MELD", [group]).rows[0][2:] == ("50.0", "12.5")
    # Of 75 and 50 %: variance 12.5^2; losses 1.75 - 1; ratio of the last epoch.
    assert balance_table("MELD", [group]).rows[0][2:] == ("75.0", "50.0", "156.2", "0.750", "1.50", "0.875", "3.1")


def test_search_finds_the_best_mean_on_dev(rows):
    tried = [(0.2, 0, 0.9), (0.2, 1, 0.1), (0.4, 0, 0.6), (0.4, 1, 0.6), (0.6, 0, None)]
    tried += [(0.8, 0, 0.95)]  # whose other seed is missing
    found = [
        {**rows.one("spcl", seed, None, part="search"), "setting": {"threshold": t}, "dev": {"weighted_f1": f1}}
        for t, seed, f1 in tried
    ]
    assert search_table(found).rows == [("MELD, text and audio", "MMGCN", "SPCL", "4", "6", "60.0", "threshold 0.4")]


def test_course_is_mean_and_range_over_the_seeds_that_still_train(rows):
    study = rows.arm("spcl", [0.5, 0.5])
    study[0]["timeline"] = {"threshold": [0.5, None, 2.0]}
    study[1]["timeline"] = {"threshold": [1.5]}
    (group,) = make_study(study).main
    (panel,) = course(group, looks_of([group])).panels
    (line,) = panel.series
    assert (line.x, line.y, line.low, line.high) == ([1, 2, 3], [1.0, None, 2.0], [0.5, None, 2.0], [1.5, None, 2.0])


def test_course_has_no_threshold_of_what_selects_otherwise(rows):
    study = [*rows.arm("spcl", [0.5, 0.5]), *rows.arm("stochastic", [0.5, 0.5])]
    for row in study:
        row["timeline"] = {"threshold": [0.5, 1.0], "take_rate": [0.5, 0.75]}
        if row["curriculum"] == "stochastic":  # the seeds do not train equally long
            row["timeline"]["threshold"] = [0.0] * (1 + row["seed"])
    (group,) = make_study(study).main
    threshold, take_rate = course(group, looks_of([group])).panels
    assert [line.label for line in threshold.series] == ["SPCL"]
    assert threshold.is_log
    assert len(take_rate.series) == 2


def test_extent_says_how_many_seeds_each_has(rows):
    def extent(found):
        return next(b.lines[0] for b in make_document(make_study(found)).blocks if isinstance(b, Text))

    assert extent(rows.study(0.02)).endswith("SPCL), 6 seeds.")
    assert extent([*rows.study(0.02), *rows.arm("loss", [0.5])]).endswith("SPCL and loss), 1 to 6 seeds each.")


def test_gains_are_in_points_and_solid_only_after_correction(rows):
    groups = make_study([*rows.study(0.02), *rows.study(0.0002, backbone="biddin")]).main
    (panel,) = gains(compare(groups, [])["none"], "none", looks_of(groups), "main").panels
    spcl = next(series for series in panel.series if series.label == "SPCL")
    assert panel.categories == ("MMGCN", "BiDDIN")
    assert [round(x, 2) for x in spcl.x] == [2.02, 0.04]
    assert spcl.filled == [True, False]
    assert spcl.low[0] < spcl.x[0] < spcl.high[0]
    assert panel.x_range[0] < min(0, *spcl.low)


def test_few_seeds_have_no_interval_that_would_hide_the_others(rows):
    (group,) = make_study([r for r in rows.study(0.02) if r["seed"] < 2]).main
    (panel,) = gains(compare([group], [])["none"], "none", looks_of([group]), "main").panels
    assert all(series.low == [None] and not any(series.filled) for series in panel.series)
    assert "error_x" not in panel_as_plotly(panel)["data"][0]


def test_lengths_leave_out_bins_that_do_not_fit(rows):
    study = rows.arm("spcl", [0.5, 0.5, 0.5])
    study[1]["by_length"] = None
    study[2]["by_length"] = {"length": [5.0], "difficulty": [9.0], "take_rate": [0.0]}
    (group,) = make_study(study).main
    difficulty, take_rate = lengths([group], looks_of([group])).panels
    assert (difficulty.series[0].x, difficulty.series[0].y) == ([3.0, 9.0], [0.25, 0.5])
    assert take_rate.series[0].y == [100.0, 50.0]


def test_balance_has_a_point_for_each_arm(rows):
    groups = make_study(rows.study(0.02)).main
    variance, disparity = balance(groups, looks_of(groups), "main").panels
    assert [series.x for series in variance.series] == [[156.25]] * 3
    assert [series.x for series in disparity.series] == [[0.75]] * 3


@pytest.mark.parametrize("keep", ["one seed", "one data set", "none alone", "search alone", "ablation alone", "bare"])
def test_partial_study_still_makes_a_report(whole, keep, tmp_path):
    kept = {
        "one seed": [r for r in whole if r["seed"] == 0],
        "one data set": [r for r in whole if r["data"] == "mine"],
        "none alone": [r for r in whole if r["curriculum"] == "none"],
        "search alone": [r for r in whole if r["part"] == "search"],
        "ablation alone": [r for r in whole if r["part"] == "ablation"],
        "bare": [{k: r[k] for k in ("part", "data", "modalities", "backbone", "curriculum", "label", "seed", "test")}
                 for r in whole if r["part"] == "main"],
    }[keep]  # fmt: skip
    page, text = pages(tmp_path, kept)
    assert "a note" in text
    assert "a note" in page.text
    if keep not in ("one data set", "bare"):
        assert "ot tested" in text


def test_numbers_that_are_not_known_leave_gaps(whole, tmp_path):
    def unknown(x):
        if isinstance(x, dict):
            return {key: unknown(value) for key, value in x.items()}
        return [unknown(value) for value in x] if isinstance(x, list) else None if isinstance(x, float) else x

    page, text = pages(tmp_path, [unknown(row) for row in whole], pictures=True)
    assert "not tested, for no two scores can be paired" in text
    assert "have no test weighted F1" in text
    assert "nan" not in page.text.lower().split()


def test_one_modality_has_no_balance(rows, tmp_path):
    study = rows.study(0.02, modalities=["text"])
    for row in study:
        row["test"] = {**row["test"], "modality_accuracy": [0.5], "modality_loss": [1.0]}
        row["timeline"] = {**row["timeline"], "modality_ratio": [[1.0], [1.0]]}
    (group,) = make_study(study).main
    assert balance_table("MELD", [group]).rows[0][2:6] == ("50.0", "–", "–", "–")  # noqa: RUF001
    pages(tmp_path, study)


def test_ticks_of_a_log_axis():
    assert log_ticks([0.4, 4.1]) == [0.5, 1.0, 2.0, 5.0]
    assert log_ticks([0.001, 1e6]) == [10.0**k for k in range(-3, 7)]
    assert log_ticks([3.0]) == []


def test_report_needs_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"write_report: results must hold at least one run \(got none\)"):
        write_report(Results([], []), tmp_path)
    assert not list(tmp_path.iterdir())
