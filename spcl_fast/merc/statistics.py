"""What a few runs say: the interval of a mean, paired tests, and p values of several comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from spcl_fast._paces import integer
from spcl_fast.ops import _check

#: Of more differences than these SciPy's approximation by a normal distribution has the same digits, in less time.
EXACT_PAIRS = 200
#: Numbers drawn at once, so that many values need no more memory than few.
_DRAWN_AT_ONCE = 1 << 20


class Interval(NamedTuple):
    """The ends of a confidence interval, in the unit of the values.

    Example:
        >>> from spcl_fast.merc.statistics import Interval
        >>> low, high = Interval(low=0.25, high=0.75)
        >>> high - low
        0.5
    """

    low: float
    high: float


class PairedComparison(NamedTuple):
    """Treated against control over `n` pairs: what `paired_comparison` finds.

    `difference` is the mean of treated - control, `low` and `high` the ends of its interval; `wins`, `ties` and
    `losses` count the pairs in which the treated value is the larger, equal, the smaller.

    Example:
        >>> from spcl_fast.merc.statistics import paired_comparison
        >>> found = paired_comparison([0.5, 0.75, 1.0], [0.25, 0.75, 1.25])
        >>> found.wins, found.ties, found.losses
        (1, 1, 1)
    """

    n: int
    difference: float
    low: float
    high: float
    t_p: float
    wilcoxon_p: float
    wins: int
    ties: int
    losses: int


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Interval of the mean, from means of the values drawn again with replacement: the expanded percentile bootstrap.

    The plain percentiles are too narrow for a few values, by sqrt((n - 1)/n) and by the normal quantile where Student's
    belongs; so outer percentiles are taken, at Phi(-sqrt(n/(n - 1)) t) and its mirror (Hesterberg, arXiv 1411.5279).
    Of 5 values of a normal distribution 92 % of the intervals hold the mean, where those of the plain percentiles and
    of BCa, which corrects for a skew that few values do not show, hold it in 84 %.

    Args:
        values: at least one finite number, each of a run of its own.
        confidence: share of such intervals that hold the true mean, in (0, 1).
        resamples: how often the values are drawn, at least 1.
        seed: of the draws, at least 0.

    Returns:
        An interval within the range of the values, NaN for one value. Of 2 or 3 values it is their whole range, and at
        95 % still too short: it holds the mean of a symmetric distribution in 50 and 75 %. Deterministic; the order of
        the values does not matter.

    Raises:
        TypeError: something else than numbers.
        ValueError: no values, one that is not finite, or a setting outside its domain.

    Example:
        >>> from spcl_fast.merc.statistics import bootstrap_interval
        >>> low, high = bootstrap_interval([0.61, 0.64, 0.60, 0.66, 0.63])
        >>> round(low, 2), round(high, 2)
        (0.6, 0.66)
    """
    x = np.sort(_numbers("bootstrap_interval", "values", values))
    confidence = _confidence("bootstrap_interval", confidence)
    resamples = integer("bootstrap_interval", "resamples", resamples, 1)
    rng = np.random.default_rng(integer("bootstrap_interval", "seed", seed, 0))
    n = len(x)
    if n == 1:
        return Interval(math.nan, math.nan)
    rows = max(1, _DRAWN_AT_ONCE // n)
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    means = np.concatenate([x[rng.integers(n, size=(block, n))].mean(1) for block in blocks])
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail]).clip(x.min(), x.max())  # a mean of equal values may be rounded
    return Interval(float(low), float(high))


def paired_comparison(
    treated: Sequence[float], control: Sequence[float], *, confidence: float = 0.95
) -> PairedComparison:
    """Whether one way is better than another, from runs in pairs (of the same seed, data and backbone).

    Args:
        treated: at least one finite number.
        control: as many, in the same order.
        confidence: of the interval, in (0, 1).

    Returns:
        The mean difference with its interval by Student's t; two-sided p values of the paired t test and of Wilcoxon's
        signed rank test. The interval excludes 0 exactly where `t_p < 1 - confidence`. Wilcoxon's test leaves out
        differences of 0 and gives equal ones their mean rank; its p is exact, with ties too, up to 200 differences, and
        SciPy's approximation beyond. Where no test can be made:

        - n = 1: the interval and both p are NaN;
        - all differences 0: the interval is [0, 0] and both p are 1;
        - all the same but not 0: the interval is that difference alone and `t_p` 0, the limit of a vanishing spread;
          of a few pairs only `wilcoxon_p` says how little that proves (0.5 for two). Differences that float64 cannot
          tell apart, as of 0.62 - 0.60 and 0.66 - 0.64, are the same.

        Deterministic.

    Raises:
        TypeError: something else than numbers.
        ValueError: no pairs, unlike lengths, a number that is not finite, or a confidence outside (0, 1).

    Example:
        >>> from spcl_fast.merc.statistics import paired_comparison
        >>> found = paired_comparison([0.62, 0.64, 0.66, 0.63, 0.65], [0.60, 0.61, 0.62, 0.62, 0.60])
        >>> found.wins, round(found.difference, 3), round(found.t_p, 3), found.wilcoxon_p
        (5, 0.03, 0.013, 0.0625)
    """
    a = _numbers("paired_comparison", "treated", treated)
    b = _numbers("paired_comparison", "control", control)
    confidence = _confidence("paired_comparison", confidence)
    if len(a) != len(b):
        raise ValueError(f"paired_comparison: treated and control must have one length (got {len(a)} and {len(b)})")
    d = a - b
    # Scores have decimals that are not binary fractions: differences that are the same differ by their rounding.
    rounding = 4 * np.finfo(d.dtype).eps * max(np.abs(a).max(), np.abs(b).max())
    if np.ptp(d) <= rounding:
        d = np.full_like(d, d[0] if abs(d[0]) > rounding else 0.0)
    n, mean = len(d), float(d.mean())
    low, high, t_p, wilcoxon_p = math.nan, math.nan, math.nan, math.nan
    if n > 1:
        error = float(d.std(ddof=1)) / math.sqrt(n) if np.ptp(d) else 0.0
        reach = error * float(stats.t.ppf((1 + confidence) / 2, n - 1))
        low, high = mean - reach, mean + reach
        t_p = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
        wilcoxon_p = _wilcoxon(d[d != 0])
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    return PairedComparison(n, mean, low, high, t_p, wilcoxon_p, wins, n - wins - losses, losses)


def holm(p_values: Sequence[float | None]) -> list[float]:
    """P values adjusted for being several, so that all claims below a level are true together with that confidence.

    Holm (1979): of m in ascending order the k-th, counted from 0, is multiplied by m - k; none falls below an earlier
    one, none rises above 1.

    Args:
        p_values: numbers in [0, 1]; NaN or None for a test that was not made. May be empty.

    Returns:
        As many in the same order; NaN where there was no test, which is not counted among the m. Deterministic.

    Raises:
        TypeError: something else than numbers.
        ValueError: a number outside [0, 1].

    Example:
        >>> from spcl_fast.merc.statistics import holm
        >>> holm([0.01, 0.5, float("nan"), 0.02])
        [0.03, 0.5, nan, 0.04]
    """
    p = np.array([math.nan if x is None else _p_value(x) for x in p_values], dtype=np.float64)
    made = np.flatnonzero(~np.isnan(p))
    made = made[np.argsort(p[made], kind="stable")]
    adjusted = np.full(len(p), math.nan)
    adjusted[made] = np.maximum.accumulate(np.minimum(p[made] * np.arange(len(made), 0, -1), 1.0))
    return [float(x) for x in adjusted]


def _wilcoxon(d: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed rank test on differences that are not 0."""
    if len(d) > EXACT_PAIRS:
        return float(stats.wilcoxon(d).pvalue)
    if len(d) == 0:
        return 1.0
    ranks = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)  # doubled: the mean rank of ties may end on a half
    share = np.zeros(ranks.sum() + 1)  # of the choices of signs, by the sum of the ranks that are positive
    share[0] = 1.0
    for rank in ranks:
        share *= 0.5
        share[rank:] += share[:-rank].copy()
    positive = int(ranks[d > 0].sum())
    smaller = min(positive, int(ranks.sum()) - positive)
    return min(1.0, 2 * float(share[: smaller + 1].sum()))


def _numbers(op: str, name: str, values: Sequence[float]) -> np.ndarray:
    """float64[n], n >= 1, all finite."""
    x = np.array([_check.number(op, f"{name}[{i}]", value, "be finite") for i, value in enumerate(values)])
    if len(x) == 0:
        raise ValueError(f"{op}: {name} must hold at least one number (got none)")
    return x


def _confidence(op: str, value: float) -> float:
    return _check.number(op, "confidence", value, "be in (0, 1)", lambda x: 0 < x < 1)


def _p_value(value: float) -> float:
    return _check.number("holm", "p_values", value, "be in [0, 1], or NaN", lambda x: 0 <= x <= 1 or x != x)
