"""`spcl_fast.arrays`: the same kernels on NumPy arrays, without torch."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from spcl_fast import arrays, backends

pytestmark = pytest.mark.host_only


def problem(M: int = 3, T: int = 100, C: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(size=(M, T, C)).astype(np.float32), generator.integers(-1, C + 1, T)


def assert_same(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> None:
    """Bit for bit, with NaN equal to NaN."""
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y, strict=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("C", [1, 7, 65])
def test_modality_scores_are_those_of_the_torch_op(dtype: type, C: int) -> None:
    logits, labels = problem(C=C)
    logits, present = logits.astype(dtype), np.random.default_rng(1).random((3, 100)) < 0.8
    assert backends.why_not("cpu") is None
    slab = torch.ops.spcl_fast.modality_scores(
        [torch.from_numpy(logits)], torch.from_numpy(labels), torch.from_numpy(present), 2
    )
    expected = tuple(slab.numpy())
    assert_same(arrays.modality_scores(logits, labels, present=present, ignore_index=2), expected)
    assert_same(arrays.modality_scores(list(logits), labels, present=present, ignore_index=2), expected)
    named = dict(zip("atv", logits, strict=True))
    assert_same(arrays.modality_scores(named, labels, present=present, ignore_index=2), expected)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np, spcl_fast.arrays as arrays\n"
        "scores = arrays.modality_scores(np.zeros((2, 3, 4), np.float32), np.zeros(3, np.int32))\n"
        "assert np.allclose(scores.confidence, 0.25)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_without_the_compiled_module_the_call_says_so() -> None:
    code = (
        "import sys, numpy as np, spcl_fast.arrays as arrays\n"
        "sys.modules['spcl_fast._arrays'] = None\n"
        "arrays.modality_scores(np.zeros((2, 3, 4)), np.zeros(3, int))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ImportError: spcl_fast.arrays needs the compiled module spcl_fast._arrays" in run.stderr


def test_any_stride_is_read() -> None:
    logits, labels = problem()
    expected = arrays.modality_scores(logits, labels)
    spaced = np.full((3, 203, 14), np.nan, np.float32)[:, 2:202:2, ::2]
    spaced[...] = logits
    record = np.zeros((3, 100, 7), np.dtype([("flag", "i1"), ("z", "f4")]))  # unaligned, 5 bytes apart
    record["z"] = logits
    backwards = np.ascontiguousarray(logits[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    fortran = np.asfortranarray(logits)
    assert not record["z"].flags.aligned
    for view in (spaced, record["z"], backwards, fortran):
        assert_same(arrays.modality_scores(view, labels), expected)
        assert_same(arrays.modality_scores(list(view), labels), expected)
    assert_same(arrays.modality_scores(logits, np.repeat(labels, 3)[::3]), expected)
    assert_same(arrays.modality_scores(logits, labels[::-1].copy()[::-1]), expected)
    present = np.broadcast_to(np.True_, (3, 100))
    assert_same(arrays.modality_scores(logits, labels, present=present), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64])
def test_every_integer_label_is_taken(dtype: type) -> None:
    logits, labels = problem()
    labels = labels.clip(0, 6)
    assert_same(arrays.modality_scores(logits, labels.astype(dtype)), arrays.modality_scores(logits, labels))


def test_read_only_and_memory_mapped_arrays_are_read(tmp_path: Path) -> None:
    logits, labels = problem()
    expected = arrays.modality_scores(logits, labels)
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "labels.npy", labels)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    assert_same(arrays.modality_scores(mapped, np.load(tmp_path / "labels.npy", mmap_mode="r")), expected)
    before = logits.copy(), labels.copy()
    logits.flags.writeable = labels.flags.writeable = False
    assert_same(arrays.modality_scores(logits, labels), expected)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("shape", [(3, 0, 7), (0, 5, 7), (0, 0, 0), (2**40, 0, 7)])
def test_empty_input_gives_an_empty_result_of_the_right_shape(shape: tuple[int, int, int]) -> None:
    for scores in arrays.modality_scores(np.empty(shape, np.float64), np.zeros(shape[1], int)):
        assert scores.shape == shape[:2]
        assert scores.dtype == np.float64


def test_threads_may_score_at_once() -> None:
    logits, labels = problem(T=5000)
    expected = arrays.modality_scores(logits, labels)
    results: list[arrays.ModalityScores] = []
    threads = [
        threading.Thread(target=lambda: results.append(arrays.modality_scores(logits, labels))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        assert_same(result, expected)


Z, Y = np.zeros((2, 3, 4), np.float32), np.zeros(3, int)


@pytest.mark.parametrize(
    ("logits", "labels", "present", "error", "rule"),
    [
        (Z[0], Y, None, ValueError, r"must be \[M, T, C\] \(got shape \(3, 4\)\)"),
        ([Z], Y, None, ValueError, r"logits\[0\] must be \[T, C\]"),
        ([], Y, None, ValueError, "got no array"),
        ([Z[0], Z[0, :2]], Y, None, ValueError, "must have one shape"),
        ([Z[0], Z[1].astype(float)], Y, None, ValueError, "must have one dtype"),
        ([[[0.0]]], Y, None, TypeError, r"logits\[0\] must be a NumPy array \(got list\)"),
        (Z.astype(int), Y, None, TypeError, "logits must be float16, float32 or float64"),
        (Z.astype(np.longdouble), Y, None, TypeError, "logits must be float16, float32 or float64"),
        (Z.astype(">f4"), Y, None, TypeError, "native byte order"),
        (Z[..., :0], Y, None, ValueError, "at least one class"),
        (Z, Y[1:], None, ValueError, r"labels must be \[T\]"),
        (Z, Y[None], None, ValueError, r"labels must be \[T\]"),
        (Z, [0, 0, 0], None, TypeError, r"labels must be a NumPy array \(got list\)"),
        (Z, Y.astype(float), None, TypeError, "labels must be integers"),
        (Z, Y.astype(bool), None, TypeError, "labels must be integers"),
        (Z, Y.astype(">i8"), None, TypeError, "labels must be integers"),
        (Z, Y, np.ones((2, 3)), TypeError, "present must be bool"),
        (Z, Y, np.ones(3, bool), ValueError, r"present must be \[M, T\]"),
        (np.broadcast_to(Z[:, :, :1], (2, 3, 2**31)), Y, None, ValueError, "fewer than 2"),
    ],
)
def test_wrong_input_is_refused(logits, labels, present, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        arrays.modality_scores(logits, labels, present=present)
