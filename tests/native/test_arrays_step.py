"""`spcl_fast.arrays`: spread, weights and the step on NumPy arrays, bit for bit those of the torch ops."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spcl_fast import arrays, ops

pytestmark = pytest.mark.host_only

NAN, INF = float("nan"), float("inf")
PARAMETERS: dict[str, dict[str, Any]] = {
    "hard": {},
    "linear": {},
    "logistic": {},
    "log": {},
    "mixture": {"lower": 0.3},
    "polynomial": {"degree": 3},
    "spld": {"gamma": 3.0},
    "superloss": {"regularization": 0.5},
    "given": {},
}
FIELDS = ("loss", "weight", "difficulty", "utterance_loss", "confidence", "spread")


def problem(
    lengths: tuple[int, ...] = (7, 0, 33, 1, 5000, 120), M: int = 3, C: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ragged dialogues, one longer than any range, with faults among them."""
    generator = np.random.default_rng(0)
    T = sum(lengths)
    logits = generator.normal(size=(M, T, C))
    labels = generator.integers(-1, C, T)
    logits[0, ::50, 0], logits[1, 9, 2], labels[11] = -INF, NAN, -100
    return logits, labels, np.cumsum([0, *lengths])


def same(a: Any, b: torch.Tensor) -> bool:
    """Bit for bit, with NaN equal to NaN."""
    return a.dtype == b.numpy().dtype and np.array_equal(a, b.numpy(), equal_nan=True)


def assert_same_step(got: arrays.SelfPacedStep, expected: Any) -> None:
    for name in FIELDS:
        a, b = getattr(got, name), getattr(expected, name)
        assert same(a, b), name
        assert a.shape == b.shape
    for name, value in got.totals._asdict().items():
        assert np.array_equal(value, getattr(expected.totals, name).numpy()), name


def tensors(options: dict[str, Any]) -> dict[str, Any]:
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scheme", PARAMETERS)
def test_self_paced_step_is_that_of_the_torch_op(dtype: type, scheme: str) -> None:
    logits, labels, offsets = problem()
    logits = logits.astype(dtype)
    torch_problem = torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(offsets)
    options = {"scheme": scheme, "scheme_parameters": PARAMETERS[scheme] or None}
    for normalizer, aggregate in (("all", "sum"), ("selected", "mean")):
        options |= {"normalizer": normalizer, "aggregate": aggregate}
        expected = ops.self_paced_step(*torch_problem, 0.8, **options, backend="cpu")
        assert expected.totals.selected > 0
        assert_same_step(arrays.self_paced_step(logits, labels, offsets, 0.8, **options), expected)
        assert_same_step(arrays.self_paced_step(list(logits), labels, offsets, 0.8, **options), expected)
    named = dict(zip("atv", logits, strict=True))
    assert_same_step(
        arrays.self_paced_step(named, labels, offsets, None, **options),
        ops.self_paced_step(*torch_problem, None, **options, backend="cpu"),
    )


@pytest.mark.parametrize("measure", ["spcl", "loss", "spread", "none"])
@pytest.mark.parametrize("M", [1, 3])
def test_every_measure_of_the_step_is_that_of_the_torch_op(measure: str, M: int) -> None:
    logits, labels, offsets = problem(M=M) if M > 1 else problem((7, 0, 33), M=2)
    logits = logits[:M]
    extra = np.random.default_rng(1).random(len(labels))
    torch_problem = torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(offsets)
    options: dict[str, Any] = {"measure": measure, "extra_difficulty": extra}
    if M == 1 and measure in ("spcl", "spread"):
        with pytest.raises(ValueError, match="needs at least 2 of them"):
            arrays.self_paced_step(logits, labels, offsets, 0.8, **options)
        return
    for scheme in ("hard", "given"):
        expected = ops.self_paced_step(*torch_problem, 0.8, **tensors(options), scheme=scheme, backend="cpu")
        assert_same_step(arrays.self_paced_step(logits, labels, offsets, 0.8, **options, scheme=scheme), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_super_loss_is_that_of_the_torch_op(dtype: type) -> None:
    loss = (4 * np.random.default_rng(0).random((7, 30)) - 0.5).astype(dtype)
    loss[0, :3] = [NAN, INF, -INF]
    expected = ops.super_loss(torch.from_numpy(loss), 0.9, regularization=0.7, backend="cpu")
    for view in (loss, np.asfortranarray(loss)):
        for a, b in zip(arrays.super_loss(view, 0.9, regularization=0.7), expected, strict=True):
            assert same(a, b)
    assert arrays.super_loss(loss[:, :0], 0.9, regularization=0.7).value.shape == (7, 0)


def test_wrong_input_of_super_loss_is_refused() -> None:
    for loss, threshold, regularization, error, rule in (
        ([0.5], 0.5, 1.0, TypeError, "loss must be a NumPy array"),
        (np.arange(3), 0.5, 1.0, TypeError, "loss must be float16"),
        (np.zeros(3), NAN, 1.0, ValueError, "threshold must not be NaN"),
        (np.zeros(3), 0.5, 0, ValueError, "regularization of 'superloss' must be finite and above 0"),
    ):
        with pytest.raises(error, match=rule):
            arrays.super_loss(loss, threshold, regularization=regularization)


@pytest.mark.parametrize(
    "name", ["joint", "extra_difficulty", "class_weight", "label_smoothing", "present", "ignore_index", "groups"]
)
def test_every_option_of_the_step_arrives(name: str) -> None:
    logits, labels, offsets = problem()
    generator, T = np.random.default_rng(1), len(labels)
    value: Any = {
        "joint": generator.normal(size=(T, 6)).astype(np.float32),
        "extra_difficulty": generator.random(T).astype(np.float16),
        "class_weight": generator.random(6),
        "label_smoothing": 0.1,
        "present": generator.random((3, T)) < 0.8,
        "ignore_index": 2,
        "groups": None,
    }[name]
    options = {name: value}
    if name == "groups":
        options = {"scheme": "spld", "scheme_parameters": {"gamma": 3.0, "groups": "dialogue"}}
    torch_problem = torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(offsets)
    expected = ops.self_paced_step(*torch_problem, 0.8, **tensors(options), backend="cpu")
    got = arrays.self_paced_step(logits, labels, offsets, 0.8, **options)
    assert_same_step(got, expected)
    assert not np.array_equal(got.weight, arrays.self_paced_step(logits, labels, offsets, 0.8).weight)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scheme", PARAMETERS)
def test_self_paced_weights_are_those_of_the_torch_op(dtype: type, scheme: str) -> None:
    difficulty = np.random.default_rng(0).random((7, 300)).astype(dtype)
    difficulty[0, :5] = [NAN, INF, -INF, -1.0, 0.0]
    parameters = dict(PARAMETERS[scheme])
    if scheme == "spld":
        parameters["groups"] = np.random.default_rng(1).integers(5, size=(7, 300))
    expected = ops.self_paced_weights(
        torch.from_numpy(difficulty), 0.6, scheme=scheme, **tensors(parameters), backend="cpu"
    )
    assert same(arrays.self_paced_weights(difficulty, 0.6, scheme=scheme, **parameters), expected)
    spaced = np.full((7, 900), NAN, dtype)[:, 1::3]
    spaced[...] = difficulty
    record = np.zeros((7, 300), np.dtype([("flag", "i1"), ("rho", dtype)]))  # unaligned
    record["rho"] = difficulty
    for view in (spaced, record["rho"], np.asfortranarray(difficulty)):
        assert same(arrays.self_paced_weights(view, np.float64(0.6), scheme=scheme, **parameters), expected)
    empty = {name: x[:, :0] if isinstance(x, np.ndarray) else x for name, x in parameters.items()}
    assert arrays.self_paced_weights(difficulty[:, :0], 0.6, scheme=scheme, **empty).shape == (7, 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_modality_spread_is_that_of_the_torch_op(dtype: type, aggregate: str) -> None:
    _, _, offsets = problem()
    generator = np.random.default_rng(0)
    p = generator.random((3, offsets[-1])).astype(dtype)
    p[1, ::70] = NAN
    for present in (None, generator.random(p.shape) < 0.8):
        expected = ops.modality_spread(
            torch.from_numpy(p),
            torch.from_numpy(offsets),
            aggregate=aggregate,
            present=None if present is None else torch.from_numpy(present),
            backend="cpu",
        )
        assert same(arrays.modality_spread(p, offsets, aggregate=aggregate, present=present), expected)
        strided = np.asfortranarray(p)
        short = offsets.astype(np.int32)
        assert same(arrays.modality_spread(strided, short, aggregate=aggregate, present=present), expected)


def test_read_only_and_memory_mapped_arrays_are_read_in_place(tmp_path: Path) -> None:
    logits, labels, offsets = problem()
    difficulty = np.random.default_rng(0).random(len(labels))
    inputs = {"logits": logits, "labels": labels, "offsets": offsets, "difficulty": difficulty}
    for name, array in inputs.items():
        np.save(tmp_path / f"{name}.npy", array)
    maps = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in inputs}
    for frozen in (maps, {name: array.copy() for name, array in inputs.items()}):
        for array in frozen.values():
            array.flags.writeable = False
        z, y, o, rho = frozen.values()
        step = arrays.self_paced_step(z, y, o, 0.8)
        for a, b in zip(step[:6], arrays.self_paced_step(logits, labels, offsets, 0.8)[:6], strict=True):
            np.testing.assert_array_equal(a, b, strict=True)
        options = {"scheme": "spld", "gamma": 0.5}
        weight = arrays.self_paced_weights(rho, 0.5, **options, groups=y)
        np.testing.assert_array_equal(weight, arrays.self_paced_weights(difficulty, 0.5, **options, groups=labels))
        np.testing.assert_array_equal(
            arrays.modality_spread(step.confidence, o), arrays.modality_spread(step.confidence, offsets)
        )
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, np.load(tmp_path / f"{name}.npy"))


def test_a_batch_of_nothing_is_empty() -> None:
    step = arrays.self_paced_step(np.zeros((2, 0, 4), np.float32), np.zeros(0, int), np.zeros(3, int), 0.8)
    assert step.loss == 0
    assert step.loss.dtype == np.float32
    assert step.confidence.shape == (2, 0)
    assert np.isnan(step.spread).all()
    assert step.totals[:6] == (0, 0, 0, 0, 0, 0.0)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, numpy as np, spcl_fast.arrays as arrays\n"
        "z, y, o = np.zeros((2, 3, 4), np.float32), np.zeros(3, np.int32), np.array([0, 1, 3])\n"
        "step = arrays.self_paced_step(z, y, o, 0.8, scheme='mixture', scheme_parameters={'lower': 0.1})\n"
        "assert step.weight.all() and step.totals.selected == 3\n"
        "assert not arrays.modality_spread(step.confidence, o).any()\n"
        "assert arrays.self_paced_weights(step.difficulty, 0.5, scheme='log').all()\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_threads_may_score_at_once() -> None:
    inputs = problem()
    expected = arrays.self_paced_step(*inputs, 0.8, scheme="spld", scheme_parameters={"gamma": 3.0})
    results: list[arrays.SelfPacedStep] = []

    def score() -> None:
        results.append(arrays.self_paced_step(*inputs, 0.8, scheme="spld", scheme_parameters={"gamma": 3.0}))

    threads = [threading.Thread(target=score) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        for a, b in zip(result[:6], expected[:6], strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


Z, Y, O, RHO = np.zeros((2, 3, 4), np.float32), np.zeros(3, int), np.array([0, 3]), np.zeros(3)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "rule"),
    [
        ((Z[:1], Y, O, 0.5), {}, ValueError, "needs at least 2 of them"),
        ((Z[..., :0], Y, O, 0.5), {}, ValueError, "at least one class"),
        ((Z.astype(int), Y, O, 0.5), {}, TypeError, "logits must be float16"),
        ((Z, Y.astype(float), O, 0.5), {}, TypeError, "labels must be integers"),
        ((Z, Y[1:], O, 0.5), {}, ValueError, r"labels must be \[T\]"),
        ((Z, Y, [0, 3], 0.5), {}, TypeError, r"offsets must be a NumPy array \(got list\)"),
        ((Z, Y, O + 1, 0.5), {}, ValueError, r"offsets must start at 0 \(got 1 at position 0\)"),
        ((Z, Y, O - 0.0, 0.5), {}, TypeError, "offsets must be integers"),
        ((Z, Y, O, "0.5"), {}, TypeError, r"threshold must be a number \(got str\)"),
        ((Z, Y, O, NAN), {}, ValueError, "threshold must not be NaN"),
        ((Z, Y, O, 1.0), {"scheme": "log"}, ValueError, r"threshold of 'log' must lie in \(0, 1\) \(got 1.0\)"),
        ((Z, Y, O, 0.5), {"scheme": "mixture"}, TypeError, r"has the parameter\(s\) lower"),
        ((Z, Y, O, 0.5), {"measure": "none"}, ValueError, "measure 'none' needs extra_difficulty"),
        ((Z, Y, O, 0.5), {"measure": "margin"}, ValueError, "measure must be one of"),
        ((Z[:0], Y, O, 0.5), {"measure": "loss"}, ValueError, "at least one modality"),
        ((Z, Y, O, 0.5), {"scheme": "soft"}, ValueError, "scheme must be one of"),
        ((Z, Y, O, 0.5), {"normalizer": "none"}, ValueError, "normalizer must be one of"),
        ((Z, Y, O, 0.5), {"aggregate": "max"}, ValueError, "aggregate must be one of"),
        ((Z, Y, O, 0.5), {"label_smoothing": NAN}, ValueError, r"label_smoothing must lie in \[0, 1\]"),
        ((Z, Y, O, 0.5), {"joint": Z[0, :2]}, ValueError, "joint must have the shape of the batch"),
        ((Z, Y, O, 0.5), {"joint": Y}, TypeError, "joint must be float16"),
        ((Z, Y, O, 0.5), {"extra_difficulty": RHO[:2]}, ValueError, "extra_difficulty must have the shape"),
        ((Z, Y, O, 0.5), {"class_weight": -np.ones(4)}, ValueError, "class_weight must be finite and at least 0"),
        ((Z, Y, O, 0.5), {"class_weight": [1.0] * 4}, TypeError, "class_weight must be a NumPy array"),
        ((Z, Y, O, 0.5), {"present": np.ones((2, 3))}, TypeError, "present must be bool"),
    ],
)
def test_wrong_input_of_the_step_is_refused(inputs: Any, options: Any, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        arrays.self_paced_step(*inputs, **options)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "rule"),
    [
        (([0.0], 0.5), {}, TypeError, "difficulty must be a NumPy array"),
        ((Y, 0.5), {}, TypeError, "difficulty must be float16"),
        ((RHO.astype(">f8"), 0.5), {}, TypeError, "native byte order"),
        ((RHO, None), {}, TypeError, "threshold must be a number"),
        ((RHO, 2.0), {"scheme": "log"}, ValueError, "threshold of 'log'"),
        ((RHO, 0.5), {"gamma": 1.0}, TypeError, "scheme 'hard' has no parameters"),
        ((RHO, 0.5), {"scheme": "spld", "gamma": 1.0, "groups": [0, 0, 0]}, TypeError, "groups must be a NumPy array"),
        ((RHO, 0.5), {"scheme": "spld", "gamma": 1.0, "groups": RHO}, TypeError, "groups must be integers"),
        ((RHO, 0.5), {"scheme": "spld", "gamma": 1.0, "groups": Y[:2]}, ValueError, "groups must have the shape"),
        ((RHO, 0.5), {"scheme": "spld", "gamma": 1.0, "groups": None}, ValueError, "groups must be a contiguous array"),
    ],
)
def test_wrong_input_of_the_weights_is_refused(inputs: Any, options: Any, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        arrays.self_paced_weights(*inputs, **options)


@pytest.mark.parametrize(
    ("inputs", "options", "error", "rule"),
    [
        ((np.ones((1, 3)), O), {}, ValueError, "needs at least 2 of them"),
        ((np.ones(3), O), {}, ValueError, r"confidence must be \[M, T\]"),
        ((np.ones((2, 3), int), O), {}, TypeError, "confidence must be float16"),
        ((np.ones((2, 3)), O[::-1]), {}, ValueError, "offsets must start at 0"),
        ((np.ones((2, 3)), O[:0]), {}, ValueError, "at least one entry"),
        ((np.ones((2, 3)), O[None]), {}, ValueError, r"offsets must be \[D \+ 1\]"),
        ((np.ones((2, 3)), O), {"aggregate": "max"}, ValueError, "aggregate must be one of"),
        ((np.ones((2, 3)), O), {"present": np.ones((2, 2), bool)}, ValueError, r"present must be \[M, T\]"),
    ],
)
def test_wrong_input_of_the_spread_is_refused(inputs: Any, options: Any, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        arrays.modality_spread(*inputs, **options)


@pytest.mark.parametrize("faults", ["groups", "difficulty"])
def test_spld_stays_in_its_memory_while_somebody_writes_to_its_arguments(faults: str) -> None:
    # the number of a group that was not there at first was an index beyond the tables: the heap was overwritten
    rho, groups = np.random.default_rng(0).random(200_000), np.random.default_rng(1).integers(0, 7, 200_000)
    half, is_over = len(rho) // 2, threading.Event()
    if faults == "difficulty":
        groups[half:] = 10**12

    def write() -> None:
        while not is_over.is_set():
            for value in (0.0, np.nan) if faults == "difficulty" else (3, 10**12):
                (rho if faults == "difficulty" else groups)[half:] = value

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            weight = arrays.self_paced_weights(rho, 0.4, scheme="spld", gamma=3.0, groups=groups)
            assert ((weight == 0) | (weight == 1)).all()
    finally:
        is_over.set()
        writer.join()


def test_masked_array_is_refused() -> None:
    # what the mask hides was ranked, weighed and scored like the rest
    rho = np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[True, False, False])
    logits = np.ma.MaskedArray(np.zeros((2, 3, 4)))
    for call in (
        lambda: arrays.select_easiest(rho, 0.5),
        lambda: arrays.self_paced_weights(rho, 0.5),
        lambda: arrays.modality_scores(logits, np.zeros(3, int)),
        lambda: arrays.modality_scores(list(logits), np.zeros(3, int)),
    ):
        with pytest.raises(TypeError, match="must be a NumPy array"):
            call()
