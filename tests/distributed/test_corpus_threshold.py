"""The threshold of a corpus whose shards lie with several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from spcl_fast import ops
from spcl_fast.corpus.selection import global_thresholds

PACES = (1e-9, 0.2, 0.55, 1.0)
DTYPES = (np.float16, np.float32, np.float64)


def corpus_of(dtype: type) -> np.ndarray:
    values = np.random.default_rng(11).standard_normal(2000)
    values[::5] = values[::5].round(1)
    for value, first in ((np.nan, 0), (np.inf, 1), (-np.inf, 2), (-0.0, 3)):
        values[first::31] = value
    return values.astype(dtype)


def thresholds() -> list[Any]:
    """Those of every dtype; the last process has no shard, and the first two have one of another length."""
    rank, group = dist.get_rank(), dist.group.WORLD
    found: list[Any] = []
    for dtype in DTYPES:
        shards = [np.split(corpus_of(dtype), (700, 701)), [], []]
        shards[1] = shards[0][1:]
        shards[0] = shards[0][:1]
        found.append([tuple(one) for one in global_thresholds(shards[rank], PACES, process_group=group)])
    try:
        global_thresholds([np.zeros(3, DTYPES[rank])], [0.5], process_group=group)
    except TypeError as error:
        found.append(str(error))
    found.append([tuple(one) for one in global_thresholds([], [0.5], process_group=group)])
    return found


def test_threshold_over_processes_is_that_of_one(run_processes):
    results = run_processes(3, thresholds)
    for *of_dtypes, error, nothing in results:
        for dtype, found in zip(DTYPES, of_dtypes, strict=True):
            corpus = corpus_of(dtype)
            for (value, *counts), (expected, *others), pace in zip(
                found, global_thresholds([corpus], PACES), PACES, strict=True
            ):
                assert value.tobytes() == expected.tobytes()
                assert expected.tobytes() == ops.difficulty_quantile(torch.from_numpy(corpus), pace).numpy().tobytes()
                assert counts == others
        assert error == "global_threshold: columns must be of one dtype (got float16 and float32 and float64)"
        assert np.isnan(nothing[0][0])
        assert nothing[0][1:] == (0, 0, 0, 0)


def test_what_is_no_group_is_refused():
    with pytest.raises(TypeError, match=r"process_group must be .*\(got str\)"):
        global_thresholds([np.zeros(3)], [0.5], process_group="all")
