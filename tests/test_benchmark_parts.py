"""What the benchmark suite adds to the timing: thread counts, memory, dtypes, exclusions, children, files, figures."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from functools import partial
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spcl_fast.cli import bench as command

ROOT = Path(__file__).resolve().parents[1]
run = command.load_benchmarks(ROOT)


def part(name: str):
    return importlib.import_module(f"{run.__package__}.{name}")


harness, scores, steps = part("harness"), part("bench_modality_scores"), part("bench_self_paced_step")
SETTINGS = run.Settings(quick=True, threads=1, screen_s=0.0, budget_s=0.0, least_rounds=1, compile=False, lesser=False)
TWO_THREADS = dataclasses.replace(SETTINGS, threads=2)


@pytest.fixture(autouse=True)
def ordinary_algorithms(uninitialised_memory_is_nan):
    """As users run."""
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def bandwidth_takes_no_time(monkeypatch):
    monkeypatch.setattr(part("providers.floors"), "PAST_CACHES", 1 << 16)


def contender(provider, role="rival", value=1.0, **more):
    return harness.Contender(provider, "form", lambda: lambda: {"x": torch.full((3,), value)}, role, **more)


def cell_of(*contenders):
    expected = part("agreement").Expected({"x": torch.ones(3).double()}, {"x": part("agreement").Tolerance(1e-6)})
    return harness.Cell("tiny", {"T": 3}, contenders, expected, 24)


def test_ours_and_floors_have_a_row_for_one_thread_and_for_all():
    measured = harness.measure(
        cell_of(contender("eager", threads=(2,)), contender("ours", "ours"), contender("copy", "floor")), TWO_THREADS
    )
    assert sorted((r["provider"], r["threads"]) for r in measured["rows"]) == [
        ("copy", 1),
        ("copy", 2),
        ("eager", 2),
        ("ours", 1),
        ("ours", 2),
    ]


def test_who_is_left_out_or_too_slow_is_named_with_the_reason():
    out = harness.left_out("published", "loops", "quadratic")
    impatient = dataclasses.replace(SETTINGS, longest_call_s=0.0)
    measured = harness.measure(cell_of(out, contender("eager"), contender("ours", "ours")), impatient)
    assert {r["provider"] for r in measured["rows"]} == {"ours"}
    reasons = {o["provider"]: o["reason"] for o in measured["off"]}
    assert reasons["published"] == "quadratic"
    assert "s a call, more than 0 s" in reasons["eager"]


def test_rows_compare_with_the_fastest_of_a_provider_and_the_floor_of_as_many_threads():
    def row(provider, role, ms, threads=2, group=""):
        return {"provider": provider, "role": role, "p50_ms": ms, "threads": threads, "group": group}

    rows = [
        row("ours", "ours", 2.0),
        row("eager", "rival", 9.0),
        row("eager", "rival", 8.0),
        row("eager", "rival", 1.0, group="steady"),
        row("copy", "floor", 1.0),
        row("copy", "floor", 0.5, threads=1),
        row("read", "floor", 1.5),
        row("read", "floor", 1.6),
    ]
    part("results").compare(rows, 10_000_000)
    assert rows[0]["against"] == {"eager": 4.0, "copy": 0.5, "read": 0.75}
    assert (rows[0]["floor"], rows[0]["fraction_of_floor"], rows[0]["gigabytes_per_second"]) == ("copy", 0.5, 5.0)
    assert "times_as_fast" not in rows[4]


def test_memory_of_a_call_is_its_peak_and_what_it_keeps():
    def call():
        kept = torch.ones(16 << 20)
        return kept + torch.ones(8 << 20).sum()  # two of 64 MiB at once, one of them kept; 32 MiB and gone

    call()
    found = part("memory").of_call(call)
    if found is None:
        pytest.skip("this kernel does not say")
    assert abs(found.kept / 2**20 - 64) < 2
    assert abs(found.peak / 2**20 - 128) < 2
    assert found.workspace == found.peak - found.kept


def test_a_comparison_in_slices_finds_a_fault_in_the_last(monkeypatch):
    problem = steps.make_problem((4, 9, 3), 6, True)
    monkeypatch.setattr(part("agreement"), "AT_ONCE", 5)
    right = {name: x.clone() for name, x in problem.expected.outputs.items()}
    assert max(problem.expected.differences("right", right).values()) == 0
    for name in set(right) - {"loss", "spread"}:
        wrong = {**right, name: right[name].clone()}
        wrong[name].view(-1)[-1] += 1
        with pytest.raises(run.DisagreementError, match=f"{name} differs .* by up to 1,"):
            problem.expected.differences("wrong", wrong)


@pytest.mark.parametrize("dtype", [*part("sizes").DTYPES, torch.float32], ids=str)
@pytest.mark.parametrize("copies", [1, 3])
def test_every_dtype_and_copies_of_a_problem_agree(dtype, copies):
    settings = dataclasses.replace(SETTINGS, quick=False)
    step = steps.build_cell("tiny", (4, 1, 9, 3), 6, True, settings, dtype, copies)
    assert step.size["T"] == 17 * copies
    assert step.size["D"] == 4 * copies
    for cell in (step, scores.build_cell("tiny", 50, dtype, settings)):
        compared = [c for c in cell.contenders if c.role != "floor" and not c.skip]
        assert {c.provider for c in compared} >= {"ours", "eager"}
        for c in compared:
            cell.expected.differences(c.form, c.make()(), c.omits)


def test_a_gradient_in_half_precision_is_still_compared():
    problem = steps.make_problem((40, 10), 6, True, torch.float16)
    wrong = dict(problem.expected.outputs)
    wrong["gradient"] = wrong["gradient"] * 1.01
    with pytest.raises(run.DisagreementError, match="gradient differs"):
        problem.expected.differences("wrong", wrong)


def test_a_cell_that_the_machine_cannot_hold_is_left_out_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(part("memory"), "available", lambda: 5)

    def too_large():
        part("sizes").require_memory(6)

    one = partial(cell_of, contender("ours", "ours"))
    module = SimpleNamespace(cells=lambda s: [too_large, one], scaling=lambda T: (lambda: {}, 8 * T))
    monkeypatch.setattr(part("scaling"), "QUICK_SIZES", (100, 200))
    result = json.loads(run.run_one("tiny", module, SETTINGS, tmp_path, lambda _: None).read_text())
    assert [cell["index"] for cell in result["cells"]] == [1]
    assert (result["off"][0]["cell"], "of memory" in result["off"][0]["reason"]) == (0, True)
    assert {(p["T"], p["provider"]) for p in result["scaling"]} == {(100, "ours"), (100, "copy")}  # 200 do not fit


def test_files_of_all_benchmarks_lie_beside_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(part("scaling"), "QUICK_SIZES", (1000, 2000))
    small = {
        "self_paced_step": [partial(steps.build_cell, "tiny, forward", (4, 1, 9, 3), 6, False, SETTINGS)],
        "modality_scores": [partial(scores.build_cell, "T=2e4", 20_000, torch.float32, SETTINGS)],
    }
    for name, module in (("self_paced_step", steps), ("modality_scores", scores)):
        pretended = SimpleNamespace(cells=lambda s, name=name: small[name], scaling=module.scaling)
        run.run_one(name, pretended, SETTINGS, tmp_path, lambda _: None)
    found = part("tables").read_all(tmp_path)
    assert list(found) == ["self_paced_step", "modality_scores"]
    assert {(p["T"], p["provider"], p["threads"]) for p in found["self_paced_step"]["scaling"]} == {
        (T, who, 1) for T in (1000, 2000) for who in ("ours", "copy")
    }
    rows = list(csv.DictReader(part("results").write_csv(tmp_path).read_text().splitlines()))
    assert len(rows) == sum(len(cell["rows"]) for result in found.values() for cell in result["cells"])
    ours = next(row for row in rows if row["provider"] == "ours" and row["benchmark"] == "modality_scores")
    assert float(ours["against eager"]) > 0
    assert float(ours["fraction_of_floor"]) > 0
    for path in part("figures").draw(tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 200_000
    assert {p.name for p in tmp_path.iterdir()} == {
        "self_paced_step.json", "modality_scores.json", "rows.csv", "ratios.png", "scaling.png"
    }  # fmt: skip


def test_labels_of_the_figures_do_not_overlap():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    def ours(**against):
        return {"role": "ours", "provider": "ours", "group": "", "threads": 2, "p50_ms": 1.0, "against": against}

    cells = [
        {"name": f"T=1e{k}, forward and backward", "size": {"T": 10**k}, "screened": [], "rows": [ours(**against)]}
        for k, against in enumerate([{"eager": 5, "compile": 4.9, "published": 6500.0}, {"eager": 31}, {"copy": 0.5}])
    ]
    points = [
        {"T": 10**k, "provider": who, "threads": n, "p50_ms": 10.0 ** (k - 6)}
        for k in range(3, 8)
        for who, n in (("ours", 1), ("ours", 2), ("copy", 2))
    ]
    found = {f"an_op_of_number_{k}": {"cells": cells, "scaling": points} for k in range(3)}
    figures = part("figures")
    for figure in (figures.ratios(found), figures.scaling(found)):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        shown = [t for a in figure.axes if a.axison for t in (a.title, a._left_title, *a.texts, *_ticks(a))]
        shown += [t for legend in figure.legends for t in legend.get_texts()]
        boxes = [(t.get_text(), t.get_window_extent()) for t in shown if t.get_text() and t.get_visible()]
        assert len(boxes) > 20
        clashes = [(a, b) for (a, x), (b, y) in combinations(boxes, 2) if x.overlaps(y)]
        assert clashes == []


def _ticks(axes):
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, sorted(axes.get_ylim()))):
        for tick in axis.get_major_ticks():
            if tick.label1.get_visible() and low <= tick.get_loc() <= high:
                yield tick.label1


def test_ours_stands_in_a_table_at_a_thread_count_of_its_rivals():
    def ours(threads, ms):
        return {"role": "ours", "group": "", "threads": threads, "p50_ms": ms, "against": {"eager": 8, "copy": 0.25}}

    tables = part("tables")
    cell = {
        "name": "T=1e5, forward",
        "size": {"T": 100_000},
        "screened": [{"provider": "eager", "threads": 2}, {"provider": "ours", "threads": 1}],
        "rows": [ours(1, 1.0), ours(2, 2.0)],
    }
    assert [row["threads"] for row in tables.best_of_ours(cell)] == [2]
    row = tables._speed_row("op", cell, *tables.best_of_ours(cell))
    assert row == "| `op` | T = 100,000, forward |  | 16.0 ms |  | 2.0 ms |  | 8.0 x |  | 25 % (copy) |"


def record(**more):
    rows = [{"provider": "eager", "form": "gather"}]
    return {"index": 0, "traffic_bytes": 1, "size": {"T": 10}, "rows": rows} | more


def test_a_child_measures_the_lesser_instruction_set(tmp_path):
    if not torch.cpu._is_avx2_supported():
        pytest.skip("this machine has no avx2")
    sets, cells = part("instruction_sets"), [record(), record(index=1, size={"T": 10, "dtype": "float64"})]
    sets.add_lesser("modality_scores", TWO_THREADS, cells)
    assert "lesser" not in cells[1]
    assert cells[0]["lesser"]["instruction_set"] == "avx2"
    rows = cells[0]["lesser"]["rows"]
    assert {(r["provider"], r["form"]) for r in rows if r["role"] == "rival"} == {("eager", "gather")}
    assert {r["threads"] for r in rows if r["role"] == "ours"} == {1, 2}
    assert all(r["against"]["eager"] > 0 for r in rows if r["role"] == "ours" and r["group"] == "fresh")
    lines = part("results").flat(
        {
            "op": {
                "environment": {"instruction_set": "avx512", "device": "", "versions": {"torch": ""}},
                "cells": [{"name": "tiny", **cells[0], "rows": []}],
            }
        }
    )
    assert {line["instruction_set"] for line in lines} == {"avx2"}


def test_a_child_that_fails_says_why(monkeypatch):
    sets = part("instruction_sets")
    monkeypatch.setattr(sets, "CHILD", "raise SystemExit('no such thing')")
    with pytest.raises(RuntimeError, match="modality_scores with avx2: no such thing"):
        sets.add_lesser("modality_scores", SETTINGS, [record()])


def test_pytest_benchmark_takes_the_same_contenders(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks", "--benchmark-only"),
            *("--op", "modality_scores", "-k", "IEMOCAP_batch and (gather or ours) and 1t", "--benchmark-max-time=0"),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "benchmark 'modality_scores: IEMOCAP batch': 4 tests" in done.stdout
