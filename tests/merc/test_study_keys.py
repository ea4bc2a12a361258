"""The study of the project: its file asks for the runs that its results have, whatever a configuration gains."""

from __future__ import annotations

from pathlib import Path

import pytest

from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.results import read_results
from spcl_fast.merc.study import Job
from spcl_fast.merc.study_file import read_study

FOLDER = Path(__file__).parents[2] / "docs" / "study"


@pytest.fixture(scope="module")
def rows():
    return read_results(FOLDER / "results.jsonl").rows


def test_keys_of_stored_runs_are_those_that_their_configurations_make(rows):
    for row in rows:
        config = TrainConfig(**row["config"])
        assert (
            Job(row["part"], row["data"], row["backbone"], row["curriculum"], row["setting"], config).key == row["key"]
        )


def test_study_asks_for_every_stored_run(rows):
    search = [row for row in rows if row["part"] == "search"]
    wanted = {job.key for job in read_study(FOLDER / "study.yaml").ready(search)}
    assert {row["key"] for row in rows} - {row["key"] for row in search} <= wanted
