"""The samplers under torchdata's StatefulDataLoader, without an adapter."""

from __future__ import annotations

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from spcl_fast import CurriculumBatchSampler, CurriculumSampler, pacing

N = 40


def make_loader(kind, workers):
    settings = {"difficulty": torch.linspace(1, 0, N), "pace": pacing.LinearPace(start=0.5, total=2), "seed": 3}
    if kind == "items":
        loading = {"sampler": CurriculumSampler(N, **settings), "batch_size": 4}
    elif kind == "batches":
        loading = {"batch_sampler": CurriculumBatchSampler(N, batch_size=4, **settings)}
    else:
        lengths = torch.arange(N) % 5 + 1
        loading = {"batch_sampler": CurriculumBatchSampler(N, max_utterances=12, lengths=lengths, **settings)}
    return StatefulDataLoader(list(range(N)), num_workers=workers, **loading)


def sampler_of(loader):
    return loader.sampler if loader.batch_size is not None else loader.batch_sampler


@pytest.mark.parametrize("kind", ["items", "batches", "utterances"])
@pytest.mark.parametrize("workers", [0, 2])
def test_epoch_goes_on_exactly_however_often_it_is_interrupted(kind, workers):
    whole = make_loader(kind, 0)
    sampler_of(whole).set_epoch(1)
    expected = [batch.tolist() for batch in whole]
    seen, state = [], None
    while len(seen) < len(expected):
        loader = make_loader(kind, workers)
        if state is None:
            sampler_of(loader).set_epoch(1)
        else:
            loader.load_state_dict(state)
        for _, batch in zip(range(3), loader, strict=False):
            seen.append(batch.tolist())
            state = loader.state_dict()
    assert seen == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_next_epoch_after_a_resume_is_whole(workers):
    first = make_loader("items", workers)
    batches = iter(first)
    next(batches)
    second = make_loader("items", workers)
    second.load_state_dict(first.state_dict())
    rest = [batch.tolist() for batch in second]
    assert len(rest) == 4  # of five batches, half of the items
    for epoch in (1, 2):
        sampler_of(second).set_epoch(epoch)
        items = [item for batch in second for item in batch.tolist()]
        assert len(items) == len(set(items)) == (30, 40)[epoch - 1]
