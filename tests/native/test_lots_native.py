"""The raw ops `select_by_odds` and `select_as_many`: the utterances that plain PyTorch takes."""

from __future__ import annotations

import math

import pytest
import torch

from spcl_fast import _lots, backends

pytestmark = pytest.mark.host_only

SIZES = (0, 1, 2, 7, 300, 5000)


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def drawn(T: int, dtype: torch.dtype):
    """Difficulties with ties, zeros of both signs, infinities and NaN, and ids that fill 64 bits."""
    generator = torch.Generator().manual_seed(T)
    difficulty = torch.randn(T, generator=generator, dtype=dtype)
    coarse = (4 * difficulty).round() / 4
    difficulty = torch.where(torch.rand(T, generator=generator) < 0.5, coarse, difficulty)
    for value, share in ((math.nan, 0.1), (math.inf, 0.05), (-math.inf, 0.05), (-0.0, 0.1)):
        difficulty[torch.rand(T, generator=generator) < share] = value
    return difficulty, torch.randint(-(2**63), 2**63 - 1, (T,), generator=generator)


def both(monkeypatch, call):
    """The result of the compiled op and that of plain PyTorch."""
    compiled = call()
    with monkeypatch.context() as patch:
        patch.setattr(_lots, "has_host_ops", lambda *_: False)
        return compiled, call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("T", SIZES)
def test_selection_by_odds_is_that_of_plain_torch(monkeypatch, T, dtype):
    difficulty, ids = drawn(T, dtype)
    for epoch, seed in ((0, 0), (3, 2**63 - 1)):
        draw = ids, torch.tensor(epoch), seed
        for pace in (1e-3, 0.3, 0.5, 0.8, 1.0):
            for tilt in (-1.0, -0.3, 0.0, 0.7, 1.0):
                odds = [torch.tensor(x, dtype=torch.float64) for x in (pace, tilt)]
                got, expected = both(monkeypatch, lambda d=draw, o=odds: _lots.select_by_odds(difficulty, *d, *o))
                assert torch.equal(got, expected)
                assert not got[difficulty.isnan()].any()


@pytest.mark.parametrize("by_lot", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("T", SIZES)
def test_selection_of_as_many_is_that_of_plain_torch(monkeypatch, T, dtype, by_lot):
    difficulty, ids = drawn(T, dtype)
    draw = (ids if by_lot else None), torch.tensor(2), 5
    for limit in (-math.inf, -1.0, 0.1, 0.25, math.inf):
        threshold = torch.tensor(limit, dtype=torch.float64)
        for instead_of in (None, ids % 3 == 0):
            got, expected = both(
                monkeypatch, lambda t=threshold, i=instead_of: _lots.select_as_many(difficulty, *draw, t, i)
            )
            assert torch.equal(got, expected)
            wanted = (difficulty <= threshold.to(dtype)) if instead_of is None else instead_of
            if by_lot:
                assert got.sum() == min(int(wanted.sum()), T - int(difficulty.isnan().sum()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("D", [1, 2, 3, 7, 8, 33, 400])
def test_selection_by_dialogue_is_that_of_plain_torch(monkeypatch, D, dtype):
    lengths = torch.randint(0, 12, (D,), generator=torch.Generator().manual_seed(D))
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    difficulty, ids = drawn(int(offsets[-1]), dtype)
    for seed, limit in ((0, -0.3), (2**63 - 1, 0.5), (7, math.inf), (8, -math.inf)):
        draw, threshold = (ids, torch.tensor(4), seed), torch.tensor(limit, dtype=torch.float64)
        for instead_of in (None, ids % 3 == 0):
            others = threshold, instead_of, offsets.int()
            got, expected = both(monkeypatch, lambda d=draw, o=others: _lots.select_as_many(difficulty, *d, *o))
            assert torch.equal(got, expected)


def test_any_stride_and_any_integer_is_read(monkeypatch):
    difficulty, ids = drawn(300, torch.float32)
    spread = torch.stack([difficulty, difficulty + 1], 1)[:, 0]
    mask = (ids % 2 == 0).repeat_interleave(2)[::2]
    for dtype in (torch.int64, torch.int32, torch.int16, torch.uint8):
        number = (ids % 100).to(dtype).repeat_interleave(3)[::3]
        draw = number, torch.tensor(1), 7
        half = torch.tensor(0.5, dtype=torch.float64)
        got, expected = both(monkeypatch, lambda d=draw, h=half: _lots.select_by_odds(spread, *d, h, h))
        assert torch.equal(got, expected)
        got, expected = both(monkeypatch, lambda d=draw, h=half: _lots.select_as_many(spread, *d, h, mask))
        assert torch.equal(got, expected)


def test_halves_are_left_to_plain_torch():
    difficulty, ids = drawn(300, torch.float32)
    threshold = torch.tensor(0.25, dtype=torch.float64)
    got = _lots.select_as_many(difficulty.half(), ids, torch.tensor(1), 7, threshold, None)
    assert got.sum() == (difficulty.half() <= 0.25).sum()


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        (0, torch.zeros(2, 2), r"difficulty must be \[T\]"),
        (0, torch.zeros(3).half(), "difficulty must be float32 or float64"),
        (1, torch.zeros(3), "ids must be integers"),
        (1, torch.arange(4), r"ids must be \[T\]"),
        (2, torch.zeros(1).long(), "epoch must be a 0-dim int64 tensor"),
        (2, torch.tensor(1.0), "epoch must be a 0-dim int64 tensor"),
        (4, torch.zeros(1), "must be a 0-dim tensor"),
        (4, torch.tensor(1), "must be float16, bfloat16, float32 or float64"),
    ],
)
def test_what_does_not_fit_is_refused(argument, value, words):
    assert _lots.has_host_ops(torch.device("cpu"), None)
    arguments = [torch.zeros(3), torch.arange(3), torch.tensor(0), 0, torch.tensor(0.5)]
    arguments[argument] = value
    with pytest.raises(RuntimeError, match=f"select_by_odds: .*{words}"):
        torch.ops.spcl_fast.select_by_odds(*arguments, torch.tensor(0.0))
    with pytest.raises(RuntimeError, match=f"select_as_many: .*{words}"):
        torch.ops.spcl_fast.select_as_many(*arguments, None, None)


def test_a_mask_that_does_not_fit_is_refused():
    arguments = torch.zeros(3), torch.arange(3), torch.tensor(0), 0, torch.tensor(0.5)
    for mask in (torch.zeros(3), torch.zeros(4).bool(), torch.zeros(3, 1).bool()):
        with pytest.raises(RuntimeError, match="select_as_many: instead_of must be bool"):
            torch.ops.spcl_fast.select_as_many(*arguments, mask, None)


def test_dialogues_need_ids_and_offsets_that_fit():
    arguments = torch.tensor(0), 0, torch.tensor(0.5), None
    with pytest.raises(RuntimeError, match="select_as_many: dialogues need ids"):
        torch.ops.spcl_fast.select_as_many(torch.zeros(3), None, *arguments, torch.tensor([0, 3]))
    for offsets in ([0, 2], [1, 3], [0, 4, 3], []):
        with pytest.raises(RuntimeError, match="select_as_many: offsets must"):
            torch.ops.spcl_fast.select_as_many(torch.zeros(3), torch.arange(3), *arguments, torch.tensor(offsets).int())
