"""The raw op `torch.ops.spcl_fast.modality_scores_backward` on the CPU: accuracy, bits, refusals, compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spcl_fast import backends, ops, reference

T, M, C = 40, 3, 7


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", "cpu")
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


Gradients = list[Tensor | None]


def backward(
    logits: Tensor | list[Tensor], labels: Tensor, gradients: Gradients, present: Tensor | None = None
) -> Tensor:
    logits = [logits] if isinstance(logits, Tensor) else logits
    return torch.ops.spcl_fast.modality_scores_backward(logits, labels, present, -100, *gradients)


def exact(logits: Tensor, labels: Tensor, gradients: Gradients, present: Tensor | None = None) -> Tensor:
    """The reference's, in float64."""
    z = logits.double().requires_grad_()
    scores = reference.modality_scores(z, labels, present=present)
    pairs = [(x, g.double()) for x, g in zip(scores, gradients, strict=True) if g is not None]
    return torch.autograd.grad([x for x, _ in pairs], z, [g for _, g in pairs])[0]


def problem(num: int = T, classes: int = C, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Gradients]:
    logits = (3 * torch.randn(M, num, classes, dtype=torch.float64)).clamp(-16, 16).to(dtype)
    result = torch.float64 if dtype == torch.float64 else torch.float32
    gradients: Gradients = [torch.randn(M, num, dtype=result) for _ in range(4)]
    return logits, torch.randint(classes, (num,)), gradients


# Classes: one, two, those of the data sets, and both sides of the tile of 64 and of its double.
@pytest.mark.parametrize("classes", [1, 2, 6, 7, 16, 17, 63, 64, 65, 128, 129, 1000])
# Rows: one, both sides of the widest vector's 16 lanes, and past one chunk of 2048.
@pytest.mark.parametrize("num", [1, 15, 16, 17, 2049])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_gradients_match_the_float64_reference(classes: int, num: int, dtype: torch.dtype) -> None:
    if classes == 1000 and num == 2049:
        num = 100
    logits, labels, gradients = problem(num, classes, dtype)
    got = backward(logits, labels, gradients)
    assert got.dtype == dtype
    assert got.shape == logits.shape
    assert got.is_contiguous()
    expected = exact(logits, labels, gradients)
    # What is added: four numbers of at most the size of the gradients that arrive.
    size = sum(g.double().abs() for g in gradients)[..., None]
    rounding = torch.finfo(dtype).eps / 2 if dtype.itemsize == 2 else 0.0
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    bound = (1e-13 if dtype == torch.float64 else 1.5e-6) * size + rounding * expected.abs() + smallest
    assert ((got.double() - expected).abs() <= bound).all()


@pytest.mark.parametrize("given", range(16))
def test_what_does_not_arrive_counts_as_zero(given: int) -> None:
    logits, labels, gradients = problem(dtype=torch.float64)
    some = [g if given >> k & 1 else None for k, g in enumerate(gradients)]
    zeros = [g if given >> k & 1 else torch.zeros_like(g) for k, g in enumerate(gradients)]
    torch.testing.assert_close(backward(logits, labels, some), backward(logits, labels, zeros), rtol=1e-13, atol=1e-15)


def test_faulty_data_sends_back_what_the_reference_does() -> None:
    logits, _, gradients = problem(4000, 6, torch.float64)
    for value in (float("nan"), float("inf"), -float("inf")):
        logits[torch.rand(logits.shape) < 0.02] = value
    logits[0, ::97] = -float("inf")
    labels, present = torch.randint(-2, 8, (4000,)), torch.rand(M, 4000) < 0.9
    got = backward(logits, labels, gradients, present)
    assert got.isfinite().all()
    torch.testing.assert_close(got, exact(logits, labels, gradients, present), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_rounded_as_torch_rounds_them(dtype: torch.dtype) -> None:
    """With a true class of probability zero the arriving gradient goes out as it is, and so does its negative."""
    bits = torch.arange(-(2**31), 2**31, 2**13 - 1)
    edges = torch.tensor([0, 0x477FF000, 0x477FEFFF, 0x33000000, 0x33000001, 0x387FE000, 0x387FF000, 0x7F7FFFFF])
    values = torch.cat([bits, edges, edges - 2**31]).int().view(torch.float32)
    logits = torch.tensor([0.0, -300.0], dtype=dtype).expand(len(values), 2)
    got = backward([logits], torch.ones(len(values), dtype=torch.long), [values[None], None, None, None])[0]
    is_known = values.isfinite()
    assert torch.equal(got[is_known, 0], values[is_known].to(dtype))
    assert torch.equal(got[is_known, 1], -values[is_known].to(dtype))
    assert got[values.isnan(), 0].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", [7, 16, 17, 65])
def test_halves_are_computed_as_float32(dtype: torch.dtype, classes: int) -> None:
    logits, labels, gradients = problem(100, classes, dtype)
    assert torch.equal(backward(logits, labels, gradients), backward(logits.float(), labels, gradients).to(dtype))


def test_any_stride_is_read_in_place() -> None:
    logits, labels, gradients = problem(100)
    expected = backward(logits, labels, gradients)
    class_first = logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    spaced = torch.full((M, 203, 3 * C), float("nan"))[:, 3::2, 1::3]
    spaced.copy_(logits)
    strided: Gradients = [g.T.contiguous().T for g in gradients[:2]] + [g.repeat(1, 2)[:, :100] for g in gradients[2:]]
    for view in (class_first, spaced, [logits[0], class_first[1], spaced[2]]):
        assert torch.equal(backward(view, labels, strided), expected)
    wide = torch.stack([labels, labels], 1).int()
    assert torch.equal(backward(list(logits), wide[:, 0], gradients), expected)
    constant = torch.ones(1, 1).expand(M, 100)
    assert torch.equal(backward(logits, labels, [constant] * 4), backward(logits, labels, [constant.contiguous()] * 4))


@pytest.mark.host_only
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_and_the_batch_change_no_bit(threads: int, dtype: torch.dtype) -> None:
    logits, labels, gradients = problem(20_001, 7, dtype)
    labels[torch.rand(20_001) < 0.1] = -100
    parts = [
        backward(logits[:, t : t + 999], labels[t : t + 999], [g[:, t : t + 999] for g in gradients])
        for t in range(0, 20_001, 999)
    ]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(backward(logits, labels, gradients), torch.cat(parts, 1))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(3, 0, 7), (0, 5, 7), (0, 0, 0), (3, 0, 0), (2**40, 0, 7)])
def test_empty_input_gives_an_empty_gradient_of_the_right_shape(shape: tuple[int, int, int]) -> None:
    gradients: Gradients = [torch.zeros(shape[:2])] * 4
    got = backward(torch.empty(shape), torch.zeros(shape[1], dtype=torch.long), gradients)
    assert got.shape == shape


def test_nothing_arriving_gives_zeros_and_no_input_is_written() -> None:
    logits, labels, gradients = problem()
    logits[0, 3, 2] = float("nan")
    copies = [x.clone() for x in (logits, labels, *gradients)]
    assert torch.equal(backward(logits, labels, [None] * 4), torch.zeros(M, T, C))
    backward(logits, labels, gradients)
    for x, copy in zip((logits, labels, *gradients), copies, strict=True):
        assert torch.equal(x.nan_to_num(), copy.nan_to_num())


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_the_op_passes_opcheck(stacked: bool, dtype: torch.dtype) -> None:
    logits, labels, gradients = problem(dtype=dtype)
    tensors = [logits] if stacked else list(logits)
    op = torch.ops.spcl_fast.modality_scores_backward.default
    torch.library.opcheck(op, (tensors, labels, torch.rand(M, T) < 0.7, -100, *gradients))
    torch.library.opcheck(op, (tensors, labels, None, -100, gradients[0], None, None, None))


def too_small(tensor: Tensor) -> Tensor:
    """A tensor whose storage was cut under it."""
    copy = tensor.clone()
    copy.untyped_storage().resize_(tensor.untyped_storage().nbytes() // 2)
    return copy


Change = Callable[[Tensor, Tensor, Any], Any]
HOSTILE: list[tuple[Change, str]] = [
    (lambda z, y, g: backward([], y, g), "no tensor"),
    (lambda z, y, g: backward(z[0, 0], y, g), "must be one tensor"),
    (lambda z, y, g: backward([z[0], z[1, :5]], y, g), "one shape"),
    (lambda z, y, g: backward(z.long(), y, g), "logits must be float16"),
    (lambda z, y, g: backward(z[..., :0], y, g), "at least one class"),
    (lambda z, y, g: backward(too_small(z), y, g), "logits must lie inside its storage"),
    (lambda z, y, g: backward(z, too_small(y), g), "labels must lie inside its storage"),
    (lambda z, y, g: backward(z, y[:5], g), r"labels must be \[T\]"),
    (lambda z, y, g: backward(z, y, g, torch.ones(M, 5, dtype=torch.bool)), r"present must be \[M, T\]"),
    (lambda z, y, g: backward(z, y, [too_small(g[0]), *g[1:]]), "grad_loss must lie inside its storage"),
    (lambda z, y, g: backward(z, y, [g[0], g[1][:, :5], *g[2:]]), "grad_confidence must have the shape"),
    (lambda z, y, g: backward(z, y, [*g[:2], g[2].T, g[3]]), "grad_entropy must have the shape"),
    (lambda z, y, g: backward(z, y, [*g[:3], g[3].double()]), "grad_margin must have the dtype of the scores"),
    (lambda z, y, g: backward(z.half(), y, [g[0].half(), *g[1:]]), "grad_loss must have the dtype of the scores"),
    (lambda z, y, g: backward(z, y, [g[0].to("meta"), *g[1:]]), "one device"),
]


@pytest.mark.parametrize("case", range(len(HOSTILE)))
def test_a_hostile_call_raises(case: int) -> None:
    change, message = HOSTILE[case]
    with pytest.raises((RuntimeError, NotImplementedError), match=message):
        change(*problem())


def test_double_backward_is_refused_with_the_way_out() -> None:
    logits, labels, _ = problem()
    logits.requires_grad_()
    loss = ops.modality_scores(logits, labels).loss.sum()
    with pytest.raises(RuntimeError, match=r"cannot be differentiated again .*backend='reference' can"):
        torch.autograd.grad(loss, logits, create_graph=True)
    loss = ops.modality_scores(logits, labels, backend="reference").loss.sum()
    (first,) = torch.autograd.grad(loss, logits, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), logits)[0].any()


def test_scores_that_are_not_used_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their gradients reach the op as None, not as tensors of zeros."""
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.spcl_fast.modality_scores_backward.default:
                seen.append([g is not None for g in args[4:]])
            return func(*args, **(kwargs or {}))

    logits, labels, _ = problem()
    logits.requires_grad_()
    with Watch():
        ops.modality_scores(logits, labels).entropy.sum().backward()
    assert seen == [[False, False, True, False]]


def test_logits_changed_in_place_before_the_backward_pass_are_noticed() -> None:
    logits, labels, _ = problem()
    leaf = logits.requires_grad_()
    middle = leaf * 1
    loss = ops.modality_scores(middle, labels).loss.sum()
    middle.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_under_autocast_is_trained(dtype: torch.dtype) -> None:
    logits, labels, _ = problem()
    head = nn.Linear(C, C)
    with torch.autocast("cpu", dtype):
        z = [head(x) for x in logits]
        scores = ops.modality_scores(z, labels)
        (scores.loss.mean() - scores.entropy.mean()).backward()
    assert z[0].dtype == dtype
    assert scores.loss.dtype == torch.float32
    assert head.weight.grad.isfinite().all()
    assert head.weight.grad.any()


# Dynamo makes an instance of the autograd.Function that it traces, and Inductor calls torch.jit.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
@pytest.mark.parametrize("stacked", [True, False])
def test_forward_and_backward_compile_whole_and_once(compiler: str, stacked: bool) -> None:
    head = nn.Linear(C, C)

    def loss_of(z: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        h = head(z)
        scores = ops.modality_scores(h if stacked else list(h), y)
        return scores.loss.mean() - 0.3 * scores.entropy.mean() + scores.margin.square().mean(), scores.confidence

    torch._dynamo.reset()
    compiled = torch.compile(loss_of, fullgraph=True, dynamic=True, backend=compiler)
    for num in (40, 53, 1201):
        z, y, _ = problem(num)
        expected = loss_of(z, y)
        (wanted,) = torch.autograd.grad(expected[0], head.weight)
        with torch._dynamo.config.patch(error_on_recompile=num > 40):
            got = compiled(z, y)
        assert torch.equal(got[1], expected[1])
        torch.testing.assert_close(got[0], expected[0])
        torch.testing.assert_close(torch.autograd.grad(got[0], head.weight)[0], wanted)
