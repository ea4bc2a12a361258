"""The figure draws what is there and leaves out what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spcl_fast.report.curriculum import _values, plot_curriculum


def entry(epoch, threshold):
    return {
        "epoch": epoch,
        "curriculum": {"threshold": threshold, "take_rate": 0.5, "loss": 1.0, "modality_ratio": (1.0, 1.5)},
    }


def test_values_have_gaps_where_a_run_ended_or_has_no_curriculum():
    long, short = [entry(0, 1.0), entry(1, 2.0)], [entry(0, math.inf)]
    np.testing.assert_array_equal(_values([long, short], "threshold"), [[1.0, 2.0], [math.nan, math.nan]])
    assert _values([long, short], "modality_ratio").shape == (2, 2, 2)
    nothing = _values([[{"epoch": 0, "curriculum": None}]], "loss")
    assert np.isnan(nothing).all()


def test_figure_is_written_for_every_kind_of_run(tmp_path):
    runs = {
        "spcl": [[entry(0, 0.5), entry(1, 0.7)], [entry(0, 0.5)]],
        "none": [[entry(0, math.inf)]],
        "never": [[entry(0, 0.0), entry(1, 0.0)]],
        "one modality": [[{"epoch": 0, "curriculum": None}]],
    }
    for names in (list(runs), *([name] for name in runs)):
        path = tmp_path / "new" / "figure.png"
        plot_curriculum({name: runs[name] for name in names}, ["text", "audio"], path)
        assert path.read_bytes().startswith(b"\x89PNG")
        path.unlink()


def test_figure_needs_a_name_for_each_modality(tmp_path):
    with pytest.raises(ValueError, match=r"modalities must name the 2 of 'spcl' \(got 1\)"):
        plot_curriculum({"spcl": [[entry(0, 0.5)]]}, ["text"], tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())
