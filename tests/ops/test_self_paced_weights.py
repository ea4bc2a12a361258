"""`ops.self_paced_weights` and `ops.modality_spread` against the formulas, by hand; on every backend."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
FORMULAS = {
    "hard": lambda rho, level: float(rho <= level),
    "linear": lambda rho, level: max(0.0, 1 - rho / level) if level > 0 else 0.0,
    "logistic": lambda rho, level: (1 + math.exp(-level)) / (1 + math.exp(rho - level)) if level > 0 else 0.0,
}


@pytest.mark.parametrize("scheme", FORMULAS)
@pytest.mark.parametrize("level", [0.7, 1e-3, 30.0, 0.0, -1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_weights_equal_the_formulas(scheme, level, dtype, tolerance):
    difficulty = torch.cat([torch.linspace(0, 3, 70, dtype=torch.float64), torch.tensor([level, 40.0]).clamp(0)])
    expected = torch.tensor([FORMULAS[scheme](float(rho), level) for rho in difficulty.tolist()], dtype=dtype)
    for threshold in (level, torch.tensor(level, dtype=torch.float64)):
        got = ops.self_paced_weights(difficulty.to(dtype), threshold, scheme=scheme)
        away = (difficulty - level).abs() > 1e-6  # where float32 rounds across the threshold
        torch.testing.assert_close(got[away], expected[away], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scheme", ["linear", "logistic"])
def test_soft_weights_at_the_borders(scheme):
    difficulty = torch.tensor([0.0, -5.0, NAN, INF, -INF, 1e30])
    for level in (0.5, 60.0):
        got = ops.self_paced_weights(difficulty, level, scheme=scheme)
        torch.testing.assert_close(got, torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]))
    everything = ops.self_paced_weights(difficulty, INF, scheme=scheme)
    assert everything[[0, 1, 5]].tolist() == [1, 1, 1]
    assert everything[2] == 0
    for level in (0.0, -1.0, -INF):
        assert not ops.self_paced_weights(difficulty, level, scheme=scheme).any()


@pytest.mark.parametrize("scheme", FORMULAS)
def test_weights_keep_shape_and_dtype_and_fall_with_difficulty(scheme):
    difficulty = torch.rand(4, 5, 6).transpose(0, 2)
    weight = ops.self_paced_weights(difficulty, 0.5, scheme=scheme)
    assert weight.shape == difficulty.shape
    order = difficulty.flatten().argsort()
    assert (weight.flatten()[order].diff() <= 0).all()
    half = ops.self_paced_weights(difficulty.half(), 0.5, scheme=scheme)
    assert half.dtype == torch.float16
    wide = ops.self_paced_weights(difficulty.half().double(), 0.5, scheme=scheme)
    torch.testing.assert_close(half.double(), wide, rtol=1e-3, atol=1e-3)
    assert ops.self_paced_weights(torch.zeros(0, 3), 0.5, scheme=scheme).shape == (0, 3)
    assert not ops.self_paced_weights(difficulty.requires_grad_(), 0.5, scheme=scheme).requires_grad


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("M", [2, 3, 5])
def test_spread_is_the_standard_deviation_over_the_modalities(aggregate, M):
    p, lengths = torch.rand(M, 5000, dtype=torch.float64), [1, 16, 17, 0, 4966]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    got = ops.modality_spread(p, offsets, aggregate=aggregate)
    for d, n in enumerate(lengths):
        own = p[:, int(offsets[d]) : int(offsets[d + 1])]
        S = [math.fsum(row) / (n if aggregate == "mean" else 1) for row in own.tolist()] if n else [NAN] * M
        expected = statistics.stdev(S) if n else NAN
        torch.testing.assert_close(got[d].item(), expected, rtol=1e-11, atol=1e-12, equal_nan=True)


def test_spread_with_modalities_missing_now_and_then():
    p = torch.rand(3, 30, dtype=torch.float64)
    present = torch.rand(3, 30) < 0.7
    present[2, 10:20] = False
    present[:2, 20:] = False
    offsets = torch.tensor([0, 10, 20, 30])
    poisoned = p.masked_fill(~present, NAN)
    got = ops.modality_spread(poisoned, offsets, present=present)
    for d in range(3):
        own, has = p[:, 10 * d : 10 * d + 10], present[:, 10 * d : 10 * d + 10]
        n = int(has.any(0).sum())
        S = [n * float(own[m][has[m]].mean()) for m in range(3) if has[m].any()]
        expected = statistics.stdev(S) if len(S) > 1 else NAN
        torch.testing.assert_close(got[d].item(), expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    strided = poisoned.T.contiguous().T
    assert torch.equal(ops.modality_spread(strided, offsets, present=present.T.contiguous().T)[:2], got[:2])
