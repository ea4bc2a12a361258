"""The table of faults and the invariants of `ops.emotion_transitions`; on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
LABELS, SPEAKERS, OFFSETS = torch.tensor([0, 1, 1, 0, 2]), torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 2, 5])
HERE = torch.zeros(()).device
INTEGERS = [getattr(torch, f"{u}int{bits}") for u in ("", "u") for bits in (8, 16, 32, 64)]


def same(a, b):
    return all(torch.equal(x.nan_to_num(nan=-7.0), y.nan_to_num(nan=-7.0)) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("label", [-1, 3, 2**31, 2**32, 2**40, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("ignored", ["skip", "break"])
def test_a_label_that_names_no_class_is_as_ignored(label, ignored):
    bad = LABELS.clone()
    bad[3] = label
    expected = ops.emotion_transitions(
        LABELS.index_fill(0, torch.tensor([3]), -100), SPEAKERS, OFFSETS, 3, ignored=ignored
    )
    got = ops.emotion_transitions(bad, SPEAKERS, OFFSETS, 3, ignored=ignored)
    assert same(got, expected)
    assert got.surprisal.isnan().tolist() == [False, False, False, True, False]
    with pytest.raises(ValueError, match=rf"labels must lie in \[0, 3\) .* \(got {label} at position 3\)"):
        ops.emotion_transitions(bad, SPEAKERS, OFFSETS, 3, validate="full")


@pytest.mark.parametrize("ignored", ["skip", "break"])
def test_ignore_index_may_be_a_class(ignored):
    got = ops.emotion_transitions(LABELS, SPEAKERS, OFFSETS, 3, ignore_index=1, ignored=ignored, validate="full")
    expected = ops.emotion_transitions(LABELS.masked_fill(LABELS == 1, -100), SPEAKERS, OFFSETS, 3, ignored=ignored)
    assert same(got, expected)
    assert not got.counts[1].any()
    assert not got.counts[:, 1].any()


def test_all_labels_ignored():
    got = ops.emotion_transitions(torch.full((5,), -100), SPEAKERS, OFFSETS, 3)
    assert not any(x.any() for x in got[:4])
    assert got.difficulty.isnan().all()
    assert got.surprisal.isnan().all()


def test_empty_dialogues_and_single_utterances():
    got = ops.emotion_transitions(LABELS[:2], SPEAKERS[:2], torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    assert got.num_speakers.tolist() == [0, 1, 0, 1, 0]
    torch.testing.assert_close(got.difficulty, torch.tensor([NAN, 0.5, NAN, 0.5, NAN]), equal_nan=True)
    assert got.surprisal.tolist() == [0, 0]
    assert not got.counts.any()


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0]])
def test_nothing_gives_empty_results(offsets):
    none = torch.zeros(0, dtype=torch.int64)
    for similarity, dtype in ((None, torch.float32), (torch.ones(3, 3, dtype=torch.float64), torch.float64)):
        got = ops.emotion_transitions(none, none, torch.tensor(offsets), 3, similarity=similarity)
        assert [tuple(x.shape) for x in got] == [(3, 3), *[(len(offsets) - 1,)] * 4, (0,)]
        assert [x.dtype for x in got] == [torch.int64] * 4 + [dtype] * 2
        assert not got.counts.any()
        assert got.difficulty.isnan().all()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_every_integer_dtype_and_stride_is_taken(dtype):
    expected = ops.emotion_transitions(LABELS, SPEAKERS, OFFSETS, 3, counts=torch.eye(3, dtype=torch.int64))
    counts = torch.eye(3, dtype=torch.int64).to(dtype)
    arguments = [x.to(dtype) for x in (LABELS, SPEAKERS, OFFSETS)]
    assert same(ops.emotion_transitions(*arguments, 3, counts=counts), expected)
    spaced = [torch.stack([x, x + 1], 1)[:, 0] for x in (LABELS, SPEAKERS, OFFSETS)]
    spaced = [x.to(torch.int64).repeat_interleave(2)[::2].to(dtype) for x in spaced]
    assert same(ops.emotion_transitions(*spaced, 3, counts=counts.T), expected)


def test_expanded_inputs_are_read_and_not_written():
    labels, speakers = torch.tensor(1).expand(6), torch.tensor(0).expand(6)
    got = ops.emotion_transitions(labels, speakers, torch.tensor([0, 6]), 2)
    assert got.counts.tolist() == [[0, 0], [0, 5]]
    similarity = torch.rand(3, 6)[:, ::2]
    before = similarity.clone()
    strided = ops.emotion_transitions(LABELS, SPEAKERS, OFFSETS, 3, similarity=similarity)
    assert same(strided, ops.emotion_transitions(LABELS, SPEAKERS, OFFSETS, 3, similarity=before))
    assert torch.equal(similarity, before)


def test_a_similarity_needs_no_gradient():
    similarity = torch.rand(3, 3, requires_grad=True)
    assert not ops.emotion_transitions(LABELS, SPEAKERS, OFFSETS, 3, similarity=similarity).difficulty.requires_grad


# What a tensor holds is looked at on the host alone.
ON_THE_HOST = [
    ({"offsets": torch.tensor([0, 6, 5])}, ValueError, r"offsets must never fall.*\(got 6 at position 1, after"),
    ({"offsets": torch.tensor([0, 3, 2, 5])}, ValueError, r"offsets must never fall.*\(got 2 at position 2"),
    ({"offsets": torch.tensor([1, 5])}, ValueError, r"offsets must start at 0 \(got 1"),
    ({"offsets": torch.tensor([0, 4])}, ValueError, r"offsets must end at the number of utterances, 5"),
    ({"similarity": torch.eye(3) / torch.eye(3)}, ValueError, r"must be finite \(got nan for classes 0, 1"),
    ({"counts": -torch.eye(3).long()}, ValueError, r"counts must be at least 0 \(got -1 for classes 0, 0\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        *(pytest.param(*case, marks=pytest.mark.host_only) for case in ON_THE_HOST),
        ({"speakers": None}, TypeError, r"speakers must be a tensor \(got NoneType\)"),
        ({"labels": LABELS.float()}, TypeError, "labels must hold integers"),
        ({"labels": LABELS.bool()}, TypeError, "labels must hold integers"),
        ({"speakers": SPEAKERS.float()}, TypeError, "speakers must hold integers"),
        ({"offsets": OFFSETS.float()}, TypeError, "offsets must hold integers"),
        ({"labels": LABELS[None]}, ValueError, r"labels must have 1 dimension"),
        ({"speakers": SPEAKERS[1:]}, ValueError, r"speakers must have shape \(5,\) \(got \(4,\)\)"),
        ({"speakers": SPEAKERS.to("meta")}, ValueError, f"on one device .labels on {HERE}, speakers on meta"),
        ({"similarity": torch.ones(3, 3, device="meta")}, ValueError, f".labels on {HERE}, similarity on meta"),
        ({"offsets": OFFSETS[:0]}, ValueError, "at least one entry"),
        ({"num_classes": 0}, ValueError, r"num_classes must lie in \[1, 32768\] \(got 0\)"),
        ({"num_classes": 2**40}, ValueError, r"num_classes must lie in \[1, 32768\]"),
        ({"num_classes": 3.0}, TypeError, "num_classes must be an integer"),
        ({"num_classes": True}, TypeError, "num_classes must be an integer"),
        ({"ignored": "drop"}, ValueError, "ignored must be one of 'skip', 'break'"),
        ({"by": "utterance"}, ValueError, "by must be one of 'dialogue', 'speaker'"),
        ({"weighted": "cross"}, ValueError, "weighted must be one of 'both', 'same'"),
        ({"validate": "fast"}, ValueError, "validate must be one of"),
        ({"similarity": torch.ones(3, 2)}, ValueError, r"similarity must have shape \(3, 3\)"),
        ({"similarity": torch.ones(3, 3).long()}, TypeError, "similarity must hold floating point numbers"),
        ({"counts": torch.ones(2, 2).long()}, ValueError, r"counts must have shape \(3, 3\)"),
        ({"counts": torch.ones(3, 3)}, TypeError, "counts must hold integers"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(change, error, message):
    arguments = {"labels": LABELS, "speakers": SPEAKERS, "offsets": OFFSETS, "num_classes": 3} | change
    with pytest.raises(error, match=f"emotion_transitions: .*{message}" if error is ValueError else message):
        ops.emotion_transitions(**arguments)


def test_tensors_elsewhere_need_no_host(monkeypatch):
    """On "meta" nothing can be read: the call succeeds, so it never waits for a device either."""
    monkeypatch.delenv("SPCL_FAST_BACKEND")
    arguments = [x.to("meta") for x in (LABELS, SPEAKERS, OFFSETS)]
    similarity, counts = torch.ones(3, 3, device="meta"), torch.ones(3, 3, device="meta").long()
    got = ops.emotion_transitions(*arguments, 3, similarity=similarity, counts=counts, by="speaker", ignored="break")
    here = ops.emotion_transitions(LABELS, SPEAKERS, OFFSETS, 3, similarity=torch.ones(3, 3))
    assert [(x.shape, x.dtype) for x in got] == [(x.shape, x.dtype) for x in here]


def test_wrong_offsets_of_a_device_are_read_as_their_running_maximum():
    from spcl_fast import reference

    wrong, read_as = torch.tensor([-3, 4, 2, 9, 5]), [slice(0, 4), slice(4, 4), slice(4, 5), slice(5, 5)]
    got = reference.emotion_transitions(LABELS, SPEAKERS, wrong, 3)
    for d, own in enumerate(read_as):
        alone = reference.emotion_transitions(LABELS[own], SPEAKERS[own], torch.tensor([0, own.stop - own.start]), 3)
        assert same([x[d : d + 1] for x in got[1:5]], alone[1:5])
    nobodys = reference.emotion_transitions(LABELS, SPEAKERS, torch.tensor([1, 3]), 3)
    assert nobodys.surprisal.isnan().tolist() == [True, False, False, True, True]
    assert int(nobodys.counts.sum()) == 1
    assert reference.emotion_transitions(LABELS, SPEAKERS, torch.tensor([5]), 3).surprisal.isnan().all()


sizes = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda x: sum(x) > 0)
common = settings(max_examples=40, deadline=None)
choices = {"ignored": st.sampled_from(["skip", "break"]), "by": st.sampled_from(["dialogue", "speaker"])}


def problem(lengths, seed):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    T = sum(lengths)
    labels = torch.randint(-1, 4, (T,), generator=generator)
    speakers = torch.randint(-1, 3, (T,), generator=generator)
    return labels, speakers, torch.tensor([0, *lengths]).cumsum(0)


@common
@given(lengths=sizes, seed=st.integers(0, 99), **choices)
def test_splitting_the_batch_changes_nothing(lengths, seed, ignored, by):
    labels, speakers, offsets = problem(lengths, seed)
    options = {"ignored": ignored, "by": by, "similarity": torch.rand(4, 4, dtype=torch.float64)}
    whole = ops.emotion_transitions(labels, speakers, offsets, 4, **options)
    total = torch.zeros(4, 4, dtype=torch.int64)
    for d, n in enumerate(lengths):
        own = slice(int(offsets[d]), int(offsets[d + 1]))
        part = torch.tensor([0, n])
        alone = ops.emotion_transitions(labels[own], speakers[own], part, 4, **options, counts=whole.counts)
        assert same([x[d : d + 1] for x in whole[1:5]], alone[1:5])
        assert same([whole.surprisal[own]], [alone.surprisal])
        total += alone.counts
    assert torch.equal(total, whole.counts)


@common
@given(lengths=sizes, seed=st.integers(0, 99), **choices)
def test_names_of_speakers_and_classes_do_not_matter(lengths, seed, ignored, by):
    labels, speakers, offsets = problem(lengths, seed)
    plain = ops.emotion_transitions(labels, speakers, offsets, 4, ignored=ignored, by=by)
    renamed = torch.where(speakers >= 0, speakers * -(2**40) - 5, speakers)
    assert same(plain, ops.emotion_transitions(labels, renamed, offsets, 4, ignored=ignored, by=by))
    order = torch.randperm(4)
    relabelled = torch.where(labels >= 0, order[labels], labels)
    got = ops.emotion_transitions(relabelled, speakers, offsets, 4, ignored=ignored, by=by)
    assert torch.equal(got.counts[order][:, order], plain.counts)
    assert same(got[1:5], plain[1:5])
    torch.testing.assert_close(got.surprisal, plain.surprisal, rtol=2e-7, atol=0, equal_nan=True)


@common
@given(lengths=sizes, seed=st.integers(0, 99), by=choices["by"])
def test_skipped_utterances_are_as_if_they_were_not_there(lengths, seed, by):
    labels, speakers, offsets = problem(lengths, seed)
    there = labels >= 0
    full = ops.emotion_transitions(labels, speakers, offsets, 4, by=by)
    fewer = torch.cat([offsets[:1], there.cumsum(0)])[offsets]
    got = ops.emotion_transitions(labels[there], speakers[there], fewer, 4, by=by)
    assert same(got[:5], full[:5])
    assert same([got.surprisal], [full.surprisal[there]])
    assert (got.difficulty.nan_to_num(0.5) <= 1).all()
    assert (got.surprisal >= 0).all()
