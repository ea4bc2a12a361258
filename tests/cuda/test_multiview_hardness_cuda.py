"""The CUDA kernels of `multiview_hardness`: every path and border of theirs, against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import MultiviewHardness

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True, scope="module")
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def hardness(*inputs: Tensor, valid: Tensor | None = None, scaling: Tensor | None = None) -> MultiviewHardness:
    kinds, present = [[part] for part in inputs[:4]], inputs[4]
    return MultiviewHardness(*torch.ops.spcl_fast.multiview_hardness(*kinds, present, valid, scaling, 1, 4.0, 0.6, 0.4))


def problem(T: int, F: int, M: int = 3, dtype: torch.dtype = torch.float32, scale: float = 1.5) -> list[Tensor]:
    sizes = (M, M, M, M * (M - 1) // 2)
    kinds = [(scale * torch.randn(n, T, F, dtype=torch.float64)).to(dtype) for n in sizes]
    return [*kinds, torch.rand(M, T) < 0.5]


def same(a: MultiviewHardness, b: MultiviewHardness) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return all(
        u.dtype == v.dtype and torch.equal(u.isnan(), v.isnan()) and torch.equal(u.nan_to_num(), v.nan_to_num())
        for u, v in zip(a, b, strict=True)
    )


def check(inputs: list[Tensor], valid: Tensor | None = None) -> MultiviewHardness:
    got = hardness(*inputs, valid=valid)
    exact = reference.multiview_hardness(*(part.double() for part in inputs[:4]), inputs[4], valid=valid)
    tol = 1e-11 if inputs[0].dtype == torch.float64 else 5e-6
    for part, expected in zip(got[1:], exact[1:], strict=True):
        torch.testing.assert_close(part.double(), expected, rtol=tol, atol=tol, equal_nan=True)
    again = reference.multiview_hardness(
        *(part.double() for part in inputs[:4]), inputs[4], valid=valid, scaling=got.scaling
    )
    tol = max(tol, 10 * tol / float((got.scaling[3] - got.scaling[2]).clamp(min=tol)))
    torch.testing.assert_close(got.hardness.double(), again.hardness, rtol=0, atol=tol, equal_nan=True)
    return got


# Rows that are held in registers, the longest of them in float64, float32 and halves, and those that are read again.
@pytest.mark.parametrize("F", [1, 8, 33, 128, 136, 256, 264, 512, 520])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_length_of_row(dtype: torch.dtype, F: int) -> None:
    for scale in (0.3, 12.0):  # without and with probabilities that are clamped
        check(problem(9, F, dtype=dtype, scale=scale))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("F", [40, 264])
def test_rows_that_do_not_go_by_16_bytes_give_the_same_bits(dtype: torch.dtype, F: int) -> None:
    *kinds, present = problem(11, F, dtype=dtype)
    expected = check([*kinds, present])
    shifted = [torch.zeros(*part.shape[:2], F + 1, dtype=dtype)[..., 1:].copy_(part) for part in kinds]
    spaced = [torch.stack([part, part], -1)[..., 1] for part in kinds]
    for other in (shifted, spaced):
        assert same(hardness(*other, present), expected)
        for k in range(4):  # one kind alone
            mixed = [other[i] if i == k else part for i, part in enumerate(kinds)]
            assert same(hardness(*mixed, present), expected)


def test_more_rows_than_a_warp_has_lanes() -> None:
    check(problem(5, 8, M=8, dtype=torch.float64))


def test_more_utterances_than_the_grid_has_warps() -> None:
    T = 8192 + 9
    inputs = problem(T, 1, M=2, dtype=torch.float64)
    valid = torch.rand(T) < 0.9
    check(inputs, valid)


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_the_ends_are_found_wherever_they_are(place: int) -> None:
    """In each warp of a block, and in another block; by every thread of the second launch."""
    r, x, z, c, _ = problem(40, 4, M=2, dtype=torch.float64, scale=0.1)
    present = torch.zeros(2, 40, dtype=torch.bool)
    r[:, place] += 9
    z[:, (place + 13) % 40, 0] = 30
    c[:, (place + 29) % 40, 0] = 30
    got = check([r, x, z, c, present])
    assert int(got.direct.argmax()) == place
    assert got.scaling[1] == got.direct[place]
    assert got.scaling[2] == got.information[(place + 13) % 40]
    assert got.scaling[3] == got.information[(place + 29) % 40]


def test_no_utterance_and_a_scaling_that_is_given() -> None:
    inputs = problem(0, 8)
    assert hardness(*inputs).scaling.tolist() == [float("inf"), float("-inf")] * 2
    scaling = torch.tensor([0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 5.0, 0.0], dtype=torch.float64)[::2]
    assert torch.equal(hardness(*inputs, scaling=scaling).scaling, scaling)
    inputs = problem(20, 8)
    got = hardness(*inputs, scaling=scaling)
    d, g = (got.direct.double() - 0) / 2, (got.information.double() - 1) / 4
    torch.testing.assert_close(got.hardness.double(), torch.sigmoid(2.4 * d + 1.6 * g), rtol=0, atol=1e-6)
