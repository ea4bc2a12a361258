"""The raw op `extended_difficulty`: the sum that its terms have one by one."""

from __future__ import annotations

import itertools

import pytest
import torch

from spcl_fast import backends
from spcl_fast.difficulty import ExtendedDifficulty, extended
from spcl_fast.testing import random_inputs

pytestmark = pytest.mark.host_only

COUNTS = torch.tensor([[3, 0, 2, 9], [1, 1, 0, 5], [0, 0, 0, 0], [7, 2, 8, 4]])


@pytest.fixture(autouse=True)
def library() -> None:
    if backends.why_not("cpu"):
        pytest.fail(f"the library is off: {backends.why_not('cpu')}")


def faulty_inputs(lengths, dtype, *, present: bool):
    """Labels that do not count, and embeddings and logits with NaN, Inf and zeros."""
    inputs = random_inputs(lengths, dtype=dtype)
    T = len(inputs.labels)
    labels, embeddings, logits = inputs.labels.clone(), inputs.embeddings.clone(), inputs.logits.clone()
    if T > 12:
        labels[[2, 7]], labels[4] = inputs.ignore_index, 99
        embeddings[0, 3, 1], embeddings[1, 5, 0], embeddings[:, 8] = torch.nan, torch.inf, 0
        logits[0, 6, 2], logits[1, 9] = torch.nan, -torch.inf
    has = torch.rand(len(logits), T, generator=torch.Generator().manual_seed(1)) > 0.3 if present else None
    return inputs._replace(labels=labels, embeddings=embeddings, logits=logits, present=has)


def one_by_one(monkeypatch, difficulty, inputs):
    with monkeypatch.context() as patch:
        patch.setattr(extended, "has_host_ops", lambda *_: False)
        return difficulty.extra(inputs)


@pytest.mark.parametrize("source", ["embedding", "prediction"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("lengths", [(5, 1, 0, 7, 3), (40, 1, 1, 33), (1,), ()])
def test_the_sum_is_that_of_its_terms(monkeypatch, lengths, dtype, source):
    similarity = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    options = {"source": source, "transition_counts": COUNTS, "window": 3, "ignored": "break"}
    for present, alike in itertools.product((False, True), (None, similarity, similarity.double())):
        inputs = faulty_inputs(lengths, dtype, present=present)
        for weights in itertools.product((0.0, 0.7), (0.0, 1.3), (0.0, 0.4)):
            terms = dict(zip(("incoherence", "transition", "surprisal"), weights, strict=True))
            difficulty = ExtendedDifficulty(**terms, **options, similarity=alike)
            got, expected = difficulty._at_once(inputs), one_by_one(monkeypatch, difficulty, inputs)
            torch.testing.assert_close(got, expected, equal_nan=True)


def test_what_the_op_refuses_is_said_in_the_words_of_the_terms():
    inputs = random_inputs((5, 3))
    difficulty = ExtendedDifficulty(transition_counts=COUNTS, surprisal=1.0)
    with pytest.raises(ValueError, match="offsets must end at the number of utterances, 8"):
        difficulty.extra(inputs._replace(offsets=torch.tensor([0, 5])))
    with pytest.raises(ValueError, match="speakers must have shape"):
        difficulty.extra(inputs._replace(speakers=inputs.speakers[:3]))
    with pytest.raises(ValueError, match="needs embeddings="):
        difficulty.extra(inputs._replace(embeddings=None))


def test_labels_of_another_number_than_the_embeddings_are_refused():
    inputs = random_inputs((5, 3))
    options = None, None, None, 4, 5, False, 1.0, 0.0, 0.0, -100, False, False
    with pytest.raises(RuntimeError, match=r"extended_difficulty: labels must be \[T\]"):
        torch.ops.spcl_fast.extended_difficulty(
            list(inputs.embeddings), inputs.labels[:3], inputs.speakers, inputs.offsets, *options
        )
    with pytest.raises(RuntimeError, match="extended_difficulty: transitions need speakers"):
        torch.ops.spcl_fast.extended_difficulty(
            [], inputs.labels, None, inputs.offsets, *options[:6], 0.0, 1.0, *options[8:]
        )
