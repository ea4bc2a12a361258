"""docs/scale.md says what its record says, and the simulation behind it is right where the answer is known."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from types import ModuleType

import pytest

from spcl_fast.cli.bench import load_benchmarks
from spcl_fast.corpus import CorpusWriter

ROOT = Path(__file__).resolve().parents[2]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{load_benchmarks(ROOT).__package__}.{name}")


def test_tables_are_those_of_the_record():
    scale = module("scale")
    text = scale.DOC.read_text()
    assert scale.filled(text, json.loads(scale.RECORD.read_text())) == text
    with pytest.raises(ValueError, match="marks of the table 'constants' once"):
        scale.filled(text.replace("<!-- constants", "<!-- others"), json.loads(scale.RECORD.read_text()))


def test_default_size_of_a_shard_is_near_the_best_that_was_simulated():
    simulated = json.loads(module("scale").RECORD.read_text())["simulated"]
    default = inspect.signature(CorpusWriter).parameters["utterances_per_shard"].default
    for what in ("stored", "model"):
        means = {row["utterances"]: row["mean"] for row in simulated[what]["rows"]}
        assert means[default] < 1.1 * min(means.values())


def test_simulation_comes_out_as_recorded():
    scale = module("scale")
    record = json.loads(scale.RECORD.read_text())
    for what in ("stored", "model"):
        (again,) = scale.simulated(record, [1 << 24])[what]["rows"]
        recorded = next(row for row in record["simulated"][what]["rows"] if row["utterances"] == 1 << 24)
        assert again == pytest.approx(recorded, rel=0.1)  # another NumPy may draw other numbers


def test_workers_alike_that_never_fail_take_what_arithmetic_says():
    of = module("stragglers")
    alike = {"spread": 0.0, "slow": 0.0, "hours_to_failure": 1e12}
    for workers, rounds in ((1, 10), (3, 4), (10, 1), (20, 1)):
        cluster = of.Cluster(workers, **alike)
        assert of.simulate(10_000_000, 1_000_000, 2.0, 0.5, cluster, 0) == pytest.approx(2.5 * rounds)
    assert of.simulate(2_500_000, 1_000_000, 2.0, 0.0, of.Cluster(1, **alike), 0) == pytest.approx(5.0)
    assert of.ideal(2_500_000, 2.0, of.Cluster(5)) == pytest.approx(1.0)


def test_a_worker_that_fails_loses_its_shard_and_comes_back():
    of = module("stragglers")
    failing = {"spread": 0.0, "slow": 0.0, "hours_to_failure": 0.01, "restart": 10.0}
    undisturbed = of.ideal(4_000_000, 20.0, of.Cluster(2))
    times = [of.simulate(4_000_000, 1_000_000, 20.0, 0.0, of.Cluster(2, **failing), seed) for seed in range(20)]
    assert min(times) >= undisturbed
    assert max(times) > undisturbed + 20
    assert times == [of.simulate(4_000_000, 1_000_000, 20.0, 0.0, of.Cluster(2, **failing), s) for s in range(20)]
    small = [of.simulate(4_000_000, 100_000, 20.0, 0.0, of.Cluster(2, **failing), seed) for seed in range(20)]
    assert sum(small) < sum(times)  # less is lost at a time
