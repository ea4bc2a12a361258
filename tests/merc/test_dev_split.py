"""split_dev: which training dialogues become dev, and that nothing else moves."""

import random
from dataclasses import replace

import numpy as np
import pytest

from spcl_fast.merc.readers import split_dev
from spcl_fast.merc.synthetic import make_synthetic

MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")


def corpus(preset="iemocap-like", **dialogues):
    return make_synthetic(preset, dialogues=dialogues or {"train": 25, "test": 4})


def dev_names(data):
    return [data.dialogue_ids[d] for d in data.dialogues("dev")]


def is_same_but_for_the_split(a, b):
    return a.dialogue_ids == b.dialogue_ids and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("labels", "speakers", "offsets")
    )


def test_own_rule():
    data = corpus()
    found = split_dev(data)
    assert found.split_names == ("train", "dev", "test")
    assert {name: n for name, (n, _) in found.counts().items()} == {"train": 23, "dev": 2, "test": 4}
    assert is_same_but_for_the_split(data, found)
    np.testing.assert_array_equal(found.dialogues("test"), data.dialogues("test"))
    assert found.notes[0].startswith("dev is 2 of the training dialogues: those whose names")
    assert split_dev(found) is found  # it has dev


def test_own_rule_does_not_depend_on_the_order():
    data = corpus()
    names = data.dialogue_ids
    shuffled = tuple(random.Random(0).sample(names[:25], 25)) + names[25:]
    other = replace(data, dialogue_ids=shuffled)
    assert shuffled != names
    assert set(dev_names(split_dev(other))) == set(dev_names(split_dev(data)))
    # the digests of these names, worked out once: another version of Python must find the same
    assert dev_names(split_dev(replace(corpus(train=2, test=1), dialogue_ids=("a", "b", "c")))) == ["b"]


def test_own_rule_takes_the_published_dev_of_meld():
    numbers = [i for i in range(1153) if i != 60]
    made = make_synthetic("meld-like", dialogues={"train": 2})
    T = len(numbers)
    data = replace(
        made,
        features={"text": np.zeros((T, 1), np.float32)},
        **{name: np.zeros(T, np.int64) for name in ("labels", "speakers", "split")},
        **{"offsets": np.arange(T + 1), "dialogue_ids": tuple(map(str, numbers)), "split_names": ("train",)},
    )
    assert dev_names(split_dev(data)) == [str(i) for i in range(1039, 1153)]
    renamed = replace(data, dialogue_ids=("x", *data.dialogue_ids[1:]))
    assert dev_names(split_dev(renamed)) != dev_names(split_dev(data))
    assert len(dev_names(split_dev(renamed))) == 115


@pytest.mark.parametrize("with_dev", [False, True])
def test_rule_of_spcl(with_dev):
    train = {"train": 20, "dev": 5} if with_dev else {"train": 25}
    iemocap = corpus(**train, test=4)
    order = list(range(25))
    random.Random(12).shuffle(order)
    found = split_dev(iemocap, "spcl")
    assert found.dialogues("dev").tolist() == sorted(order[:2])
    assert found.dialogues("train").tolist() == sorted(order[2:])
    assert found.dialogues("test").tolist() == [25, 26, 27, 28]

    meld = corpus("meld-like", **train, test=4)
    assert meld.class_names == MELD
    assert split_dev(meld, "spcl").dialogues("dev").tolist() == [0, 1]


def test_notes_say_what_was_done_and_compare_again():
    data = corpus("meld-like", train=20, dev=3, test=2)
    data = replace(data, notes=("first",))
    found = split_dev(data, "spcl")
    assert found.notes[:2] == (
        "first",
        "dev is 2 of the training dialogues: the first as they are stored, as in SPCL's code",
    )
    assert "MELD: 21 train dialogues, published 1039" in found.notes


def test_small_and_wrong():
    one = corpus(train=1, test=1)
    assert split_dev(one).dialogues("dev").tolist() == []
    assert len(split_dev(corpus(train=2, test=1)).dialogues("dev")) == 1
    no_train = corpus(test=2)
    assert split_dev(no_train) is no_train
    with pytest.raises(ValueError, match=r"split must be one of own, spcl \(got 'x'\)"):
        split_dev(one, "x")
    other = replace(one, class_names=("a", "b", "c", "d", "e", "f"))
    with pytest.raises(ValueError, match="'spcl' is a rule for IEMOCAP and MELD"):
        split_dev(other, "spcl")
