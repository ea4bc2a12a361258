"""The raw op `torch.ops.spcl_fast.self_paced_step` on the CPU: the reference in float64, and the same bits always."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from spcl_fast import _native, backends, reference
from spcl_fast._options import MEASURES, NUMBERS, step_weighting
from spcl_fast.reference import SelfPacedStep, StepTotals

NAN, INF = float("nan"), float("inf")
PARAMETERS = {"mixture": {"lower": 0.3}, "polynomial": {"degree": 3.0}, "spld": {"gamma": 0.3}}
PARAMETERS |= {"superloss": {"regularization": 0.5}}
SCHEMES = [pytest.param(x, marks=pytest.mark.host_only) if x == "spld" else x for x in NUMBERS]
FIELDS = ("loss", "weight", "difficulty", "utterance_loss", "confidence", "spread")
#: what one backend may differ by from the reference in float64, for logits of a trained model
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def raw(
    logits: Tensor | list[Tensor],
    labels: Tensor,
    offsets: Tensor,
    threshold: Tensor | float | None = 0.8,
    *,
    joint: Tensor | None = None,
    extra_difficulty: Tensor | None = None,
    class_weight: Tensor | None = None,
    present: Tensor | None = None,
    measure: str = "spcl",
    scheme: str = "hard",
    scheme_parameters: dict[str, Any] | None = None,
    normalizer: str = "all",
    aggregate: str = "sum",
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    flags: bool = True,
    needs_gradient: bool = True,
) -> tuple[SelfPacedStep, Tensor]:
    """The step and its gradient in the joint logits."""
    logits = [logits] if isinstance(logits, Tensor) else logits
    level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
    tensors = (level, number, joint, extra_difficulty, class_weight, present)
    weighting = step_weighting("self_paced_step", scheme, scheme_parameters)
    options = (
        MEASURES.index(measure),
        *weighting,
        normalizer == "selected",
        aggregate == "mean",
        label_smoothing,
        ignore_index,
        flags,
    )
    out = torch.ops.spcl_fast.self_paced_step(logits, labels, offsets, *tensors, *options, needs_gradient)
    gradient = out[6]
    if _native.acts_as_device and needs_gradient:  # then the backward pass divides
        one = torch.ones((), dtype=gradient.dtype)
        divided = torch.ops.spcl_fast.self_paced_step_backward
        gradient = divided(gradient, one, *out[7:], normalizer == "selected", gradient.dtype)
    return SelfPacedStep(*out[:6], StepTotals(*out[7:])), gradient


def problem(lengths: list[int], M: int = 3, C: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    T = sum(lengths)
    logits = torch.randn(M, T, C, generator=generator, dtype=torch.float64)
    labels = torch.randint(C, (T,), generator=generator)
    return logits, labels, torch.tensor([0, *lengths]).cumsum(0)


def tensors_of(step: SelfPacedStep, gradient: Tensor) -> list[Tensor]:
    return [*step[:6], *step.totals, gradient]


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def assert_same_bits(a: tuple[SelfPacedStep, Tensor], b: tuple[SelfPacedStep, Tensor]) -> None:
    for x, y in zip(tensors_of(*a), tensors_of(*b), strict=True):
        assert same(x, y)


def assert_like_reference(got: tuple[SelfPacedStep, Tensor], z: Tensor, *args: Any, **options: Any) -> None:
    """Against the reference in float64 on the same logits; a weight may differ where it is a rounding error."""
    step, gradient = got
    leaf = z.double().requires_grad_()
    if "joint" in options:
        options["joint"] = options["joint"].double().requires_grad_()
    expected = reference.self_paced_step(leaf, *args, **options)
    tolerance = TOLERANCE[step.loss.dtype]
    threshold = args[2]
    if threshold is not None and options.get("scheme", "hard") == "hard":
        away = ~((expected.difficulty - float(threshold)).abs() < 1e-5)
        assert torch.equal(step.weight[away].double(), expected.weight[away])
        assert torch.equal(step.weight.double(), expected.weight), "this problem has a tie; take another seed"
    for name in FIELDS:
        got_field, expected_field = getattr(step, name).double(), getattr(expected, name).detach()
        atol = tolerance * (1 if name == "loss" else 4)
        torch.testing.assert_close(got_field, expected_field, rtol=4 * tolerance, atol=atol, equal_nan=True, msg=name)
    assert torch.equal(step.totals.counts, expected.totals.counts)
    torch.testing.assert_close(step.totals.sums, expected.totals.sums, rtol=4 * tolerance, atol=4 * tolerance)
    if not gradient.numel():
        return
    source = options.get("joint", leaf)
    (wanted,) = torch.autograd.grad(expected.loss, source)
    has = options.get("present", torch.ones(z.shape[:2], dtype=torch.bool))
    for m, of_modality in enumerate(wanted if wanted.ndim == 3 else []):
        pair = gradient[has[m]].double(), of_modality[has[m]]
        torch.testing.assert_close(*pair, rtol=4 * tolerance, atol=tolerance)
    if wanted.ndim == 2:
        torch.testing.assert_close(gradient.double(), wanted, rtol=4 * tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("C", [1, 2, 6, 7, 16, 17, 64, 65, 130])
def test_step_matches_the_reference_in_every_dtype_and_number_of_classes(dtype: torch.dtype, C: int) -> None:
    z, y, o = problem([5, 16, 0, 33, 1, 70], C=C)
    z = z.to(dtype)
    assert_like_reference(raw(z, y, o, 0.8), z, y, o, 0.8)


@pytest.mark.parametrize("M", [2, 5, 9])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("normalizer", ["all", "selected"])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_step_matches_the_reference_in_every_option(M: int, scheme: str, normalizer: str, aggregate: str) -> None:
    z, y, o = problem([9, 40, 3], M=M)
    options: dict[str, Any] = {"scheme": scheme, "normalizer": normalizer, "aggregate": aggregate}
    options["scheme_parameters"] = PARAMETERS.get(scheme)
    assert_like_reference(raw(z, y, o, 0.7, **options), z, y, o, 0.7, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("M", [1, 2, 5])
def test_step_matches_the_reference_in_every_measure(M: int, measure: str, dtype: torch.dtype) -> None:
    z, y, o = problem([9, 40, 1, 0, 4100, 3], M=M)  # one dialogue longer than a range
    z = z.to(dtype)
    z[0, 7, 1], z[:, 9, y[9]], y[11] = NAN, -INF, -100
    extra = torch.rand(len(y))
    extra[3] = NAN
    for options in ({"extra_difficulty": extra}, {"extra_difficulty": extra, "scheme": "given"}, {}):
        if (measure == "none" and not options) or (M == 1 and measure in ("spcl", "spread")):
            with pytest.raises(RuntimeError, match=r"needs at least 2 of them|needs extra_difficulty"):
                raw(z, y, o, 0.9, measure=measure, **options)
        else:
            options["measure"] = measure
            assert_like_reference(raw(z, y, o, 0.9, **options), z, y, o, 0.9, **options)


@pytest.mark.parametrize("formula", ["paper", "curml"])
@pytest.mark.parametrize("degree", [1.5, 2, 3])
def test_step_matches_the_reference_in_both_formulas_of_polynomial(formula: str, degree: float) -> None:
    z, y, o = problem([9, 40, 3])
    options = {"scheme": "polynomial", "scheme_parameters": {"degree": degree, "formula": formula}}
    assert_like_reference(raw(z, y, o, 0.7, **options), z, y, o, 0.7, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["class_weight", "label_smoothing", "both", "present", "extra_difficulty", "joint"])
def test_step_matches_the_reference_with_what_may_be_given(dtype: torch.dtype, name: str) -> None:
    z, y, o = problem([9, 40, 3], C=7)
    T = len(y)
    options: dict[str, Any] = {}
    if name in ("class_weight", "both"):
        options["class_weight"] = torch.linspace(0.2, 1.5, 7)
    if name in ("label_smoothing", "both"):
        options["label_smoothing"] = 0.1
    if name == "present":
        options["present"] = torch.rand(3, T) < 0.7
    if name == "extra_difficulty":
        options["extra_difficulty"] = torch.rand(T)
    if name == "joint":
        options["joint"] = torch.randn(T, 7)
    z = z.to(dtype)
    assert_like_reference(raw(z, y, o, 0.8, **options), z, y, o, 0.8, **options)


@pytest.mark.host_only
@pytest.mark.parametrize("groups", ["class", "dialogue"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranked_weights_match_the_reference_over_many_ranges(dtype: torch.dtype, groups: str) -> None:
    z, y, o = problem([3, 9001, 0, 500, 700, 4096, 2, *[40] * 30], C=7)
    z[0, 5], z[1, 17, 2], y[30] = -INF, NAN, -100
    z = z.to(dtype)
    options: dict[str, Any] = {"scheme": "spld", "scheme_parameters": {"gamma": 5.0, "groups": groups}}
    for normalizer in ("all", "selected"):
        got = raw(z, y, o, 0.7, **options, normalizer=normalizer)
        expected = reference.self_paced_weights(
            got[0].difficulty,
            0.7,
            scheme="spld",
            gamma=5.0,
            groups=y if groups == "class" else torch.arange(len(o) - 1).repeat_interleave(o.diff()),
        )
        assert torch.equal(got[0].weight, expected)
        assert 0 < expected.sum() < (got[0].difficulty < 5.7).sum()
        assert_like_reference(got, z, y, o, 0.7, **options, normalizer=normalizer)


def test_a_dialogue_longer_than_any_range_is_one_dialogue() -> None:
    z, y, o = problem([3, 20_001, 0, 5000, 4096, 2], C=7)
    assert_like_reference(raw(z, y, o, 1.1), z, y, o, 1.1)
    assert_like_reference(raw(z.float(), y, o, 1.1), z.float(), y, o, 1.1)


def test_faulty_data_gives_what_the_reference_gives() -> None:
    z, y, o = problem([50, 7, 300, 0, 1], C=5)
    for value in (NAN, INF, -INF):
        z[torch.rand(z.shape) < 0.01] = value
    z[:, 11] = -INF
    y[torch.rand(len(y)) < 0.1] = -100
    y[[3, 60]] = torch.tensor([9, -(2**63)])
    for needs_gradient in (True, False):
        assert_like_reference(raw(z, y, o, 0.9, needs_gradient=needs_gradient), z, y, o, 0.9)
    step, _ = raw(z, y, o, 0.9, flags=False)
    assert not step.totals.counts[3:6].any()


def test_a_faulty_logit_leaves_the_bits_of_an_ignored_label() -> None:
    """The gradient is divided by a count that a fault changes: it has to be the right one in the end."""
    z, y, o = problem([50, 7])
    ignored = y.clone()
    ignored[4] = -100
    broken = z.clone()
    broken[1, 4, 2] = NAN
    a, b = raw(broken, y, o), raw(z, ignored, o)
    assert same(a[1], b[1])
    assert all(same(x, y) for x, y in zip(a[0][:6], b[0][:6], strict=True))


def layouts(z: Tensor) -> list[Tensor | list[Tensor]]:
    M, T, C = z.shape
    spaced = torch.full((M, 2 * T + 3, 3 * C), NAN, dtype=z.dtype)[:, 3::2, 1::3]
    spaced.copy_(z)
    class_first = z.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    time_first = z.transpose(0, 1).contiguous().transpose(0, 1)
    return [spaced, class_first, time_first, list(z), [spaced[0], class_first[1], time_first[2]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_any_stride_and_any_sequence_is_read_in_place(dtype: torch.dtype) -> None:
    z, y, o = problem([5, 16, 0, 33, 1, 70], C=7)
    z = z.to(dtype)
    expected = raw(z, y, o)
    for form in layouts(z):
        assert_same_bits(raw(form, y, o), expected)
    wide = torch.stack([y, y, y], 1)[:, 1]
    assert_same_bits(raw(z, wide, o.repeat_interleave(2)[::2]), expected)
    row = raw(z[:1, :1].expand(3, 40, 7), y[:1].expand(40), torch.tensor([0, 40]))
    assert_same_bits(row, raw(z[:1, :1].repeat(3, 40, 1), y[:1].repeat(40), torch.tensor([0, 40])))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8, torch.uint16, torch.uint64])
def test_every_integer_is_taken(dtype: torch.dtype) -> None:
    z, y, o = problem([5, 16, 33])
    assert_same_bits(raw(z, y.to(dtype), o.to(dtype)), raw(z, y, o))


@pytest.mark.host_only
@pytest.mark.parametrize("scheme", ["hard", "log", "mixture", "polynomial", "spld"])
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_the_number_of_threads_changes_no_bit(threads: int, scheme: str) -> None:
    z, y, o = problem([9000, *([37, 5, 0, 61] * 60), 4097], C=7)
    options: dict[str, Any] = {"scheme": scheme, "scheme_parameters": PARAMETERS.get(scheme)}
    z = z.float()
    before = torch.get_num_threads()
    try:
        for normalizer in ("all", "selected"):
            torch.set_num_threads(1)
            expected = raw(z, y, o, **options, normalizer=normalizer)
            torch.set_num_threads(threads)
            assert_same_bits(raw(z, y, o, **options, normalizer=normalizer), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_split_of_a_batch_changes_no_bit_of_a_dialogue(dtype: torch.dtype) -> None:
    lengths = [9, 5000, 1, 16, 0, 700, 31, 4096]
    z, y, o = problem(lengths, C=7)
    z = z.to(dtype)
    whole, _ = raw(z, y, o)
    for first, last in ((0, 1), (1, 2), (2, 6), (5, 8), (7, 8)):
        own = slice(int(o[first]), int(o[last]))
        part, _ = raw(z[:, own], y[own], o[first : last + 1] - o[first])
        for name in ("weight", "difficulty", "utterance_loss"):
            assert same(getattr(part, name), getattr(whole, name)[own])
        assert same(part.confidence, whole.confidence[:, own])
        assert same(part.spread, whole.spread[first:last])


@pytest.mark.parametrize("C", [1, 6])
@pytest.mark.parametrize("D", [0, 3])
def test_a_batch_of_nothing_is_empty(C: int, D: int) -> None:
    o = torch.zeros(D + 1, dtype=torch.int64)
    step, gradient = raw(torch.zeros(2, 0, C), torch.zeros(0, dtype=torch.int64), o)
    assert step.loss == 0
    assert step.spread.shape == (D,)
    assert step.spread.isnan().all()
    assert gradient.shape == (0, C)
    assert step.totals.counts.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert not step.totals.sums.any()


def test_labels_at_the_ends_of_their_range_are_not_read_past_the_row() -> None:
    z, y, o = problem([8])
    y[:] = torch.tensor([-100, -1, 6, 2**31, 2**32, 2**32 + 3, -(2**63), 2**63 - 1])
    step, gradient = raw(z, y, o)
    assert step.utterance_loss.isnan().all()
    assert step.totals.bad_label == 7
    assert not gradient.any()


def test_the_gradient_of_half_precision_is_float32() -> None:
    """Divided by the number of utterances it would underflow in float16 before the loss scale reaches it."""
    z, y, o = problem([4000])
    _, gradient = raw(z.half(), y, o, None)
    assert gradient.dtype == torch.float32
    _, exact = raw(z.half().double(), y, o, None)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-10)
