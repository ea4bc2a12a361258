"""`ops.modality_scores` against the formulas, computed by hand, and the table of faults; on every backend."""

from __future__ import annotations

import math

import pytest
import torch

from spcl_fast import ops
from spcl_fast.reference import ModalityScores

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def scores(backend_name):
    def call(logits, labels, **options):
        return ops.modality_scores(logits, labels, backend=backend_name, **options)

    return call


def by_hand(row: list[float], y: int) -> tuple[float, float, float, float]:
    top = max(row)
    e = [math.exp(z - top) for z in row]
    p = [x / sum(e) for x in e]
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    others = [x for c, x in enumerate(p) if c != y]
    loss = math.log(sum(e)) - (row[y] - top)
    return loss, p[y], entropy, p[y] - max(others) if others else NAN


def assert_rows(got: ModalityScores, m: int, t: int, expected: tuple[float, ...], tol: float = 1e-12) -> None:
    for name, value in zip(got._fields, expected, strict=True):
        torch.testing.assert_close(
            getattr(got, name)[m, t].double(),
            torch.tensor(value, dtype=torch.float64),
            rtol=tol,
            atol=tol,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}[{m}, {t}]: {text}",
        )


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_modality_scores_equal_the_formulas(make_problem, scores, dtype, tol):
    logits, labels, _ = make_problem(dtype=dtype)
    got = scores(logits, labels)
    assert all(x.dtype == dtype and x.shape == logits.shape[:2] for x in got)
    for m in range(logits.shape[0]):
        for t in range(logits.shape[1]):
            assert_rows(got, m, t, by_hand(logits[m, t].tolist(), int(labels[t])), tol)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modality_scores_of_half_precision_are_computed_in_float32(make_problem, scores, dtype):
    logits, labels, _ = make_problem(dtype=dtype)
    for got, expected in zip(scores(logits, labels), scores(logits.double(), labels), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=2e-6, atol=2e-6)


def test_modality_scores_take_sequences_and_mappings(make_problem, scores):
    logits, labels, _ = make_problem()
    expected = scores(logits, labels)
    for form in (list(logits), tuple(logits), dict(zip("atv", logits, strict=True))):
        for a, b in zip(scores(form, labels), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("layout", ["transposed", "step", "expanded"])
def test_modality_scores_take_any_strides(make_problem, scores, layout):
    logits, labels, _ = make_problem()
    if layout == "transposed":
        logits = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    elif layout == "step":
        logits = logits.repeat_interleave(2, dim=2)[..., ::2]
        labels = labels.repeat_interleave(3)[::3]
    else:
        logits = logits[:1].expand(3, -1, -1)
    before = logits.clone()
    for a, b in zip(scores(logits, labels), scores(logits.contiguous(), labels.contiguous()), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8])
def test_modality_scores_take_any_integer_labels(make_problem, scores, dtype):
    logits, labels, _ = make_problem()
    for a, b in zip(scores(logits, labels.to(dtype)), scores(logits, labels), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_modality_scores_refuse_labels_that_are_not_integers(make_problem, scores, dtype):
    logits, labels, _ = make_problem()
    with pytest.raises(TypeError, match="labels must hold integers"):
        scores(logits, labels.to(dtype))


@pytest.mark.parametrize("label", [-100, -1, 6, 2**40, -(2**63)])
def test_modality_scores_of_a_label_that_is_no_class_are_nan(make_problem, scores, label):
    logits, labels, _ = make_problem()
    expected = scores(logits, labels)
    bad = labels.clone()
    bad[5] = label
    for got, clean in zip(scores(logits, bad), expected, strict=True):
        assert got[:, 5].isnan().all()
        keep = torch.arange(len(labels)) != 5
        assert torch.equal(got[:, keep], clean[:, keep])


@pytest.mark.parametrize("value", [NAN, INF])
def test_modality_scores_of_a_nonfinite_logit_are_nan_in_that_row_alone(make_problem, scores, value):
    logits, labels, _ = make_problem()
    expected = scores(logits, labels)
    bad = logits.clone()
    bad[1, 3, 2] = value
    for got, clean in zip(scores(bad, labels), expected, strict=True):
        assert got[1, 3].isnan()
        same = torch.ones_like(got, dtype=torch.bool)
        same[1, 3] = False
        assert torch.equal(got[same], clean[same])


def test_modality_scores_of_minus_infinity_are_those_of_a_zero_probability(scores):
    logits = torch.tensor([[[0.0, -INF, 1.0], [0.0, -INF, 1.0], [-INF, -INF, -INF], [-INF, 3.0, -INF]]])
    got = scores(logits.double(), torch.tensor([0, 1, 0, 1]))
    a, b = math.exp(-1) / (1 + math.exp(-1)), 1 / (1 + math.exp(-1))
    entropy = -a * math.log(a) - b * math.log(b)
    assert_rows(got, 0, 0, (-math.log(a), a, entropy, a - b))
    assert_rows(got, 0, 1, (INF, 0.0, entropy, -b))
    assert_rows(got, 0, 2, (NAN, NAN, NAN, NAN))
    assert_rows(got, 0, 3, (0.0, 1.0, 0.0, 1.0))


def test_modality_scores_of_huge_logits_do_not_overflow(scores):
    logits = torch.tensor([[[3e38, -3e38], [-3e38, 3e38], [1e4, 1e4]]])
    got = scores(logits, torch.tensor([0, 0, 1]))
    assert_rows(got, 0, 0, (0.0, 1.0, 0.0, 1.0))
    assert got.confidence[0, 1] == 0
    assert not got.loss[0, 1].isnan()
    assert got.entropy[0, 1] == 0
    assert_rows(got, 0, 2, (math.log(2), 0.5, math.log(2), 0.0), 1e-6)


def test_modality_scores_do_not_look_at_a_missing_modality(make_problem, scores):
    logits, labels, _ = make_problem()
    present = torch.rand(logits.shape[:2]) < 0.6
    poisoned = torch.where(present[..., None], logits, NAN)
    for got, clean in zip(scores(poisoned, labels, present=present), scores(logits, labels), strict=True):
        assert torch.equal(got.isnan(), ~present)
        assert torch.equal(got[present], clean[present])


def test_modality_scores_of_one_class(scores):
    got = scores(torch.randn(2, 3, 1), torch.zeros(3, dtype=torch.int64))
    assert torch.equal(got.loss, torch.zeros(2, 3))
    assert torch.equal(got.confidence, torch.ones(2, 3))
    assert torch.equal(got.entropy, torch.zeros(2, 3))
    assert got.margin.isnan().all()


def test_modality_scores_of_many_classes(scores):
    logits = torch.randn(1, 3, 65_536, dtype=torch.float64)
    labels = torch.tensor([0, 65_535, 777])
    got = scores(logits, labels)
    expected = torch.nn.functional.cross_entropy(logits[0], labels, reduction="none")
    torch.testing.assert_close(got.loss[0], expected)


def test_modality_scores_of_nothing_are_empty(scores):
    got = scores(torch.zeros(3, 0, 5), torch.zeros(0, dtype=torch.int64))
    assert all(x.shape == (3, 0) and x.dtype == torch.float32 for x in got)


def test_modality_scores_fill_out(make_problem, scores):
    logits, labels, _ = make_problem(dtype=torch.float32)
    out = ModalityScores(*(torch.full(logits.shape[:2], NAN) for _ in range(4)))
    got = scores(logits, labels, out=out)
    assert all(a is b for a, b in zip(got, out, strict=True))
    for a, b in zip(got, scores(logits, labels), strict=True):
        assert torch.equal(a, b)


def test_modality_scores_refuse_an_out_that_does_not_fit(make_problem):
    logits, labels, _ = make_problem(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"out\.loss must have shape \(3, 24\)"):
        ops.modality_scores(logits, labels, out=ModalityScores(*torch.empty(4, 3, 5)))
    with pytest.raises(TypeError, match="out must be a ModalityScores"):
        ops.modality_scores(logits, labels, out=tuple(torch.empty(4, 3, 24)))
    with pytest.raises(TypeError, match=r"out\.loss must hold torch\.float32"):
        ops.modality_scores(logits, labels, out=ModalityScores(*torch.empty(4, 3, 24).double()))
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.modality_scores(logits, labels, out=ModalityScores(*torch.empty(4, 24, 3).transpose(1, 2)))
    with pytest.raises(ValueError, match="require a gradient"):
        ops.modality_scores(logits.requires_grad_(), labels, out=ModalityScores(*torch.empty(4, 3, 24)))


def test_modality_scores_have_gradients(make_problem):
    logits, labels, _ = make_problem(lengths=(3, 2), C=4)
    logits.requires_grad_()
    labels[2] = -100
    keep = labels != -100
    assert torch.autograd.gradcheck(lambda z: tuple(x[:, keep] for x in ops.modality_scores(z, labels)), logits)


def test_modality_scores_of_bad_rows_send_back_zero_gradients(make_problem):
    logits, labels, _ = make_problem()
    logits[0, 0, 0], logits[1, 1, 1], labels[2] = NAN, -INF, -100
    logits.requires_grad_()
    scores = ops.modality_scores(logits, labels)
    sum(x.nan_to_num(0, 0).sum() for x in scores).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[0, 0].any()
    assert not logits.grad[:, 2].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [9]}, r"labels must lie in \[0, 6\) or be ignore_index -100 \(got 9 at position 4\)"),
        ({"nan": True}, r"logits must be neither NaN nor \+Inf.* \(got nan at modality 1, utterance 3, class 2\)"),
    ],
)
def test_modality_scores_validated_in_full_name_the_first_fault(make_problem, scores, change, message):
    logits, labels, _ = make_problem()
    labels[0] = -100
    scores(logits, labels, validate="full")
    if "labels" in change:
        labels[4] = labels[8] = 9
    else:
        logits[1, 3, 2] = logits[2, 1, 0] = NAN
    with pytest.raises(ValueError, match=message):
        scores(logits, labels, validate="full")


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), r"logits must have 3 dimension\(s\)"),
        ([], torch.zeros(3, dtype=torch.int64), "at least one modality"),
        (torch.zeros(0, 3, 2), torch.zeros(3, dtype=torch.int64), "at least one modality"),
        (torch.zeros(2, 3, 0), torch.zeros(3, dtype=torch.int64), "at least one class"),
        (
            [torch.zeros(3, 2), torch.zeros(4, 2)],
            torch.zeros(3, dtype=torch.int64),
            r"logits\[1\] must have shape",
        ),
        (torch.zeros(2, 3, 2), torch.zeros(4, dtype=torch.int64), r"labels must have shape \(3,\)"),
        (torch.zeros(2, 3, 2), torch.zeros(3, dtype=torch.int64, device="meta"), "on one device"),
    ],
)
def test_modality_scores_refuse_shapes_and_devices_that_do_not_fit(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        ops.modality_scores(logits, labels)


def test_modality_scores_refuse_integers_and_mixed_dtypes():
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(TypeError, match="logits must hold floating point numbers"):
        ops.modality_scores(torch.zeros(2, 3, 2, dtype=torch.int64), labels)
    with pytest.raises(TypeError, match="one dtype"):
        ops.modality_scores([torch.zeros(3, 2), torch.zeros(3, 2).double()], labels)
    with pytest.raises(ValueError, match="validate must be one of 'cheap', 'full', 'off'"):
        ops.modality_scores(torch.zeros(2, 3, 2), labels, validate="fast")
