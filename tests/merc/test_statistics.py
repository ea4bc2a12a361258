"""Intervals and tests against worked examples, definitions and simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from spcl_fast.merc import statistics
from spcl_fast.merc.statistics import bootstrap_interval, holm, paired_comparison

#: crossed minus self-fertilised maize of Darwin, in eighths of an inch, the example of Fisher (1935)
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def covered(intervals, mean=0.0):
    return float(np.mean([low <= mean <= high for low, high in intervals]))


def test_bootstrap_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(7)
    for n in (5, 10):
        samples = rng.normal(size=(400, n))
        ours = covered(bootstrap_interval(x, resamples=2000) for x in samples)
        drawn = [x[rng.integers(n, size=(2000, n))].mean(1) for x in samples]
        plain = covered(np.quantile(means, [0.025, 0.975]) for means in drawn)
        assert 0.91 <= ours <= 0.98  # the simulation has a standard error of 0.011
        assert ours > plain + 0.02


def test_bootstrap_interval_follows_confidence_shift_and_scale():
    x = np.random.default_rng(1).normal(size=12)
    wide, narrow = bootstrap_interval(x, confidence=0.99), bootstrap_interval(x, confidence=0.8)
    assert x.min() <= wide.low < narrow.low < x.mean() < narrow.high < wide.high <= x.max()
    assert bootstrap_interval(3 * x + 5, confidence=0.8) == pytest.approx([3 * end + 5 for end in narrow])


def test_bootstrap_interval_is_near_student_where_that_is_exact():
    x = np.random.default_rng(2).normal(size=40)
    student = stats.ttest_1samp(x, 0).confidence_interval()
    assert bootstrap_interval(x) == pytest.approx(student, abs=0.03)


def test_bootstrap_interval_is_deterministic_and_its_order_and_blocks_do_not_matter(monkeypatch):
    x = np.random.default_rng(3).normal(size=9)
    first = bootstrap_interval(x, seed=4)
    assert bootstrap_interval(x[::-1].tolist(), seed=4) == first
    assert bootstrap_interval(x, seed=5) != first
    monkeypatch.setattr(statistics, "_DRAWN_AT_ONCE", 8 * 9)  # the generator goes on where the last block ended
    assert bootstrap_interval(x, seed=4) == first


def test_bootstrap_interval_of_few_or_equal_values():
    assert all(math.isnan(end) for end in bootstrap_interval([0.5]))
    assert bootstrap_interval([0.25, 0.5]) == (0.25, 0.5)
    assert bootstrap_interval([0.1] * 3) == (0.1, 0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"values": []}, ValueError, r"values must hold at least one number \(got none\)"),
        ({"values": [1.0, math.nan]}, ValueError, r"values\[1\] must be finite \(got nan\)"),
        ({"values": ["1"]}, TypeError, r"values\[0\] must be a number \(got str\)"),
        ({"confidence": 1.0}, ValueError, r"confidence must be in \(0, 1\) \(got 1.0\)"),
        ({"resamples": 0}, ValueError, r"resamples must be at least 1 \(got 0\)"),
        ({"resamples": 10.0}, TypeError, r"resamples must be an integer \(got float\)"),
        ({"seed": -1}, ValueError, r"seed must be at least 0 \(got -1\)"),
    ],
)
def test_bootstrap_interval_refuses(arguments, error, message):
    with pytest.raises(error, match=f"^bootstrap_interval: {message}$"):
        bootstrap_interval(**{"values": [1.0, 2.0], **arguments})


def test_paired_comparison_of_darwin():
    got = paired_comparison(DARWIN, [0] * 15)
    assert (got.n, got.wins, got.ties, got.losses) == (15, 13, 0, 2)
    assert got.difference == pytest.approx(314 / 15)
    assert got.t_p == pytest.approx(0.0497, abs=5e-5)  # t = 2.148 with 14 degrees of freedom
    assert got.wilcoxon_p == 2 * 676 / 2**15  # 676 of the choices of signs have a rank sum of at most 24
    assert 0 < got.low < 0.1


def test_paired_comparison_is_that_of_scipy():
    a, b = np.random.default_rng(0).normal([[0.4], [0.0]], 1.0, size=(2, 12))
    got = paired_comparison(a, b, confidence=0.9)
    expected = stats.ttest_rel(a, b)
    assert got.t_p == pytest.approx(expected.pvalue, rel=1e-10)
    assert (got.low, got.high) == pytest.approx(tuple(expected.confidence_interval(0.9)))
    assert got.wilcoxon_p == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue, rel=1e-10)
    back = paired_comparison(b, a, confidence=0.9)
    assert (back.low, back.high) == (-got.high, -got.low)
    assert (back.t_p, back.wilcoxon_p, back.wins, back.losses) == (got.t_p, got.wilcoxon_p, got.losses, got.wins)


@pytest.mark.parametrize("seed", range(6))
def test_wilcoxon_with_ties_and_zeros_counts_all_choices_of_signs(seed):
    d = np.random.default_rng(seed).integers(-3, 5, size=9)
    used = d[d != 0]
    ranks = stats.rankdata(abs(used))
    sums = np.array([ranks @ signs for signs in itertools.product((0, 1), repeat=len(used))])
    centre = ranks.sum() / 2
    expected = np.mean(abs(sums - centre) >= abs(ranks[used > 0].sum() - centre))
    got = paired_comparison(d, np.zeros(9))
    assert got.wilcoxon_p == pytest.approx(expected, rel=1e-12)
    assert got.ties == 9 - len(used)


def test_wilcoxon_of_many_pairs_is_the_approximation_that_it_meets():
    d = np.random.default_rng(0).normal(0.1, 1.0, size=statistics.EXACT_PAIRS + 1)
    exact = paired_comparison(d[:-1], np.zeros(len(d) - 1)).wilcoxon_p
    assert exact == pytest.approx(stats.wilcoxon(d[:-1], method="asymptotic").pvalue, rel=0.02)
    assert paired_comparison(d, np.zeros(len(d))).wilcoxon_p == stats.wilcoxon(d).pvalue


@pytest.mark.parametrize(
    ("treated", "control", "expected"),
    [
        ([0.5], [0.25], (1, 0.25, math.nan, math.nan, math.nan, math.nan, 1, 0, 0)),
        ([0.5, 0.1], [0.5, 0.1], (2, 0.0, 0.0, 0.0, 1.0, 1.0, 0, 2, 0)),
        ([0.5, 0.75], [0.25, 0.5], (2, 0.25, 0.25, 0.25, 0.0, 0.5, 2, 0, 0)),
    ],
    ids=["one pair", "no difference", "one difference"],
)
def test_paired_comparison_where_no_test_can_be_made(treated, control, expected):
    assert paired_comparison(treated, control) == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("gain", [0.012345, -0.0002, 0.0])
def test_paired_comparison_of_decimals_sees_no_spread_in_their_rounding(gain):
    control = [0.6, 0.62, 0.64, 0.701, 0.333333]
    got = paired_comparison([round(x + gain, 6) for x in control], control)
    assert got.low == got.high == got.difference == pytest.approx(gain, rel=1e-9)
    assert (got.t_p, got.wins, got.losses) == (float(gain == 0), 5 * (gain > 0), 5 * (gain < 0))
    assert got.wilcoxon_p == (2 / 2**5 if gain else 1.0)


def test_paired_comparison_sees_a_spread_as_small_as_a_score_can_have():
    got = paired_comparison([0.600001, 0.62, 0.64], [0.6, 0.62, 0.64])
    assert got.low < 0 < got.high
    assert got.wins == 1


def test_equal_differences_have_no_spread_though_their_mean_is_rounded():
    got = paired_comparison([0.1] * 3, [0.0] * 3)
    assert (got.t_p, got.wilcoxon_p, got.low) == (0.0, 0.25, got.high)


def test_interval_excludes_zero_where_the_t_test_rejects():
    rng = np.random.default_rng(5)
    found = [paired_comparison(rng.normal(0.8, 1, size=6), np.zeros(6)) for _ in range(60)]
    assert [f.low > 0 or f.high < 0 for f in found] == [f.t_p < 0.05 for f in found]
    assert 0 < sum(f.t_p < 0.05 for f in found) < 60


@pytest.mark.parametrize(
    ("treated", "control", "message"),
    [
        ([], [], r"treated must hold at least one number \(got none\)"),
        ([1.0, 2.0], [1.0], r"treated and control must have one length \(got 2 and 1\)"),
        ([1.0], [math.inf], r"control\[0\] must be finite \(got inf\)"),
    ],
)
def test_paired_comparison_refuses(treated, control, message):
    with pytest.raises(ValueError, match=f"^paired_comparison: {message}$"):
        paired_comparison(treated, control)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closure_of_bonferroni(seed):
    p = np.random.default_rng(seed).choice([0.001, 0.01, 0.02, 0.03, 0.2, 0.5, 1.0], size=6)
    subsets = [s for size in range(1, 7) for s in itertools.combinations(range(6), size)]
    worst = [max(min(1.0, len(s) * p[list(s)].min()) for s in subsets if i in s) for i in range(6)]
    assert holm(p.tolist()) == pytest.approx(worst)


def test_holm_does_not_count_what_was_not_tested():
    got = holm([math.nan, 0.02, None, 0.03])
    assert got == pytest.approx([math.nan, 0.04, math.nan, 0.04], nan_ok=True)


@pytest.mark.parametrize(("p", "error"), [(1.5, ValueError), (-0.1, ValueError), ("0.5", TypeError)])
def test_holm_refuses_what_is_no_p_value(p, error):
    with pytest.raises(error, match=r"^holm: p_values must be "):
        holm([0.5, p])
