"""Properties that the weights of every scheme have, searched by hypothesis."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

SCHEMES: dict[str, dict[str, Any]] = {
    "hard": {},
    "linear": {},
    "logistic": {},
    "log": {},
    "mixture": {"lower": 0.05},
    "polynomial": {"degree": 3.0},
    "curml": {"degree": 1.5, "formula": "curml"},
    "superloss": {"regularization": 0.6},
    "spld": {"gamma": 0.4},
}
LARGEST = {"curml": 2.0, "superloss": math.e}  # weight; of all others 1
#: what rounding may do to an order, in units of the largest weight
ROUNDING = {torch.float32: 1e-6, torch.float64: 4e-15}

difficulties = st.lists(
    st.one_of(st.floats(0, 3), st.sampled_from([0.0, 1e-30, 0.25, 1e30])), min_size=2, max_size=20, unique=True
)
levels = st.floats(0.0625, 0.9375, width=32)
dtypes = st.sampled_from([torch.float32, torch.float64])
common = settings(max_examples=60, deadline=None)


def weights(difficulty: torch.Tensor, level: float, scheme: str) -> torch.Tensor:
    parameters = dict(SCHEMES[scheme])
    if scheme == "spld":
        parameters["groups"] = torch.zeros(difficulty.shape, dtype=torch.int64)
    return ops.self_paced_weights(difficulty, level, scheme="polynomial" if scheme == "curml" else scheme, **parameters)


@pytest.mark.parametrize("scheme", SCHEMES)
@common
@given(rho=difficulties, level=levels, dtype=dtypes)
def test_harder_is_never_heavier(scheme: str, rho: list[float], level: float, dtype: torch.dtype) -> None:
    difficulty = torch.tensor(rho, dtype=dtype).sort().values
    weight = weights(difficulty, level, scheme)
    largest = LARGEST.get(scheme, 1.0)
    assert (weight.diff() <= ROUNDING[dtype] * largest).all()
    assert weight.min() >= 0
    assert weight.max() <= torch.tensor(largest, dtype=dtype)


@pytest.mark.parametrize("scheme", SCHEMES)
@common
@given(rho=difficulties, pair=st.tuples(levels, levels), dtype=dtypes)
def test_a_higher_threshold_takes_nothing_away(
    scheme: str, rho: list[float], pair: tuple[float, float], dtype: torch.dtype
) -> None:
    """By "log" up to 1 - 1/e alone: beyond, its formula falls again."""
    difficulty = torch.tensor(rho, dtype=dtype)
    scale = 0.625 if scheme == "log" else 1.0
    low, high = (weights(difficulty, scale * level, scheme) for level in sorted(pair))
    assert (low <= high + ROUNDING[dtype] * LARGEST.get(scheme, 1.0)).all()


@pytest.mark.parametrize("scheme", SCHEMES)
@common
@given(rho=difficulties, level=levels, dtype=dtypes)
def test_the_ends_of_a_scheme(scheme: str, rho: list[float], level: float, dtype: torch.dtype) -> None:
    ends = weights(torch.tensor([0.0, level, float("inf"), float("nan")], dtype=dtype), level, scheme).double()
    assert not ends[2:].any()
    if scheme == "superloss":  # which has no end: 1 at the threshold, e for the easiest
        torch.testing.assert_close(float(ends[1]), 1.0, rtol=ROUNDING[dtype], atol=0)
        easiest = torch.tensor([level - 2 / math.e * 0.6 * 1.001], dtype=dtype)
        assert weights(easiest, level, scheme) == torch.tensor(math.e, dtype=dtype)
        return
    torch.testing.assert_close(float(ends[0]), LARGEST.get(scheme, 1.0), rtol=ROUNDING[dtype], atol=0)
    beyond = weights(torch.tensor([x for x in rho if x > 1.5 + level] + [1e9], dtype=dtype), level, scheme)
    if scheme == "logistic":
        at = (1 + math.exp(-level)) / 2
        torch.testing.assert_close(float(ends[1]), at, rtol=ROUNDING[dtype], atol=0)
        assert beyond.max() < at
    else:
        assert ends[1] == (1.0 if scheme in ("hard", "spld") else 0.0)
        assert not beyond.any()


@common
@given(rho=difficulties, level=st.one_of(levels, st.sampled_from([-1.0, 0.0, float("inf")])), dtype=dtypes)
def test_given_weights_are_kept(rho: list[float], level: float, dtype: torch.dtype) -> None:
    difficulty = torch.tensor([*rho, -1.0, -0.0, float("inf"), float("-inf"), float("nan")], dtype=dtype)
    weight = ops.self_paced_weights(difficulty, level, scheme="given")
    assert torch.equal(weight[: len(rho)], difficulty[: len(rho)])
    assert not weight[len(rho) :].any()
