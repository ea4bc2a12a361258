"""`spcl_fast.arrays.window_coherence`: the same kernel on NumPy arrays, without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from spcl_fast import arrays, backends

pytestmark = pytest.mark.host_only


def problem(M: int = 3, T: int = 3000, F: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    e = generator.normal(size=(M, T, F))
    e[0, ::7], e[1, ::50, 0] = 0, np.nan
    return e, np.array([0, 5, 5, T // 2, T]), generator.random((M, T)) < 0.9


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("source", ["embedding", "prediction"])
@pytest.mark.parametrize("F", [1, 20, 70])
@pytest.mark.parametrize("window", [1, 5, 2001])
def test_window_coherence_is_that_of_the_torch_op(dtype: type, source: str, F: int, window: int) -> None:
    e, offsets, present = problem(F=F)
    e = e.astype(dtype)
    assert backends.why_not("cpu") is None
    expected = torch.ops.spcl_fast.window_coherence(
        [torch.from_numpy(e)],
        torch.from_numpy(offsets),
        torch.from_numpy(present),
        window,
        source == "prediction",
        False,
    )[0].numpy()
    for form in (e, list(e), dict(zip("atv", e, strict=True)), np.asfortranarray(e), e[::-1, :, ::-1][::-1, :, ::-1]):
        got = arrays.window_coherence(form, offsets, window=window, source=source, present=present)
        np.testing.assert_array_equal(got, expected, strict=True)


def test_any_stride_and_read_only_arrays_are_read() -> None:
    e, offsets, present = problem(T=100)
    e = e.astype(np.float32)
    expected = arrays.window_coherence(e, offsets, present=present)
    record = np.zeros(e.shape, np.dtype([("flag", "i1"), ("e", "f4")]))  # unaligned, 5 bytes apart
    record["e"] = e
    assert not record["e"].flags.aligned
    np.testing.assert_array_equal(arrays.window_coherence(record["e"], offsets, present=present), expected)
    backwards = np.ascontiguousarray(e[:, ::-1])[:, ::-1]
    e.flags.writeable = offsets.flags.writeable = present.flags.writeable = False
    for form in (backwards, e):
        got = arrays.window_coherence(form, offsets.astype(np.uint16), present=present)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("T", [0, 1])
def test_few_utterances(T: int) -> None:
    got = arrays.window_coherence(np.ones((2, T, 3)), np.array([0, T]))
    np.testing.assert_array_equal(got, np.ones(T), strict=True)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np, spcl_fast.arrays as arrays\n"
        "coherence = arrays.window_coherence(np.ones((2, 3, 4), np.float32), np.array([0, 3]))\n"
        "assert np.allclose(coherence, 1)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


E_, O_ = np.zeros((2, 3, 4), np.float32), np.array([0, 3])


@pytest.mark.parametrize(
    ("arguments", "error", "rule"),
    [
        ({"embeddings": E_[0]}, ValueError, r"embeddings must be \[M, T, F\] \(got shape \(3, 4\)\)"),
        ({"embeddings": E_[0], "source": "prediction"}, ValueError, r"embeddings must be \[M, T, C\]"),
        ({"embeddings": [E_]}, ValueError, r"embeddings\[0\] must be \[T, F\]"),
        ({"embeddings": []}, ValueError, "got no array"),
        ({"embeddings": E_[:1]}, ValueError, r"at least 2 of them, and at most 256 \(got 1\)"),
        ({"embeddings": np.repeat(E_, 129, 0)}, ValueError, r"at most 256 \(got 258\)"),
        ({"embeddings": [E_[0], E_[0, :, :2]]}, ValueError, "must have one shape"),
        ({"embeddings": [E_[0], E_[0].astype(float)]}, ValueError, "must have one dtype"),
        ({"embeddings": E_.astype(int)}, TypeError, "embeddings must be float16, float32 or float64"),
        ({"embeddings": E_.astype(">f4")}, TypeError, "native byte order"),
        ({"embeddings": E_[..., :0]}, ValueError, "at least one feature"),
        ({"window": 0}, ValueError, r"window must be odd and at least 1 \(got 0\)"),
        ({"window": 2}, ValueError, "window must be odd"),
        ({"window": -(2**70) - 1}, ValueError, "window must be odd and at least 1"),
        ({"window": 5.0}, TypeError, "window must be an integer"),
        ({"source": "speaker"}, ValueError, "source must be one of"),
        ({"offsets": [0, 3]}, TypeError, "offsets must be a NumPy array"),
        ({"offsets": O_.astype(float)}, TypeError, "offsets must be integers"),
        ({"offsets": O_ + 1}, ValueError, "offsets must start at 0"),
        ({"offsets": O_[None]}, ValueError, r"offsets must be \[D \+ 1\]"),
        ({"present": np.ones((2, 3))}, TypeError, "present must be bool"),
        ({"present": np.ones(3, bool)}, ValueError, r"present must be \[M, T\]"),
    ],
)
def test_wrong_input_is_refused(arguments, error: type[Exception], rule: str) -> None:
    arguments = {"embeddings": E_, "offsets": O_, **arguments}
    with pytest.raises(error, match=rule):
        arrays.window_coherence(arguments.pop("embeddings"), arguments.pop("offsets"), **arguments)
