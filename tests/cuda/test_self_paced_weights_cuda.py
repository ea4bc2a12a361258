"""The CUDA kernel of `self_paced_weights`, as a raw op."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import reference
from spcl_fast._options import NUMBERS, POLYNOMIAL_OF_CURML

PARAMETERS = {"mixture": {"lower": 0.2}, "polynomial": {"degree": 3.0}, "superloss": {"regularization": 0.5}}
SCHEMES = [name for name in NUMBERS if name != "spld"]
SIZES = [1, 3, 4, 5, 1023, 1024, 4099]  # around a piece of 16 bytes, a block, several blocks


def weights(difficulty: Tensor, threshold: Tensor | float, scheme: str) -> Tensor:
    level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
    parameter = next(iter(PARAMETERS.get(scheme, {"none": 0.0}).values()))
    return torch.ops.spcl_fast.self_paced_weights(difficulty, level, number, NUMBERS[scheme], parameter, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_weights_equal_the_reference(scheme: str, size: int, dtype: torch.dtype) -> None:
    difficulty = torch.rand(size, dtype=dtype) * 1.2
    difficulty[size // 2] = float("nan")
    # Next to its branch point sigma goes like a root: there the threshold counts as it was rounded.
    level = float(torch.tensor(0.7, dtype=dtype)) if scheme == "superloss" else 0.7
    expected = reference.self_paced_weights(difficulty.double(), level, scheme=scheme, **PARAMETERS.get(scheme, {}))
    for threshold in (0.7, torch.tensor(0.7, dtype=torch.float64)):
        got = weights(difficulty, threshold, scheme)
        assert got.dtype == dtype
        tolerance = 2e-6 if dtype == torch.float32 else 1e-12
        # Rounding the difficulty alone may move one across the threshold of a scheme that jumps there.
        near = (difficulty.double() - 0.7).abs() < 1e-6
        torch.testing.assert_close(got.double()[~near], expected[~near], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_curml_equals_the_reference(size: int, dtype: torch.dtype) -> None:
    difficulty = torch.rand(size, dtype=dtype) * 1.2
    expected = reference.self_paced_weights(difficulty.double(), 0.7, scheme="polynomial", degree=1.5, formula="curml")
    got = torch.ops.spcl_fast.self_paced_weights(difficulty, None, 0.7, POLYNOMIAL_OF_CURML, 1.5, None)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_super_loss_equals_the_reference(size: int, dtype: torch.dtype) -> None:
    loss = torch.rand(size + 1, dtype=dtype)[1:] * 4  # whose address is no multiple of 16 bytes
    loss[size // 2] = float("nan")
    expected = reference.super_loss(loss.double(), 0.75, regularization=0.5)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-14
    for threshold in ((None, 0.75), (torch.tensor(0.75, dtype=torch.bfloat16), None)):
        for given in (loss, loss.clone()):
            for got, wanted in zip(torch.ops.spcl_fast.super_loss(given, *threshold, 0.5), expected, strict=True):
                assert got.dtype == dtype
                close = {"rtol": tolerance, "atol": tolerance, "equal_nan": True}
                torch.testing.assert_close(got.double(), wanted, **close)


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_an_address_that_is_no_multiple_of_16_bytes_is_read(skip: int) -> None:
    difficulty = torch.rand(1000 + skip)
    assert torch.equal(weights(difficulty[skip:], 0.5, "linear"), weights(difficulty, 0.5, "linear")[skip:])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_threshold_on_the_device_that_is_no_threshold_gives_no_weight(scheme: str) -> None:
    difficulty = torch.rand(100) + 0.01
    if scheme == "given":  # which has no threshold
        assert torch.equal(weights(difficulty, torch.tensor(float("nan")), scheme), difficulty)
        return
    assert not weights(difficulty, torch.tensor(float("nan")), scheme).any()
    if scheme not in ("hard", "superloss"):  # which may have one below 0
        assert not weights(difficulty, torch.tensor(-1.0), scheme).any()


def test_every_dtype_of_a_threshold_is_read() -> None:
    difficulty = torch.rand(100)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        got = weights(difficulty, torch.tensor(0.5, dtype=dtype), "hard")
        assert torch.equal(got, weights(difficulty, 0.5, "hard"))


def test_spld_is_refused() -> None:
    groups = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="spld ranks"):
        torch.ops.spcl_fast.self_paced_weights(torch.rand(3), None, 0.5, NUMBERS["spld"], 0.1, groups)


def test_nothing_gives_nothing() -> None:
    assert weights(torch.empty(0), 0.5, "hard").shape == (0,)
