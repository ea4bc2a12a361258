"""`ops.emotion_transitions` against its definition as plain loops, by hand and on real data; on every backend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch

from spcl_fast import ops
from spcl_fast.merc.emotion_wheel import wheel_similarity
from spcl_fast.merc.npz import read_npz
from spcl_fast.ops import EmotionTransitions

pytestmark = pytest.mark.usefixtures("backend")

NAN = float("nan")


class ByHand(NamedTuple):
    """The definition's numbers, as lists."""

    counts: list[list[int]]
    same_speaker_shifts: list[int]
    cross_speaker_shifts: list[int]
    num_speakers: list[int]
    difficulty: list[float]
    surprisal: list[float]


def by_hand(
    labels: Sequence[int],
    speakers: Sequence[int],
    offsets: Sequence[int],
    num_classes: int,
    *,
    similarity: Any = None,
    ignore_index: int = -100,
    ignored: str = "skip",
    by: str = "dialogue",
    weighted: str = "both",
    counts: Any = None,
) -> ByHand:
    own_counts = [[0] * num_classes for _ in range(num_classes)]
    result = ByHand(own_counts, [], [], [], [], [NAN] * len(labels))
    transitions: list[tuple[int, int | None]] = []  # an utterance and the label before it, if there is one

    def is_scored(t: int) -> bool:
        return 0 <= labels[t] < num_classes and labels[t] != ignore_index

    def weight(i: int, j: int) -> float:
        return 1.0 if similarity is None else float(similarity[i][j]) + 0.4

    def pairs_of(chain: list[int]) -> list[tuple[int, int]]:
        if ignored == "skip":
            chain = [t for t in chain if is_scored(t)]
        return [(a, b) for a, b in pairwise(chain) if is_scored(a) and is_scored(b)]

    for start, end in pairwise(offsets):
        dialogue = list(range(start, end))
        name = {t: ("unknown", t) if speakers[t] == -1 else ("known", speakers[t]) for t in dialogue}
        chains: dict[tuple[str, int], list[int]] = {}
        for t in dialogue:
            chains.setdefault(name[t], []).append(t)
        own_pairs = [pair for chain in chains.values() for pair in pairs_of(chain)]
        pairs = pairs_of(dialogue)
        same = [(labels[a], labels[b]) for a, b in own_pairs if labels[a] != labels[b]]
        cross = [(labels[a], labels[b]) for a, b in pairs if name[a] != name[b] and labels[a] != labels[b]]
        scored = [t for t in dialogue if is_scored(t)]
        n_speakers = len({name[t] for t in scored})
        changed = same + cross if similarity is not None and weighted == "both" else same
        total = math.fsum(weight(i, j) for i, j in changed) + n_speakers
        result.same_speaker_shifts.append(len(same))
        result.cross_speaker_shifts.append(len(cross))
        result.num_speakers.append(n_speakers)
        result.difficulty.append(total / (len(scored) + n_speakers) if scored else NAN)
        before = {b: labels[a] for a, b in (own_pairs if by == "speaker" else pairs)}
        transitions += [(t, before.get(t)) for t in scored]

    for t, i in transitions:
        if i is not None:
            own_counts[i][labels[t]] += 1
    n = own_counts if counts is None else counts
    for t, i in transitions:
        j = labels[t]
        result.surprisal[t] = 0.0 if i is None else -math.log((n[i][j] + 1) / (sum(n[i]) + num_classes))
    return result


def assert_equal(got: EmotionTransitions, expected: ByHand, tolerance: float) -> None:
    for name, value in expected._asdict().items():
        result = getattr(got, name)
        if name in ("difficulty", "surprisal"):
            wanted = torch.tensor(value, dtype=torch.float64)
            torch.testing.assert_close(result.double(), wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            assert result.dtype == torch.int64
            assert result.tolist() == value, name


def problem(lengths, C=6, S=3, seed=0, bad=0.0):
    """Random dialogues; a share of `bad` labels is ignored, and as many more name no class."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    T = sum(lengths)
    labels = torch.randint(C, (T,), generator=generator)
    speakers = torch.randint(-1, S, (T,), generator=generator)
    wrong = torch.rand(T, generator=generator)
    labels = labels.masked_fill(wrong < bad, -100).masked_fill(wrong > 1 - bad, C)
    return labels, speakers, torch.tensor([0, *lengths]).cumsum(0)


def test_transitions_of_a_dialogue_worked_out_on_paper():
    #                       A  B  A  A  B  C
    labels = torch.tensor([0, 0, 1, 2, 0, 0])
    speakers = torch.tensor([4, 7, 4, 4, 7, 9])
    got = ops.emotion_transitions(labels, speakers, torch.tensor([0, 6]), 3)
    # A: 0 1 2, two changes; B: 0 0; C: 0. Across: B-A 0 1 and A-B 2 0.
    assert got.same_speaker_shifts.tolist() == [2]
    assert got.cross_speaker_shifts.tolist() == [2]
    assert got.num_speakers.tolist() == [3]
    assert got.difficulty.tolist() == pytest.approx([5 / 9])
    assert got.counts.tolist() == [[2, 1, 0], [0, 0, 1], [1, 0, 0]]
    p = [None, 3 / 6, 2 / 6, 2 / 4, 2 / 4, 3 / 6]
    assert got.surprisal.tolist() == pytest.approx([0 if x is None else -math.log(x) for x in p])
    by_speaker = ops.emotion_transitions(labels, speakers, torch.tensor([0, 6]), 3, by="speaker")
    assert by_speaker.counts.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert by_speaker.surprisal.tolist() == pytest.approx([0, 0, *(-math.log(2 / x) for x in (5, 4, 5)), 0])
    assert by_speaker.difficulty.equal(got.difficulty)


def test_wes_weighs_every_change():
    labels, speakers = torch.tensor([0, 1, 2, 2, 0]), torch.tensor([0, 1, 0, 1, 1])
    similarity = torch.arange(9, dtype=torch.float64).view(3, 3) / 10
    # speaker 0: 0 -> 2; speaker 1: 1 -> 2 -> 0; across: 0 -> 1, 1 -> 2
    same, cross = (0.2 + 0.5 + 0.6) + 3 * 0.4, (0.1 + 0.5) + 2 * 0.4
    arguments = (labels, speakers, torch.tensor([0, 5]), 3)
    both = ops.emotion_transitions(*arguments, similarity=similarity)
    assert both.difficulty.dtype == both.surprisal.dtype == torch.float64
    assert both.difficulty.item() == pytest.approx((same + cross + 2) / 7)
    own = ops.emotion_transitions(*arguments, similarity=similarity, weighted="same")
    assert own.difficulty.item() == pytest.approx((same + 2) / 7)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        low = ops.emotion_transitions(*arguments, similarity=similarity.to(dtype))
        assert low.difficulty.dtype == low.surprisal.dtype == torch.float32
        assert low.difficulty.item() == pytest.approx(both.difficulty.item(), abs=2e-3)
    assert ops.emotion_transitions(*arguments, weighted="same").difficulty.item() == pytest.approx((3 + 2) / 7)


@pytest.mark.parametrize("by", ["dialogue", "speaker"])
@pytest.mark.parametrize("ignored", ["skip", "break"])
@pytest.mark.parametrize("bad", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("S", [1, 2, 9])
def test_transitions_equal_the_loops(by, ignored, bad, S):
    for C, seed in ((1, 0), (2, 1), (6, 2), (7, 3), (65, 4)):
        lengths = [7, 1, 0, 0, 40, 2, 3, 1, 130, 0]
        labels, speakers, offsets = problem(lengths, C, S, seed, bad)
        fitted = torch.randint(50, (C, C))
        similarity = torch.rand(C, C, dtype=torch.float64)
        options = {"by": by, "ignored": ignored}
        lists = (labels.tolist(), speakers.tolist(), offsets.tolist(), C)
        got = ops.emotion_transitions(labels, speakers, offsets, C, **options)
        assert got.difficulty.dtype == got.surprisal.dtype == torch.float32
        assert_equal(got, by_hand(*lists, **options), 1e-6)
        for weighted in ("both", "same"):
            more = options | {"similarity": similarity, "counts": fitted, "weighted": weighted}
            got = ops.emotion_transitions(labels, speakers, offsets, C, **more)
            assert_equal(got, by_hand(*lists, **more | {"counts": fitted.tolist()}), 1e-12)


@pytest.mark.parametrize("S", [2, 65, 1000, 2**62])
def test_speakers_may_be_any_numbers_and_as_many_as_there_are_utterances(S):
    """Past 64 speakers or numbers the kernel keeps them in a table that grows."""
    T = 3000
    labels = torch.randint(4, (T,))
    speakers = torch.randint(S, (T,)) * 3 - S
    speakers[::7] = torch.randint(-1, 64, (len(speakers[::7]),))
    speakers[:4] = torch.tensor([2**63 - 1, -(2**63), -2, 64])
    offsets = torch.tensor([0, 1000, 1010, 1010, 2900, T])
    expected = by_hand(labels.tolist(), speakers.tolist(), offsets.tolist(), 4)
    assert_equal(ops.emotion_transitions(labels, speakers, offsets, 4), expected, 1e-6)


def test_an_unknown_speaker_is_one_of_its_own():
    labels = torch.tensor([0, 1, 0, 0])
    got = ops.emotion_transitions(labels, torch.full((4,), -1), torch.tensor([0, 4]), 2)
    assert (got.num_speakers.item(), got.same_speaker_shifts.item(), got.cross_speaker_shifts.item()) == (4, 0, 2)
    assert got.difficulty.item() == pytest.approx(4 / 8)
    named = ops.emotion_transitions(labels, torch.arange(4) + 100, torch.tensor([0, 4]), 2)
    assert all(torch.equal(a, b) for a, b in zip(got, named, strict=True))
    by_speaker = ops.emotion_transitions(labels, torch.full((4,), -1), torch.tensor([0, 4]), 2, by="speaker")
    assert not by_speaker.counts.any()
    assert by_speaker.surprisal.tolist() == [0] * 4


def test_ignored_utterances_join_their_neighbours_or_cut_the_chains():
    #                      A  B     A  A     B
    labels = torch.tensor([0, 1, -100, 1, 7, 0])
    speakers = torch.tensor([0, 1, 0, 0, 0, 1])
    arguments = (labels, speakers, torch.tensor([0, 6]), 2)
    skip = ops.emotion_transitions(*arguments)
    # as if the dialogue were A0 B1 A1 B0
    assert skip.counts.tolist() == [[0, 1], [1, 1]]
    assert [x.item() for x in skip[1:4]] == [2, 2, 2]
    assert skip.difficulty.item() == pytest.approx(4 / 6)
    cut = ops.emotion_transitions(*arguments, ignored="break")
    # A0 B1 | A1 | B0: the ignored ones are A's, so B's own chain is whole
    assert cut.counts.tolist() == [[0, 1], [0, 0]]
    assert [x.item() for x in cut[1:4]] == [1, 1, 2]
    assert cut.difficulty.item() == pytest.approx(3 / 6)
    for got in (skip, cut):
        assert got.surprisal.isnan().tolist() == [False, False, True, False, True, False]
    assert cut.surprisal[[0, 3, 5]].tolist() == [0, 0, 0]


def test_surprisal_over_counts_of_a_training_corpus():
    """The counts that come back stay those of the call, and other dialogues change no surprisal."""
    labels, speakers, offsets = problem([20, 30], 3)
    fitted = torch.tensor([[5, 0, 1], [2, 2, 2], [0, 0, 0]], dtype=torch.int32)
    alone = ops.emotion_transitions(labels[:20], speakers[:20], offsets[:2], 3, counts=fitted)
    both = ops.emotion_transitions(labels, speakers, offsets, 3, counts=fitted)
    assert torch.equal(both.surprisal[:20], alone.surprisal)
    assert torch.equal(both.counts, ops.emotion_transitions(labels, speakers, offsets, 3).counts)
    i, j = labels[0].item(), labels[1].item()
    assert both.surprisal[1].item() == pytest.approx(-math.log((fitted[i, j] + 1) / (fitted[i].sum() + 3)))


MELD = {"train": (4001, 4455), "dev": (427, 519), "test": (1003, 1114)}


def test_shifts_of_meld_are_the_published_ones(data_dir):
    corpus = read_npz(data_dir / "meld.npz", "audio")
    arrays = (torch.as_tensor(x) for x in (corpus.labels, corpus.speakers, corpus.offsets))
    got = ops.emotion_transitions(*arrays, corpus.num_classes)
    assert int(got.num_speakers.max()) == 9
    for split, expected in MELD.items():
        own = torch.as_tensor(corpus.dialogues(split))
        assert (int(got.same_speaker_shifts[own].sum()), int(got.cross_speaker_shifts[own].sum())) == expected


@pytest.mark.parametrize("file", ["iemocap_6way", "iemocap_full", "meld", "mosi"])
@pytest.mark.parametrize("ignored", ["skip", "break"])
def test_transitions_of_real_dialogues_equal_the_loops(data_dir, file, ignored):
    corpus = read_npz(data_dir / f"{file}.npz", "audio")
    arrays = [torch.as_tensor(x) for x in (corpus.labels, corpus.speakers, corpus.offsets)]
    lists = [x.tolist() for x in arrays]
    similarity = None if file == "mosi" else wheel_similarity(corpus.class_names)
    for by in ("dialogue", "speaker"):
        options = {"ignored": ignored, "by": by, "similarity": similarity}
        expected = by_hand(*lists, corpus.num_classes, **options)
        assert_equal(ops.emotion_transitions(*arrays, corpus.num_classes, **options), expected, 1e-6)
