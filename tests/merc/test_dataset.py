"""DialogueDataset: what it holds, and that every rule it states is checked and named."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from spcl_fast.merc.dataset import DatasetError, DialogueDataset
from spcl_fast.merc.published import PUBLISHED_COUNTS, published_notes


def make(**changes):
    """Three dialogues of 2, 0 and 3 utterances."""
    fields = {
        "name": "tiny",
        "features": {"text": np.ones((5, 3), np.float32), "audio": np.zeros((5, 2), np.float32)},
        "labels": np.array([0, 1, -100, 1, 0]),
        "speakers": np.array([0, 1, 0, 0, -1]),
        "offsets": np.array([0, 2, 2, 5]),
        "split": np.array([0, 1, 0]),
        "split_names": ("train", "test"),
        "class_names": ("no", "yes"),
        "dialogue_ids": ("a", "b", "c"),
    }
    return DialogueDataset(**(fields | changes))


def test_dataset_properties():
    data = make()
    assert (data.num_dialogues, data.num_utterances, data.num_classes) == (3, 5, 2)
    assert data.lengths.tolist() == [2, 0, 3]
    assert data.lengths.dtype == np.int64
    assert data.counts() == {"train": (2, 4), "test": (1, 0)}
    assert repr(data) == "DialogueDataset('tiny': 3 dialogues, 5 utterances, 2 classes; text 3, audio 2)"


def test_dataset_dialogues_of_a_split():
    data = make()
    assert data.dialogues("train").tolist() == [0, 2]
    assert data.dialogues("train").dtype == np.int64
    with pytest.raises(ValueError, match="split must be one of train, test \\(got 'dev'\\)"):
        data.dialogues("dev")


def test_dataset_is_frozen_and_keeps_arrays():
    labels = np.zeros(5, np.int64)
    data = make(labels=labels)
    assert data.labels is labels
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"


def test_dataset_without_dialogues():
    empty = np.zeros(0, np.int64)
    data = make(
        features={"text": np.zeros((0, 3), np.float32)},
        labels=empty,
        speakers=empty,
        offsets=np.zeros(1, np.int64),
        split=empty,
        dialogue_ids=(),
    )
    assert data.counts() == {"train": (0, 0), "test": (0, 0)}
    assert data.lengths.shape == (0,)


def poisoned(value):
    values = np.ones((5, 3), np.float32)
    values[3, 1] = value
    return {"text": values}


BROKEN = {
    "no modality": ({"features": {}}, "features: at least one modality"),
    "feature nan": ({"features": poisoned(np.nan)}, r"features\['text'\]: .*finite .*\[3, 1\] = nan"),
    "feature inf": ({"features": poisoned(-np.inf)}, r"finite .*\[3, 1\] = -inf"),
    "feature dtype": ({"features": {"text": np.ones((5, 3))}}, "float32 with 2 .*got float64"),
    "feature rank": (
        {"features": {"text": np.ones(5, np.float32)}},
        r"2 dimensions \(got float32 of shape \(5,\)",
    ),
    "feature length": (
        {"features": {"text": np.ones((4, 3), np.float32)}},
        r"as long as labels, 5 .*\(4, 3\)",
    ),
    "feature width": ({"features": {"text": np.ones((5, 0), np.float32)}}, "at least one column"),
    "feature list": ({"features": {"text": [[1.0]]}}, "NumPy array .*got list"),
    "label high": ({"labels": np.array([0, 1, 2, 1, 9])}, r"labels: .*\[0, 2\), or -100 .*labels\[2\] = 2"),
    "label low": ({"labels": np.array([0, -1, 0, 1, 1])}, r"labels\[1\] = -1"),
    "label dtype": ({"labels": np.zeros(5, np.int32)}, "labels: .*int64 .*got int32"),
    "speaker": ({"speakers": np.array([0, 0, 0, -2, 0])}, r"speakers\[3\] = -2"),
    "speaker length": ({"speakers": np.zeros(4, np.int64)}, "speakers: must be as long as labels, 5"),
    "offsets start": (
        {"offsets": np.array([1, 2, 2, 5])},
        r"offsets: must start at 0 \(got offsets\[0\] = 1",
    ),
    "offsets order": ({"offsets": np.array([0, 3, 2, 5])}, r"offsets\[2\] = 2 after 3"),
    "offsets end": ({"offsets": np.array([0, 2, 2, 4])}, r"end at T = 5.*offsets\[3\] = 4"),
    "offsets overflow": (
        {"offsets": np.array([0, 2**63 - 1, -(2**63), 5])},
        r"offsets\[2\] = -9223372036854775808",
    ),
    "offsets empty": ({"offsets": np.zeros(0, np.int64)}, r"offsets: must have D \+ 1 entries"),
    "split range": ({"split": np.array([0, 1, 2])}, r"split: .*\[0, 2\).*split\[2\] = 2"),
    "split length": ({"split": np.array([0, 1])}, r"split: must be as long as offsets\[1:\], 3"),
    "ids length": ({"dialogue_ids": ("a", "b")}, r"dialogue_ids: must name the D = 3 dialogues \(got 2\)"),
    "no class": ({"class_names": ()}, "class_names: at least one"),
    "class twice": ({"class_names": ("no", "no")}, r"class_names\[1\] = 'no' a second time"),
    "split name empty": ({"split_names": ("train", "")}, r"split_names\[1\] = ''"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_dataset_names_the_fault(fault):
    changes, message = BROKEN[fault]
    with pytest.raises(DatasetError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


def published_like(corpus, *, test_labels, speakers=(0, 1)):
    """A corpus with the class names of a published one, one training and one test dialogue."""
    classes = PUBLISHED_COUNTS[corpus].class_names
    labels = np.array([0, 1, *test_labels])
    return make(
        features={"text": np.ones((len(labels), 1), np.float32)},
        labels=labels,
        speakers=np.resize(speakers, len(labels)),
        offsets=np.array([0, 2, len(labels)]),
        split=np.array([0, 1]),
        dialogue_ids=("a", "b"),
        class_names=classes,
    )


def test_published_notes_of_a_subset():
    notes = published_notes(published_like("IEMOCAP", test_labels=[0] * 144 + [-100]))
    assert notes[:4] == (
        "IEMOCAP: 1 train+dev dialogues, published 120",
        "IEMOCAP: 2 labelled train+dev utterances, published 5810",
        "IEMOCAP: 1 test dialogues, published 31",
        "IEMOCAP: 144 labelled test utterances, published 1623",
    )
    assert "IEMOCAP: 0 test utterances of class sad, published 245" in notes
    assert not any("class hap" in note for note in notes)


def test_published_notes_know_mosi_by_its_single_speaker():
    assert published_notes(published_like("CMU-MOSI", test_labels=[1, 1], speakers=(0,)))
    assert not published_notes(published_like("CMU-MOSI", test_labels=[1, 1], speakers=(0, 1)))


def test_published_notes_of_unknown_classes():
    assert published_notes(make()) == ()


def test_published_counts_add_up():
    for published in PUBLISHED_COUNTS.values():
        if published.test_class_counts is not None:
            assert sum(published.test_class_counts) == published.parts[-1].utterances


def test_dataset_modules_import_without_torch():
    code = "import sys, spcl_fast.merc.npz, spcl_fast.merc.synthetic; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
