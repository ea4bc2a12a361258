"""Studies: what a matrix asks for, choices on dev alone, resuming, parallel runs that do not depend on each other."""

from __future__ import annotations

import json
import math
import multiprocessing
import threading
import time
from collections import Counter

import pytest
import torch

from spcl_fast.merc.evaluation import evaluate
from spcl_fast.merc.npz import read_npz, write_npz
from spcl_fast.merc.provenance import code_version
from spcl_fast.merc.results import append_result, read_results
from spcl_fast.merc.rows import make_row
from spcl_fast.merc.runner import run_study
from spcl_fast.merc.study import SEARCH_SEED, Job, StudyError
from spcl_fast.merc.study_file import parse_study, read_study
from spcl_fast.merc.synthetic import make_synthetic
from spcl_fast.merc.trainer import Result, TrainConfig, Trainer

YAML = """
data:
  A: {file: a.npz, modalities: "text,audio"}
  B: {file: b.npz, modalities: "text,visual"}
backbones:
  late_fusion: {hidden: 4, epochs: 1, per_data: {B: {epochs: 2}}}
  mmgcn: {model: mmgcn, hidden: 6, epochs: 1}
curricula:
  none: [{dropout: 0.3}, {dropout: 0.5}]
  spcl: [{threshold: 0.4, growth: 1.2}, {threshold: 0.9, growth: 1.5}]
  random_utterances: spcl
search: {backbone: late_fusion, seeds: 2}
parts:
  - {part: main, data: [A, B], backbones: [late_fusion, mmgcn], curricula: [none, spcl, random_utterances], seeds: 2}
  - {part: ablation, data: [A], backbones: [late_fusion], curricula: [none, spcl], seeds: 3}
"""


MATCHED = ("A", "late_fusion", "random_utterances", 0)


def row(job, f1):
    return {"key": job.key, "dev": {"weighted_f1": f1}}


def test_study_asks_first_for_what_choices_wait_for():
    study = parse_study(YAML)
    jobs = study.ready([])
    assert {(j.part, j.curriculum) for j in jobs} == {("search", "none")}
    assert Counter((j.data, j.config.dropout) for j in jobs) == {(d, x): 2 for d in "AB" for x in (0.3, 0.5)}
    assert {j.config.seed for j in jobs} == {SEARCH_SEED, SEARCH_SEED + 1}
    rows = [row(j, 0.6 if j.config.dropout == (0.3 if j.data == "A" else 0.5) else 0.5) for j in jobs]

    jobs = study.ready(rows)
    searched = [j for j in jobs if j.part == "search"]
    assert {j.curriculum for j in searched} == {"spcl"}  # the control shares its choice
    assert {(j.data, j.config.dropout) for j in searched} == {("A", 0.3), ("B", 0.5)}  # and it the baseline's
    reported = [j for j in jobs if j.part != "search"]
    assert {j.curriculum for j in reported} == {"none"}
    rows += [row(j, j.config.threshold) for j in searched] + [row(j, 0.5) for j in reported]

    jobs = study.ready(rows)
    assert {j.curriculum for j in jobs} == {"spcl", "random_utterances"}
    assert {(j.config.threshold, j.config.growth) for j in jobs} == {(0.9, 1.5)}
    (setting,) = (j.setting for j in jobs if (j.data, j.backbone, j.curriculum, j.config.seed) == MATCHED)
    assert setting == {"dropout": 0.3, "threshold": 0.9, "growth": 1.5}
    rows += [row(j, 0.5) for j in jobs]
    assert study.ready(rows) == []


@pytest.mark.parametrize("dev", [None, {}, {"weighted_f1": None}])
def test_study_does_not_choose_by_runs_without_a_score(dev):
    study = parse_study(YAML)
    with pytest.raises(StudyError, match="search: every run must have a weighted F1 on dev"):
        study.ready([{"key": job.key, "dev": dev} for job in study.ready([])])


def complete(study):
    """Every run of a study, with the same score each."""
    rows, made = [], []
    while jobs := study.ready(rows):
        made += jobs
        rows += [row(j, 0.5) for j in jobs]
    return made


def test_study_makes_no_run_twice():
    jobs = complete(parse_study(YAML))
    assert len({j.key for j in jobs}) == len(jobs)
    count = Counter((j.part, j.data, j.backbone) for j in jobs)
    assert count["main", "A", "late_fusion"] == 3 * 2
    assert count["main", "B", "mmgcn"] == 3 * 2
    assert count["ablation", "A", "late_fusion"] == 2 * 1  # seeds 0 and 1 are in the main part


def test_study_knows_a_whole_number_as_a_float():
    texts = (YAML, YAML.replace("threshold: 0.9", "threshold: 1"), YAML.replace("threshold: 0.9", "threshold: 1.0"))
    other, whole, real = ({j.key for j in complete(parse_study(text))} for text in texts)
    assert whole == real != other


def test_study_carries_the_curriculum_over_to_other_backbones_and_not_the_model():
    jobs = [j for j in complete(parse_study(YAML)) if j.backbone == "mmgcn"]
    assert {j.config.dropout for j in jobs} == {0.5}  # its own, TrainConfig's default
    assert {j.config.model for j in jobs} == {"mmgcn"}
    assert {j.config.threshold for j in jobs if j.curriculum == "spcl"} == {0.4}  # the first of equals
    study = parse_study(YAML.replace("hidden: 6,", "hidden: 6, threshold: 1.3, growth: 1.4,"))
    jobs = [j for j in complete(study) if j.backbone == "mmgcn" and j.curriculum != "none"]
    assert {(j.config.threshold, j.config.growth) for j in jobs} == {(1.3, 1.4)}  # which it says itself
    text = YAML.replace("hidden: 6,", "hidden: 6, threshold: 1.3, growth: 1.4,")
    text = text.replace("  random_utterances: spcl", "  random_utterances: spcl\n  spcl_carried: spcl")
    jobs = complete(parse_study(text.replace("[none, spcl, random_utterances]", "[none, spcl_carried]")))
    carried = {(j.config.threshold, j.config.growth) for j in jobs if j.curriculum == "spcl_carried"}
    assert carried == {(0.4, 1.2)}  # as chosen for the backbone of the search, in whatever a backbone says itself
    assert {j.config.epochs for j in complete(parse_study(YAML)) if j.backbone == "late_fusion" and j.data == "B"} == {
        2
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("data:", "date:"), "must have data"),
        (("file: a.npz, ", ""), r"data.A: must have the texts file and modalities"),
        (("model: mmgcn", "model: magic"), "backbones.mmgcn: model must be one of"),
        (("hidden: 6", "hiden: 6"), r"backbones.mmgcn: may set .* \(got hiden\)"),
        (("hidden: 6", "hidden: '6'"), "backbones.mmgcn: hidden must be an integer"),
        (("{B: {epochs: 2}}", "{C: {epochs: 2}}"), r"per_data: must be among A, B \(got 'C'\)"),
        (("growth: 1.5", "growth: 0.5"), "curricula.spcl: .*growth"),
        (("growth: 1.5", "dropout: 0.5"), r"curricula.spcl: may set growth, threshold \(got dropout\)"),
        (("hidden: 6", "curriculum: spcl"), r"backbones.mmgcn: may set .* \(got curriculum\)"),
        (("random_utterances: spcl", "random_utterances: loss"), "must name a curriculum of the study"),
        (
            ("random_utterances: spcl", "thinning: spcl"),
            "thinning: must name one that has pace_start, pace_epochs too",
        ),
        (("random_utterances: spcl", "anti: none"), "anti: must name one that has threshold, growth too"),
        (("  spcl: [{", "  spicy: [{"), "curricula.spicy: must be one of"),
        (("  none: [{dropout: 0.3}, {dropout: 0.5}]", "  none: spcl"), "must have candidates for none"),
        (("seeds: 2}\nparts", "seeds: 0}\nparts"), r"search.seeds: must be an integer in \[1, 1000\]"),
        (("part: ablation", "part: extra"), r"parts\[1\].part: must be among main, ablation"),
        (("seeds: 3", "seed: 3"), r"parts\[1\]: must have part, data"),
        (("[none, spcl], seeds: 3", "[none, loss], seeds: 3"), r"parts\[1\].curricula: must be among"),
        (("[none, spcl], seeds: 3", "none, seeds: 3"), r"parts\[1\].curricula: must be a list"),
        (("search: {", "search: {extra: 1, "), "search: must have backbone and seeds"),
        (("data:", "data: ["), "must be YAML"),
        (("data:", "data: !!python/object/apply:os.getcwd []\nx:"), "must be YAML"),
    ],
)
def test_study_refuses_by_name(change, message):
    assert change[0] in YAML
    with pytest.raises(StudyError, match=message):
        parse_study(YAML.replace(*change, 1))


@pytest.mark.parametrize("text", ["", "[]", "text", "3", "{1: 2}"])
def test_study_refuses_what_is_no_mapping(text):
    with pytest.raises(StudyError, match="must be a mapping"):
        parse_study(text)


def test_study_file_is_named_in_what_is_refused(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(YAML.replace("hidden: 6", "hidden: 0"))
    with pytest.raises(StudyError, match=r"study.yaml: backbones.mmgcn: hidden must be at least 1"):
        read_study(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"study\.yaml"):
        read_study(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("a", 0), ("b", 1)):
        corpus = make_synthetic("meld-like", dialogues={"train": 6, "dev": 3, "test": 3}, seed=seed)
        write_npz(folder / f"{name}.npz", corpus)
    return folder


SMALL = """
data: {A: {file: a.npz, modalities: "text,audio"}}
backbones: {late_fusion: {hidden: 4, epochs: 2}}
curricula: {none: [{dropout: 0.3}, {dropout: 0.5}], random_utterances: [{threshold: 0.4}]}
search: {backbone: late_fusion, seeds: 1}
parts: [{part: main, data: [A], backbones: [late_fusion], curricula: [none, random_utterances], seeds: 2}]
"""


def numbers(path):
    """The rows without what the clock says."""
    rows = {r["key"]: r for r in read_results(path).rows}
    for r in rows.values():
        del r["seconds_per_epoch"], r["curriculum_share"]
    return rows


def test_run_study_resumes_and_does_not_depend_on_order_or_processes(folder, tmp_path):
    study = parse_study(SMALL)
    events = list(run_study(study, folder, tmp_path / "whole.jsonl"))
    assert [e.error for e in events] == [None] * 7
    assert (events[-1].done, events[-1].total, events[-1].seconds_left) == (7, 7, 0)
    whole = numbers(tmp_path / "whole.jsonl")
    assert Counter(r["part"] for r in whole.values()) == {"search": 3, "main": 4}
    for r in whole.values():
        assert (r["test"] is None) == (r["part"] == "search")
        assert r["config"]["seed"] == r["seed"] >= (SEARCH_SEED if r["part"] == "search" else 0)
    assert list(run_study(study, folder, tmp_path / "whole.jsonl")) == []

    # Ended after some runs, with a line that was cut off, and continued in two processes.
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])
    events = list(run_study(study, folder, tmp_path / "cut.jsonl", processes=2))
    assert len(events) == 4
    assert numbers(tmp_path / "cut.jsonl") == whole


def test_run_study_ends_in_time(folder, tmp_path):
    assert list(run_study(parse_study(SMALL), folder, tmp_path / "none.jsonl", seconds=0)) == []


def test_run_study_refuses_results_of_other_modalities(folder, tmp_path):
    path = tmp_path / "r.jsonl"
    corpus = read_npz(folder / "a.npz", "text,visual")
    job = parse_study(SMALL).ready([])[0]
    append_result(path, make_row(job, corpus, Trainer(corpus, job.config).fit(score_test=False)))
    with pytest.raises(StudyError, match=r"its runs of A must have the modalities text, audio \(got text, visual\)"):
        list(run_study(parse_study(SMALL), folder, path, seconds=0))


def test_run_study_refuses_results_of_other_data_of_the_same_name(folder, tmp_path):
    path, study = tmp_path / "r.jsonl", parse_study(SMALL)
    corpus = read_npz(folder / "b.npz", "text,audio")
    job = study.ready([])[0]
    row = make_row(job, corpus, Trainer(corpus, job.config).fit(score_test=False))
    append_result(path, row)
    with pytest.raises(StudyError, match=r"its runs of A must be of the data at hand, with checksum [0-9a-f]{8}"):
        list(run_study(study, folder, path, seconds=0))
    path.unlink()
    append_result(path, {k: x for k, x in row.items() if k != "data_checksum"})  # as they were once written
    assert list(run_study(study, folder, path, seconds=0)) == []


def test_study_chooses_among_the_candidates_that_did_not_fail(folder):
    study = parse_study(YAML)
    jobs = study.ready([])
    failed = [{"key": j.key, "dev": None, "error": "diverged"} for j in jobs if j.config.dropout == 0.5]
    rows = [row(j, 0.1) for j in jobs if j.config.dropout == 0.3] + failed
    assert {j.config.dropout for j in study.ready(rows) if j.backbone == "late_fusion"} == {0.3}
    rows = [{"key": j.key, "dev": None, "error": "diverged"} for j in jobs if j.data == "A"]
    rows += [row(j, 0.1) for j in jobs if j.data == "B"]
    assert {j.data for j in study.ready(rows)} == {"B"}  # no candidate is left on A


def test_run_study_goes_on_after_a_run_that_fails(folder, tmp_path):
    backbones = (
        "{late_fusion: {hidden: 4, epochs: 1}, mmgcn: {model: mmgcn, hidden: 4, epochs: 1, learning_rate: 1.e+30}, "
        "huge: {hidden: 1000000000000000000}}"
    )
    text = SMALL.replace("{late_fusion: {hidden: 4, epochs: 2}}", backbones)
    text = text.replace("{dropout: 0.3}, ", "").replace("[late_fusion], ", "[mmgcn, huge, late_fusion], ")
    events = list(run_study(parse_study(text), folder, tmp_path / "failing.jsonl"))
    failed, huge = ([e for e in events if e.job.backbone == name] for name in ("mmgcn", "huge"))
    assert len(failed) == len(huge) == 4  # each tried once
    assert all(e.row is None and ("diverged" in e.error or "left out" in e.error) for e in failed)
    assert all(e.row is None and e.error for e in huge)  # no memory holds it
    rows = read_results(tmp_path / "failing.jsonl").rows
    assert len(rows) == len(events) - 4 == 2 + 4 + 4
    diverged = [r for r in rows if "error" in r]
    assert {(r["key"], r["error"], r["test"]) for r in diverged} == {(e.job.key, e.error, None) for e in failed}
    assert all(r["config"]["learning_rate"] == 1e30 and r["data_checksum"] for r in diverged)
    again = list(run_study(parse_study(text), folder, tmp_path / "failing.jsonl"))
    assert {e.job.backbone for e in again} == {"huge"}  # which other machines may hold


def test_run_study_says_that_a_process_was_ended(folder, tmp_path):
    others = set(multiprocessing.active_children())  # of the tests before, on their way out

    def end():
        while not (found := set(multiprocessing.active_children()) - others):
            time.sleep(0.05)
        for process in found:
            process.kill()

    study = parse_study(SMALL)
    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(ChildProcessError, match=r"ended from outside.*r\.jsonl"):
        list(run_study(study, folder, tmp_path / "r.jsonl"))
    thread.join()


def test_result_row_by_hand(folder):
    corpus, nan = read_npz(folder / "a.npz", "text,audio"), math.nan
    score = evaluate([torch.eye(2), torch.eye(2)], torch.tensor([0, 1]))
    curricula = [
        {"threshold": 0.5, "take_rate": 0.25, "selected": 1, "scored": 4, "loss": 1.5, "modality_ratio": (2.0, 1.0)},
        {"threshold": 1.0, "take_rate": 0.5, "selected": 3, "scored": 6, "loss": 1.25, "modality_ratio": (1.0, 1.5)},
    ]
    lengths = [
        {"length": [2.0, 9.0], "difficulty": [0.5, nan], "take_rate": [1.0, nan]},
        {"length": [2.0, 9.0], "difficulty": [1.0, 3.0], "take_rate": [0.5, 0.25]},
    ]
    seconds = [(2.0, 0.5), (4.0, 1.0)]
    history = [
        {"epoch": i, "dev": score._asdict(), "curriculum": c, "by_length": x, "seconds": s, "curriculum_seconds": of}
        for i, (c, x, (s, of)) in enumerate(zip(curricula, lengths, seconds, strict=True))
    ]
    job = Job("main", "A", "late_fusion", "spcl", {"threshold": 0.5}, TrainConfig(threshold=0.5, seed=7))
    made = make_row(job, corpus, Result(1, score, score, history))
    assert (made["take_rate"], made["seconds_per_epoch"], made["curriculum_share"]) == (0.4, 3.0, 0.25)
    assert made["by_length"] == {"length": [2.0, 9.0], "difficulty": [0.75, 3.0], "take_rate": [0.75, 0.25]}
    timeline = made["timeline"]
    assert (timeline["threshold"], timeline["take_rate"], timeline["loss"]) == ([0.5, 1.0], [0.25, 0.5], [1.5, 1.25])
    assert timeline["modality_ratio"] == [[2.0, 1.0], [1.0, 1.5]]
    assert (timeline["dev_weighted_f1"], timeline["dev_modality_accuracy"]) == ([1.0, 1.0], [[1.0, 1.0]] * 2)
    assert (made["seed"], made["best_epoch"], made["epochs"], made["modalities"]) == (7, 1, 2, ["text", "audio"])
    assert (made["config"]["threshold"], made["setting"], made["key"]) == (0.5, {"threshold": 0.5}, job.key)
    assert made["test"]["weighted_f1"] == made["dev"]["weighted_f1"] == made["test"]["macro_recall"] == 1.0
    assert made["code"] == code_version()


def test_result_rows_are_json(folder, tmp_path):
    path = tmp_path / "r.jsonl"
    study = parse_study(SMALL.replace("seeds: 2}]", "seeds: 1}]"))
    list(run_study(study, folder, path))
    for line in path.read_text().splitlines():
        r = json.loads(line)
        assert len(r["timeline"]["take_rate"]) == r["epochs"] == 2
        assert len(r["timeline"]["modality_ratio"][0]) == len(r["modalities"]) == 2
        assert r["threads"] == 1
