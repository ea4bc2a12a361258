"""The GRU over ragged dialogues against torch's own."""

from __future__ import annotations

import pytest
import torch

from spcl_fast.merc.models.packed_gru import bidirectional_grus, time_order

LENGTHS = [(3, 0, 7, 1, 7, 2), (1,), (4, 4, 4), (1, 1, 1), (0, 5, 0), (9, 8, 7, 6, 5, 4, 3, 2, 1)]


def torchs(gru, x, lengths):
    packed = torch.nn.utils.rnn.pack_sequence([s for s in x.split(lengths) if len(s)], enforce_sorted=False)
    out, sizes = torch.nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
    return torch.cat([out[i, :n] for i, n in enumerate(sizes.tolist())])


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("M", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_bidirectional_grus_are_torchs(lengths, M, dtype, tolerance):
    torch.manual_seed(0)
    grus = [torch.nn.GRU(5, 4, bidirectional=True, batch_first=True).to(dtype) for _ in range(M)]
    x = torch.randn(M, sum(lengths), 5, dtype=dtype, requires_grad=True)
    ours = bidirectional_grus(grus, x, time_order(torch.tensor(lengths)))
    theirs = torch.stack([torchs(gru, x[m], list(lengths)) for m, gru in enumerate(grus)])
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    weight = torch.randn_like(ours)
    parameters = [x, *(p for gru in grus for p in gru.parameters())]
    of_ours, of_theirs = (torch.autograd.grad((y * weight).sum(), parameters) for y in (ours, theirs))
    for a, b in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_bidirectional_grus_of_nothing(lengths):
    gru = torch.nn.GRU(5, 4, bidirectional=True)
    order = time_order(torch.tensor(lengths, dtype=torch.int64))
    assert order.sizes == []
    x = torch.zeros(1, 0, 5, requires_grad=True)
    out = bidirectional_grus([gru], x, order)
    assert out.shape == (1, 0, 8)
    out.sum().backward()
    assert x.grad.shape == (1, 0, 5)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_time_order_by_hand(lengths):
    order = time_order(torch.tensor(lengths))
    starts = [sum(lengths[:d]) for d in range(len(lengths))]
    longest_first = sorted((d for d in range(len(lengths)) if lengths[d]), key=lambda d: -lengths[d])
    forwards, backwards, sizes = [], [], []
    for step in range(max(lengths)):
        there = [d for d in longest_first if lengths[d] > step]
        sizes.append(len(there))
        forwards += [starts[d] + step for d in there]
        backwards += [starts[d] + lengths[d] - 1 - step for d in there]
    assert order.sizes == sizes
    assert order.rows.tolist() == [forwards, backwards]
    for rows, places in zip(order.rows, order.places, strict=True):
        assert rows[places].tolist() == list(range(sum(lengths)))
    first = sizes[0]
    for place, before in enumerate(order.before.tolist(), first):
        assert forwards[before] == forwards[place] - 1
        assert backwards[before] == backwards[place] + 1
