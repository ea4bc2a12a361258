"""Every instruction set computes the ops; those that fuse products with sums give the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.host_only

OPS = Path(__file__).resolve().parents[1] / "ops"
FUSING = ("avx512", "avx2")  # the baseline has no fused multiply-add, so its last bits may differ

SCRIPT = """
import sys, torch
from spcl_fast import backends
reason = backends.why_not("cpu")
if reason: raise SystemExit(reason)
g = torch.Generator().manual_seed(0)
scored, weighed = [], []
for C, scale in ((1, 1), (7, 1), (7, 30), (65, 3), (300, 1)):
    z = scale * torch.randn(2, 3001, C, generator=g, dtype=torch.float64)
    z[0, ::50, 0] = float("-inf")
    y = torch.randint(C, (3001,), generator=g)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        scored += torch.ops.spcl_fast.modality_scores([z.to(dtype)], y, None, -100).unbind(0)
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        of = torch.randn(4, 2, 3001, generator=g, dtype=torch.float64).to(exact)
        gradient = torch.ops.spcl_fast.modality_scores_backward([z.to(dtype)], y, None, -100, *of)
        if dtype.itemsize > 2:
            scored.append(gradient)
        else:
            weighed.append(gradient.view(torch.int16))  # another last bit may be rounded the other way
lengths = torch.tensor([0, 63, 5, 0, 17, 4500, 1, 30, 16])
offsets = lengths.cumsum(0)
T = int(offsets[-1])
for C, scale in ((1, 1), (2, 30), (6, 1), (7, 3), (16, 1), (17, 1), (65, 3)):
    z = scale * torch.randn(3, T, C, generator=g, dtype=torch.float64)
    z[0, ::50, 0] = float("-inf")
    z[1, 7, 0] = float("nan")
    y = torch.randint(-1, C, (T,), generator=g)
    present = torch.rand(3, T, generator=g) < 0.9
    weight = torch.rand(C, generator=g)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        for scheme, parameter in enumerate((0.0, 0.0, 0.0, 0.0, 0.3, 3.0, 0.5, 0.5, 0.0, 1.5)):
            has, w, e = ((None, None, 0.0), (present, None, 0.0), (None, weight, 0.1))[scheme % 3]
            measure = max(scheme - 7, 0)
            loss, v, rho, l, p, s, *rest = torch.ops.spcl_fast.self_paced_step(
                [z.to(dtype)], y, offsets, None, 0.8, None, None, w, has, measure, scheme, parameter, C == 7,
                scheme == 1, scheme == 2, e, -100, True, True)
            scored += [rho, l, p, s]
            weighed += [loss, v, *rest]  # a difficulty at the threshold may fall to either side of it
    p = torch.rand(3, T, generator=g)
    scored.append(torch.ops.spcl_fast.modality_spread(p, offsets, present, False))
    for scheme, parameter in enumerate((0.0, 0.0, 0.0, 0.0, 0.3, 3.0, 0.5, 0.5, 0.0, 1.5)):
        groups = (100 * p).long() if scheme == 6 else None
        weighed.append(torch.ops.spcl_fast.self_paced_weights(p, None, 0.6, scheme, parameter, groups))
    for x in (2 * p, 2 * p.double()):
        weighed += torch.ops.spcl_fast.super_loss(x, None, 0.9, 0.7)
    speaker = torch.randint(-1, 90, (T,), generator=g)
    for dtype in (torch.float32, torch.float64):
        similarity = torch.rand(C, C, generator=g, dtype=dtype)
        scored += torch.ops.spcl_fast.emotion_transitions(
            y, speaker, offsets, C, similarity, None, -100, dtype == torch.float64, dtype == torch.float64, True)
for M, F in ((2, 5), (3, 16), (3, 70), (4, 300), (5, 40), (3, 2100)):
    e = torch.randn(M, 400, F, generator=g, dtype=torch.float64)
    e[0, ::9], e[1, ::50, 0] = 0, float("nan")
    e[:, 5] *= 1e-3
    cut, grad = torch.tensor([0, 3, 3, 90, 400]), torch.randn(400, generator=g)
    has = torch.rand(M, 400, generator=g) < 0.9
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        for of_predictions in (False, True):
            c, counts = torch.ops.spcl_fast.window_coherence([e.to(dtype)], cut, has, 7, of_predictions, True)
            scored.append(c)
            weighed += [counts, torch.ops.spcl_fast.window_coherence_backward(
                grad.to(c.dtype), counts, [e.to(dtype)], cut, has, 7, of_predictions).float()]
    extreme = e.float() * torch.tensor([1e30] + [1e-30] * (M - 1)).view(M, 1, 1)
    scored.append(torch.ops.spcl_fast.window_coherence([extreme], cut, has, 7, False, False)[0])
for F, scale in ((1, 1), (7, 1), (33, 3), (256, 0.5), (256, 2), (256, 30), (1500, 1)):
    x, target, z, c = (scale * torch.randn(3, 200, F, generator=g, dtype=torch.float64) for _ in range(4))
    z[0, ::50, 0], c[1, ::70, -1] = float("-inf"), float("nan")
    has, valid = torch.rand(3, 200, generator=g) < 0.6, torch.rand(200, generator=g) < 0.9
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        kinds = [[part.to(dtype)] for part in (x, target, z, c)]
        h, d, i, ends = torch.ops.spcl_fast.multiview_hardness(*kinds, has, valid, None, 1, 4.0, 0.6, 0.4)
        scored += [d, i, ends[2:]]
        weighed += [h, ends[:2]]  # nearly equal parts are pulled far apart
exact = []
for T in (100, 20001, 90001):
    x = torch.exp(9 * torch.randn(T, generator=g, dtype=torch.float64))
    x[::9] = float("nan")
    for values in (x, x.float(), x.half(), x.bfloat16(), torch.stack([x, x], 1)[:, 1], (x * 4).round()):
        for pace in (0.002, 0.5, 1.0):
            exact.append(torch.ops.spcl_fast.difficulty_quantile(values, pace))
            exact.append(torch.ops.spcl_fast.select_easiest(values, pace))
        for part in (values, values.long()):
            for prefix, level in ((0, 0), (1023, 1), (1024, 1), (1535, 1)):
                exact.append(torch.ops.spcl_fast.difficulty_histogram(part, torch.tensor(prefix), level))
torch.save([torch.ops.spcl_fast.instruction_set() == sys.argv[1], scored, weighed, exact], sys.argv[2])
"""


def run(*command: object, isa: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SPCL_FAST_ISA": isa}
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, check=False
    )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """NaN is one bit pattern here; halves have no NumPy type."""
    a, b = (x.nan_to_num(nan=7.0) if x.is_floating_point() else x for x in (a, b))
    return a.dtype == b.dtype and a.reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, list[list[Tensor]]]:
    found = {}
    for isa in (*FUSING, "baseline"):
        path = tmp_path_factory.mktemp(isa) / "results.pt"
        done = run("-c", SCRIPT, isa, path, isa=isa)
        if done.returncode and "this machine has no" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        was_used, *tensors = torch.load(path, weights_only=True)
        assert was_used
        found[isa] = tensors
    assert "baseline" in found
    return found


def test_instruction_sets_that_fuse_give_the_same_bits(results):
    if not all(isa in results for isa in FUSING):
        pytest.skip("this machine has only one of them")
    for a, b in zip(*(results[isa] for isa in FUSING), strict=True):
        assert all(same_bits(x, y) for x, y in zip(a, b, strict=True))


def test_the_baseline_differs_by_rounding_alone(results):
    for isa in set(results) - {"baseline"}:
        for a, b in zip(results[isa][0], results["baseline"][0], strict=True):
            torch.testing.assert_close(a, b, rtol=5e-6, atol=5e-6, equal_nan=True)


def test_order_statistics_are_the_same_on_every_instruction_set(results):
    for isa in set(results) - {"baseline"}:
        assert all(same_bits(x, y) for x, y in zip(results[isa][2], results["baseline"][2], strict=True))


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
def test_the_tests_of_the_ops_pass_on_a_lesser_instruction_set(isa, results):
    if isa not in results:
        pytest.skip(f"this machine has no {isa}")
    if isa == next(best for best in (*FUSING, "baseline") if best in results):
        pytest.skip(f"{isa} is what all tests run with on this machine")
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", OPS, "-k", "cpu", isa=isa)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
