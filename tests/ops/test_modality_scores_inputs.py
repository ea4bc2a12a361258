"""`ops.modality_scores` on inputs of every dtype and layout, with and without `out=`; on every backend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast.ops import ModalityScores

NAN, INF = float("nan"), float("inf")
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [getattr(torch, f"{u}int{bits}") for u in ("", "u") for bits in (8, 16, 32, 64)]
M, T = 3, 37  # two whole vectors of 16 rows, and a rest


@pytest.fixture
def scores(backend_name):
    def call(logits, labels, **options) -> ModalityScores:
        return ops.modality_scores(logits, labels, backend=backend_name, **options)

    return call


def problem(C: int, dtype: torch.dtype, num: int = T) -> tuple[Tensor, Tensor]:
    return (2 * torch.randn(M, num, C, dtype=torch.float64)).to(dtype), torch.randint(C, (num,))


def assert_same(got: ModalityScores, expected: ModalityScores) -> None:
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def layouts(z: Tensor) -> dict[str, Tensor]:
    """The same numbers in other places, NaN between them where there is a between."""
    num_modalities, num, C = z.shape
    spaced = torch.full((num_modalities, 2 * num + 3, 3 * C + 1), NAN, dtype=z.dtype)[:, 3::2, 1::3][..., :C]
    padded = torch.full((num_modalities, num, C + 1), NAN, dtype=z.dtype)[..., :C]
    for view in (spaced, padded):
        view.copy_(z)
    return {
        "spaced": spaced,
        "padded rows": padded,
        "time first": z.transpose(0, 1).contiguous().transpose(0, 1),
        "classes first": z.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "classes before time": z.transpose(1, 2).contiguous().transpose(1, 2),
        "odd start": torch.cat([z.new_zeros(1), z.flatten()])[1:].view(z.shape),
    }


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("C", [1, 7, 16, 17, 65])
def test_modality_scores_do_not_depend_on_the_layout(scores, dtype, C):
    logits, labels = problem(C, dtype)
    expected = scores(logits, labels)
    for name, view in layouts(logits).items():
        assert torch.equal(view, logits), name
        assert_same(scores(view, labels), expected)
        assert_same(scores(list(view), labels), expected)
    mixed = [view[m] for m, view in enumerate(list(layouts(logits).values())[:M])]
    assert_same(scores(mixed, labels), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("which", range(3))
def test_modality_scores_take_numbers_that_lie_on_one_another(scores, dtype, which):
    """A stride of zero, in each dimension."""
    logits, labels = problem(7, dtype)
    view = logits.narrow(which, 0, 1).expand(logits.shape)
    assert view.stride(which) == 0
    labels = labels[:1].expand(T)
    present = torch.ones(1, 1, dtype=torch.bool).expand(M, T)
    assert_same(scores(view, labels, present=present), scores(view.contiguous(), labels.contiguous()))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("C", [1, 7, 65])
@pytest.mark.parametrize("layout", ["contiguous", "classes first"])
def test_modality_scores_fill_out_for_every_dtype_and_layout(scores, dtype, C, layout):
    logits, labels = problem(C, dtype)
    labels[5] = -100
    expected = scores(logits, labels)
    logits = layouts(logits).get(layout, logits)
    padded = torch.full((4, M, T + 5), -3.0, dtype=expected.loss.dtype)
    out = ModalityScores(*padded[..., :T].unbind(0))
    for _ in range(2):
        assert scores(logits, labels, out=out) is out
        assert_same(out, expected)
    assert (padded[..., T:] == -3).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modality_scores_of_halves_take_no_out_of_halves(scores, dtype):
    logits, labels = problem(7, dtype)
    with pytest.raises(TypeError, match=r"out\.loss must hold torch\.float32"):
        scores(logits, labels, out=ModalityScores(*torch.empty(4, M, T, dtype=dtype)))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_modality_scores_take_labels_of_every_integer_dtype_and_stride(scores, dtype):
    logits, labels = problem(7, torch.float32)
    labels[3] = 9  # no class
    expected = scores(logits, labels)
    assert expected.loss[:, 3].isnan().all()
    columns = torch.stack([labels, labels - labels], 1).to(dtype)
    for view in (labels.to(dtype), columns[:, 0], torch.cat([columns[:1, 1], columns[:, 0]])[1:]):
        assert_same(scores(logits, view), expected)


@pytest.mark.parametrize("dtype", INTEGERS[4:], ids=str)
def test_modality_scores_read_the_largest_unsigned_label_as_no_class(scores, dtype):
    logits, _ = problem(7, torch.float32, 2)
    labels = torch.tensor([torch.iinfo(dtype).max, 0], dtype=dtype)
    for score in scores(logits, labels):
        assert score.isnan().tolist() == [[True, False]] * M


@pytest.mark.parametrize("dtype", FLOATS)
def test_modality_scores_of_one_class_are_certain_unless_there_is_nothing_to_score(scores, dtype):
    logits = torch.tensor([5.0, -INF, NAN, INF, 0.0, -1.0, 3.0], dtype=dtype)[None, :, None]
    labels = torch.tensor([0, 0, 0, 0, 1, -100, 0])
    got = scores(logits, labels)
    scored = torch.tensor([[True, False, False, False, False, False, True]])
    for score, value in zip(got, (0.0, 1.0, 0.0, NAN), strict=True):
        torch.testing.assert_close(score[scored], torch.full((2,), value, dtype=score.dtype), equal_nan=True)
        assert score[~scored].isnan().all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", ["contiguous", "classes first"])
def test_modality_scores_of_very_many_classes_of_every_dtype(scores, dtype, layout):
    C = 65_536
    logits = torch.randn(1, 3, C).to(dtype)
    logits[0, 1, 5] = -INF
    logits[0, 2, C - 1] = NAN
    labels = torch.tensor([C - 1, 777, 0])
    view = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0) if layout == "classes first" else logits
    got = scores(view, labels)
    log_p = torch.log_softmax(logits[0, :2].double(), -1)
    p, row = log_p.exp(), torch.arange(2)
    loss, confidence = -log_p[row, labels[:2]], p[row, labels[:2]]
    entropy = -(p * log_p.masked_fill(p == 0, 0)).sum(-1)
    rival = p.index_put((row, labels[:2]), torch.tensor(-1.0, dtype=torch.float64)).amax(-1)
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 5e-6, "atol": 1e-9}
    for score, expected in zip(got, (loss, confidence, entropy, confidence - rival), strict=True):
        torch.testing.assert_close(score[0, :2].double(), expected, **tolerance)
        assert score[0, 2].isnan()


@pytest.mark.parametrize("dtype", FLOATS)
def test_modality_scores_of_nothing_are_empty_in_every_form(scores, dtype):
    labels, present = torch.zeros(0, dtype=torch.int32), torch.ones(M, 0, dtype=torch.bool)
    result = torch.float64 if dtype == torch.float64 else torch.float32
    out = ModalityScores(*torch.empty(4, M, 0, dtype=result))
    for logits in (torch.zeros(M, 0, 7, dtype=dtype), [torch.zeros(0, 7, dtype=dtype)] * M):
        for options in ({}, {"present": present}, {"out": out}, {"validate": "full"}):
            got = scores(logits, labels, **options)
            assert all(x.shape == (M, 0) and x.dtype == result for x in got)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("num", [1, 2, 7, 8, 15, 16, 17])
def test_modality_scores_of_a_row_do_not_depend_on_its_neighbours(scores, dtype, num):
    logits, labels = problem(7, dtype, num)
    whole = scores(logits, labels)
    for t in range(num):
        alone = scores(logits[:, t : t + 1], labels[t : t + 1])
        for a, b in zip(alone, whole, strict=True):
            torch.testing.assert_close(a[:, 0], b[:, t], rtol=2e-7, atol=1e-7)  # torch's own last bits may differ


def test_modality_scores_without_grad_mode_have_no_gradient(scores):
    logits, labels = problem(7, torch.float32)
    expected = scores(logits, labels)
    logits.requires_grad_()
    out = ModalityScores(*torch.empty(4, M, T))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for got in (scores(logits, labels), scores(logits, labels, out=out)):
                assert not any(x.requires_grad for x in got)
                assert_same(got, expected)


def test_modality_scores_of_rows_far_apart(scores):
    """Past what a gather of 32-bit offsets reaches: 128 MiB between rows, of which a page is touched."""
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        storage = torch.empty(17 * 2**25)
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = True
    far = storage.as_strided((1, 17, 7), (0, 2**25, 1))
    near, labels = torch.randn(1, 17, 7), torch.randint(7, (17,))
    far.copy_(near)
    assert_same(scores(far, labels), scores(near, labels))
