"""`ops.self_paced_weights` against the formulas, by hand; on every backend."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
PARAMETERS = {
    "mixture": {"lower": 0.3},
    "polynomial": {"degree": 3.0},
    "superloss": {"regularization": 0.4},
    "curml": {"degree": 3.0, "formula": "curml"},
}


def mixture(rho, level):
    lower = 0.3
    if rho <= lower or rho >= level:
        return float(rho <= lower)
    z = level * lower / (level - lower)
    return z / rho - z / level


FORMULAS = {
    "hard": lambda rho, level: float(rho <= level),
    "linear": lambda rho, level: max(0.0, 1 - rho / level) if level > 0 else 0.0,
    "logistic": lambda rho, level: (1 + math.exp(-level)) / (1 + math.exp(rho - level)) if level > 0 else 0.0,
    "log": lambda rho, level: math.log(rho + 1 - level) / math.log(1 - level) if rho < level else 0.0,
    "mixture": mixture,
    "polynomial": lambda rho, level: (1 - rho / level) ** (1 / 2) if rho < level else 0.0,
    "curml": lambda rho, level: (1 - rho / level) ** 1.0 / (3 - 1) if rho < level else 0.0,  # as it stands there
}
LEVELS = {"log": [0.7, 1e-3, 0.999], "mixture": [0.7, 0.301, 30.0]}


def weights(difficulty, level, scheme):
    name = "polynomial" if scheme == "curml" else scheme
    return ops.self_paced_weights(difficulty, level, scheme=name, **PARAMETERS.get(scheme, {}))


@pytest.mark.parametrize(
    ("scheme", "level"), [(s, x) for s in FORMULAS for x in LEVELS.get(s, [0.7, 1e-3, 30.0, 0.0, -1.0])]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_weights_equal_the_formulas(scheme, level, dtype, tolerance):
    level = float(torch.tensor(level, dtype=dtype))  # in which it counts
    difficulty = torch.cat([torch.linspace(0, 3, 70, dtype=torch.float64), torch.tensor([level, 40.0]).clamp(0)])
    difficulty = torch.cat([difficulty, max(level, 0) * torch.linspace(0, 0.99, 40, dtype=torch.float64)]).to(dtype)
    expected = torch.tensor([FORMULAS[scheme](float(rho), level) for rho in difficulty.tolist()], dtype=dtype)
    for threshold in (level, torch.tensor(level, dtype=torch.float64)):
        got = weights(difficulty, threshold, scheme)
        away = (difficulty - level).abs() > 1e-6  # where float32 rounds across the threshold
        torch.testing.assert_close(got[away], expected[away], rtol=tolerance, atol=tolerance)


def test_formulas_that_cancel_keep_their_digits_in_float32():
    """log near 1 and near 0, a root near the threshold, and a mixture of two thresholds that nearly meet."""
    small = torch.tensor([0.0, 1e-9, 3e-7, 1e-4])
    got = ops.self_paced_weights(small, 1 - 1e-9, scheme="log")
    expected = torch.tensor([math.log(x + 1e-9) / math.log(1e-9) for x in small.tolist()])
    torch.testing.assert_close(got, expected, rtol=2e-6, atol=2e-6)
    level = float(torch.tensor(1e-6))
    got = ops.self_paced_weights(level * torch.tensor([0.0, 0.25, 0.5, 0.75]), level, scheme="log")
    torch.testing.assert_close(got, torch.tensor([1.0, 0.75, 0.5, 0.25]), rtol=2e-6, atol=2e-6)

    level = float(torch.tensor(0.7))
    near = torch.tensor(0.7) * (1 - torch.tensor([2**-20, 2**-22, 2**-23]))
    expected = torch.tensor([(1 - float(x) / level) ** 0.1 for x in near.double()])
    torch.testing.assert_close(
        ops.self_paced_weights(near, level, scheme="polynomial", degree=11), expected, rtol=2e-6, atol=2e-6
    )
    tiny = torch.tensor([0.0, 1e-8, 1e-7, 1e-6])
    expected = torch.tensor([(1 - x) ** 1e6 for x in tiny.tolist()])
    got = ops.self_paced_weights(tiny, 1.0, scheme="polynomial", degree=1 + 1e-6)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)

    upper, lower = 1 + 2**-22, 1.0
    got = ops.self_paced_weights(torch.tensor([1.0, 1 + 2**-23, upper]), upper, scheme="mixture", lower=lower)
    torch.testing.assert_close(got, torch.tensor([1.0, 0.5, 0.0]))


def test_the_formulas_of_polynomial_agree_at_degree_2_alone():
    difficulty = torch.linspace(-1, 2, 50)
    paper, curml = (
        [ops.self_paced_weights(difficulty, 1.0, scheme="polynomial", degree=t, formula=f) for t in (1.25, 2, 3)]
        for f in ("paper", "curml")
    )
    torch.testing.assert_close(paper[1], curml[1])
    assert curml[0].max() == 4
    assert curml[2].max() == 0.5
    assert all(x.max() == 1 for x in paper)
    assert torch.equal(paper[2], ops.self_paced_weights(difficulty, 1.0, scheme="polynomial", degree=3))


def test_superloss_weighs_every_difficulty_and_takes_any_threshold():
    difficulty = torch.tensor([-1.0, 0.0, 0.7, 5.0, 1e30, NAN, INF, -INF])
    for level in (0.7, -0.5, 0.0, INF, torch.tensor(-2.0)):
        weight = weights(difficulty, level, "superloss")
        assert (weight[:5] > 0).all()
        assert (weight[:5] <= torch.tensor(math.e)).all()
        assert weight[5:].tolist() == [0, 0, torch.tensor(math.e)]
    assert abs(weights(difficulty, 0.7, "superloss")[2] - 1) < 1e-6
    assert not weights(difficulty, -INF, "superloss").any()


@pytest.mark.parametrize("scheme", ["linear", "logistic", "log", "mixture", "polynomial"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_weights_at_the_borders(scheme, dtype):
    difficulty = torch.tensor([0.0, -5.0, NAN, INF, -INF, 1e30], dtype=dtype)
    for level in (0.5, 0.9) if scheme == "log" else (0.5, 60.0):
        got = weights(difficulty, level, scheme)
        assert got[[0, 1, 4]].tolist() == [1, 1, 1]
        torch.testing.assert_close(got, torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0], dtype=dtype))
    if scheme != "log":
        everything = weights(difficulty, INF, scheme)
        assert everything[[0, 1]].tolist() == [1, 1]
        assert everything[2] == 0
        assert everything[5] == (1 if scheme != "mixture" else torch.tensor(0.3, dtype=dtype) / difficulty[5])
    for level in (0.0, -1.0, -INF):
        if scheme in LEVELS:
            with pytest.raises(ValueError, match="threshold"):
                weights(difficulty, level, scheme)
        else:
            assert not weights(difficulty, level, scheme).any()


@pytest.mark.parametrize("scheme", FORMULAS)
def test_weights_keep_shape_and_dtype_and_fall_with_difficulty(scheme):
    difficulty = torch.rand(4, 5, 6).transpose(0, 2)
    weight = weights(difficulty, 0.5, scheme)
    assert weight.shape == difficulty.shape
    order = difficulty.flatten().argsort()
    assert (weight.flatten()[order].diff() <= 0).all()
    half = weights(difficulty.half(), 0.5, scheme)
    assert half.dtype == torch.float16
    wide = weights(difficulty.half().double(), 0.5, scheme)
    torch.testing.assert_close(half.double(), wide, rtol=1e-3, atol=1e-3)
    assert weight.min() >= 0
    assert weight.max() <= 1
    assert weights(torch.zeros(0, 3), 0.5, scheme).shape == (0, 3)
    assert not weights(difficulty.requires_grad_(), 0.5, scheme).requires_grad


def spld(difficulty, level, gamma, groups):
    """SPLD by loops: rank, bound, compare."""
    weight = [0.0] * len(difficulty)
    rows = {group: [] for group in groups}
    for t, group in enumerate(groups):
        if difficulty[t] == difficulty[t]:
            rows[group].append(t)
    for own in rows.values():
        for rank, t in enumerate(sorted(own, key=lambda t: (difficulty[t], t)), 1):
            bound = level + gamma / (math.sqrt(rank) + math.sqrt(rank - 1))
            weight[t] = float(level > 0 and difficulty[t] < bound)
    return weight


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.625, 0.75, 1.0, -1.0, NAN, INF, -INF]), st.integers(-2, 2)),
        max_size=40,
    ),
    level=st.sampled_from([0.5, 0.25, 1e-30, 0.0, -1.0, INF]),
    gamma=st.sampled_from([0.0, 0.25, 0.6, 1.0, 50.0]),
    spread=st.sampled_from([1, 2**61]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_spld_is_that_of_the_loops_with_every_tie(rows, level, gamma, spread, dtype):
    difficulty, groups = [rho for rho, _ in rows], [g * spread for _, g in rows]
    level = float(torch.tensor(level, dtype=dtype))
    got = ops.self_paced_weights(
        torch.tensor(difficulty, dtype=dtype),
        level,
        scheme="spld",
        gamma=gamma,
        groups=torch.tensor(groups, dtype=torch.int64),
    )
    assert got.dtype == dtype
    assert got.tolist() == spld(difficulty, level, gamma, groups)


@pytest.mark.parametrize("num_groups", [1, 7, 5000])
def test_spld_of_many_is_that_of_the_loops(num_groups):
    difficulty = torch.rand(20_000)
    difficulty[::97] = difficulty[5]
    groups = torch.randint(num_groups, (20_000,))
    for gamma in (0.0, 0.5, 30.0):
        got = ops.self_paced_weights(difficulty, 0.25, scheme="spld", gamma=gamma, groups=groups)
        assert got.tolist() == spld(difficulty.tolist(), 0.25, gamma, groups.tolist())


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint32, torch.uint64]
)
def test_spld_takes_groups_of_any_integers_and_any_strides(dtype):
    difficulty, groups = torch.rand(6, 50), torch.randint(5, (6, 50))
    options = {"scheme": "spld", "gamma": 0.8}
    expected = ops.self_paced_weights(difficulty, 0.4, **options, groups=groups)
    assert 0 < expected.sum() < 300
    got = ops.self_paced_weights(difficulty, 0.4, **options, groups=groups.to(dtype))
    assert torch.equal(got, expected)
    strided = difficulty.T.contiguous().T, groups.T.contiguous().T
    assert torch.equal(ops.self_paced_weights(strided[0], 0.4, **options, groups=strided[1]), expected)
    half = ops.self_paced_weights(difficulty.half(), 0.4, **options, groups=groups)
    wide = ops.self_paced_weights(difficulty.half().float(), 0.4, **options, groups=groups)
    assert torch.equal(half, wide.half())
    assert ops.self_paced_weights(difficulty[:0], 0.4, **options, groups=groups[:0]).shape == (0, 50)


def test_spld_takes_the_easiest_of_every_group():
    """What it is for: at one threshold, a group of hard examples is not left out."""
    difficulty = torch.cat([torch.rand(100), 1 + torch.rand(100)])
    groups = torch.arange(200) // 100
    assert not ops.self_paced_weights(difficulty, 0.9)[100:].any()
    weight = ops.self_paced_weights(difficulty, 0.9, scheme="spld", gamma=1.0, groups=groups)
    assert 0 < weight[100:].sum() < 100
    assert difficulty[100:][weight[100:] == 1].max() < difficulty[100:][weight[100:] == 0].min()


@pytest.mark.parametrize(
    ("scheme", "parameters", "level", "error", "message"),
    [
        ("log", {}, 1.0, ValueError, r"threshold of 'log' must lie in \(0, 1\) \(got 1.0\)"),
        ("log", {}, INF, ValueError, r"threshold of 'log' must lie in \(0, 1\) \(got inf\)"),
        ("log", {"lower": 0.1}, 0.5, TypeError, r"scheme 'log' has no parameters \(got lower\)"),
        ("mixture", {}, 0.5, TypeError, r"scheme 'mixture' has the parameter\(s\) lower \(got none\)"),
        ("mixture", {"lower": 0.5}, 0.5, ValueError, r"threshold of 'mixture' must be above lower, 0.5 \(got 0.5\)"),
        ("mixture", {"lower": 0.0}, 0.5, ValueError, r"lower of 'mixture' must be finite and above 0 \(got 0.0\)"),
        ("mixture", {"lower": NAN}, 0.5, ValueError, "lower of 'mixture' must be finite and above 0"),
        ("mixture", {"lower": "0.1"}, 0.5, TypeError, r"lower of 'mixture' must be a number \(got str\)"),
        ("mixture", {"lower": True}, 0.5, TypeError, r"lower of 'mixture' must be a number \(got bool\)"),
        ("mixture", {"lower": 0.1, "upper": 1}, 0.5, TypeError, r"\(got lower, upper\)"),
        (
            "polynomial",
            {"degree": 1},
            0.5,
            ValueError,
            r"degree of 'polynomial' must be finite and above 1 \(got 1.0\)",
        ),
        ("polynomial", {"degree": INF}, 0.5, ValueError, "degree of 'polynomial' must be finite"),
        ("polynomial", {}, 0.5, TypeError, r"scheme 'polynomial' has the parameter\(s\) degree"),
        ("polynomial", {"formula": "curml"}, 0.5, TypeError, r"degree and may have formula \(got formula\)"),
        (
            "polynomial",
            {"degree": 2, "formula": "book"},
            0.5,
            ValueError,
            r"formula of 'polynomial' must be one of 'paper', 'curml' \(got 'book'\)",
        ),
        ("linear", {"formula": "curml"}, 0.5, TypeError, r"scheme 'linear' has no parameters \(got formula\)"),
        ("superloss", {}, 0.5, TypeError, r"scheme 'superloss' has the parameter\(s\) regularization \(got none\)"),
        (
            "superloss",
            {"regularization": 0},
            0.5,
            ValueError,
            r"regularization of 'superloss' must be finite and above 0",
        ),
        ("superloss", {"regularization": 1.0}, NAN, ValueError, "threshold must not be NaN"),
        ("given", {"degree": 2}, 0.5, TypeError, r"scheme 'given' has no parameters \(got degree\)"),
        ("spld", {"gamma": 1.0}, 0.5, TypeError, r"parameter\(s\) gamma, groups \(got gamma\)"),
        ("spld", {"gamma": -1, "groups": torch.zeros(2).long()}, 0.5, ValueError, "gamma of 'spld' must be finite and"),
        ("spld", {"gamma": 1, "groups": torch.zeros(2)}, 0.5, TypeError, "groups must hold integers"),
        ("spld", {"gamma": 1, "groups": [0, 1]}, 0.5, TypeError, r"groups must be a tensor \(got list\)"),
        ("spld", {"gamma": 1, "groups": torch.zeros(3).long()}, 0.5, ValueError, r"groups must have shape \(2,\)"),
        ("soft", {}, 0.5, ValueError, r"scheme must be one of 'hard', .*'spld' \(got 'soft'\)"),
    ],
)
@pytest.mark.parametrize("form", [float, pytest.param(torch.tensor, marks=pytest.mark.host_only)])
def test_weights_out_of_their_domain_are_refused(scheme, parameters, level, error, message, form):
    with pytest.raises(error, match=message):
        ops.self_paced_weights(torch.zeros(2), form(level), scheme=scheme, **parameters)


def test_the_reference_gives_no_weight_at_a_threshold_of_a_device_that_is_out_of_the_domain():
    from spcl_fast import reference

    difficulty = torch.tensor([-1.0, 0.0, 0.1, 0.4, NAN, INF])
    for scheme, level in (("log", 0.0), ("log", 1.0), ("log", 5.0), ("mixture", 0.2), ("mixture", -1.0)):
        got = reference.self_paced_weights(difficulty, torch.tensor(level), scheme=scheme, **PARAMETERS.get(scheme, {}))
        assert not got.any()


@pytest.mark.parametrize("scheme", ["linear", "logistic", "mixture", "polynomial"])
def test_difficulty_of_minus_inf_has_weight_1_at_a_threshold_of_inf(scheme: str) -> None:
    # -Inf / +Inf is NaN, which "linear" gave a weight of 0
    assert weights(torch.tensor([-INF, -1.0, 0.0, INF, NAN]), INF, scheme).tolist() == [1, 1, 1, 0, 0]
