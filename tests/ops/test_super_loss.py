"""`ops.super_loss` against Lambert's W of SciPy, and of mpmath where SciPy leaves digits; on every backend."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch

from spcl_fast import ops, reference
from spcl_fast.reference.super_loss import SuperLoss

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
#: relative errors that the contract allows
TOLERANCE = {torch.float64: 2e-15, torch.float32: 1e-6}
SETTINGS = [(0.0, 1.0), (0.7, 0.25), (math.log(7), 3.0), (-3.3, 7.0), (2.0, 1e-3)]


def exact(losses: torch.Tensor, threshold: float, regularization: float) -> SuperLoss:
    """By 50 digits; the losses, the threshold and the regularization are what they are."""
    values, weights = [], []
    with mpmath.workdps(50):
        for loss in losses.double().tolist():
            distance = mpmath.mpf(loss) - threshold
            x = max(-2 / mpmath.e, distance / regularization) / 2
            log_sigma = -mpmath.lambertw(x).real
            sigma = mpmath.exp(log_sigma)
            weights.append(float(sigma))
            values.append(float(distance * sigma + regularization * log_sigma**2))
    return SuperLoss(torch.tensor(values, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64))


def rounded(number: float, dtype: torch.dtype) -> float:
    return float(torch.tensor(number, dtype=dtype))


def assert_close(got: SuperLoss, expected: SuperLoss, loss: torch.Tensor, threshold: float, r: float) -> None:
    """Each within the tolerance of its dtype; the value relative to the larger of its terms."""
    tolerance = TOLERANCE[loss.dtype]
    torch.testing.assert_close(got.weight.double(), expected.weight, rtol=tolerance, atol=0)
    log_weight = expected.weight.log()
    term = torch.maximum(((loss.double() - threshold) * expected.weight).abs(), r * log_weight**2)
    assert ((got.value.double() - expected.value).abs() <= 2 * tolerance * term).all()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("threshold", "regularization"), SETTINGS)
def test_super_loss_is_that_of_fifty_digits(threshold: float, regularization: float, dtype: torch.dtype) -> None:
    """From below the branch point over its neighbourhood, where sigma goes like a root, to huge losses."""
    threshold, r = rounded(threshold, dtype), rounded(regularization, dtype)
    branch = threshold - 2 / math.e * r
    steps = torch.logspace(-18, 0, 60, dtype=torch.float64)
    largest = 30 if dtype == torch.float32 else 200
    loss = torch.cat(
        [
            branch + r * torch.cat([steps, -steps[::6]]),
            threshold + r * torch.cat([steps[::2], -steps[::2]]),
            torch.logspace(-3, largest, 60, dtype=torch.float64),
            -torch.logspace(-3, largest, 10, dtype=torch.float64),
        ]
    ).to(dtype)
    got = ops.super_loss(loss, threshold, regularization=r)
    assert got.weight.dtype == got.value.dtype == dtype
    assert got.weight.max() == torch.tensor(math.e, dtype=dtype)
    assert got.weight.min() > 0
    assert_close(got, exact(loss, threshold, r), loss, threshold, r)


def test_super_loss_is_that_of_scipy() -> None:
    lambertw = pytest.importorskip("scipy.special").lambertw
    loss = torch.cat(
        [torch.linspace(-5, 60, 5001, dtype=torch.float64), torch.logspace(1, 300, 500, dtype=torch.float64)]
    )
    for threshold, regularization in SETTINGS:
        losses = loss.cpu().numpy()
        beta = (losses - threshold) / regularization
        is_cut = beta <= -2 / math.e
        sigma = np.where(is_cut, math.e, np.exp(-lambertw(np.where(is_cut, 0.0, beta / 2)).real))
        away = abs(beta + 2 / math.e) > 1e-3  # next to the branch point SciPy's is off by the root of a rounding error
        value = (losses - threshold) * sigma + regularization * np.log(sigma) ** 2
        got = ops.super_loss(loss, threshold, regularization=regularization)
        np.testing.assert_allclose(got.weight.cpu().numpy()[away], sigma[away], rtol=1e-11)
        np.testing.assert_allclose(got.value.cpu().numpy()[away], value[away], rtol=1e-10, atol=1e-10 * regularization)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_super_loss_at_the_borders(dtype: torch.dtype) -> None:
    loss = torch.tensor([NAN, INF, -INF, 0.5, -100.0], dtype=dtype).requires_grad_()
    value, weight = ops.super_loss(loss, 0.5, regularization=0.25)
    e = torch.tensor(math.e, dtype=dtype)
    assert weight.dtype == value.dtype == dtype
    torch.testing.assert_close(weight, torch.stack([0 * e, 0 * e, e, 0 * e + 1, e]))
    assert value[0].isnan()
    assert value[1] == INF
    assert value[2] == -INF
    torch.testing.assert_close(value[3:].detach(), torch.tensor([0.0, -100.5 * math.e + 0.25], dtype=dtype))
    (gradient,) = torch.autograd.grad(value, loss, torch.tensor([NAN, INF, 1, 2, 3], dtype=dtype))
    torch.testing.assert_close(gradient, weight * torch.tensor([0, 0, 1, 2, 3], dtype=dtype))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("threshold", [INF, -INF])
def test_super_loss_at_an_infinite_threshold(threshold: float, dtype: torch.dtype) -> None:
    loss = torch.tensor([-1.0, 0.0, 7.0, INF, NAN], dtype=dtype)
    value, weight = ops.super_loss(loss, threshold, regularization=1.0)
    e = math.e if threshold > 0 else 0.0
    assert torch.equal(weight, torch.tensor([e, e, e, 0, 0], dtype=dtype))
    assert torch.equal(value[:4], torch.tensor([-threshold, -threshold, -threshold, INF], dtype=dtype))
    assert value[4].isnan()


def test_super_loss_keeps_shape_strides_and_any_regularization() -> None:
    loss = torch.rand(3, 4, 5).transpose(0, 2)
    value, weight = ops.super_loss(loss, 0.5, regularization=1.0)
    assert value.shape == weight.shape == loss.shape
    flat = ops.super_loss(loss.flatten(), torch.tensor(0.5, dtype=torch.float64), regularization=1)
    assert torch.equal(flat.value.view(loss.shape), value)
    assert torch.equal(flat.weight.view(loss.shape), weight)
    assert ops.super_loss(torch.zeros(0, 3), 0.5, regularization=1.0).value.shape == (0, 3)
    at_threshold = ops.super_loss(torch.tensor(0.5), 0.5, regularization=1.0)
    assert at_threshold.value == 0
    torch.testing.assert_close(at_threshold.weight, torch.tensor(1.0), rtol=1e-6, atol=0)
    # the smaller it is, the harder the cut; the larger, the closer to the plain loss
    weight = ops.super_loss(torch.tensor([0.4, 0.6]), 0.5, regularization=1e-300).weight
    assert weight[0] == torch.tensor(math.e)
    assert weight[1] < 1e-30
    weight = ops.super_loss(torch.tensor([0.4, 0.6]), 0.5, regularization=1e300).weight
    torch.testing.assert_close(weight, torch.ones(2))


def test_super_loss_of_half_precision_is_computed_in_more() -> None:
    loss = 4 * torch.rand(500)
    for dtype in (torch.float16, torch.bfloat16):
        half = loss.to(dtype)
        got = ops.super_loss(half, 1.5, regularization=0.8)
        wide = ops.super_loss(half.double(), 1.5, regularization=0.8)
        assert got.value.dtype == dtype
        for a, b in zip(got, wide, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


def test_sigma_makes_the_value_smallest_and_is_its_gradient() -> None:
    loss = torch.linspace(-3, 9, 41, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ops.super_loss(x, 1.3, regularization=0.9).value, loss)
    value, weight = ops.super_loss(loss, 1.3, regularization=0.9)
    assert not weight.requires_grad
    (gradient,) = torch.autograd.grad(value.sum(), loss)
    assert torch.equal(gradient, weight)
    for factor in (0.99, 1.01):
        other = weight * factor
        moved = (loss - 1.3) * other + 0.9 * other.log() ** 2
        cut = loss < 1.3 - 0.9 * 2 / math.e  # there no sigma is the best, and the published one stays at e
        assert (moved > value)[~cut].all()


def test_super_loss_has_no_second_derivative() -> None:
    loss = torch.rand(5, dtype=torch.float64, requires_grad=True)
    value = ops.super_loss(loss, 0.5, regularization=1.0).value
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(value.sum(), loss, create_graph=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.5], 0.5, 1.0), TypeError, r"loss must be a floating point tensor \(got list\)"),
        ((torch.arange(3), 0.5, 1.0), TypeError, r"loss must be a floating point tensor \(got torch.int64\)"),
        ((torch.rand(3), NAN, 1.0), ValueError, "threshold must not be NaN"),
        ((torch.rand(3), "0.5", 1.0), TypeError, "threshold must be a number or a 0-dim tensor"),
        ((torch.rand(3), torch.rand(3), 1.0), ValueError, "0-dim floating point tensor"),
        (
            (torch.rand(3), 0.5, 0.0),
            ValueError,
            r"regularization of 'superloss' must be finite and above 0 \(got 0.0\)",
        ),
        ((torch.rand(3), 0.5, INF), ValueError, r"regularization of 'superloss' must be finite and above 0 \(got inf"),
        ((torch.rand(3), 0.5, NAN), ValueError, "regularization of 'superloss' must be finite and above 0"),
        ((torch.rand(3), 0.5, "1"), TypeError, r"regularization of 'superloss' must be a number \(got str\)"),
    ],
)
def test_super_loss_refuses_what_is_out_of_its_domain(arguments, error, message) -> None:
    loss, threshold, regularization = arguments
    with pytest.raises(error, match=message):
        ops.super_loss(loss, threshold, regularization=regularization)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_super_loss_compiles_whole_and_once() -> None:
    def f(loss, threshold):
        value, weight = ops.super_loss(loss, threshold, regularization=0.7)
        return value.mean(), weight

    torch._dynamo.reset()
    compiled = torch.compile(f, fullgraph=True, dynamic=True, backend="aot_eager")
    for count in (30, 71):
        loss, threshold = torch.rand(count, dtype=torch.float64).requires_grad_(), torch.tensor(0.5)
        with torch._dynamo.config.patch(error_on_recompile=count == 71):
            got = compiled(loss, threshold)
        expected = f(loss, threshold)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(*(torch.autograd.grad(x[0], loss)[0] for x in (got, expected)))


def test_the_weights_of_the_scheme_are_those_of_the_loss() -> None:
    loss = torch.linspace(-1, 5, 77)
    for dtype in TOLERANCE:
        weight = ops.super_loss(loss.to(dtype), 0.8, regularization=0.6).weight
        scheme = ops.self_paced_weights(loss.to(dtype), 0.8, scheme="superloss", regularization=0.6)
        assert torch.equal(weight, scheme)


def test_the_reference_is_exact_in_float32_too() -> None:
    loss = torch.linspace(-1, 5, 77)
    got = reference.super_loss(loss, 0.5, regularization=0.25)
    torch.testing.assert_close(got.weight.double(), exact(loss, 0.5, 0.25).weight, rtol=6e-8, atol=0)
