"""`ops.window_coherence` against the formulas, computed by hand, and the table of faults; on every backend."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from spcl_fast import ops

NAN, INF = float("nan"), float("inf")
LENGTHS = (7, 1, 0, 12, 4)
SOURCES = ("embedding", "prediction")

pytestmark = pytest.mark.usefixtures("backend")


def by_hand(e: Tensor, offsets: Tensor, window: int, source: str, present: Tensor | None = None) -> list[float]:
    """The formulas, one number after the other."""
    M, T = e.shape[:2]
    vectors = [[e[m, t].tolist() for t in range(T)] for m in range(M)]
    has = [[present is None or bool(present[m, t]) for t in range(T)] for m in range(M)]
    c, faulty = [], []
    for t in range(T):
        mine, bad = [], False
        for m in range(M):
            v = vectors[m][t]
            if not has[m][t]:
                continue
            if source == "prediction":
                if any(math.isnan(z) or z == INF for z in v) or max(v) == -INF:
                    bad = True
                    continue
                v = [math.exp(z - max(v)) for z in v]
            bad |= not all(map(math.isfinite, v))
            mine.append(v)
        cosines = [
            max(-1.0, min(1.0, sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))))
            for a, b in combinations([v for v in mine if any(v)], 2)
            if not bad
        ]
        c.append(sum(cosines) / len(cosines) if cosines else None)
        faulty.append(bad)
    result = [NAN] * T
    for first, last in pairwise(offsets.tolist()):
        for t in range(first, last):
            defined = [x for x in c[max(first, t - window // 2) : min(last, t + window // 2 + 1)] if x is not None]
            if defined and not faulty[t]:
                result[t] = sum(defined) / len(defined)
    return result


def assert_equals(got: Tensor, expected: list[float], tol: float = 1e-12) -> None:
    torch.testing.assert_close(
        got.double(), torch.tensor(expected, dtype=torch.float64), rtol=tol, atol=tol, equal_nan=True
    )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("window", [1, 3, 5, 9, 101])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 5e-7)])
def test_window_coherence_equals_the_formulas(make_problem, source, window, dtype, tol):
    e, _, offsets = make_problem(LENGTHS, dtype=dtype)
    got = ops.window_coherence(e, offsets, window=window, source=source)
    assert got.dtype == dtype
    assert_equals(got, by_hand(e, offsets, window, source), tol)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("M", [2, 3, 4, 5, 9])
@pytest.mark.parametrize("F", [1, 2, 17, 70])
def test_any_number_of_modalities_and_features(make_problem, source, M, F):
    e, _, offsets = make_problem(LENGTHS, M=M, C=F)
    assert_equals(ops.window_coherence(e, offsets, source=source), by_hand(e, offsets, 5, source))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("source", SOURCES)
def test_half_precision_is_computed_in_float32(make_problem, dtype, source):
    e, _, offsets = make_problem(LENGTHS, C=40, dtype=dtype)
    got = ops.window_coherence(e, offsets, source=source)
    assert got.dtype == torch.float32
    exact = ops.window_coherence(e.double(), offsets, source=source)
    torch.testing.assert_close(got.double(), exact, rtol=0, atol=5e-7)


def test_a_sequence_and_a_mapping_are_read_as_the_stack_is(make_problem):
    e, _, offsets = make_problem(LENGTHS)
    expected = ops.window_coherence(e, offsets)
    assert torch.equal(ops.window_coherence(list(e), offsets), expected)
    assert torch.equal(ops.window_coherence(dict(zip("atv", e, strict=True)), offsets.int()), expected)


def test_zero_and_absent_vectors_drop_their_pairs(make_problem):
    e, _, offsets = make_problem(LENGTHS)
    present = torch.ones(e.shape[:2], dtype=torch.bool)
    present[0, 2], present[:2, 5], present[:, 9] = False, False, False
    e[0, 2] = NAN  # not looked at
    e[1, 3], e[:2, 11], e[:, 7] = 0, 0, -0.0
    for window in (1, 3):
        got = ops.window_coherence(e, offsets, window=window, present=present)
        assert_equals(got, by_hand(e, offsets, window, "embedding", present))
    assert got[7].isnan()  # a dialogue of one utterance, all of whose vectors are zero
    only = ops.window_coherence(e, offsets, window=1, present=present)
    torch.testing.assert_close(only[2], torch.cosine_similarity(e[1, 2], e[2, 2], dim=0))
    assert only[[5, 7, 9, 11]].isnan().all()


def test_predictions_have_no_zero_vectors(make_problem):
    z, _, offsets = make_problem(LENGTHS)
    z[:, 4] = 0
    z[0, 5, 1:] = -INF  # certain of class 0
    z[1, 5, :1] = -INF  # of anything but class 0
    got = ops.window_coherence(z, offsets, window=1, source="prediction")
    assert_equals(got, by_hand(z, offsets, 1, "prediction"))
    assert got[4] == pytest.approx(1)


@pytest.mark.parametrize(
    ("source", "fault"),
    [("embedding", x) for x in (NAN, INF, -INF)] + [("prediction", NAN), ("prediction", INF), ("prediction", None)],
)
@pytest.mark.parametrize("window", [1, 5])
def test_an_utterance_at_fault_is_nan_and_left_out_of_its_neighbours(make_problem, source, fault, window):
    e, _, offsets = make_problem(LENGTHS)
    e[1, 10, 3] = NAN if fault is None else fault
    if fault is None:
        e[1, 10] = -INF
    e[0, 0, 0] = NAN
    got = ops.window_coherence(e, offsets, window=window, source=source)
    assert_equals(got, by_hand(e, offsets, window, source))
    assert got.isnan().nonzero().flatten().tolist() == [0, 10]
    present = torch.ones(e.shape[:2], dtype=torch.bool)
    present[1, 10] = False
    assert not ops.window_coherence(e, offsets, source=source, present=present)[10].isnan()


def test_a_window_never_crosses_a_border(make_problem):
    e, _, offsets = make_problem((5, 1, 6))
    for value in (NAN, 1e30, 0.0):
        poisoned = e.clone()
        poisoned[:, :5] = poisoned[:, 6:] = value
        for window in (3, 101):
            alone = ops.window_coherence(e[:, 5:6], torch.tensor([0, 1]), window=window)
            assert torch.equal(ops.window_coherence(poisoned, offsets, window=window)[5:6], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_magnitude_gives_the_same_cosine(make_problem, dtype):
    e, _, offsets = make_problem(LENGTHS, C=40, dtype=dtype)
    expected = ops.window_coherence(e, offsets)
    extremes = (1e30, 1e-30, 3e36, 1e-36) if dtype == torch.float32 else (1e300, 1e-300, 1e160, 1e-160)
    for factors in ((a, b, 1.0) for a in extremes for b in extremes):
        scale = torch.tensor(factors, dtype=dtype).view(3, 1, 1)
        torch.testing.assert_close(ops.window_coherence(e * scale, offsets), expected, rtol=1e-6, atol=3e-7)
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    tiny = torch.tensor([[[least, 0.0]], [[least, 0.0]], [[-least, 0.0]]], dtype=dtype)
    torch.testing.assert_close(ops.window_coherence(tiny, torch.tensor([0, 1])).item(), -1 / 3, rtol=0, atol=1e-7)


def test_equal_vectors_are_coherent_and_opposite_ones_are_not(make_problem):
    e, _, offsets = make_problem(LENGTHS, dtype=torch.float32, C=300)
    same = e[:1].expand(4, -1, -1)
    got = ops.window_coherence(same, offsets)
    assert (got <= 1).all()
    torch.testing.assert_close(got, torch.ones_like(got), rtol=0, atol=3e-7)
    opposite = ops.window_coherence([e[0], -e[0]], offsets)
    assert (opposite >= -1).all()
    torch.testing.assert_close(opposite, -torch.ones_like(got), rtol=0, atol=3e-7)


def test_empty_input():
    for dtype, result in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        for offsets in (torch.tensor([0]), torch.tensor([0, 0, 0])):
            got = ops.window_coherence(torch.empty(3, 0, 8, dtype=dtype), offsets)
            assert got.shape == (0,)
            assert got.dtype == result


@pytest.mark.parametrize("source", SOURCES)
def test_any_stride_is_read_in_place_and_nothing_is_written(make_problem, source):
    e, _, offsets = make_problem(LENGTHS, C=21, dtype=torch.float32)
    expected = ops.window_coherence(e, offsets, source=source)
    padded = torch.full((3, 24, 44), NAN)[:, :, 1:43:2]
    padded.copy_(e)
    kept = padded.clone()
    for form in (padded, e.permute(2, 1, 0).contiguous().permute(2, 1, 0), list(padded)):
        torch.testing.assert_close(ops.window_coherence(form, offsets, source=source), expected, rtol=0, atol=3e-7)
    assert torch.equal(padded, kept)
    alone = ops.window_coherence(e[:, :1], torch.tensor([0, 1]), source=source)
    torch.testing.assert_close(
        ops.window_coherence(e[:, :1].expand(-1, 24, -1), offsets, source=source), alone.expand(24)
    )
    present = torch.rand(24, 3) < 0.7
    expected = ops.window_coherence(e, offsets, source=source, present=present.T.contiguous())
    got = ops.window_coherence(e, offsets, source=source, present=present.T)
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def test_out_is_filled_and_returned(make_problem):
    e, _, offsets = make_problem(LENGTHS, dtype=torch.bfloat16)
    expected = ops.window_coherence(e, offsets)
    out = torch.full((24,), 9.0)
    assert ops.window_coherence(e, offsets, out=out) is out
    assert torch.equal(out, expected)


HERE = torch.zeros(()).device
E_, O_ = torch.zeros(2, 4, 3), torch.tensor([0, 4])
FLAT = torch.zeros(28)


# What a tensor holds is looked at on the host alone.
ON_THE_HOST = [
    ({"offsets": torch.tensor([1, 4])}, ValueError, r"offsets must start at 0 \(got 1 at position 0\)"),
    ({"offsets": torch.tensor([0, 3])}, ValueError, "must end at the number of utterances, 4"),
    ({"offsets": torch.tensor([0, 3, 1, 4])}, ValueError, r"must never fall .*got 1 at position 2, after 3"),
    ({"offsets": torch.tensor([0, -1, 4])}, ValueError, "must never fall"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "rule"),
    [
        *(pytest.param(*case, marks=pytest.mark.host_only) for case in ON_THE_HOST),
        ({"embeddings": E_[:1]}, ValueError, r"needs at least 2 of them, and at most 256 \(got 1\)"),
        ({"embeddings": [E_[0]]}, ValueError, "at least 2"),
        ({"embeddings": E_[:1].expand(257, -1, -1)}, ValueError, r"at most 256 \(got 257\)"),
        ({"embeddings": []}, ValueError, "at least one modality"),
        ({"embeddings": E_[0]}, ValueError, "embeddings must have 3 dimension"),
        ({"embeddings": [E_[0], E_[0, :, :2]]}, ValueError, r"embeddings\[1\] must have shape \(4, 3\)"),
        ({"embeddings": [E_[0], E_[0].double()]}, TypeError, "all embeddings must have one dtype"),
        ({"embeddings": [E_[0], E_[0].to("meta")]}, ValueError, rf"embeddings on {HERE}, embeddings\[1\] on meta"),
        ({"embeddings": E_.int()}, TypeError, "embeddings must hold floating point numbers"),
        ({"embeddings": E_[..., :0]}, ValueError, "at least one feature"),
        ({"embeddings": E_[..., :0], "source": "prediction"}, ValueError, "at least one class"),
        ({"window": 0}, ValueError, r"window must be odd and at least 1 \(got 0\)"),
        ({"window": -3}, ValueError, "odd and at least 1"),
        ({"window": 4}, ValueError, "odd and at least 1"),
        ({"window": 5.0}, TypeError, r"window must be an integer \(got float\)"),
        ({"window": True}, TypeError, "window must be an integer"),
        ({"source": "speaker"}, ValueError, "source must be one of 'embedding', 'prediction'"),
        ({"offsets": O_.double()}, TypeError, "offsets must hold integers"),
        ({"offsets": O_[:0]}, ValueError, "at least one entry"),
        ({"offsets": O_.to("meta")}, ValueError, "one device"),
        ({"present": torch.ones(2, 3, dtype=torch.bool)}, ValueError, r"present must have shape \(2, 4\)"),
        ({"present": torch.ones(2, 4)}, TypeError, "present must hold booleans"),
        ({"out": torch.empty(4, dtype=torch.float64)}, TypeError, "out must hold torch.float32"),
        ({"out": torch.empty(5)}, ValueError, r"out must have shape \(4,\)"),
        ({"out": torch.empty(8)[::2]}, ValueError, r"out must be contiguous \(got stride 2\)"),
        ({"embeddings": FLAT[:24].view(2, 4, 3), "out": FLAT[23:27]}, ValueError, "out must not overlap an input"),
        ({"embeddings": E_.clone().requires_grad_(), "out": torch.empty(4)}, ValueError, "require a gradient"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, rule):
    arguments = {"embeddings": E_, "offsets": O_, **arguments}
    with pytest.raises(error, match=rf"^window_coherence: .*{rule}"):
        ops.window_coherence(arguments.pop("embeddings"), arguments.pop("offsets"), **arguments)


def test_out_may_lie_beside_an_input():
    assert ops.window_coherence(FLAT[:24].view(2, 4, 3), O_, out=FLAT[24:]).isnan().all()


def test_a_window_of_any_size_is_taken(make_problem):
    e, _, offsets = make_problem(LENGTHS)
    expected = ops.window_coherence(e, offsets, window=23)
    torch.testing.assert_close(ops.window_coherence(e, offsets, window=2**70 + 1), expected, rtol=1e-12, atol=1e-12)
