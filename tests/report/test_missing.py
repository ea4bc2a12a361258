"""The report of runs with missing modalities: averages over subsets by hand, who is compared, what is concluded."""

from __future__ import annotations

import re

import pytest

from spcl_fast.merc.results import Results
from spcl_fast.merc.statistics import bootstrap_interval, holm, paired_comparison
from spcl_fast.report._document import Chart, Fold, Heading, Table, Text
from spcl_fast.report._markdown import as_markdown
from spcl_fast.report._missing import AVERAGE, compare_methods, make_trials
from spcl_fast.report._sections import make_document
from spcl_fast.report._study import make_study
from spcl_fast.report.study import write_report

BASE = [0.50, 0.52, 0.51, 0.53, 0.49]
NOISE = [0.001, -0.001, 0.002, -0.002, 0.0]
THREE = ["text", "audio", "visual"]


def lacking(rows, curriculum, scores, available="a", *, filling="reconstruction", data="mosi", **config):
    config = {"hidden": 64, "available": available, "filling": filling, **config}
    found = rows.arm(curriculum, scores, data=data, modalities=THREE, backbone="hardy", config=config)
    for row in found:
        for split in ("dev", "test"):
            row[split] = {**row[split], "macro_recall": 0.5, "modality_accuracy": None, "modality_loss": None}
    return found


def better(by):
    return [b + by + x for b, x in zip(BASE, NOISE, strict=True)]


@pytest.fixture
def study(rows):
    """HARDY ahead of both controls with audio, and with text and visual; zeros behind."""
    return [
        row
        for available, shift in (("tv", 0.1), ("a", 0.0))
        for row in (
            *lacking(rows, "hardy", better(shift + 0.02), available),
            *lacking(rows, "none", [b + shift for b in BASE], available),
            *lacking(rows, "none", better(shift - 0.03), available, filling="zero"),
            *lacking(rows, "random_hardness", [b + shift - x for b, x in zip(BASE, NOISE, strict=True)], available),
        )
    ]


def said(document):
    """The first paragraphs, up to the next heading."""
    lines = []
    for block in document.blocks[1:]:
        if isinstance(block, Heading):
            break
        lines += block.lines if isinstance(block, Text) else []
    return lines


def test_trials_have_their_conditions_in_order_and_the_average_by_seed(study):
    (trial,) = make_trials(make_study(study).lacking)
    assert [group.backbone for group in trial.groups] == ["audio", "text + visual", AVERAGE]
    assert [arm.label for arm in trial.average.arms] == ["reconstruction", "random_hardness", "hardy", "zero filling"]
    zero = trial.average.arm("zero filling").runs
    assert [zero[s]["test"]["weighted_f1"] for s in range(5)] == pytest.approx([b + 0.05 - 0.03 for b in better(0)])
    assert zero[0]["test"]["macro_recall"] == 0.5


def test_average_is_of_the_seeds_that_have_every_subset_and_of_these_alone(rows):
    found = [
        *lacking(rows, "none", BASE, "a"),
        *lacking(rows, "none", BASE[:3], "t"),
        *lacking(rows, "hardy", BASE, "a"),  # has no other subset
        *lacking(rows, "none", [0.9] * 5, "atv"),  # nothing is missing
        *lacking(rows, "none", [0.9] * 5, "all", missing="utterance", missing_rate=0.3),
    ]
    found[1]["test"]["macro_recall"] = None
    (trial,) = make_trials(make_study(found).lacking)
    names = ["audio", "text", "audio + text + visual", "each utterance lacks 30 % of audio + text + visual"]
    assert [group.backbone for group in trial.conditions] == names
    (arm,) = trial.average.arms
    assert {s: run["test"]["weighted_f1"] for s, run in arm.runs.items()} == dict(enumerate(BASE[:3]))
    assert [run["test"]["macro_recall"] for run in arm.runs.values()] == [0.5, None, 0.5]
    (alone,) = make_trials(make_study(lacking(rows, "none", BASE, "a")).lacking)
    assert alone.average is None
    assert alone.decisive == alone.conditions


def test_methods_are_compared_with_what_controls_them(study):
    trial = make_trials(make_study(study).lacking)[0]
    plain, by_lot = compare_methods([trial.average], [])
    assert [c.label for c in plain] == ["random_hardness", "hardy", "zero filling"]
    assert {c.against for c in plain} == {"reconstruction without a curriculum"}
    assert [(c.label, c.against) for c in by_lot] == [("hardy", "random hardness")]
    base = [b + 0.05 for b in BASE]
    found = [paired_comparison([v + 0.05 for v in x], base) for x in (
        [b - x for b, x in zip(BASE, NOISE, strict=True)], better(0.02), better(-0.03)
    )]  # fmt: skip
    assert [c.found.difference for c in plain] == pytest.approx([f.difference for f in found])
    assert [c.t_adjusted for c in plain] == pytest.approx(holm([f.t_p for f in found]), rel=1e-6)
    assert [c.verdict for c in plain] == [0, 1, -1]
    subsets = compare_methods(trial.conditions, [])
    assert [len(family) for family in subsets] == [6, 2]


def test_methods_with_other_numbers_of_steps_are_not_compared(rows):
    """A batch is as many steps as it has neighbours and one more, whatever the curriculum."""
    runs = [
        row
        for curriculum, neighbours in (("none", 3), ("hardy", 5))
        for row in lacking(rows, curriculum, BASE, model="hardy", neighbours=neighbours)
    ]
    (trial,) = make_trials(runs)
    notes = []
    ((comparison,),) = compare_methods(trial.conditions, notes)
    assert comparison.found is None
    assert "5 pair(s) of hardy and reconstruction were not compared" in notes[0]
    alike = [{**row, "config": {**row["config"], "neighbours": 5}} for row in runs]
    ((comparison,),) = compare_methods(make_trials(alike)[0].conditions, [])
    assert comparison.found.n == 5


def test_two_methods_of_one_name_are_told_apart_by_their_backbone(rows):
    other = [{**row, "backbone": "hardy_small"} for row in lacking(rows, "none", BASE)]
    (trial,) = make_trials(make_study([*lacking(rows, "none", BASE), *other]).lacking)
    assert [arm.label for arm in trial.conditions[0].arms] == ["reconstruction (hardy)", "reconstruction (hardy_small)"]


def test_conclusions_say_where_and_whether_hardness_has_a_part(study, rows):
    first, lead, *points, rank_test, single, single_by_lot, credit = said(make_document(make_study(study)))
    assert first == (
        "40 runs with missing modalities. What was available of CMU-MOSI: audio, text + visual. 4 methods "
        "(reconstruction, random_hardness, hardy and zero filling), 5 seeds."
    )
    over = "Weighted F1 on test, averaged over the subsets, against"
    assert lead.startswith(f"{over} reconstruction without a curriculum, in points")
    assert points[0].startswith("random_hardness: not shown to differ on CMU-MOSI 0.0 [")
    assert points[1].startswith("hardy: higher on CMU-MOSI +2.0 [+1.8, +2.2].")
    assert points[2].startswith("zero filling: lower on CMU-MOSI −3.0 [")  # noqa: RUF001
    assert points[3].startswith("The rank test")
    assert points[4].startswith(f"{over} random hardness, in points")
    assert points[5].startswith("hardy: higher on CMU-MOSI +2.0 [")
    assert rank_test.startswith("The rank test")
    assert single.startswith("Of 6 comparisons with reconstruction without a curriculum in one place alone")
    assert single.endswith("weighted F1 is higher in 2 and lower in 2.")
    assert single_by_lot.startswith("Of 2 comparisons with random hardness in one place alone")
    assert credit.startswith("Better than both")
    assert credit.endswith("HARDY on CMU-MOSI.")


def test_conclusions_credit_hardness_with_nothing_that_chance_or_no_one_confirms(study, rows):
    even = [r for r in study if r["curriculum"] != "random_hardness"]
    for available, shift in (("tv", 0.1), ("a", 0.0)):
        as_good = [b + shift + 0.02 - x for b, x in zip(BASE, NOISE, strict=True)]
        even += lacking(rows, "random_hardness", as_good, available)
    assert said(make_document(make_study(even)))[-1].startswith("Nowhere is HARDY shown to be better than both")
    without = [r for r in study if r["curriculum"] != "random_hardness"]
    assert "is not tested" in said(make_document(make_study(without)))[-1]
    few = said(make_document(make_study([r for r in study if r["seed"] < 2])))
    assert "is not tested" in few[-1]
    assert "hardy: not tested, with fewer than 3 seeds, on CMU-MOSI." in few
    alone = said(make_document(make_study(lacking(rows, "hardy", BASE))))
    assert alone[1] == "Missing modalities: not tested, for there is nothing to compare with."
    one_subset = said(make_document(make_study([r for r in study if r["config"]["available"] == "a"])))
    assert one_subset[1].startswith("Weighted F1 on test, against reconstruction without a curriculum, in points")
    assert "hardy: higher on CMU-MOSI with audio +2.0 [+1.8, +2.2]." in one_subset


def test_costs_are_means_over_all_runs_of_a_method(study):
    for row in study:
        row["preparation_seconds"] = 3.0 if row["curriculum"] == "hardy" else 0.0
    folds = [b for b in make_document(make_study(study)).blocks if isinstance(b, Fold) and b.title == "Costs"]
    (table,) = folds[0].blocks
    assert table.columns[1:] == (
        *("Take rate, %", "Seconds per epoch", "Share of the curriculum, %", "Seconds of preparation"),
    )
    assert table.rows[2] == ("hardy", "62.5", "0.25", "6.2", "3.0")
    assert table.rows[0] == ("reconstruction", "62.5", "0.25", "6.2", "0.0")


def test_scores_are_means_with_intervals_by_what_is_available(study):
    document = make_document(make_study(study))
    (table,) = [b for b in document.blocks if isinstance(b, Table) and "by what is available" in b.caption]
    assert table.columns == ("Measure", "Method", "audio", "text + visual", AVERAGE)
    low, high = bootstrap_interval(BASE)
    assert table.rows[0][:3] == ("Weighted F1", "reconstruction", f"51.0 ({100 * low:.1f} to {100 * high:.1f})")
    assert {row[0] for row in table.rows} == {"Weighted F1", "Accuracy (WA)", "Macro recall (UA)"}
    assert len(table.rows) == 3 * 4
    assert table.rows[-1][2:] == ("50.0 (50.0 to 50.0)",) * 3


def test_figure_has_each_method_at_each_of_what_is_available(study):
    charts = {c.name: c for c in make_document(make_study(study)).charts()}
    (panel,) = charts["missing-scores"].panels
    assert panel.categories == ("audio", "text + visual", AVERAGE)
    series = {s.label: s for s in panel.series}
    assert [round(x, 1) for x in series["hardy"].x] == [53.0, 63.0, 58.0]
    hardy = series["hardy"]
    assert all(low < x < high for low, x, high in zip(hardy.low, hardy.x, hardy.high, strict=True))
    assert sorted(round(y) for y in series["zero filling"].y) == [0, 1, 2]
    assert "gains-missing-reconstruction-without-a-curriculum" in charts


def test_report_of_the_rest_is_the_same_with_and_without_them(study, rows, tmp_path):
    plain = rows.study(0.02)
    before, after = make_document(make_study(plain)), make_document(make_study([*plain, *study]))
    kept = [block for block in after.blocks if block in before.blocks]
    assert kept == before.blocks[: len(kept)] == before.blocks
    text = as_markdown(before, pictures=True)
    assert not re.search("HARDY|missing modalit|hardness|WA and UA", text)
    added = [block for block in after.blocks if block not in before.blocks]
    assert {type(block) for block in added} == {Heading, Text, Table, Chart, Fold}


def test_page_markdown_and_pictures(study, tmp_path):
    files = write_report(Results(study, []), tmp_path)
    text = (tmp_path / "report.md").read_text()
    named = re.findall(r"\]\(([^)]*\.png)\)", text)
    assert sorted(named) == sorted(f.name for f in files if f.suffix == ".png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in named)
    assert "no scored run yet" not in text
    assert "zeros stand for what is missing" in text
    assert "WA and UA" in (tmp_path / "report.html").read_text()


def test_runs_that_failed_are_listed_and_count_nowhere(rows):
    plain = rows.study(0.02)
    failed = [
        {**rows.one("spcl", seed, None), "key": f"x{seed}", "test": None, "dev": None, "error": "the model diverged"}
        for seed in (7, 8)
    ]
    study = make_study([*plain, *failed])
    assert study.main == make_study(plain).main
    assert study.notes == ["meld, MMGCN, SPCL: 2 run(s) failed and have no score (seeds 7, 8): the model diverged"]
    lacking = [{**row, "config": {"available": x}} for row, x in zip(failed, ("a", "tv"), strict=True)]
    assert make_study([*plain, *lacking]).notes == [
        f"meld ({x}), MMGCN, SPCL: 1 run(s) failed and have no score (seeds {seed}): the model diverged"
        for x, seed in (("a", 7), ("tv", 8))
    ]
    assert "the model diverged" in as_markdown(make_document(study), pictures=False)
    code = [{**row, "code": "0.1.0+abc"} for row in plain]
    assert "Code: 0.1.0+abc." in as_markdown(make_document(make_study(code)), pictures=False)
