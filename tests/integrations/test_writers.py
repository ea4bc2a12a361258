"""Statistics as named numbers."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from spcl_fast import SelfPacedScheduler
from spcl_fast.integrations.writers import log_stats, scalars, write_stats


@pytest.fixture
def stats():
    scheduler = SelfPacedScheduler(threshold=0.4)
    scheduler(torch.randn(2, 9, 3), torch.randint(3, (9,)), torch.tensor([0, 4, 9]))
    return scheduler.end_epoch()


def test_every_number_has_a_tag_and_every_modality_its_own(stats):
    numbers = scalars(stats, modalities=("text", "audio"))
    assert numbers["curriculum/take_rate"] == stats.take_rate
    assert numbers["curriculum/scored"] == 9.0
    assert (numbers["curriculum/confidence/text"], numbers["curriculum/confidence/audio"]) == stats.confidence
    tuples = [field for field, value in stats._asdict().items() if isinstance(value, tuple)]
    assert len(numbers) == len(stats) - 1 - len(tuples) + 2 * len(tuples)  # all but the epoch
    assert all(type(value) is float for value in numbers.values())


def test_modalities_without_names_are_numbered_and_the_prefix_is_free(stats):
    numbers = scalars(stats, prefix="student")
    assert numbers["student/modality_ratio/1"] == stats.modality_ratio[1]
    assert all(tag.startswith("student/") for tag in numbers)


def test_epoch_without_steps_has_nan_and_needs_no_names():
    numbers = scalars(SelfPacedScheduler().end_epoch(), modalities=("text", "audio"))
    assert math.isnan(numbers["curriculum/take_rate"])
    assert not [tag for tag in numbers if tag.endswith("text")]


def test_names_must_be_as_many_as_modalities(stats):
    with pytest.raises(ValueError, match=r"modalities must name the 2 of the statistics \(got \['text'\]\)"):
        scalars(stats, modalities=("text",))


def test_writer_gets_each_number_at_its_step(stats):
    written = {}

    class Writer:
        def add_scalar(self, tag, value, step):
            written[tag, step] = value

    write_stats(Writer(), stats, 12, modalities=("text", "audio"))
    assert written == {(tag, 12): value for tag, value in scalars(stats, modalities=("text", "audio")).items()}


def test_log_has_one_line_and_its_record_the_numbers(stats, caplog):
    with caplog.at_level(logging.INFO, logger="spcl_fast"):
        log_stats(stats, modalities=("text", "audio"))
    (record,) = caplog.records
    assert record.name == "spcl_fast"
    assert record.levelno == logging.INFO
    assert f"took {stats.selected} of 9 utterances" in record.getMessage()
    assert record.scalars == scalars(stats, modalities=("text", "audio"))
