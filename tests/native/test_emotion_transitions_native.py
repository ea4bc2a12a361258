"""The raw op `torch.ops.spcl_fast.emotion_transitions` on the CPU: the same bits always, and no way out of a tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from spcl_fast import arrays, backends, ops, reference
from spcl_fast.reference import EmotionTransitions


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def problem(D: int, C: int, S: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Ragged dialogues, some empty, one long; labels and speakers of every kind."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 20, (D,), generator=generator)
    lengths[D // 2] = 5000
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    T = int(offsets[-1])
    labels = torch.randint(-1, C + 1, (T,), generator=generator)
    return labels, torch.randint(-1, S, (T,), generator=generator), offsets


def raw(
    labels: Tensor,
    speakers: Tensor,
    offsets: Tensor,
    C: int,
    similarity: Tensor | None = None,
    fitted: Tensor | None = None,
    **options: bool,
) -> EmotionTransitions:
    flags = (options.get(name, default) for name, default in (("breaks", False), ("by_speaker", False), ("both", True)))
    return EmotionTransitions(
        *torch.ops.spcl_fast.emotion_transitions(labels, speakers, offsets, C, similarity, fitted, -1, *flags)
    )


def same(a: EmotionTransitions, b: EmotionTransitions) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return all(
        x.dtype == y.dtype and torch.equal(x.nan_to_num(nan=-7.0), y.nan_to_num(nan=-7.0))
        for x, y in zip(a, b, strict=True)
    )


# Classes: one, those of the data sets, and both sides of those in the table (64) and counted apart (181).
@pytest.mark.parametrize("C", [1, 6, 7, 64, 65, 181, 182])
@pytest.mark.parametrize("breaks", [False, True])
def test_transitions_are_those_of_the_reference(C: int, breaks: bool) -> None:
    labels, speakers, offsets = problem(2000, C, 90)
    similarity = torch.rand(C, C, dtype=torch.float64)
    for by_speaker in (False, True):
        options = {"ignored": "break" if breaks else "skip", "by": "speaker" if by_speaker else "dialogue"}
        got = raw(labels, speakers, offsets, C, similarity, breaks=breaks, by_speaker=by_speaker)
        expected = reference.emotion_transitions(
            labels, speakers, offsets, C, similarity=similarity, ignore_index=-1, **options
        )
        for name, x, y in zip(got._fields, got, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-13, atol=1e-13, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.host_only
@pytest.mark.parametrize(("C", "S"), [(7, 4), (65, 1000), (200, 2**40)])
def test_the_number_of_threads_changes_no_bit(C: int, S: int) -> None:
    arguments = (*problem(3000, C, S), C, torch.rand(C, C))
    one = raw(*arguments)
    try:
        for threads in (2, 3, 4, 7):
            torch.set_num_threads(threads)
            assert same(raw(*arguments), one)
    finally:
        torch.set_num_threads(1)


@pytest.mark.host_only
def test_what_is_counted_at_once_is_counted_once() -> None:
    """Where the counts are shared by all threads, every dialogue meets the same few of them."""
    labels = torch.zeros(100_000, dtype=torch.int64)
    offsets = torch.arange(0, 100_001, 10)
    try:
        torch.set_num_threads(4)
        got = raw(labels, labels, offsets, 300)
    finally:
        torch.set_num_threads(1)
    assert got.counts[0, 0] == 90_000
    assert got.counts.sum() == 90_000


@pytest.mark.host_only
@pytest.mark.parametrize("C", [7, 65, 200])
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.float32, torch.float64])
def test_arrays_are_the_torch_op_bit_for_bit(C: int, dtype: torch.dtype | None) -> None:
    labels, speakers, offsets = problem(1500, C, 80)
    similarity = None if dtype is None else torch.rand(C, C, dtype=torch.float64).to(dtype)
    fitted = None if dtype is None else torch.randint(9, (C, C))
    tensors = (labels, speakers, offsets, similarity, fitted)
    options = {"ignore_index": 2, "ignored": "break", "by": "speaker", "weighted": "same"}
    a, b, c, w, n = (None if x is None else x.numpy() for x in tensors)
    got = arrays.emotion_transitions(a, b, c, C, similarity=w, counts=n, **options)
    expected = ops.emotion_transitions(*tensors[:3], C, similarity=similarity, counts=fitted, backend="cpu", **options)
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_array_equal(x, y.numpy(), strict=True)
    backwards = [np.ascontiguousarray(x[::-1])[::-1] for x in (a, b, c)]
    for x, y in zip(arrays.emotion_transitions(*backwards, C, **options)[:4], got[:4], strict=True):
        np.testing.assert_array_equal(x, y)


Y = np.array([0, 1, 1])


@pytest.mark.host_only
@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        ({"labels": [0, 1, 1]}, TypeError, r"labels must be a NumPy array \(got list\)"),
        ({"speakers": None}, TypeError, r"speakers must be a NumPy array \(got NoneType\)"),
        ({"labels": Y.astype(float)}, TypeError, "labels must be integers"),
        ({"labels": Y[None]}, ValueError, r"labels must be \[T\]"),
        ({"speakers": Y[1:]}, ValueError, r"speakers must be \[T\]"),
        ({"offsets": np.array([0, 4])}, ValueError, "offsets must end at"),
        ({"offsets": np.array([0.0, 3.0])}, TypeError, "offsets must be integers"),
        ({"num_classes": 0}, ValueError, r"num_classes must lie in \[1, 32768\]"),
        ({"num_classes": 2**20}, ValueError, r"num_classes must lie in \[1, 32768\]"),
        ({"similarity": np.ones((2, 3))}, ValueError, "similarity must have the shape"),
        ({"similarity": np.ones((2, 2), int)}, TypeError, "similarity must be float16"),
        ({"counts": np.ones((3, 3), int)}, ValueError, r"counts must be \[C, C\]"),
        ({"counts": np.ones((2, 2))}, TypeError, "counts must be integers"),
        ({"counts": -np.ones((2, 2), int)}, ValueError, r"counts must be at least 0 \(got -1\)"),
        ({"ignored": "drop"}, ValueError, "ignored must be one of 'skip', 'break'"),
        ({"by": ""}, ValueError, "by must be one of"),
        ({"weighted": ""}, ValueError, "weighted must be one of"),
    ],
)
def test_wrong_arrays_are_refused(change, error, rule) -> None:
    arguments = {"labels": Y, "speakers": Y, "offsets": np.array([0, 3]), "num_classes": 2} | change
    with pytest.raises(error, match=f"emotion_transitions: {rule}"):
        arrays.emotion_transitions(**arguments)


@pytest.mark.host_only
def test_the_raw_op_looks_at_offsets_and_counts() -> None:
    y, o = torch.tensor([0, 1, 1]), torch.tensor([0, 3])
    with pytest.raises(RuntimeError, match="emotion_transitions: offsets must end at"):
        raw(y, y, torch.tensor([0, 9]), 2)
    with pytest.raises(RuntimeError, match="emotion_transitions: counts must be at least 0"):
        raw(y, y, o, 2, None, -torch.ones(2, 2, dtype=torch.int64))


def test_the_raw_op_checks_what_it_is_given() -> None:
    y, o = torch.tensor([0, 1, 1]), torch.tensor([0, 3])
    for arguments, rule in (
        ((y[None], y, o, 2), r"labels must be \[T\]"),
        ((y, y[1:], o, 2), r"speakers must be \[T\]"),
        ((y, y.float(), o, 2), "speakers must be integers"),
        ((y, y, o, 0), r"num_classes must lie in \[1, 32768\]"),
        ((y, y, o, 2**40), r"num_classes must lie in"),
        ((y, y, o, 2, torch.ones(2, 3)), "similarity must have the shape"),
        ((y, y, o, 2, None, torch.ones(2, 2)), "counts must be integers"),
        ((y, y, o, 2, None, torch.ones(2, dtype=torch.int64)), r"counts must be \[C, C\]"),
    ):
        with pytest.raises(RuntimeError, match=f"emotion_transitions: {rule}"):
            raw(*arguments)
    freed = torch.zeros(1000, dtype=torch.int64)
    freed.untyped_storage().resize_(8)
    for arguments in ((freed, freed, o), (torch.zeros(1000, dtype=torch.int64), freed, o)):
        with pytest.raises(RuntimeError, match="must lie inside its storage"):
            raw(*arguments, 2)


def test_opcheck() -> None:
    """Without what gives NaN, which opcheck holds to be unequal to itself."""
    labels, speakers = torch.randint(3, (50,)), torch.randint(-1, 3, (50,))
    offsets = torch.tensor([0, 20, 21, 50])
    for similarity in (None, torch.rand(3, 3), torch.rand(3, 3, dtype=torch.float64)):
        fitted = None if similarity is None else torch.ones(3, 3, dtype=torch.int64)
        opcheck(
            torch.ops.spcl_fast.emotion_transitions.default,
            (labels, speakers, offsets, 3, similarity, fitted, -100, True, False, True),
        )


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_function_holds_no_break_and_gives_the_same(backend: str, dynamic: bool) -> None:
    def call(labels: Tensor, speakers: Tensor, offsets: Tensor, similarity: Tensor, counts: Tensor):
        return ops.emotion_transitions(
            labels, speakers, offsets, 5, similarity=similarity, counts=counts, by="speaker", backend=backend
        )

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    similarity, counts = torch.rand(5, 5, dtype=torch.float64), torch.randint(9, (5, 5))
    for seed in (0, 1):
        arguments = (*problem(30 + seed, 5, seed=seed), similarity, counts)
        assert same(compiled(*arguments), call(*arguments))
