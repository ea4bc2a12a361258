"""Outputs, refusals and registration of the raw ops: nothing may reach outside a tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import backends

T, M, C = 40, 3, 7


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(M, T, C), torch.randint(C, (T,))


def raw(logits: list[Tensor], labels: Tensor, present: Tensor | None = None) -> Tensor:
    return torch.ops.spcl_fast.modality_scores(logits, labels, present, -100)


def raw_out(logits: Tensor, labels: Tensor, *out: Tensor) -> None:
    torch.ops.spcl_fast.modality_scores_out([logits], labels, None, -100, *out)


def buffers(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.full((M, T), 9.0, dtype=dtype) for _ in range(4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_out_is_filled_with_the_same_bits(dtype: torch.dtype) -> None:
    logits, labels = inputs()
    expected = raw([logits.to(dtype)], labels)
    out = buffers(expected.dtype)
    raw_out(logits.to(dtype), labels, *out)
    assert torch.equal(torch.stack(out), expected)
    slab = torch.empty_like(expected)
    raw_out(logits.to(dtype), labels, *slab.unbind(0))
    assert torch.equal(slab, expected)


def test_out_may_have_padded_rows() -> None:
    logits, labels = inputs()
    padded = torch.full((4, M, T + 5), -3.0)
    raw_out(logits, labels, *padded[..., :T].unbind(0))
    assert torch.equal(padded[..., :T], raw([logits], labels))
    assert (padded[..., T:] == -3).all()


def test_inputs_are_never_written() -> None:
    logits, labels = inputs()
    present = torch.rand(M, T) < 0.5
    copies = logits.clone(), labels.clone(), present.clone()
    raw([logits], labels, present)
    assert torch.equal(logits, copies[0])
    assert torch.equal(labels, copies[1])
    assert torch.equal(present, copies[2])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda out, z: out[0].double(), "must have the dtype of the scores"),
        (lambda out, z: torch.empty(M, T + 1), r"must be \[M, T\]"),
        (lambda out, z: torch.empty(M * T), r"must be \[M, T\]"),
        (lambda out, z: torch.empty(T, M).T, "must have contiguous rows"),
        (lambda out, z: torch.empty(1, T).expand(M, T), "must have rows that do not overlap"),
        (lambda out, z: z.view(-1)[: M * T].view(M, T), "must overlap neither"),
        (lambda out, z: out[1], "must overlap neither"),
        (lambda out, z: torch.empty(M, T, device="meta"), "one device"),
    ],
)
def test_out_that_does_not_fit_is_refused_and_nothing_written(change, rule: str | None) -> None:
    logits, labels = inputs()
    out = buffers()
    before = logits.clone()
    with pytest.raises((RuntimeError, NotImplementedError), match=rule):
        raw_out(logits, labels, change(out, logits), *out[1:])
    assert torch.equal(logits, before)
    assert all((x == 9).all() for x in out)


LABELS = torch.zeros(T, dtype=torch.long)


@pytest.mark.parametrize(
    ("logits", "labels", "present", "rule"),
    [
        ([], LABELS, None, None),
        ([torch.zeros(T)], LABELS, None, r"must be one tensor \[M, T, C\] or M tensors \[T, C\] \(got \[40\]\)"),
        ([torch.zeros(1, M, T, C)], LABELS, None, "must be one tensor"),
        ([torch.zeros(M, T, C)] * 2, LABELS, None, "must be one tensor"),
        ([torch.zeros(T, C), torch.zeros(T, C + 1)], LABELS, None, "must have one shape"),
        ([torch.zeros(T, C), torch.zeros(T)], LABELS, None, "must have one shape"),
        ([torch.zeros(T, C), torch.zeros(T, C).double()], LABELS, None, "must have one dtype"),
        ([torch.zeros(T, C).int()], LABELS, None, "logits must be float16, bfloat16, float32 or float64"),
        ([torch.zeros(T, C).to(torch.complex64)], LABELS, None, "logits must be float16"),
        ([torch.zeros(T, 0)], LABELS, None, "at least one class"),
        ([torch.zeros(1, 1).expand(T, 2**31)], LABELS, None, "fewer than 2"),
        ([torch.zeros(T, C)], LABELS[1:], None, r"labels must be \[T\] \(got \[39\] for T = 40\)"),
        ([torch.zeros(T, C)], LABELS[:, None], None, r"labels must be \[T\]"),
        ([torch.zeros(T, C)], LABELS.float(), None, "labels must be integers"),
        ([torch.zeros(T, C)], LABELS.bool(), None, "labels must be integers"),
        ([torch.zeros(T, C)], LABELS, torch.ones(1, T), "present must be bool"),
        ([torch.zeros(T, C)], LABELS, torch.ones(2, T).bool(), r"present must be \[M, T\]"),
        ([torch.zeros(T, C)], LABELS, torch.ones(T).bool(), r"present must be \[M, T\]"),
        ([torch.zeros(T, C)], torch.zeros(T, dtype=torch.long, device="meta"), None, "one device"),
        ([torch.zeros(T, C).to_sparse()], LABELS, None, None),
    ],
)
def test_wrong_input_is_refused(logits, labels: Tensor, present: Tensor | None, rule: str | None) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=rule):
        raw(logits, labels, present)


@pytest.mark.parametrize("which", ["logits", "labels", "present"])
def test_a_tensor_whose_storage_was_freed_is_refused(which: str) -> None:
    logits, labels = inputs()
    tensors = {"logits": logits, "labels": labels, "present": torch.ones(M, T, dtype=torch.bool)}
    tensors[which].untyped_storage().resize_(tensors[which].nbytes - 1)
    with pytest.raises(RuntimeError, match=f"{which} must lie inside its storage"):
        raw([tensors["logits"]], tensors["labels"], tensors["present"])


def test_an_output_that_cannot_be_allocated_is_refused() -> None:
    with pytest.raises(RuntimeError):
        raw([torch.zeros(1, 1, 7).expand(2**50, 4, 7)], torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_the_ops_pass_opcheck(stacked: bool, dtype: torch.dtype) -> None:
    logits, labels = inputs()
    logits = logits.to(dtype)
    tensors = [logits] if stacked else list(logits)
    op = torch.ops.spcl_fast.modality_scores.default
    everywhere = torch.ones(M, T, dtype=torch.bool)  # opcheck compares results and takes no NaN for equal
    torch.library.opcheck(op, (tensors, labels, everywhere, -100))
    torch.library.opcheck(op, (tensors, labels, None, -100))
    out = buffers(torch.float64 if dtype == torch.float64 else torch.float32)
    torch.library.opcheck(torch.ops.spcl_fast.modality_scores_out.default, (tensors, labels, None, -100, *out))


def test_the_op_compiles_into_one_graph() -> None:
    torch._dynamo.reset()
    logits, labels = inputs()
    compiled = torch.compile(lambda z, y: raw([z * 2], y).nan_to_num().sum(-1), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(logits, labels), raw([logits * 2], labels).nan_to_num().sum(-1))
