"""The table reader on Hugging Face's `datasets`, the real package."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from spcl_fast.merc.readers import read_table

T = 6
TEXT = np.arange(T * 3, dtype=np.float32).reshape(T, 3)
COLUMNS = {
    "dialogue_id": ["b", "b", "b", "a", "a", "c"],
    "utterance_index": [2, 0, 1, 0, 1, 0],
    "speaker": ["Ann", "Ben", "Ann", "Cy", "Ann", "Cy"],
    "label": [1, 0, 1, 1, 0, 0],
    "text": TEXT.tolist(),
}
FEATURES = datasets.Features(
    {
        "dialogue_id": datasets.Value("string"),
        "utterance_index": datasets.Value("int64"),
        "speaker": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["sad", "happy"]),
        "text": datasets.Sequence(datasets.Value("float32"), length=3),
    }
)


def whole():
    return datasets.Dataset.from_dict(COLUMNS, features=FEATURES)


def check(data):
    assert data.class_names == ("sad", "happy")
    assert data.dialogue_ids == ("b", "a", "c")
    assert data.labels.tolist() == [0, 1, 1, 1, 0, 0]  # by utterance within the dialogue
    np.testing.assert_array_equal(data.features["text"], TEXT[[1, 2, 0, 3, 4, 5]])
    assert data.split_names[0] == "train"


def test_parts_of_a_dataset_dict():
    rows = {"train": range(3), "validation": range(3, 5), "test": range(5, 6)}
    parts = datasets.DatasetDict({name: whole().select(rows) for name, rows in rows.items()})
    data = read_table(parts)
    check(data)
    assert [data.counts()[name] for name in data.split_names] == [(1, 3), (1, 2), (1, 1)]


@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_are_those_of_the_selection(shuffled):
    rows = whole().add_column("split", ["train"] * 3 + ["dev"] * 2 + ["test"])
    if shuffled:  # a selection of the table, not the table; the order of dialogues is that of their first rows
        rows = rows.select([2, 0, 1, 4, 3, 5])
    check(read_table(rows))


def test_a_file_of_datasets(tmp_path):
    rows = whole().add_column("split", ["train"] * 3 + ["dev"] * 2 + ["test"])
    rows.to_parquet(tmp_path / "rows.parquet")
    data = read_table(tmp_path / "rows.parquet", class_names=["sad", "happy"])
    check(data)
