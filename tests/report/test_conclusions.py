"""What the report says in words, against studies whose outcome is known."""

from __future__ import annotations

import math

import pytest

from spcl_fast.merc.statistics import holm, paired_comparison
from spcl_fast.report._comparisons import compare
from spcl_fast.report._conclusions import conclusions
from spcl_fast.report._document import Fold, Text, number, p_value, signed
from spcl_fast.report._study import make_study


def said(rows, part="main"):
    """All of the conclusions in one text, and the notes."""
    study = make_study(rows)
    groups = getattr(study, part)
    notes = list(study.notes)
    lines = []
    for block in conclusions(groups, compare(groups, notes)):
        for text in block.blocks if isinstance(block, Fold) else [block]:
            assert isinstance(text, Text)
            lines += text.lines
    return "\n".join(lines), notes


def test_gain_is_named_with_place_and_size(rows):
    text, _ = said(rows.study(0.02))
    assert (
        "Against no curriculum: of 1 comparison of a curriculum, with 6 seeds each, weighted F1 on test is higher in 1"
        in text
    )
    assert "SPCL: higher in 1 of 1 (MELD: MMGCN +2.0 [" in text
    assert "Better than both no curriculum and every random control tested there: SPCL (MELD: MMGCN)." in text


def test_loss_is_named_as_one(rows):
    text, _ = said(rows.study(-0.02))
    assert "is higher in 0 and lower in 1." in text
    assert "SPCL: lower in 1 of 1 (MELD: MMGCN −2.0 [" in text  # noqa: RUF001
    assert "Nowhere is a curriculum shown to be better" in text


def test_difference_within_the_noise_is_not_one(rows):
    text, _ = said(rows.study(0.0002))
    assert "weighted F1 on test is shown to differ in none." in text
    assert "SPCL: no difference shown in 1 of 1 (mean 0.0)." in text
    assert "higher" not in text


def test_gain_that_the_random_control_has_too_is_not_credited(rows):
    study = rows.study(0.02)
    for row in study:
        if row["curriculum"] == "random_utterances":
            row["test"] = {**row["test"], "weighted_f1": row["test"]["weighted_f1"] + 0.0201}
    text, _ = said(study)
    assert "is higher in 1 and lower in 0." in text
    assert "Nowhere is a curriculum shown to be better than both no curriculum and a random choice" in text


def test_every_random_control_that_was_tested_has_to_be_beaten(rows):
    as_good = [r["test"]["weighted_f1"] for r in rows.study(0.02) if r["curriculum"] == "spcl"]
    text, _ = said([*rows.study(0.02), *rows.arm("random_dialogues", as_good[::-1])])
    assert "Nowhere is a curriculum shown to be better" in text


def test_few_seeds_come_with_a_warning(rows):
    warning = "Fewer than 5 seeds carry 1 of them"
    assert warning not in said(rows.study(0.02))[0]
    text, _ = said([r for r in rows.study(0.02) if r["seed"] < 4])
    assert "higher in 1" in text
    assert warning in text


def test_two_seeds_claim_nothing_however_clear(rows):
    study = [r for r in rows.study(0.2) if r["seed"] < 2]
    text, _ = said(study)
    assert "Against no curriculum: not tested, for no comparison has 3 or more seeds." in text
    assert "SPCL: fewer than 3 seeds, so nothing is claimed (MELD: MMGCN)." in text


def test_same_difference_in_every_seed_is_not_called_certain(rows):
    base = [0.5, 0.25, 0.75, 0.5]
    text, _ = said([*rows.arm("none", base), *rows.arm("spcl", [x + 0.125 for x in base])])
    assert "the same difference with every seed, which the t test cannot judge (MELD: MMGCN)" in text
    assert "higher" not in text


def test_correction_is_over_all_comparisons_with_a_control(rows):
    many = [row for k in range(40) for row in rows.study(0.0, backbone=f"other {k:02}")]
    weak = [0.001, 0.014, 0.012, 0.016, 0.002, 0.013]
    base = [0.50, 0.52, 0.51, 0.53, 0.49, 0.50]
    alone = [*rows.arm("none", base), *rows.arm("spcl", [b + x for b, x in zip(base, weak, strict=True)])]
    assert paired_comparison([b + x for b, x in zip(base, weak, strict=True)], base).t_p < 0.05
    assert "SPCL: higher in 1 of 1" in said(alone)[0]
    assert "SPCL: no difference shown in 41 of 41" in said([*alone, *many])[0]


def test_adjusted_p_values_are_those_of_holm(rows):
    groups = make_study([*rows.study(0.003), *rows.study(0.001, backbone="biddin")]).main
    found = compare(groups, [])["none"]
    assert [c.label for c in found] == ["random utterances", "SPCL"] * 2
    assert [c.t_adjusted for c in found] == holm([c.found.t_p for c in found])
    assert [c.wilcoxon_adjusted for c in found] == holm([c.found.wilcoxon_p for c in found])


def test_rank_test_that_cannot_confirm_says_why(rows):
    text, _ = said([row for k in range(3) for row in rows.study(0.02, backbone=f"other {k}")])
    assert "can confirm none: with 6 seeds and 6 tests its smallest corrected p is 0.188." in text
    eight = [0.50, 0.52, 0.51, 0.53, 0.49, 0.50, 0.48, 0.47]
    better = [x + 0.02 + 0.001 * i for i, x in enumerate(eight)]
    assert "confirms 1 of these 1." in said([*rows.arm("none", eight), *rows.arm("spcl", better)])[0]


def test_missing_runs_are_named_as_not_tested(rows):
    text, _ = said([*rows.study(0.02), *rows.arm("none", [0.5, 0.5, 0.5], backbone="biddin")])
    assert "Not tested, for runs are missing: 1." in text
    assert "SPCL: higher in 1 of 1 (MELD: MMGCN +2.0 [+1.9, +2.2]); not tested (MELD: BiDDIN)." in text


def test_curricula_meet_the_random_control_that_belongs_to_them(rows):
    names = ("none", "random_utterances", "thinning", "spcl", "stochastic")
    groups = make_study([row for name in names for row in rows.arm(name, [0.5, 0.25])]).main
    found = {control: [c.label for c in of_control] for control, of_control in compare(groups, []).items()}
    assert found == {
        "none": ["random utterances", "thinning", "SPCL", "stochastic"],
        "random utterances": ["SPCL"],
        "thinning": ["stochastic"],
    }


@pytest.mark.parametrize(("epochs", "said_so"), [(40, False), (20, True)])
def test_thinning_of_another_share_is_no_control_of_the_choice_alone(rows, epochs, said_so):
    study = [row for name in ("thinning", "stochastic_turn") for row in rows.arm(name, [0.5, 0.25, 0.75])]
    for row in study:
        row["config"] = {**row["config"], "pace_start": 0.5, "pace_epochs": 40}
        if row["curriculum"] == "stochastic_turn":
            row["config"]["pace_epochs"] = epochs
    _, notes = said(study)
    assert any("took other shares" in note for note in notes) == said_so


def test_pairs_share_their_seed(rows):
    text, _ = said([*rows.arm("none", [0.5, 0.25, 0.5]), *[rows.one("spcl", seed, 0.5) for seed in (7, 8, 9)]])
    assert "not tested, for no two scores can be paired" in text


def test_other_settings_of_the_model_are_not_compared(rows):
    study = rows.study(0.02)
    for row in study:
        if row["curriculum"] == "spcl" and row["seed"] < 2:
            row["config"] = {**row["config"], "hidden": 128}
    text, notes = said(study)
    assert "with 4 seeds each" in text
    assert any("2 pair(s) of SPCL and none were not compared" in note for note in notes)


@pytest.mark.parametrize(
    ("curricula", "expected"),
    [
        (["none"], "the file has runs of a control alone"),
        (["mine"], "there are no runs without a curriculum and none of a random control"),
        (["none", "mine"], "no random control can be compared"),
        (["random_utterances", "mine"], "Whether a curriculum is better than none is not tested"),
        ([], "the file has no finished run of the main comparison"),
    ],
)
def test_what_cannot_be_asked_is_not_tested(rows, curricula, expected):
    scores = {"mine": [0.6, 0.62, 0.61]}
    text, _ = said([row for name in curricula for row in rows.arm(name, scores.get(name, [0.5, 0.53, 0.5]))])
    assert expected in text
    assert "ot tested" in text


def test_ablations_use_runs_of_the_main_comparison_and_correct_on_their_own(rows):
    study = [*rows.study(0.02), *rows.study(0.02, backbone="biddin")]
    study += rows.arm("loss", [0.6, 0.63, 0.6, 0.64, 0.58, 0.6], part="ablation")
    text, _ = said(study, "ablation")
    assert "loss: higher in 1 of 1 (MELD: MMGCN" in text
    assert "SPCL: higher in 1 of 1 (MELD: MMGCN" in text
    assert "loss" not in said(study)[0]


def test_same_label_with_two_settings_makes_two_arms(rows):
    other = [{**r, "setting": {"threshold": 0.9}, "key": r["key"] + "x"} for r in rows.arm("spcl", [0.5, 0.51])]
    (group,) = make_study([*rows.study(0.02), *other]).main
    labels = [arm.label for arm in group.arms]
    assert labels[-2:] == ["SPCL (spcl: growth 1.2, threshold 0.4)", "SPCL (spcl: threshold 0.9)"]


def test_scores_that_are_not_known_count_nowhere(rows):
    text, notes = said([*rows.study(0.02), rows.one("none", 6, None), rows.one("spcl", 6, 0.9)])
    assert "with 6 seeds each" in text
    assert notes == ["1 run(s) have no test weighted F1, so they count in no mean and no comparison of it."]


def test_numbers_as_they_are_shown():
    assert [signed(x) for x in (0.0123, -0.0123, 0.0, -0.0001, 0.0001, math.nan)] == [
        *("+1.2", "−1.2", "0.0", "0.0", "0.0", "–")  # noqa: RUF001
    ]
    assert (number(0.5), number(-0.5, 2, 1), number(-0.001, 1, 1)) == ("50.0", "−0.50", "0.0")  # noqa: RUF001
    assert [p_value(p) for p in (0.0004, 0.0125, 1.0, math.nan)] == ["< 0.001", "0.013", "1.000", "–"]  # noqa: RUF001
