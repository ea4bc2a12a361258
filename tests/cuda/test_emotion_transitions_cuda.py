"""`emotion_transitions` by the CUDA kernels: each of their paths and borders, against the reference."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from spcl_fast import reference
from spcl_fast.reference import EmotionTransitions

TILE = 1023  # rows that a block holds
LONG = 255  # a longer dialogue has its tiles for itself
OWN_RANGES = 256  # offsets that a block reads by itself
OPTIONS = [dict(zip(("breaks", "by_speaker"), flags, strict=True)) for flags in product((False, True), repeat=2)]


def raw(
    labels: Tensor,
    speakers: Tensor,
    offsets: Tensor,
    C: int,
    similarity: Tensor | None = None,
    fitted: Tensor | None = None,
    *,
    breaks: bool = False,
    by_speaker: bool = False,
    both: bool = True,
) -> EmotionTransitions:
    flags = (breaks, by_speaker, both)
    return EmotionTransitions(
        *torch.ops.spcl_fast.emotion_transitions(labels, speakers, offsets, C, similarity, fitted, -100, *flags)
    )


def assert_transitions(
    labels: Tensor,
    speakers: Tensor,
    offsets: Tensor,
    C: int,
    similarity: Tensor | None = None,
    fitted: Tensor | None = None,
    **flags: Any,
) -> None:
    got = raw(labels, speakers, offsets, C, similarity, fitted, **flags)
    expected = reference.emotion_transitions(
        labels,
        speakers,
        offsets,
        C,
        similarity=similarity,
        counts=fitted,
        ignored="break" if flags.get("breaks") else "skip",
        by="speaker" if flags.get("by_speaker") else "dialogue",
        weighted="both" if flags.get("both", True) else "same",
    )
    for name, x, y in zip(got._fields, got, expected, strict=True):
        tolerance = 1e-13 if y.dtype == torch.float64 else 1e-6 if y.dtype == torch.float32 else 0
        torch.testing.assert_close(
            x, y, rtol=tolerance, atol=tolerance, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
        )


def problem(lengths: list[int], C: int = 7, S: int = 3, bad: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Dialogues of these lengths; a share of `bad` labels names no class."""
    T = sum(lengths)
    labels = torch.where(torch.rand(T) < bad, -100, torch.randint(C, (T,)))
    return labels, torch.randint(-1, S, (T,)), torch.tensor([0, *lengths]).cumsum(0)


LENGTHS = {
    "around a long dialogue": [LONG - 1, LONG, LONG + 1, 1, LONG + 1, LONG, 0, LONG],
    # the empty ones leave all others to one block; the tile begins at an even row, at an odd one
    "exactly a tile": [256, *[LONG] * 4, TILE - 4 * LONG, 5, *[0] * 200],
    "exactly a tile from an odd row on": [257, *[LONG] * 4, TILE - 4 * LONG, 5, *[0] * 200],
    "one more than a tile": [256, *[LONG] * 4, TILE - 4 * LONG + 1, 5, *[0] * 200],
    "one more than a tile from an odd row on": [257, *[LONG] * 4, TILE - 4 * LONG + 1, 5, *[0] * 200],
    "tiles of one dialogue": [TILE - 1, TILE, TILE + 1, 2 * TILE, 2 * TILE + 1, 3],
    "a block of many tiles": [250] * 14 + [0] * 200 + [7] * 30,
    "more dialogues than threads": [1] * 300 + [0] * 300 + [2, 0, 3] * 100,
    "nothing but empty ones": [0] * 700,
    "a word of starts without a start": [100, 33, 31, 32, 65, 1, 200],
}


@pytest.mark.parametrize("flags", OPTIONS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_transitions_at_the_borders_of_tiles(lengths: list[int], flags: dict[str, bool]) -> None:
    arguments = problem(lengths)
    assert_transitions(*arguments, 7, **flags)
    assert_transitions(*arguments, 7, torch.rand(7, 7, dtype=torch.float64), **flags, both=len(lengths) % 2 == 0)


@pytest.mark.parametrize("C", [1, 2, 64, 65, 300])
@pytest.mark.parametrize("has_fitted", [False, True])
def test_transitions_of_few_and_many_classes(C: int, has_fitted: bool) -> None:
    arguments = problem([40, 1, 0, 700, 9], C)
    fitted = torch.randint(9, (C, C), dtype=torch.int32).T if has_fitted else None
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert_transitions(*arguments, C, torch.rand(C, C).to(dtype).T, fitted)
    assert_transitions(*arguments, C, None, fitted)


@pytest.mark.parametrize("D", [1, OWN_RANGES - 2, OWN_RANGES - 1, OWN_RANGES, OWN_RANGES + 1, 5 * OWN_RANGES])
def test_wrong_offsets_are_read_as_their_running_maximum(D: int) -> None:
    labels, speakers, offsets = problem([3] * D)
    T = 3 * D
    for change in ("early start", "late start", "early end", "late end", "fall", "falls", "noise", "huge"):
        wrong = offsets.clone()
        if change == "early start":
            wrong[0] = -5
        if change == "late start":
            wrong[: D // 2 + 1] = T // 2
        if change == "early end":
            wrong[-(D // 2 + 1) :] = T // 2
        if change == "late end":
            wrong[-1] = T + 5
        if change == "fall":
            wrong[D // 2 : D // 2 + 1] = T
        if change == "falls":
            wrong = wrong.flip(0)
        if change == "noise":
            wrong += torch.randint(-9, 9, wrong.shape)
        if change == "huge":
            wrong[::2] = torch.tensor([2**63 - 1, -(2**63)]).repeat(len(wrong))[: len(wrong[::2])]
        assert_transitions(labels, speakers, wrong, 7)
        assert_transitions(labels, speakers, wrong, 7, None, torch.ones(7, 7, dtype=torch.int64), breaks=True)


def test_rows_of_nobody() -> None:
    labels, speakers, _ = problem([2000])
    for offsets in ([0], [2000], [700], [700, 700], [1999, 5], [3, 1500]):
        assert_transitions(labels, speakers, torch.tensor(offsets), 7)


@pytest.mark.parametrize("flags", OPTIONS, ids=str)
@pytest.mark.parametrize("bad", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("S", [1, 40, 2**62])
def test_what_is_before_a_row_may_lie_far_back(flags: dict[str, bool], bad: float, S: int) -> None:
    """In an earlier tile of a long dialogue, or nowhere."""
    labels, speakers, offsets = problem([30, 2600, 5], 5, S, bad)
    speakers[40] = speakers[2500] = 77
    speakers[35:60:3] = speakers[1100] = speakers[2400:2500:9] = -5
    assert_transitions(labels, speakers, offsets, 5, torch.rand(5, 5, dtype=torch.float64), **flags)


@pytest.mark.parametrize("flags", OPTIONS, ids=str)
def test_a_chain_that_was_cut_tiles_ago(flags: dict[str, bool]) -> None:
    labels, speakers = torch.full((3000,), -100), torch.arange(3000) % 50
    labels[[7, 8, 57, 2507, 2508, 2999]] = torch.tensor([0, 1, 1, 2, 2, 0])
    speakers[2999] = 8
    assert_transitions(labels, speakers, torch.tensor([0, 3000]), 3, **flags)


def test_labels_and_speakers_of_any_address_type_and_stride() -> None:
    labels, speakers, offsets = problem([300, 3, 900, 20, 20])
    expected = raw(labels, speakers, offsets, 7)
    T = len(labels)

    def moved(values: Tensor, by: int) -> Tensor:
        storage = torch.full((T + by + 1,), 3)
        storage[by : by + T] = values
        return storage[by : by + T]

    views = [moved(values, by) for values in (labels, speakers) for by in (0, 1)]
    pairs = [(y, s) for y in views[:2] for s in views[2:]]
    pairs += [(labels.int(), speakers), (labels, speakers.short()), (labels.short(), speakers.char())]
    pairs += [(torch.stack([labels, speakers], 1)[:, 0], speakers.repeat_interleave(2)[::2])]
    for y, s in pairs:
        for of in (offsets, offsets.int(), offsets.repeat_interleave(3)[::3]):
            got = raw(y, s, of, 7)
            assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(got, expected, strict=True))
    for first in (0, 1):  # dialogues that begin at odd and at even rows
        assert_transitions(labels[first:], speakers[first:], torch.tensor([0, 7, 8, 300, 1100, T - first]), 7)


def test_hostile_numbers_lead_nowhere() -> None:
    labels = torch.tensor([2**63 - 1, -(2**63), 2**32, 2**31, 2**15, 6, 7, -1, 0] * 200)
    speakers = torch.tensor([2**63 - 1, -(2**63), 0, -2] * 450)
    assert_transitions(labels, speakers, torch.tensor([0, 100, 1500, 1800]), 7)
    fitted = torch.tensor([[-1, 2**62], [-(2**63), 0]])
    raw(labels, speakers, torch.tensor([0, 1800]), 2, torch.full((2, 2), float("nan")), fitted)


def test_a_dialogue_has_the_same_bits_in_any_company() -> None:
    lengths = [3, 255, 256, 40, 1500, 0, 9, 300, 17] * 2
    labels, speakers, offsets = problem(lengths)
    similarity, fitted = torch.rand(7, 7, dtype=torch.float64), torch.randint(50, (7, 7))
    whole = raw(labels, speakers, offsets, 7, similarity, fitted)
    for d, length in enumerate(lengths):
        own = slice(int(offsets[d]), int(offsets[d + 1]))
        alone = raw(labels[own], speakers[own], torch.tensor([0, length]), 7, similarity, fitted)
        assert torch.equal(alone.surprisal.nan_to_num(-7), whole.surprisal[own].nan_to_num(-7))
        for a, b in zip(alone[1:5], whole[1:5], strict=True):
            assert torch.equal(a.nan_to_num(-7), b[d : d + 1].nan_to_num(-7))
