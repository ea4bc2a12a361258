"""The raw op `update_running_scores`: the same numbers as plain PyTorch, and nothing written outside a row."""

from __future__ import annotations

import pytest
import torch

from spcl_fast import _running_rows, backends

pytestmark = pytest.mark.host_only


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def observations(T: int, N: int):
    """Rows, some of which are not there and many of which come twice, and what was seen of them."""
    row = torch.randint(-2, N + 3, (T,))
    loss, confidence = torch.rand(2, T)
    loss[torch.rand(T) < 0.1] = float("nan")
    confidence[torch.rand(T) < 0.1] = float("inf")
    return row, loss, confidence, torch.rand(T) > 0.5, torch.rand(T) > 0.2


@pytest.mark.parametrize("N", [1, 7, 5000])
def test_update_running_scores_is_what_plain_torch_computes(N):
    rows = torch.zeros(N + 1, 6)
    exact = rows.double()
    for T in (0, 1, 24, 25, 26, 400, 5000):
        row, loss, confidence, correct, scored = observations(T, N)
        torch.ops.spcl_fast.update_running_scores(rows, row, loss, confidence, correct, scored, 0.8)
        inside = torch.where((row >= 0) & (row < N), row, N)
        _running_rows.update_with_torch(exact, inside, loss.double(), confidence.double(), correct, scored, 0.8)
        torch.testing.assert_close(rows.double(), exact, rtol=1e-5, atol=1e-6)
        assert torch.equal(rows[:, 4:].double(), exact[:, 4:])
    assert not rows[-1].any()


def test_update_running_scores_writes_nothing_beside_the_rows_it_is_given():
    around = torch.full((12, 6), 7.0)
    limits = torch.iinfo(torch.int64)
    row = torch.tensor([limits.min, -1, 4, 5, 2**61, limits.max])
    rows = around[3:8]  # four, and the spare one
    rows[:] = 0
    ones = torch.ones(6)
    torch.ops.spcl_fast.update_running_scores(rows, row, ones, ones, ones.bool(), None, 0.9)
    assert (around[:3] == 7).all()
    assert (around[8:] == 7).all()
    assert not rows.any()


@pytest.mark.parametrize("unknown", [-1, 4, 5, 2**62, -(2**63)])
def test_update_running_scores_refuses_a_row_that_is_not_there_before_it_writes_if_it_is_to_be_strict(unknown):
    rows, row, ones = torch.zeros(5, 6), torch.tensor([0, 3, unknown]), torch.ones(3)
    arguments = rows, row, ones, ones, ones.bool(), None, 0.9
    with pytest.raises(RuntimeError, match=r"update_running_scores: row must lie in \[0, 4\)"):
        torch.ops.spcl_fast.update_running_scores(*arguments, True)
    assert not rows.any()
    torch.ops.spcl_fast.update_running_scores(*arguments)
    assert rows[:, 0].tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, -5.0])
def test_update_running_scores_takes_rows_that_hold_anything(value):
    rows = torch.full((4, 6), value)
    row, ones = torch.tensor([0, 1, 1, 0]), torch.ones(4)
    torch.ops.spcl_fast.update_running_scores(rows, row, ones, ones, ones.bool(), None, 0.9)
    torch.ops.spcl_fast.update_running_scores(rows, row, ones, ones, ~ones.bool(), None, 0.9)
    assert torch.equal(rows[2:], torch.full((2, 6), value)) or value != value


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        (0, torch.zeros(4, 6).double(), "rows must be float32"),
        (0, torch.zeros(4, 5), r"rows must be \[N \+ 1, 6\]"),
        (0, torch.zeros(0, 6), r"rows must be \[N \+ 1, 6\]"),
        (0, torch.zeros(6, 4).T, "rows must be contiguous"),
        (1, torch.zeros(2).int(), "row must be"),
        (1, torch.zeros(2, 1).long(), "row must have 1 dimension"),
        (2, torch.zeros(3), r"loss must be \[2\]"),
        (3, torch.zeros(2).double(), "confidence must be"),
        (4, torch.zeros(2), "correct must be"),
        (5, torch.zeros(4, dtype=torch.bool)[::2], "scored must be contiguous"),
        (6, 1.0, r"decay must lie in \[0, 1\)"),
        (6, float("nan"), r"decay must lie in \[0, 1\)"),
    ],
)
def test_update_running_scores_refuses_what_does_not_fit(argument, value, words):
    correct = torch.ones(2, dtype=torch.bool)
    arguments = [torch.zeros(4, 6), torch.zeros(2).long(), torch.rand(2), torch.rand(2), correct, correct, 0.9]
    arguments[argument] = value
    with pytest.raises(RuntimeError, match=f"update_running_scores: {words}"):
        torch.ops.spcl_fast.update_running_scores(*arguments)
    assert not arguments[0].any()
