"""The extended preset: what joins SPCL's difficulty, what it needs, and that it depends on nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from spcl_fast import DialogueBatch, SelfPacedScheduler, ops
from spcl_fast.difficulty import ExtendedDifficulty, StepInputs

M, C, F = 3, 4, 8
OFFSETS = torch.tensor([0, 5, 6, 6, 14])
T = int(OFFSETS[-1])


def problem() -> dict[str, Any]:
    g = torch.Generator(torch.get_default_device()).manual_seed(3)
    labels = torch.randint(C, (T,), generator=g)
    labels[7] = -100
    return {
        "logits": torch.randn(M, T, C, generator=g),
        "labels": labels,
        "offsets": OFFSETS,
        "speakers": torch.randint(2, (T,), generator=g),
        "embeddings": torch.randn(M, T, F, generator=g),
    }


def counts(p: dict[str, Any]) -> Tensor:
    return ops.emotion_transitions(p["labels"], p["speakers"], OFFSETS, C).counts


def test_extended_scheduler_adds_its_terms_to_the_difficulty_of_spcl():
    p = problem()
    plain = SelfPacedScheduler(0.9)(p["logits"], p["labels"], OFFSETS)
    step = SelfPacedScheduler(0.9, difficulty="extended")(**p)
    coherence = ops.window_coherence(p["embeddings"], OFFSETS, window=5)
    dif = ops.emotion_transitions(p["labels"], p["speakers"], OFFSETS, C).difficulty
    expected = plain.difficulty + (1 - coherence) / 2 + dif.repeat_interleave(OFFSETS.diff())
    torch.testing.assert_close(step.difficulty, expected, equal_nan=True)
    assert step.difficulty[7].isnan()
    assert torch.equal(step.weight, (step.difficulty <= 0.9).float())


def test_terms_are_weighted_and_switched_alone():
    p = problem()
    frozen = counts(p)

    def extra(**weights: Any) -> Tensor:
        off = {"incoherence": 0.0, "transition": 0.0, "surprisal": 0.0}
        return ExtendedDifficulty(**(off | weights), transition_counts=frozen).extra(StepInputs(**p))

    scored = p["labels"] >= 0
    one = {name: extra(**{name: 1.0})[scored] for name in ("incoherence", "transition", "surprisal")}
    surprisal = ops.emotion_transitions(p["labels"], p["speakers"], OFFSETS, C, counts=frozen).surprisal
    torch.testing.assert_close(one["surprisal"], surprisal[scored] / math.log(C))
    assert bool((one["surprisal"] > 0).any())
    assert not extra()[scored].any()
    assert len({tuple(x.tolist()) for x in one.values()}) == 3
    together = extra(incoherence=0.5, transition=2.0, surprisal=0.25)[scored]
    torch.testing.assert_close(
        together, 0.5 * one["incoherence"] + 2 * one["transition"] + 0.25 * one["surprisal"], rtol=1e-6, atol=1e-6
    )
    for name in ("incoherence", "transition"):
        assert bool(((one[name] >= 0) & (one[name] <= 1)).all())


def test_similarity_makes_the_transitions_wes():
    p = problem()
    similarity = torch.rand(C, C, generator=torch.Generator(torch.get_default_device()).manual_seed(0))
    wes = ops.emotion_transitions(p["labels"], p["speakers"], OFFSETS, C, similarity=similarity).difficulty
    got = ExtendedDifficulty(incoherence=0, similarity=similarity).extra(StepInputs(**p))
    torch.testing.assert_close(got, wes.repeat_interleave(OFFSETS.diff()))


def test_predictions_need_no_embeddings():
    p = problem() | {"embeddings": None}
    got = ExtendedDifficulty(transition=0, source="prediction", window=1).extra(StepInputs(**p))
    coherence = ops.window_coherence(p["logits"], OFFSETS, window=1, source="prediction")
    torch.testing.assert_close(got, (1 - coherence) / 2)
    assert bool((got <= 0.5).all())


def test_undefined_coherence_adds_nothing():
    p = problem()
    p["embeddings"][:, 5] = 0  # the only utterance of its dialogue: no vector, no pair
    got = ExtendedDifficulty(transition=0).extra(StepInputs(**p))
    assert float(got[5]) == 0
    assert bool(got.isfinite().all())


@pytest.mark.parametrize(
    ("missing", "terms", "message"),
    [
        ("embeddings", {}, "the incoherence needs embeddings="),
        ("speakers", {}, "the emotion transitions need speakers="),
        ("speakers", {"incoherence": 0, "transition": 0, "surprisal": 1}, "the emotion transitions need speakers="),
    ],
)
def test_terms_that_cannot_be_computed_are_refused(missing: str, terms: dict[str, float], message: str):
    p = problem()
    difficulty = ExtendedDifficulty(**terms, transition_counts=counts(p))
    with pytest.raises(ValueError, match=message):
        SelfPacedScheduler(difficulty=difficulty)(**(p | {missing: None}))


def test_terms_that_are_off_need_nothing():
    p = problem()
    scheduler = SelfPacedScheduler(difficulty=ExtendedDifficulty(incoherence=0, transition=0))
    step = scheduler(p["logits"], p["labels"], OFFSETS)
    plain = SelfPacedScheduler()(p["logits"], p["labels"], OFFSETS)
    assert torch.equal(step.difficulty.nan_to_num(-1), plain.difficulty.nan_to_num(-1))


def test_difficulty_depends_on_its_own_dialogue_alone():
    p = problem()
    difficulty = ExtendedDifficulty(surprisal=0.5, transition_counts=counts(p))
    whole = SelfPacedScheduler(difficulty=difficulty)(**p).difficulty
    for begin, end in zip(OFFSETS.tolist(), OFFSETS.tolist()[1:], strict=False):
        rows = slice(begin, end)
        part = SelfPacedScheduler(difficulty=difficulty)(
            p["logits"][:, rows],
            p["labels"][rows],
            torch.tensor([0, end - begin]),
            p["speakers"][rows],
            p["embeddings"][:, rows],
        )
        assert torch.equal(part.difficulty.nan_to_num(-1), whole[rows].nan_to_num(-1))


def test_padded_batch_brings_its_speakers_and_flattens_embeddings():
    p = problem()
    batch = DialogueBatch.from_arrays(p["labels"], OFFSETS, speakers=p["speakers"])
    flat = SelfPacedScheduler(difficulty="extended")(**p).difficulty
    layout = [batch.pad(z) for z in p["logits"]], [batch.pad(e) for e in p["embeddings"]]
    padded = DialogueBatch.from_padded(
        batch.pad(p["labels"], -100), lengths=OFFSETS.diff(), speakers=batch.pad(p["speakers"], 0)
    )
    step = SelfPacedScheduler(difficulty="extended")(layout[0], padded, embeddings=layout[1])
    torch.testing.assert_close(step.difficulty, flat, equal_nan=True)


def test_embeddings_receive_no_gradient_and_the_loss_does_not_need_one():
    p = problem()
    p["logits"].requires_grad_()
    p["embeddings"].requires_grad_()
    SelfPacedScheduler(difficulty="extended")(**p).loss.backward()
    assert p["logits"].grad is not None
    assert p["embeddings"].grad is None


def test_state_holds_the_terms_and_refuses_others():
    p = problem()
    first = SelfPacedScheduler(difficulty=ExtendedDifficulty(surprisal=1, transition_counts=counts(p)))
    first(**p)
    state = first.state_dict()
    again = SelfPacedScheduler(difficulty=ExtendedDifficulty(surprisal=1, transition_counts=counts(p)))
    again.load_state_dict(state)
    assert again.check() == first.check()
    for other in (
        SelfPacedScheduler(),
        SelfPacedScheduler(difficulty="extended"),
        SelfPacedScheduler(difficulty=ExtendedDifficulty(surprisal=1, transition_counts=counts(p) + 1)),
    ):
        with pytest.raises(ValueError, match="saved with other settings"):
            other.load_state_dict(state)


def test_half_precision_models_do_not_round_the_similarity():
    similarity = torch.rand(C, C)
    difficulty = SelfPacedScheduler(difficulty=ExtendedDifficulty(similarity=similarity)).half().difficulty
    assert difficulty is not None
    assert difficulty.similarity is not None
    assert torch.equal(difficulty.similarity, similarity)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"incoherence": -1}, ValueError, "incoherence must be finite and at least 0"),
        ({"transition": math.nan}, ValueError, "transition must be finite and at least 0"),
        ({"surprisal": True}, TypeError, "surprisal must be a number"),
        ({"surprisal": 1}, ValueError, "surprisal needs transition_counts"),
        ({"window": 4}, ValueError, "window must be odd"),
        ({"window": 1.0}, TypeError, "window must be an integer"),
        ({"source": "logits"}, ValueError, "source must be one of"),
        ({"ignored": "keep"}, ValueError, "ignored must be one of"),
        ({"transition_counts": torch.zeros(C, C)}, TypeError, "transition_counts must hold integers"),
        ({"similarity": torch.zeros(C)}, ValueError, "similarity must have 2 dimension"),
        # What follows was met in the first step, and on a device never.
        ({"similarity": torch.zeros(C, C + 1)}, ValueError, "similarity must be square"),
        ({"similarity": torch.full((C, C), math.nan)}, ValueError, "similarity must be finite"),
        ({"transition_counts": torch.zeros(C, 1, dtype=torch.int64)}, ValueError, "transition_counts must be square"),
        ({"transition_counts": -torch.eye(C).long()}, ValueError, "transition_counts must be at least 0"),
    ],
)
def test_settings_out_of_their_domain_are_refused(arguments: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        ExtendedDifficulty(**arguments)


def test_unknown_difficulty_is_refused():
    with pytest.raises(ValueError, match="difficulty must be one of 'spcl', 'extended'"):
        SelfPacedScheduler(difficulty="harder")


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_embedding_at_fault_is_never_selected_and_is_counted(fault: float):
    # A NaN embedding had an incoherence of 0, the easiest there is: its utterance was selected before all others.
    p = problem()
    p["embeddings"][0, 2, 3] = fault
    scheduler = SelfPacedScheduler(1e6, max_threshold=1e6, difficulty=ExtendedDifficulty(transition=0))
    step = scheduler(p["logits"], p["labels"], OFFSETS, embeddings=p["embeddings"])
    assert step.difficulty[2].isnan()
    assert float(step.weight[2]) == 0
    scored = [t for t in range(T) if t not in (2, 7)]
    assert bool((step.weight[scored] == 1).all())
    assert bool(step.difficulty[scored].isfinite().all())
    assert scheduler.check().undefined == 1


def test_embedding_at_fault_that_is_not_present_is_not_looked_at():
    p = problem()
    present = torch.ones(M, T, dtype=torch.bool)
    present[:, 5] = False  # the only utterance of its dialogue: undefined, though what is absent is at fault
    present[0, 2] = False
    p["embeddings"][:, 5] = math.nan
    p["embeddings"][0, 2] = math.nan
    got = ExtendedDifficulty(transition=0).extra(StepInputs(**p, present=present))
    assert bool(got.isfinite().all())
    assert float(got[5]) == 0


def test_embeddings_by_name_are_matched_with_the_logits():
    # `present` follows the logits: embeddings in another order were masked by the presence of other modalities.
    p = problem()
    present = torch.rand(M, T, generator=torch.Generator(torch.get_default_device()).manual_seed(1)) < 0.6
    names = ("audio", "text", "visual")
    logits, embeddings = (dict(zip(names, p[of], strict=True)) for of in ("logits", "embeddings"))
    extra = ExtendedDifficulty(transition=0).extra
    expected = extra(StepInputs(logits, p["labels"], OFFSETS, embeddings=embeddings, present=present))
    turned = dict(reversed(embeddings.items()))
    got = extra(StepInputs(logits, p["labels"], OFFSETS, embeddings=turned, present=present))
    assert torch.equal(got, expected)
    turned["video"] = turned.pop("visual")
    with pytest.raises(ValueError, match="embeddings must have the modalities of the logits"):
        extra(StepInputs(logits, p["labels"], OFFSETS, embeddings=turned))


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        (torch.zeros(1), ValueError),
        (torch.tensor(0.5), ValueError),
        (torch.zeros(T, dtype=torch.int64), TypeError),
        (0.5, TypeError),
    ],
)
def test_extra_difficulty_that_the_step_refuses_is_refused_with_extended_too(extra: Any, error: type[Exception]):
    # It was added to the extended difficulty before anyone looked at it, and so spread over the batch.
    for difficulty in ("spcl", "extended"):
        with pytest.raises(error, match="extra_difficulty must"):
            SelfPacedScheduler(difficulty=difficulty)(**problem(), extra_difficulty=extra)


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        ([], ValueError, "logits must have at least one modality"),  # was a StopIteration
        ([torch.zeros(T)], ValueError, "must have 2 dimension"),
        ([[0.0]], TypeError, "must be a tensor"),  # was an AttributeError
    ],
)
def test_logits_of_the_wrong_form_are_refused_in_words(logits: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        SelfPacedScheduler(difficulty="extended")(**(problem() | {"logits": logits}))
