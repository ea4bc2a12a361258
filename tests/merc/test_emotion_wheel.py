"""The similarity of emotions on the wheel."""

from __future__ import annotations

import math

import pytest
import torch

from spcl_fast.merc.emotion_wheel import ANGLES, SPELLINGS, wheel_similarity

MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
IEMOCAP = ("hap", "sad", "neu", "ang", "exc", "fru")


def test_similarity_of_meld_worked_out_on_paper():
    got = wheel_similarity(MELD)
    assert (got.dtype, got.shape) == (torch.float64, (7, 7))
    by_name = {(a, b): got[i, j].item() for i, a in enumerate(MELD) for j, b in enumerate(MELD)}
    assert {by_name["neutral", b] for b in MELD} == {1 / 7}
    assert by_name["joy", "surprise"] == pytest.approx(math.cos(6 * math.pi / 20))
    assert by_name["fear", "disgust"] == pytest.approx(math.cos(2 * math.pi / 20))
    assert by_name["fear", "anger"] == pytest.approx(math.cos(8 * math.pi / 20))
    assert by_name["anger", "sadness"] == 0  # both negative, but 18 twentieths of pi apart
    assert by_name["surprise", "anger"] == 0  # near, but of opposite valence
    assert all(by_name[a, a] == pytest.approx(1) for a in MELD[1:])


def test_similarity_of_iemocap_worked_out_on_paper():
    got = wheel_similarity(IEMOCAP)
    assert got[0, 4].item() == pytest.approx(math.cos(4 * math.pi / 20))
    assert got[1, 5].item() == pytest.approx(math.cos(8 * math.pi / 20))
    assert got[3, 5].item() == pytest.approx(0, abs=1e-15)  # a quarter of a turn
    assert got[2].tolist() == [1 / 6] * 6


def test_similarity_is_symmetric_and_lies_between_0_and_1():
    got = wheel_similarity([*ANGLES, "neutral"])
    assert torch.equal(got, got.T)
    assert ((got >= 0) & (got <= 1)).all()


def test_spellings_name_the_same_emotions():
    assert torch.equal(wheel_similarity(("neu", "sur", "fea", "sad", "joy", "dis", "ang")), wheel_similarity(MELD))
    words = ("Happiness", " sadness", "NEUTRAL", "anger", "excitement", "frustration")
    assert torch.equal(wheel_similarity(words), wheel_similarity(IEMOCAP))
    assert set(SPELLINGS.values()) - set(ANGLES) == {"neutral"}


def test_unknown_names_are_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"class_names must be among ang, anger, .* \(got 'positive'\)"):
        wheel_similarity(("neutral", "positive"))
    with pytest.raises(ValueError, match="at least one name"):
        wheel_similarity(())
