"""The helper itself: its failures say where they were."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist


class Planted(NamedTuple):
    rank: int
    fault: str


def sum_or_fail(planted: Planted) -> None:
    rank = dist.get_rank()
    if rank == planted.rank and planted.fault == "raises":
        raise ValueError("planted")
    if rank == planted.rank and planted.fault == "exits":
        print("the last words")
        sys.exit(3)
    dist.all_reduce(torch.ones(1))  # which the others wait in


@pytest.mark.parametrize("fault", ["raises", "exits"])
def test_a_failure_ends_all_and_names_its_rank(run_processes, fault) -> None:
    with pytest.raises(AssertionError, match="rank 1 of 2:") as caught:
        run_processes(2, sum_or_fail, Planted(1, fault))
    words = ["ValueError: planted", "in sum_or_fail"] if fault == "raises" else ["the last words", "SystemExit: 3"]
    assert all(word in str(caught.value) for word in words), caught.value
