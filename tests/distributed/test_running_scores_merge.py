"""`RunningScores.merge`: after it every process of a group has the store that one process alone would have."""

from __future__ import annotations

import io

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from spcl_fast import RunningScores

N, EPOCHS, KEYS = 40, 3, torch.arange(40) * 5 - 60


def owner_of(world_size: int, epoch: int) -> Tensor:
    """The process of each utterance, another in every epoch; of three, the second has none; -1: nobody's."""
    owner = torch.randint(-1, world_size, (N,), generator=torch.Generator().manual_seed(epoch))
    return torch.where(owner == 1, 0, owner) if world_size == 3 else owner


def batch_of(rank: int, world_size: int, epoch: int, part: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a process observes in a part of an epoch: some utterances of its own, some of them twice."""
    generator = torch.Generator().manual_seed(1000 * epoch + 10 * rank + part)
    own = KEYS[owner_of(world_size, epoch) == rank]
    ids = own[torch.randint(len(own), (len(own),), generator=generator)] if len(own) else own
    T = len(ids)
    loss, confidence = torch.rand(2, T, generator=generator)
    return ids, loss, confidence, torch.rand(T, generator=generator) > 0.4


def continued(scores: RunningScores) -> RunningScores:
    """Another store, from a file of this one."""
    file = io.BytesIO()
    torch.save(scores.state_dict(), file)
    file.seek(0)
    other = RunningScores(N, keys=KEYS)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def of_a_process() -> tuple[list[Tensor], str]:
    """The rows after each epoch, through a file in the middle of it, then of what several observed; and a refusal."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    scores, found = RunningScores(N, keys=KEYS), []
    for epoch in range(EPOCHS):
        scores.update(*batch_of(rank, world_size, epoch, 0))
        scores = continued(scores)
        scores.update(*batch_of(rank, world_size, epoch, 1))
        scores.merge(dist.group.WORLD)
        found.append(scores.rows.clone())
    shared = KEYS[rank:3]  # the first of process 0 alone, the others of several
    observed = torch.full((len(shared),), 10.0 + rank)
    scores.update(shared, observed, observed, torch.ones(len(shared), dtype=torch.bool))
    scores.merge(dist.new_group())
    return [*found, scores.rows], refusal(RunningScores(5 if rank == 0 else 4, decay=0.5 if rank == 2 else 0.9))


def refusal(scores: RunningScores) -> str:
    """What merging says, or nothing."""
    try:
        scores.merge(dist.group.WORLD)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_running_scores_merge_gives_every_process_the_store_of_one_alone(run_processes, world_size):
    of_processes, refusals = zip(*run_processes(world_size, of_a_process), strict=True)
    alone = RunningScores(N, keys=KEYS)
    for epoch in range(EPOCHS):
        for part in range(2):
            for rank in range(world_size):
                alone.update(*batch_of(rank, world_size, epoch, part))
        alone.merge()
        for rows in of_processes:
            assert torch.equal(rows[epoch], alone.rows)
    assert 20 < alone.num_observed.sum() < 2 * EPOCHS * N
    alone.update(KEYS[:3], torch.full((3,), 10.0), torch.full((3,), 10.0), torch.ones(3, dtype=torch.bool))
    alone.merge()
    for rows in of_processes:
        assert torch.equal(rows[EPOCHS], alone.rows)  # what several have observed is that of the lowest rank

    (refused,) = set(refusals)  # the same on every process
    where = "there is process 1, here is process 0: num_utterances 4 there, 5 here"
    expected = f"RunningScores: merge takes stores of the same settings ({where})"
    assert refused == (expected if world_size > 1 else "")
