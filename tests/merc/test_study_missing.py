"""Studies that vary which modalities are available."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from spcl_fast.merc.npz import write_npz
from spcl_fast.merc.results import read_results
from spcl_fast.merc.runner import run_study
from spcl_fast.merc.study import StudyError
from spcl_fast.merc.study_file import parse_study, read_study
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.report.study import write_report

MISSING = """
data:
  A: {file: a.npz, modalities: "text,audio,visual"}
  B: {file: b.npz, modalities: "text,audio"}
backbones:
  hardy: &hardy {model: hardy, hidden: 4, epochs: 2}
  zero: {<<: *hardy, filling: zero}
curricula: {none: [{}], hardy: [{neighbours: 2}], random_hardness: hardy}
search: {backbone: hardy, seeds: 0}
parts:
  - {part: main, data: [A], available: [a, tv], backbones: [hardy], curricula: [none, hardy, random_hardness], seeds: 2}
  - {part: main, data: [B], available: [all, a], backbones: [zero], curricula: [none], seeds: 1}
"""


def row(job, f1):
    return {"key": job.key, "dev": {"weighted_f1": f1}}


def test_study_varies_what_is_available():
    jobs = parse_study(MISSING).ready([])  # nothing is to be chosen
    assert {j.part for j in jobs} == {"main"}
    assert Counter((j.data, j.config.available) for j in jobs) == {
        ("A", "a"): 6, ("A", "tv"): 6, ("B", "all"): 1, ("B", "a"): 1
    }  # fmt: skip
    assert len({j.key for j in jobs}) == len(jobs) == 14
    assert [j.config.seed for j in jobs[:6]] == [0] * 6  # seed by seed
    assert {j.config.neighbours for j in jobs if j.curriculum in ("hardy", "random_hardness")} == {2}
    assert {j.config.filling for j in jobs if j.backbone == "zero"} == {"zero"}
    assert parse_study(MISSING).ready([row(j, 0.5) for j in jobs]) == []


def test_study_chooses_for_each_of_what_is_available():
    text = MISSING.replace("none: [{}]", "none: [{dropout: 0.3}, {dropout: 0.4}]").replace("seeds: 0", "seeds: 1")
    study = parse_study(text)
    jobs = study.ready([])
    assert {(j.part, j.curriculum) for j in jobs} == {("search", "none")}
    places = {("A", "a"), ("A", "tv"), ("B", "all"), ("B", "a")}
    assert Counter((j.data, j.config.available) for j in jobs) == dict.fromkeys(places, 2)
    rows = [row(j, j.config.dropout if j.config.available == "tv" else -j.config.dropout) for j in jobs]
    chosen = {(j.data, j.config.available): j.config.dropout for j in study.ready(rows) if j.backbone == "hardy"}
    assert chosen == {("A", "a"): 0.3, ("A", "tv"): 0.4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[a, tv]", "[]"), r"parts\[0\].available: must have at least one entry"),
        (("[a, tv]", "a"), r"parts\[0\].available: must be a list"),
        (("[a, tv]", "[a, x]"), r"parts\[0\].available: A: available.*\(got 'x'\)"),
        (("[all, a]", "[v]"), r"parts\[1\].available: B: available.*\(got 'v'\)"),
        (("[a, tv]", "[3]"), r"parts\[0\].available: A: available.* string \(got int\)"),
        (("filling: zero", "available: a"), r"backbones.zero: may set .*\(got available\)"),
        (("filling: zero", "model: mmgcn"), r"parts\[1\]: zero: available must be 'all' but for the model 'hardy'"),
        (("{model: hardy, ", "{"), r"parts\[0\]: hardy: .*needs the model 'hardy' \(got 'late_fusion'\)"),
        (
            ("[{neighbours: 2}]", "[{neighbours: 2}, {neighbours: 3}]"),
            r"search.seeds: must be an integer in \[1, 1000\]",
        ),
        (("[{neighbours: 2}]", "[{dropout: 0.5}]"), r"curricula.hardy: may set neighbours \(got dropout\)"),
    ],
)
def test_study_of_missing_modalities_refuses_by_name(change, message):
    assert change[0] in MISSING
    if change[0] == "{model: hardy, ":  # of which nothing is missing then
        text = MISSING.replace("available: [a, tv], ", "").replace("available: [all, a], ", "")
    else:
        text = MISSING
    with pytest.raises(StudyError, match=message):
        parse_study(text.replace(*change, 1))


def test_study_refuses_a_curriculum_that_the_network_cannot_be_taught_by():
    """It was refused run by run, each with a row."""
    text = MISSING.replace("random_hardness: hardy", "dif: [{}]").replace("hardy, random_hardness]", "dif]")
    with pytest.raises(StudyError, match=r"parts\[0\]: hardy: curriculum of the model 'hardy' must be .*\(got 'dif'\)"):
        parse_study(text)


def test_study_of_the_project_has_each_arm_on_each_subset_with_each_seed():
    study = read_study(Path(__file__).parents[2] / "docs" / "hardy_study" / "study.yaml")
    jobs = study.ready([])
    arms = {(j.config.filling, j.curriculum) for j in jobs}
    assert arms == {
        *(("zero", "none"), ("mean", "none"), ("reconstruction", "none")),
        *(("reconstruction", "spcl"), ("reconstruction", "hardy"), ("reconstruction", "random_hardness")),
        ("reconstruction", "hardy_same_label"),
    }
    assert Counter((j.data, j.config.available) for j in jobs) == {
        **dict.fromkeys([("MOSI", x) for x in ("a", "t", "v", "at", "av", "tv")], 7 * 5),
        **dict.fromkeys([("IEMOCAP", x) for x in "at"], 7 * 5),
    }
    # The arms differ in nothing else.
    trained = [{k: x for k, x in vars(j.config).items() if k not in ARM} for j in jobs]
    of_data = {j.data: config for j, config in zip(jobs, trained, strict=True)}
    assert all(config == of_data[j.data] for j, config in zip(jobs, trained, strict=True))


ARM = ("filling", "curriculum", "available", "seed")


def test_runs_of_missing_modalities_come_to_a_report(tmp_path):
    write_npz(tmp_path / "b.npz", make_synthetic("meld-like", dialogues={"train": 6, "dev": 3, "test": 3}))
    study = parse_study("""
data: {B: {file: b.npz, modalities: "text,audio"}}
backbones: {hardy: {model: hardy, hidden: 4, epochs: 2, teacher_epochs: 1}}
curricula: {none: [{}], hardy: [{neighbours: 1}]}
search: {backbone: hardy, seeds: 0}
parts: [{part: main, data: [B], available: [a], backbones: [hardy], curricula: [none, hardy], seeds: 1}]
""")
    assert [e.error for e in run_study(study, tmp_path, tmp_path / "r.jsonl")] == [None, None]
    results = read_results(tmp_path / "r.jsonl")
    assert {(r["curriculum"], r["config"]["available"]) for r in results.rows} == {("none", "a"), ("hardy", "a")}
    assert all(0 <= r["test"]["macro_recall"] <= 1 for r in results.rows)
    write_report(results, tmp_path, pictures=False)
    assert "2 runs with missing modalities" in (tmp_path / "report.md").read_text()
