"""The raw op `torch.ops.spcl_fast.modality_scores` on the CPU, against the formulas in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from spcl_fast import backends, reference

NAN, INF = float("nan"), float("inf")
INTEGERS = [getattr(torch, f"{u}int{bits}") for u in ("", "u") for bits in (8, 16, 32, 64)]


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def scores(
    logits: Tensor | list[Tensor], labels: Tensor, present: Tensor | None = None, ignore_index: int = -100
) -> Tensor:
    logits = [logits] if isinstance(logits, Tensor) else logits
    return torch.ops.spcl_fast.modality_scores(logits, labels, present, ignore_index)


def formulas(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss, confidence, entropy and margin in float64, for valid labels and rows with a finite logit."""
    z = logits.double()
    log_p = z - torch.logsumexp(z, -1, keepdim=True)
    p = log_p.exp()
    is_true = torch.nn.functional.one_hot(labels.long(), z.shape[-1]).bool().expand(z.shape)
    confidence = p[is_true].view(z.shape[:-1])
    if z.shape[-1] == 1:
        margin = torch.full_like(confidence, NAN)
    else:
        margin = confidence - p.masked_fill(is_true, -1).amax(-1)
    entropy = -torch.where(p > 0, p * log_p, 0.0).sum(-1)
    return torch.stack([-log_p[is_true].view(z.shape[:-1]), confidence, entropy, margin])


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def assert_accurate(got: Tensor, logits: Tensor, labels: Tensor) -> None:
    """The bounds hold for float32 arithmetic and logits within +-16; float64 is held to 1e-12."""
    expected = formulas(logits, labels)
    exact = got.dtype == torch.float64
    loss, confidence, entropy, margin = (got.double() - expected).abs()
    assert loss.max() <= (1e-12 if exact else 2.5e-6)
    assert (confidence / expected[1]).max() <= (1e-12 if exact else 2.5e-6)
    assert entropy.max() <= (1e-12 if exact else 1.5e-6)
    if logits.shape[-1] > 1:
        assert margin.max() <= (1e-12 if exact else 1.5e-6)
    else:
        assert got[3].isnan().all()


# Classes: one, two, those of the data sets, and both sides of the tile of 64 and of its double.
@pytest.mark.parametrize("C", [1, 2, 6, 7, 63, 64, 65, 128, 129, 1000])
# Rows: one, both sides of the widest vector's 16 lanes, and past one chunk of 2048.
@pytest.mark.parametrize("T", [1, 15, 16, 17, 2049])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_modality_scores_match_the_formulas(C: int, T: int, dtype: torch.dtype) -> None:
    logits = (3 * torch.randn(2, T, C, dtype=torch.float64)).clamp(-16, 16).to(dtype)
    labels = torch.randint(C, (T,))
    got = scores(logits, labels)
    assert got.shape == (4, 2, T)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_accurate(got, logits, labels)


def test_modality_scores_of_many_classes() -> None:
    logits = torch.randn(1, 33, 65536)
    labels = torch.randint(65536, (33,))
    loss, confidence, entropy, _ = (scores(logits, labels).double() - formulas(logits, labels)).abs()
    assert loss.max() < 5e-6
    assert (confidence / formulas(logits, labels)[1]).max() < 5e-6
    assert entropy.max() < 5e-6


def test_small_parts_of_a_long_sum_are_not_lost() -> None:
    """Each tile of 64 classes adds 2^-25, half the last bit of the sum so far: plain additions drop them all."""
    logits = torch.full((1, 65536), -31 * math.log(2))
    logits[0, 0] = 0
    labels = torch.zeros(1, dtype=torch.long)
    confidence = scores([logits], labels)[1].item()
    assert confidence == pytest.approx(formulas(logits[None], labels)[1].item(), rel=2e-7)


def test_modality_scores_of_moderate_logits_keep_the_published_bounds() -> None:
    logits = torch.randn(3, 50_000, 7)
    labels = torch.randint(7, (50_000,))
    expected = formulas(logits, labels)
    loss, confidence, entropy, _ = (scores(logits, labels).double() - expected).abs()
    assert loss.max() < 1.2e-6
    assert (confidence / expected[1]).max() < 8e-7
    assert entropy.max() < 3.5e-7


def test_modality_scores_agree_with_the_reference_on_faulty_data() -> None:
    logits = torch.randn(3, 4000, 6, dtype=torch.float64)
    for value in (NAN, INF, -INF):
        logits[torch.rand(logits.shape) < 0.02] = value
    logits[0, ::97] = -INF
    labels = torch.randint(-2, 8, (4000,))
    present = torch.rand(3, 4000) < 0.9
    got = scores(logits, labels, present, ignore_index=2)
    expected = torch.stack([*reference.modality_scores(logits, labels, present=present, ignore_index=2)])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modality_scores_widen_every_half_exactly(dtype: torch.dtype) -> None:
    logits = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)[:, None].repeat(1, 2)
    logits[:, 1] = 0
    labels = torch.zeros(2**16, dtype=torch.long)
    assert same(scores([logits], labels), scores([logits.float()], labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_modality_scores_of_rows_with_special_values(dtype: torch.dtype) -> None:
    C, rows = 7, torch.zeros(9, 7, dtype=dtype)
    rows[0, 3] = NAN
    rows[1, 6] = INF
    rows[2] = -INF
    rows[3, 0] = -INF  # the true class
    rows[4, 5] = -INF  # another
    rows[5, 1:] = -INF  # all others
    rows[6, 0] = NAN  # the true class
    rows[7] = torch.tensor([1e38, -1e38, 1e38, 0, -INF, 3e38, 3e38])
    got = scores([rows], torch.zeros(9, dtype=torch.long))[:, 0]
    assert got[:, [0, 1, 2, 6]].isnan().all()
    assert got[:, 3].tolist() == pytest.approx([INF, 0, torch.log(torch.tensor(6.0)).item(), -1 / 6])
    assert got[:2, 4].tolist() == pytest.approx([torch.log(torch.tensor(6.0)).item(), 1 / 6])
    assert got[2, 4].item() == pytest.approx(torch.log(torch.tensor(6.0)).item())
    assert got[:, 5].tolist() == [0, 1, 0, 1]
    assert got[:, 7].tolist() == pytest.approx([2e38, 0, torch.log(torch.tensor(2.0)).item(), -0.5])
    uniform = torch.log(torch.tensor(float(C))).item()
    assert got[:, 8].tolist() == pytest.approx([uniform, 1 / C, uniform, 0], abs=1e-6)


def test_modality_scores_underflow_gradually() -> None:
    logits = torch.tensor([[0.0, -80.0], [0.0, -95.0], [0.0, -103.0], [0.0, -120.0]])
    got = scores([logits], torch.ones(4, dtype=torch.long))[:, 0]
    assert got[0].tolist() == [80, 95, 103, 120]
    # Below 1.2e-38 a float32 has fewer digits: the distance between two of them is 1.4e-45.
    expected = torch.tensor([-80.0, -95.0, -103.0, -120.0], dtype=torch.float64).exp()
    assert ((got[1].double() - expected).abs() <= 1e-6 * expected + 1.5e-45).all()
    assert got[1, 2] > 0


@pytest.mark.parametrize("fault", [NAN, INF])
def test_a_fault_touches_its_own_row_only(fault: float) -> None:
    logits, labels = torch.randn(1, 40, 7), torch.randint(7, (40,))
    clean = scores(logits, labels)
    for t in (0, 5, 15, 16, 39):
        broken = logits.clone()
        broken[0, t, 2] = fault
        got = scores(broken, labels)
        others = torch.arange(40) != t
        assert got[:, 0, t].isnan().all()
        assert same(got[..., others], clean[..., others])


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_modality_scores_take_every_integer_label(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(2, 50, 7), torch.randint(7, (50,))
    padded = torch.stack([labels, labels], 1).to(dtype)
    assert same(scores(logits, padded[:, 0]), scores(logits, labels))


def test_labels_that_name_no_class_give_nan() -> None:
    bad = torch.tensor([-100, -1, 7, 2**31, 2**32, 2**32 + 3, -(2**63), 2**63 - 1, 3])
    got = scores(torch.randn(2, 9, 7), bad)
    assert got[..., :8].isnan().all()
    assert got[..., 8].isfinite().all()
    huge = torch.tensor([2**64 - 1, 2**63, 3], dtype=torch.uint64)
    got = scores(torch.randn(2, 3, 7), huge)
    assert got[..., :2].isnan().all()
    assert got[..., 2].isfinite().all()


def test_ignore_index_may_be_a_class() -> None:
    labels = torch.tensor([0, 1, 2, 1])
    assert scores(torch.randn(1, 4, 3), labels, ignore_index=1).isnan().any(0)[0].tolist() == [False, True, False, True]


def test_absent_rows_are_nan_and_not_looked_at() -> None:
    logits, labels, present = torch.randn(3, 70, 7), torch.randint(7, (70,)), torch.rand(3, 70) < 0.5
    present[1, 16:48] = False  # blocks with nothing to score
    poisoned = logits.masked_fill(~present[..., None], NAN)
    got = scores(poisoned, labels, present)
    everything = scores(logits, labels)
    assert got[:, ~present].isnan().all()
    assert same(got[:, present], everything[:, present])
    wide = torch.zeros(70, 6, dtype=torch.bool)
    wide[:, ::2] = present.T
    assert same(scores(poisoned, labels, wide[:, ::2].T), got)


def test_any_stride_is_read_in_place() -> None:
    M, T, C = 3, 100, 7
    logits, labels = torch.randn(M, T, C), torch.randint(C, (T,))
    expected = scores(logits, labels)
    class_first = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    time_first = logits.transpose(0, 1).contiguous().transpose(0, 1)
    spaced = torch.full((M, 2 * T + 3, 3 * C), NAN)[:, 3::2, 1::3]
    spaced.copy_(logits)
    for view in (class_first, time_first, spaced):
        assert not view.is_contiguous()
        assert same(scores(view, labels), expected)
    assert same(scores([logits[0], class_first[1], spaced[2]], labels), expected)


def test_stride_zero_is_read_in_place() -> None:
    row, label = torch.randn(1, 1, 7), torch.tensor([4])
    got = scores(row.expand(3, 50, 7), label.expand(50), torch.ones(1, 1, dtype=torch.bool).expand(3, 50))
    assert same(got, scores(row, label).expand(4, 3, 50))
    constant = scores(torch.zeros(1, 1, 1).expand(2, 20, 5), torch.arange(20) % 5)
    assert constant[1].unique().tolist() == [pytest.approx(0.2)]


def test_negated_views_are_resolved() -> None:
    z = torch.randn(20, 7, dtype=torch.complex64)
    negated = z.conj().imag
    assert negated.is_neg()
    labels = torch.randint(7, (20,))
    assert same(scores([negated], labels), scores([-z.imag], labels))


@pytest.mark.parametrize("shape", [(3, 0, 7), (0, 5, 7), (0, 0, 0), (3, 0, 0), (2**40, 0, 7)])
def test_empty_input_gives_an_empty_result_of_the_right_shape(shape: tuple[int, int, int]) -> None:
    M, T, _ = shape
    got = scores(torch.empty(shape), torch.zeros(T, dtype=torch.long), torch.ones(M, T, dtype=torch.bool))
    assert got.shape == (4, M, T)
    assert got.dtype == torch.float32


def test_addresses_are_64_bit() -> None:
    torch.utils.deterministic.fill_uninitialized_memory = False  # 4 GiB, of which 17 pages are touched
    try:
        storage = torch.empty(2**31 + 8, dtype=torch.float16)
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = True
    far = storage.as_strided((17, 7), (2**27, 1))
    near = torch.randn(17, 7).half()
    far.copy_(near)
    labels = torch.randint(7, (17,))
    assert same(scores([far], labels), scores([near], labels))


@pytest.mark.host_only
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    logits, labels = torch.randn(3, 20_001, 7), torch.randint(-1, 8, (20_001,))
    before = torch.get_num_threads()
    alone = torch.cat([scores(logits[:, t : t + 999], labels[t : t + 999]) for t in range(0, 20_001, 999)], -1)
    try:
        torch.set_num_threads(threads)
        assert same(scores(logits, labels), alone)
    finally:
        torch.set_num_threads(before)
