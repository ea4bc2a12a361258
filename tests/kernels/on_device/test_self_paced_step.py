"""`kernels.self_paced_step` and its gradient against the reference in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from spcl_fast import kernels, reference
from spcl_fast._options import MEASURES, NUMBERS, step_weighting
from spcl_fast.kernels._offsets import dialogues
from spcl_fast.reference import rows as reference_rows

NAN, INF = float("nan"), float("inf")
PARAMETERS: dict[str, dict[str, Any]] = {
    "mixture": {"lower": 0.3},
    "polynomial": {"degree": 3.0},
    "curml": {"degree": 1.5, "formula": "curml"},
    "superloss": {"regularization": 0.5},
}
FIELDS = ("loss", "weight", "difficulty", "utterance_loss", "confidence", "spread")
TOLERANCE = {torch.float64: 1e-12} | dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), 2e-6)
LENGTHS = (5, 16, 0, 33, 1)
Step = tuple[Tensor, ...]


def rounding(dtype: torch.dtype) -> float:
    """Of a number to a half: half a step, on a GPU; the interpreter cuts off what bfloat16 does not hold."""
    if dtype not in (torch.float16, torch.bfloat16):
        return 0.0
    cuts = dtype == torch.bfloat16 and kernels.is_interpreted()
    return torch.finfo(dtype).eps * (1 if cuts else 0.5)


def problem(lengths=LENGTHS, M=3, C=6, dtype=torch.float64, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    T = sum(lengths)
    logits = torch.randn(M, T, C, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(C, (T,), generator=generator)
    return logits, labels, torch.tensor([0, *lengths]).cumsum(0)


def named(scheme: str) -> str:
    return "polynomial" if scheme == "curml" else scheme


def raw(device, form, labels, offsets, threshold=0.8, *, measure="spcl", scheme="hard", normalizer="all",
        aggregate="sum", label_smoothing=0.0, flags=True, needs_gradient=True, **tensors) -> Step:  # fmt: skip
    on = {name: value.to(device) for name, value in tensors.items()}
    level, number = (threshold.to(device), None) if isinstance(threshold, Tensor) else (None, threshold)
    others = (on.get(name) for name in ("joint", "extra_difficulty", "class_weight", "present"))
    weighting = step_weighting("self_paced_step", named(scheme), PARAMETERS.get(scheme))
    options = (
        MEASURES.index(measure),
        *weighting,
        normalizer == "selected",
        aggregate == "mean",
        label_smoothing,
        -100,
        flags,
    )
    z = [x.to(device) for x in form]
    return kernels.self_paced_step(
        z, labels.to(device), offsets.to(device), level, number, *others, *options, needs_gradient
    )


def check(device, z, labels, offsets, threshold=0.8, *, form=None, **options) -> Step:
    """The step against the reference on the same logits; no difficulty of these problems is close to the threshold."""
    got = raw(device, [z] if form is None else form, labels, offsets, threshold, **options)
    scheme = options.pop("scheme", "hard")
    leaf = z.double().requires_grad_()
    if "joint" in options:
        options["joint"] = options["joint"].double().requires_grad_()
    expected = reference.self_paced_step(
        leaf, labels, offsets, threshold, scheme=named(scheme), scheme_parameters=PARAMETERS.get(scheme), **options
    )
    tolerance = TOLERANCE[z.dtype]
    real = torch.float64 if z.dtype == torch.float64 else torch.float32
    for name, x in zip(FIELDS, got, strict=False):
        wanted = getattr(expected, name).detach()
        assert (x.dtype, x.shape) == (real, wanted.shape)
        atol = tolerance * (1 if name == "loss" else 4)
        torch.testing.assert_close(
            x.cpu().double(), wanted, rtol=4 * tolerance, atol=atol, equal_nan=True, msg=lambda m, name=name: name + m
        )
    counts, sums = got[7].cpu(), got[8].cpu()
    assert torch.equal(counts, expected.totals.counts)
    known = expected.totals.sums[: 1 + 2 * z.shape[0]]
    torch.testing.assert_close(sums[:-1], known, rtol=4 * tolerance, atol=4 * tolerance, equal_nan=True)
    torch.testing.assert_close(sums[-1], expected.weight.double().sum(), rtol=4 * tolerance, atol=4 * tolerance)

    source = options.get("joint", leaf)
    (wanted,) = torch.autograd.grad(expected.loss, source)
    grad_loss = torch.tensor(3.0, dtype=real, device=device)
    by_weight = options.get("normalizer") == "selected"
    gradient = kernels.self_paced_step_backward(got[6], grad_loss, got[7], got[8], by_weight, z.dtype)
    assert gradient.dtype == z.dtype
    close = {"rtol": 4 * tolerance + rounding(z.dtype), "atol": tolerance if z.dtype != torch.float16 else 1e-7}
    if wanted.ndim == 2:
        torch.testing.assert_close(gradient.cpu().double(), 3 * wanted, **close)
    else:
        has = options.get("present", torch.ones(z.shape[:2], dtype=torch.bool))
        for m in range(len(wanted)):
            torch.testing.assert_close(gradient.cpu()[has[m]].double(), 3 * wanted[m][has[m]], **close)
    return got


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("C", [1, 7])
def test_step_is_that_of_the_reference(device, dtype, C) -> None:
    check(device, *problem(C=C, dtype=dtype))


@pytest.mark.parametrize("scheme", [*(name for name in NUMBERS if name != "spld"), "curml"])
def test_step_of_every_scheme(device, scheme) -> None:
    small = problem((9, 0, 3), M=2)
    check(device, *small, 0.5, scheme=scheme, normalizer="selected", aggregate="mean")
    z, y, o = problem((9, 3), M=5)
    check(device, z.float(), y, o, torch.tensor(0.5), scheme=scheme)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("M", [1, 3])
def test_step_of_every_measure(device, measure, M) -> None:
    if M == 1 and measure in ("spcl", "spread"):
        return  # refused above
    z, y, o = problem((9, 0, 3), M=M)
    z[0, 7, 1], z[:, 9, y[9]], y[2] = NAN, -INF, -100
    extra = torch.rand(len(y))
    check(device, z, y, o, 0.9, measure=measure, extra_difficulty=extra)
    check(device, z.float(), y, o, 0.9, measure=measure, extra_difficulty=extra, scheme="given")


def test_superloss_keeps_its_digits_where_it_leaves_e(device) -> None:
    """Through weights that are given difficulties: of `measure="none"`, next to the branch point of Lambert's W."""
    z, y, o = problem((60,), M=1)
    threshold, regularization = 0.7, PARAMETERS["superloss"]["regularization"]
    extra = threshold - 2 / math.e * regularization + torch.logspace(-17, 0, 60, dtype=torch.float64)
    got = raw(device, [z], y, o, threshold, measure="none", extra_difficulty=extra, scheme="superloss")[1].cpu()
    expected = reference.self_paced_weights(extra, threshold, scheme="superloss", regularization=regularization)
    torch.testing.assert_close(got, expected, rtol=2e-15, atol=0)
    assert got[0] > got[20] > got[40]


def test_the_threshold_itself_is_taken_and_a_tensor_is_not_rounded(device) -> None:
    for dtype in (torch.float32, torch.float64):
        z, y, o = problem((9, 3), dtype=dtype)
        difficulty = raw(device, [z], y, o)[2].cpu()
        for threshold in (difficulty[4], float(difficulty[4])):
            weight = raw(device, [z], y, o, threshold)[1].cpu()
            assert torch.equal(weight, (difficulty <= difficulty[4]).to(dtype))
            assert weight[4] == 1


def test_spld_is_refused_by_name(device) -> None:
    arguments = (None, 0.8, None, None, None, None, 0, NUMBERS["spld"], 0.3, False, False, False, 0.0, -100, True, True)
    z, y, o = problem()
    with pytest.raises(ValueError, match="backend='reference'"):
        kernels.self_paced_step([z], y, o, *arguments)


@pytest.mark.parametrize("name", ["class_weight", "smoothing", "both", "present", "extra_difficulty", "joint"])
def test_step_with_what_may_be_given(device, name) -> None:
    z, y, o = problem(C=7)
    T = len(y)
    options: dict[str, Any] = {}
    if name in ("class_weight", "both"):
        options["class_weight"] = torch.linspace(0.2, 1.5, 7)
    if name in ("smoothing", "both"):
        options["label_smoothing"] = 0.1
    if name == "present":
        options["present"] = torch.rand(3, T) < 0.5
    if name == "extra_difficulty":
        options["extra_difficulty"] = torch.where(torch.arange(T) == 4, NAN, torch.rand(T))
    if name == "joint":
        options["joint"] = torch.randn(T, 7)
    check(device, z.float() if name in ("both", "joint") else z, y, o, **options)


@pytest.mark.parametrize("threshold", [None, 0.0, NAN])
def test_thresholds_at_the_ends_of_their_range(device, threshold) -> None:
    check(device, *problem(), threshold)


def test_faulty_data_gives_what_the_reference_gives(device) -> None:
    z, y, o = problem(C=5)
    for value in (NAN, INF, -INF):
        z[torch.rand(z.shape) < 0.02] = value
    z[:, 11] = -INF
    y[torch.rand(len(y)) < 0.1] = -100
    y[[3, 40]] = torch.tensor([9, -(2**63)])
    z[0, 12, int(y[12].clamp(0, 4))] = -INF  # a loss of +Inf
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0])
    check(device, z, y, o, INF)
    check(device, z, y, o, 0.9, flags=False)
    check(device, z, y, o, INF, class_weight=weight)
    check(device, z, y, o, INF, class_weight=weight, label_smoothing=0.1)
    check(device, z, y, o, INF, present=torch.rand(3, len(y)) < 0.6)
    without = raw(device, [z], y, o, 0.9, needs_gradient=False)
    assert without[6].shape == (0, 5)
    assert all(same(a, b) for a, b in zip(without[:6], raw(device, [z], y, o, 0.9), strict=False))


def test_a_class_without_a_proper_weight_is_not_scored(device) -> None:
    z, y, o = problem(C=7)
    for smoothing in (0.0, 0.1):
        weight = torch.tensor([1.0, NAN, -1.0, INF, 0.0, 1.0, 2.0])
        got = check(device, z, y, o, class_weight=weight, label_smoothing=smoothing)
        assert got[3].isnan().sum() == ((y >= 1) & (y <= 3)).sum()


@pytest.mark.parametrize("offsets", [[3, 5, 2, 40, 99], [-2, 5, 20], [0], [10, 5, 0], [0, 0, 55, 55]])
def test_malformed_offsets_are_counted_and_read_as_their_running_maximum(device, offsets) -> None:
    z, y, _ = problem()
    dtype = torch.int32 if len(offsets) == 3 else torch.int64
    check(device, z, y, torch.tensor(offsets, dtype=dtype))


def test_offsets_go_past_the_block_of_a_program(device) -> None:
    offsets = torch.arange(1100).clamp(max=60)
    offsets[1024] = 2  # fell, where the second block begins
    offsets[1099] = 59
    running = dialogues(offsets.to(device), 60)
    assert running.offsets[1100] == 2  # misfits
    assert torch.equal(running.offsets[:1100].cpu(), reference_rows.running_offsets(offsets, 60))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_strides_and_sequences_are_read_in_place(device, dtype) -> None:
    z, y, o = problem(C=7, dtype=dtype)
    z = z.to(device)
    expected = raw(device, [z], y, o)
    spaced = torch.full((3, 2 * len(y) + 3, 21), NAN, dtype=dtype, device=device)[:, 3::2, 1::3]
    spaced.copy_(z)
    class_first = z.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    wide = torch.stack([y, y], 1)[:, 1]
    for form in ([spaced], [class_first], list(z), [spaced[0], class_first[1], z[2]]):
        got = raw(device, form, wide, o.repeat_interleave(2)[::2])
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=4e-6, atol=4e-6, equal_nan=True)
            assert same(a, b) or not kernels.is_interpreted()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.uint64])
def test_every_integer_is_taken(device, dtype) -> None:
    z, y, o = problem()
    got = raw(device, [z], y.to(dtype), o.to(dtype))
    assert all(same(a, b) for a, b in zip(got, raw(device, [z], y, o), strict=True))


def test_more_sources_than_a_kernel_takes_are_stacked(device) -> None:
    z, y, o = problem((3, 2), M=34)
    check(device, z, y, o, form=list(z))


def test_many_classes_are_tiled(device) -> None:
    for options in ({}, {"label_smoothing": 0.1, "class_weight": torch.rand(1100)}):
        check(device, *problem((2, 1), M=2, C=1100, dtype=torch.float32), **options)
    z, y, o = problem((1,), M=2, C=65_536, dtype=torch.float32)
    got = raw(device, [z], y, o, INF)
    expected = reference.self_paced_step(z.double(), y, o, INF)
    torch.testing.assert_close(got[3].cpu().double(), expected.utterance_loss, rtol=1e-6, atol=0)


def test_a_long_dialogue_and_many_programs(device) -> None:
    check(device, *problem((3, 400, 0, 5), M=2, C=3))


@pytest.mark.parametrize("D", [0, 3])
def test_a_batch_of_nothing_is_empty(device, D) -> None:
    nothing = torch.zeros(2, 0, 6), torch.zeros(0, dtype=torch.int64), torch.zeros(D + 1, dtype=torch.int64)
    got = raw(device, [nothing[0]], *nothing[1:])
    assert got[0] == 0
    assert got[5].shape == (D,)
    assert got[5].isnan().all()
    assert got[7].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert got[8].tolist() == [0] * 6
    one = torch.ones((), device=device)
    assert kernels.self_paced_step_backward(got[6], one, got[7], got[8], True, torch.float32).shape == (0, 6)


@pytest.mark.parametrize("by_weight", [False, True])
def test_a_norm_of_zero_is_one(device, by_weight) -> None:
    gradient = torch.randn(3, 2, device=device)
    counts = torch.zeros(7, dtype=torch.int64, device=device)
    sums = torch.zeros(6, dtype=torch.float64, device=device)
    two = torch.tensor(2.0, device=device)
    got = kernels.self_paced_step_backward(gradient, two, counts, sums, by_weight, torch.float32)
    assert torch.equal(got, 2 * gradient)


def test_a_difficulty_depends_on_its_dialogue_alone_and_repeats_bitwise(device) -> None:
    lengths = [9, 100, 1, 0, 31]
    z, y, o = problem(lengths, C=7, dtype=torch.float32)
    z = z.to(device)
    whole = raw(device, [z], y, o)
    assert all(same(a, b) for a, b in zip(raw(device, [z], y, o), whole, strict=True))
    for first, last in ((0, 1), (1, 2), (1, 4), (4, 5)):
        own = slice(int(o[first]), int(o[last]))
        part = raw(device, [z[:, own]], y[own], o[first : last + 1] - o[first])
        for k in (1, 2, 3):
            assert same(part[k], whole[k][own])
        assert same(part[4], whole[4][:, own])
        assert same(part[5], whole[5][first:last])
