"""`kernels.modality_scores` and its gradient against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import kernels, reference

NAN, INF = float("nan"), float("inf")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-6, torch.bfloat16: 2e-6}
T = 37


def rounding(dtype: torch.dtype) -> float:
    """Of a number to a half: half a step, on a GPU; the interpreter cuts off what bfloat16 does not hold."""
    if dtype not in (torch.float16, torch.bfloat16):
        return 0.0
    cuts = dtype == torch.bfloat16 and kernels.is_interpreted()
    return torch.finfo(dtype).eps * (1 if cuts else 0.5)


def problem(M: int = 3, C: int = 6, dtype: torch.dtype = torch.float64, rows: int = T) -> tuple[Tensor, Tensor]:
    return 2 * torch.randn(M, rows, C, dtype=torch.float64).to(dtype), torch.randint(C, (rows,))


def check(device, form, labels, z, *, present=None, ignore_index=-100, gradients=None) -> tuple[Tensor, Tensor]:
    """Scores and gradient of `form`, which holds the values of `z`; compared with the reference."""
    has = None if present is None else present.to(device)
    slab = kernels.modality_scores(form, labels.to(device), has, ignore_index)
    leaf = z.double().requires_grad_()
    expected = reference.modality_scores(leaf, labels, ignore_index=ignore_index, present=present)
    tolerance = TOLERANCE[z.dtype]
    for name, got, wanted in zip(expected._fields, slab.cpu(), expected, strict=True):
        torch.testing.assert_close(
            got.double(), wanted.detach(), rtol=tolerance, atol=tolerance, equal_nan=True, msg=name
        )
    if gradients is None:
        gradients = [torch.randn(z.shape[:2], dtype=slab.dtype) for _ in range(4)]
    on_device = [None if g is None else g.to(device) for g in gradients]
    got = kernels.modality_scores_backward(form, labels.to(device), has, ignore_index, *on_device)
    given = [(x, g.double()) for x, g in zip(expected, gradients, strict=True) if g is not None]
    (wanted,) = torch.autograd.grad([x for x, _ in given], leaf, [g for _, g in given])
    assert got.dtype == z.dtype
    torch.testing.assert_close(got.cpu().double(), wanted, rtol=tolerance + rounding(z.dtype), atol=4 * tolerance)
    return slab, got


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("C", [1, 7, 130])
def test_scores_and_gradients_are_those_of_the_reference(device, dtype, C) -> None:
    z, y = problem(C=C, dtype=dtype, rows=T if C < 100 else 6)
    check(device, [z.to(device)], y, z)


@pytest.mark.parametrize("used", range(4))
def test_the_gradient_of_each_score(device, used) -> None:
    z, y = problem()
    z[0, :4, 1:3] = 1.5  # rivals that tie, or the label among them
    gradients: list[Tensor | None] = [None] * 4
    gradients[used] = torch.randn(3, T, dtype=torch.float64)
    check(device, [z.to(device)], y, z, gradients=gradients)


def test_faults_are_nan_in_their_row_alone_with_a_zero_gradient(device) -> None:
    z, y = problem()
    y[:5] = torch.tensor([-100, -1, 6, 2**40, -(2**63)])
    z[1, 7, 2], z[0, 8, 1], z[2, 9] = NAN, INF, -INF
    z[0, 10, int(y[10])] = -INF
    z[1, 11, (int(y[11]) + 1) % 6] = -INF
    clean = torch.ones(3, T, dtype=torch.bool)
    clean[:, :5] = clean[1, 7] = clean[0, 8] = clean[2, 9] = False
    gradients = [torch.where(clean, torch.randn(3, T, dtype=torch.float64), NAN) for _ in range(4)]
    labels = y.to(device)
    slab = kernels.modality_scores([z.to(device)], labels, None, -100).cpu()
    assert torch.equal(slab.isnan(), ~clean.expand(4, -1, -1))
    assert slab[0, 0, 10] == INF
    got = kernels.modality_scores_backward([z.to(device)], labels, None, -100, *(g.to(device) for g in gradients))
    assert not got[~clean.to(device)].any()
    assert got.isfinite().all()
    check(device, [z.to(device)], y, z, gradients=[g.nan_to_num() for g in gradients])


def test_a_missing_modality_is_not_looked_at(device) -> None:
    z, y = problem()
    present = torch.rand(3, T) < 0.6
    poisoned = torch.where(present[..., None], z, NAN).to(device)
    check(device, list(poisoned), y, z, present=present)
    got = kernels.modality_scores([poisoned], y.to(device), present.T.contiguous().T.to(device), -100)
    assert torch.equal(got[0].isnan().cpu(), ~present)


def test_ignore_index_may_be_a_class(device) -> None:
    z, y = problem()
    check(device, [z.to(device)], y, z, ignore_index=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_strides_and_sequences_give_the_same_bits(device, dtype) -> None:
    z, y = problem(C=7, dtype=dtype)
    z = z.to(device)
    slab, _ = check(device, [z], y, z.cpu())
    arriving = [torch.randn(T, 3, dtype=torch.float32, device=device).T for _ in range(4)]
    spaced = torch.full((3, 2 * T + 3, 21), NAN, dtype=dtype, device=device)[:, 3::2, 1::3]
    spaced.copy_(z)
    class_first = z.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    labels = torch.stack([y, y], 1).to(device)[:, 1]
    expected = kernels.modality_scores_backward([z], y.to(device), None, -100, *(g.contiguous() for g in arriving))
    for form in ([spaced], [class_first], list(z), [spaced[0], class_first[1], z[2]]):
        got = kernels.modality_scores(form, labels.to(torch.int32), None, -100)
        if kernels.is_interpreted():  # a GPU may add in another order what lies in another order
            assert torch.equal(got, slab)
            assert torch.equal(kernels.modality_scores_backward(form, labels, None, -100, *arriving), expected)
        torch.testing.assert_close(got, slab, rtol=2e-6, atol=2e-6)


def test_more_sources_than_a_kernel_takes_are_stacked(device) -> None:
    z, y = problem(M=34, C=3, rows=3)
    check(device, list(z.to(device)), y, z)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint64])
def test_every_integer_is_taken(device, dtype) -> None:
    z, y = problem()
    expected = kernels.modality_scores([z.to(device)], y.to(device), None, -100)
    assert torch.equal(kernels.modality_scores([z.to(device)], y.to(dtype).to(device), None, -100), expected)


def test_many_classes_are_tiled(device) -> None:
    z = torch.randn(1, 2, 65_536)
    y = torch.tensor([65_535, 777])
    slab = kernels.modality_scores([z.to(device)], y.to(device), None, -100).cpu()
    expected = reference.modality_scores(z.double(), y)
    torch.testing.assert_close(slab[0].double(), expected.loss, rtol=0, atol=2e-6)
    torch.testing.assert_close(slab[2].double(), expected.entropy, rtol=0, atol=2e-6)
    z, y = torch.randn(2, 3, 2500), torch.tensor([0, 2499, 1300])
    check(device, [z.to(device)], y, z)


def test_huge_logits_and_vanishing_probabilities(device) -> None:
    z = torch.tensor([[[3e38, -3e38, 0.0], [-3e38, 3e38, 3e38], [0.0, -95.0, -103.0], [0.0, -20.0, -30.0]]])
    y = torch.tensor([0, 0, 1, 2])
    slab = kernels.modality_scores([z.to(device)], y.to(device), None, -100).cpu()
    assert slab[1, 0].tolist()[:2] == [1, 0]
    torch.testing.assert_close(slab[1, 0, 3].double(), torch.softmax(z.double(), -1)[0, 3, 2], rtol=8e-7, atol=0)
    torch.testing.assert_close(slab[0, 0, 2:], torch.tensor([95.0, 30.0]))
    ones = torch.ones(1, 4, device=device)
    got = kernels.modality_scores_backward([z.to(device)], y.to(device), None, -100, ones, None, None, None)
    assert got[0, :2].tolist() == [[0, 0, 0], [-1, 0.5, 0.5]]


def test_out_is_filled_and_a_batch_of_nothing_is_empty(device) -> None:
    z, y = problem()
    wide = torch.full((4, 3, T + 5), 7.0, dtype=torch.float64, device=device)
    out = wide[:, :, 2 : T + 2]
    kernels.modality_scores_out([z.to(device)], y.to(device), None, -100, *out)
    assert torch.equal(out, kernels.modality_scores([z.to(device)], y.to(device), None, -100))
    assert (wide[:, :, :2] == 7).all()
    assert (wide[:, :, T + 2 :] == 7).all()
    nothing = torch.zeros(3, 0, 5, device=device), torch.zeros(0, dtype=torch.int64, device=device)
    assert kernels.modality_scores([nothing[0]], nothing[1], None, -100).shape == (4, 3, 0)
    backward = kernels.modality_scores_backward([nothing[0]], nothing[1], None, -100, None, None, None, None)
    assert backward.shape == (3, 0, 5)


def test_a_row_depends_on_itself_alone_and_repeats_bitwise(device) -> None:
    z, y = problem(C=7, dtype=torch.float32)
    z, y = z.to(device), y.to(device)
    whole = kernels.modality_scores([z], y, None, -100)
    assert torch.equal(kernels.modality_scores([z], y, None, -100), whole)
    for part in (slice(0, 1), slice(5, 20), slice(36, 37)):
        assert torch.equal(kernels.modality_scores([z[:, part]], y[part], None, -100), whole[:, :, part])
