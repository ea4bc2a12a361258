"""`DialogueBatch`: the same dialogues from every form they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spcl_fast import DialogueBatch

LABELS = [[3, 1, 2], [], [5], [0, 4]]
SPEAKERS = [[0, 1, 0], [], [0], [1, 0]]
FLAT = torch.tensor([3, 1, 2, 5, 0, 4])
OFFSETS = torch.tensor([0, 3, 3, 4, 6])


def padded(rows, fill):
    return torch.tensor([[*row, *[fill] * (4 - len(row))] for row in rows])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("by", ["lengths", "mask", "float mask", "numpy"])
def test_batch_from_padded_reads_the_utterances_in_order(by, batch_first):
    labels, speakers = padded(LABELS, 77), padded(SPEAKERS, 77)
    mask = padded([[1] * len(row) for row in LABELS], 0).bool()
    if not batch_first:
        labels, speakers, mask = labels.T, speakers.T, mask.T
    options = {
        "lengths": {"lengths": [3, 0, 1, 2]},
        "mask": {"mask": mask},
        "float mask": {"mask": mask.float()},
        "numpy": {"mask": mask.numpy()},
    }[by]
    if by == "numpy":
        labels, speakers = labels.numpy(), speakers.numpy()
    batch = DialogueBatch.from_padded(labels, speakers=speakers, batch_first=batch_first, **options)
    assert torch.equal(batch.labels, FLAT)
    assert torch.equal(batch.offsets, OFFSETS)
    assert torch.equal(batch.speakers, torch.tensor([0, 1, 0, 0, 1, 0]))
    assert (batch.num_dialogues, batch.num_utterances) == (4, 6)

    x = torch.randn(*labels.shape, 5)
    flat = batch.flatten(x)
    expected = x if batch_first else x.transpose(0, 1)
    assert torch.equal(flat, torch.cat([expected[d, : len(row)] for d, row in enumerate(LABELS)]))
    assert torch.equal(batch.flatten(batch.pad(flat, -1)), flat)
    assert (batch.pad(flat, -1)[~mask] == -1).all()


def test_batch_from_a_mask_with_holes_keeps_the_order():
    batch = DialogueBatch.from_padded(torch.arange(8).view(2, 4), mask=torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]]))
    assert torch.equal(batch.labels, torch.tensor([0, 2, 7]))
    assert torch.equal(batch.offsets, torch.tensor([0, 2, 3]))


def test_batch_from_lists_and_arrays():
    for batch in (
        DialogueBatch.from_lists(LABELS, speakers=SPEAKERS),
        DialogueBatch.from_lists([np.array(x, dtype=np.int32) for x in LABELS], speakers=SPEAKERS),
        DialogueBatch.from_arrays(FLAT.numpy(), OFFSETS.numpy(), speakers=np.array([0, 1, 0, 0, 1, 0])),
    ):
        assert torch.equal(batch.labels.long(), FLAT)
        assert torch.equal(batch.offsets, OFFSETS)
        assert torch.equal(batch.speakers.long(), torch.tensor([0, 1, 0, 0, 1, 0]))
    nothing = DialogueBatch.from_lists([])
    assert (nothing.num_dialogues, nothing.num_utterances) == (0, 0)


def test_batch_shares_memory_with_numpy_and_copies_what_is_read_only():
    labels = FLAT.numpy().copy()
    assert DialogueBatch.from_arrays(labels, OFFSETS).labels.data_ptr() == labels.ctypes.data
    labels.flags.writeable = False
    batch = DialogueBatch.from_arrays(labels, OFFSETS)
    batch.labels[0] = 9
    assert labels[0] == 3


def test_batch_takes_arrays_that_torch_does_not():
    labels = FLAT.numpy()
    for strange in (labels.astype(">i8"), labels[::-1].copy()[::-1], labels.astype(np.int16)[::1]):
        assert torch.equal(DialogueBatch.from_arrays(strange, OFFSETS).labels.long(), FLAT)
    assert labels[0] == 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_batch_lengths_do_not_overflow_their_dtype(dtype):
    n = 200 if dtype == torch.uint8 else 100
    batch = DialogueBatch.from_padded(torch.zeros(1, 300, dtype=torch.int64), lengths=torch.tensor([n], dtype=dtype))
    assert batch.num_utterances == n


def test_batch_is_equal_to_itself_alone():
    batch = DialogueBatch.from_arrays(FLAT, OFFSETS)
    assert batch == batch
    assert batch != DialogueBatch.from_arrays(FLAT, OFFSETS)


def test_flatten_and_pad_are_differentiable():
    batch = DialogueBatch.from_padded(padded(LABELS, 0), lengths=[3, 0, 1, 2])
    x = torch.randn(4, 4, 2, requires_grad=True)
    batch.flatten(x).sum().backward()
    assert torch.equal(x.grad.sum(-1), 2.0 * padded([[1] * len(row) for row in LABELS], 0))
    flat = torch.randn(6, 2, requires_grad=True)
    (2 * batch.pad(flat)).sum().backward()
    assert torch.equal(flat.grad, torch.full((6, 2), 2.0))


def test_batch_that_was_never_padded_is_laid_out_by_its_longest_dialogue():
    batch = DialogueBatch.from_arrays(FLAT, OFFSETS)
    assert torch.equal(batch.pad(FLAT, -1), torch.tensor([[3, 1, 2], [-1, -1, -1], [5, -1, -1], [0, 4, -1]]))
    assert torch.equal(batch.flatten(batch.pad(FLAT, -1)), FLAT)
    assert DialogueBatch.from_lists([]).pad(torch.zeros(0, 2)).shape == (0, 0, 2)
    assert DialogueBatch.from_lists([[], []]).pad(torch.zeros(0, 2)).shape == (2, 0, 2)


def test_batch_moves_as_a_whole():
    batch = DialogueBatch.from_padded(padded(LABELS, 0), lengths=[3, 0, 1, 2]).to("meta")
    assert {x.device.type for x in (batch.labels, batch.offsets, batch.rows)} == {"meta"}
    assert batch.padded_shape == (4, 4)


L = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DialogueBatch.from_padded(L), ValueError, "either lengths or mask"),
        (lambda: DialogueBatch.from_padded(L, lengths=[1, 2], mask=L), ValueError, "either lengths or mask"),
        (lambda: DialogueBatch.from_padded(L, lengths=[1]), ValueError, "lengths must have 2 entries"),
        (
            lambda: DialogueBatch.from_padded(L, lengths=[1, 4]),
            ValueError,
            r"\[0, 3\] \(got 4 for dialogue 1\)",
        ),
        (lambda: DialogueBatch.from_padded(L, lengths=[-1, 2]), ValueError, r"\(got -1 for dialogue 0\)"),
        (lambda: DialogueBatch.from_padded(L, mask=L.T), ValueError, "mask must have the shape of labels"),
        (lambda: DialogueBatch.from_padded(L, mask=L / 0), ValueError, r"mask must say .* \(got NaN\)"),
        (
            lambda: DialogueBatch.from_padded(L.float(), lengths=[1, 2]),
            TypeError,
            "labels must hold integers",
        ),
        (lambda: DialogueBatch.from_padded(L[0], lengths=[1, 2]), ValueError, r"2 dimension\(s\)"),
        (
            lambda: DialogueBatch.from_padded(L, lengths=[1, 2], speakers=L.T),
            ValueError,
            "speakers must have shape",
        ),
        (lambda: DialogueBatch.from_lists([[1.0]]), TypeError, r"labels\[0\] must hold integers"),
        (
            lambda: DialogueBatch.from_lists([[1], [2]], speakers=[[0], []]),
            ValueError,
            "one speaker for each",
        ),
        (lambda: DialogueBatch.from_arrays(FLAT, torch.tensor([0, 4, 3, 6])), ValueError, "without falling"),
        (lambda: DialogueBatch.from_arrays(FLAT, torch.tensor([0, 5])), ValueError, "from 0 to 6"),
        (
            lambda: DialogueBatch.from_arrays(FLAT, OFFSETS, speakers=FLAT[:2]),
            ValueError,
            "speakers must have 6",
        ),
        (lambda: DialogueBatch.from_padded(L, mask=L).flatten(torch.zeros(3, 2)), ValueError, r"\(2, 3\)"),
        (lambda: DialogueBatch.from_padded(L, mask=L + 1).pad(torch.zeros(3)), ValueError, "needs 6 rows"),
    ],
)
def test_batch_refuses_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_batch_takes_along_what_has_to_be_known_on_the_host() -> None:
    """On "meta" nothing can be read: whatever works there waits for no device."""
    batch = DialogueBatch.from_arrays(torch.zeros(6, dtype=torch.int64), torch.tensor([0, 4, 4, 6]))
    assert batch.to("cpu").host_lengths is None
    away = batch.to("meta")
    assert away.host_lengths.tolist() == [4, 0, 2]
    assert away.rows.is_meta
    assert away.padded_shape == (3, 4)
    assert away.pad(torch.zeros(6, 2, device="meta")).shape == (3, 4, 2)
    assert away.flatten(torch.zeros(3, 4, 2, device="meta")).shape == (6, 2)
    assert away.to("meta").host_lengths.tolist() == [4, 0, 2]
    made_there = DialogueBatch(away.labels, away.offsets)
    assert made_there.to("meta").host_lengths is None
