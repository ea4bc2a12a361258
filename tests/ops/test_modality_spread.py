"""`ops.modality_spread` against the formulas, by hand; on every backend."""

from __future__ import annotations

import math
import statistics

import pytest
import torch

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

NAN = float("nan")


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
@pytest.mark.parametrize("M", [2, 3, 5])
def test_spread_is_the_standard_deviation_over_the_modalities(aggregate, M):
    p, lengths = torch.rand(M, 5000, dtype=torch.float64), [1, 16, 17, 0, 4966]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    got = ops.modality_spread(p, offsets, aggregate=aggregate)
    for d, n in enumerate(lengths):
        own = p[:, int(offsets[d]) : int(offsets[d + 1])]
        S = [math.fsum(row) / (n if aggregate == "mean" else 1) for row in own.tolist()] if n else [NAN] * M
        expected = statistics.stdev(S) if n else NAN
        torch.testing.assert_close(got[d].item(), expected, rtol=1e-11, atol=1e-12, equal_nan=True)


def test_spread_with_modalities_missing_now_and_then():
    p = torch.rand(3, 30, dtype=torch.float64)
    present = torch.rand(3, 30) < 0.7
    present[2, 10:20] = False
    present[:2, 20:] = False
    offsets = torch.tensor([0, 10, 20, 30])
    poisoned = p.masked_fill(~present, NAN)
    got = ops.modality_spread(poisoned, offsets, present=present)
    for d in range(3):
        own, has = p[:, 10 * d : 10 * d + 10], present[:, 10 * d : 10 * d + 10]
        n = int(has.any(0).sum())
        S = [n * float(own[m][has[m]].mean()) for m in range(3) if has[m].any()]
        expected = statistics.stdev(S) if len(S) > 1 else NAN
        torch.testing.assert_close(got[d].item(), expected, rtol=1e-12, atol=1e-12, equal_nan=True)
    strided = poisoned.T.contiguous().T
    assert torch.equal(ops.modality_spread(strided, offsets, present=present.T.contiguous().T)[:2], got[:2])
