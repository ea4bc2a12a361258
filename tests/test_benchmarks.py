"""The benchmark suite on tiny inputs: no time is asserted, but wrong contenders are refused and files are whole."""

from __future__ import annotations

import dataclasses
import importlib
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spcl_fast import cli, ops
from spcl_fast.cli import bench as command

load = partial(command.load_benchmarks, Path(__file__).resolve().parents[1])


@pytest.fixture
def suite(monkeypatch):
    """The suite's modules, short of time and without torch.compile, which takes minutes."""
    run = load()
    settings = run.Settings(
        quick=True, threads=1, screen_s=0.0, budget_s=0.0, least_rounds=1, compile=False, lesser=False
    )
    module = lambda name: importlib.import_module(f"{run.__package__}.{name}")  # noqa: E731
    monkeypatch.setattr(module("providers.floors"), "PAST_CACHES", 1 << 16)
    return SimpleNamespace(
        run=run,
        settings=settings,
        steps=module("bench_self_paced_step"),
        scores=module("bench_modality_scores"),
        gradients=module("bench_modality_scores_backward"),
        transitions=module("bench_emotion_transitions"),
        weights=module("bench_self_paced_weights"),
        super_losses=module("bench_super_loss"),
        coherence=module("bench_window_coherence"),
        hardness=module("bench_multiview_hardness"),
        curml=module("bench_curml"),
        schedulers=module("bench_scheduler"),
        running=module("bench_running_scores"),
    )


@pytest.fixture(autouse=True)
def ordinary_algorithms(uninitialised_memory_is_nan):
    """Some of the plain forms have no deterministic algorithm; what is timed is what users run."""
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("backward", [False, True])
def test_providers_agree_and_results_are_whole(suite, tmp_path, backward):
    size = (4, 1, 9, 3), 6, backward
    module = SimpleNamespace(cells=lambda s: [partial(suite.steps.build_cell, "tiny", *size, s)])
    shown = []
    path = suite.run.run_one("tiny", module, suite.settings, tmp_path, shown.append)
    result = json.loads(path.read_text())
    assert (path.name, result["benchmark"], result["quick"]) == ("tiny.json", "tiny", True)
    environment = result["environment"]
    assert {"versions", "build", "device", "threads", "instruction_set", "loadavg"} <= environment.keys()
    assert {"torch", "spcl_fast", "python"} <= environment["versions"].keys()
    (cell,) = result["cells"]
    assert cell["size"] == {"T": 17, "D": 4, "M": 3, "C": 6, "dtype": "float32"}
    assert cell["tolerances"]["loss"]["absolute"] <= 1e-5
    assert cell["off"] == []
    assert all(row["peak_bytes"] is None or row["peak_bytes"] >= row["workspace_bytes"] >= 0 for row in cell["rows"])
    rows = {row["provider"]: row for row in cell["rows"]}
    assert rows.keys() == {"published", "eager", "ours", "scheduler", "no-op"}
    for row in cell["rows"]:
        assert 0 < row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"]
        assert row["threads"] == 1
    assert rows["ours"]["against"].keys() == {"published", "eager", "no-op"}
    assert "overhead_us" in rows["scheduler"]
    assert ("gradient" in rows["ours"]["largest_difference"]) == backward
    assert {s["form"] for s in cell["screened"] if s["provider"] == "eager"} > {"log_softmax, index_add"}
    assert "x strongest rival" in "".join(shown)


def test_every_eager_form_of_the_full_run_agrees(suite):
    settings = dataclasses.replace(suite.settings, quick=False)
    cell = suite.steps.build_cell("tiny", (4, 1, 9, 3), 7, True, settings)
    assert len([c for c in cell.contenders if c.provider == "eager"]) == 24
    for contender in cell.contenders:
        if contender.role != "floor" and not contender.skip:
            cell.expected.differences(contender.form, contender.make()(), contender.omits)


def test_modality_scores_providers_agree_in_both_groups(suite, tmp_path):
    module = SimpleNamespace(cells=lambda s: [partial(suite.scores.build_cell, "tiny", 20_000, torch.float32, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    assert {(r["provider"], r["group"]) for r in cell["rows"]} >= {
        (provider, group) for provider in ("eager", "ours") for group in ("fresh", "steady")
    }
    ours = next(r for r in cell["rows"] if r["provider"] == "ours")
    assert ours["against"].keys() == {"eager", "copy", "read"}
    assert ours["gigabytes_per_second"] > 0


@pytest.mark.parametrize("build", ["build_cell", "build_threshold"])
def test_providers_of_histograms_agree(suite, tmp_path, build):
    benchmark = importlib.import_module(f"{suite.run.__package__}.bench_difficulty_histogram")
    module = SimpleNamespace(cells=lambda s: [partial(getattr(benchmark, build), 51, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    assert {row["provider"] for row in cell["rows"]} >= {"eager", "ours", "read"}
    assert all(set(row["largest_difference"].values()) <= {0.0} for row in cell["rows"])
    values = torch.randn(70)
    expected = ops.difficulty_histogram(values, torch.tensor(0), 0)
    for form in benchmark.EAGER:
        assert torch.equal(form(values), expected), form


@pytest.mark.parametrize(("name", "size"), [("difficulty_quantile", (51,)), ("select_easiest", (51, 5))])
def test_providers_of_order_statistics_agree(suite, tmp_path, name, size):
    benchmark = importlib.import_module(f"{suite.run.__package__}.bench_{name}")
    module = SimpleNamespace(cells=lambda s: [partial(benchmark.build_cell, *size, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    assert {row["provider"] for row in cell["rows"]} >= {"eager", "ours", "read"}
    assert "np.partition" in {screened["form"] for screened in cell["screened"]}
    assert all(set(row["largest_difference"].values()) <= {0.0} for row in cell["rows"])
    forms = benchmark.thresholds if name == "select_easiest" else benchmark.forms
    for values in (torch.randn(50), -torch.rand(51), torch.zeros(9)):
        for rank in (1, 5, len(values)):
            assert torch.equal(forms.bisection(values, rank), values.sort().values[rank - 1])


def test_curriculum_sampler_providers_agree(suite, tmp_path):
    benchmark = importlib.import_module(f"{suite.run.__package__}.bench_curriculum_sampler")
    of = (partial(build, 2000, suite.settings) for build in (benchmark.pool_cell, benchmark.draw_cell))
    module = SimpleNamespace(cells=lambda s: list(of))
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    pool, draw = result["cells"]
    assert {s["form"] for s in pool["screened"] if s["provider"] == "eager"} == set(benchmark.POOLS)
    assert len({s["form"] for s in draw["screened"] if s["provider"] == "eager"}) == 2 * len(benchmark.DRAWS)
    weights = torch.tensor([4.0, 1.0] * 50 + [0.0])
    expected = benchmark.ExpectedDraw(weights, 50)
    right = torch.arange(0, 100, 2)[:36].tolist() + torch.arange(1, 100, 2)[:14].tolist()
    expected.differences("right", {"drawn": torch.tensor(right)})
    for wrong in (right[:49], [*right[:49], right[0]], [*right[:49], 100], list(range(1, 100, 2))):
        with pytest.raises(suite.run.DisagreementError, match=r"^wrong: "):
            expected.differences("wrong", {"drawn": torch.tensor(wrong)})


def test_emotion_transitions_providers_agree(suite, tmp_path):
    module = SimpleNamespace(cells=lambda s: [partial(suite.transitions.build_cell, 30, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    assert {s["provider"] for s in cell["screened"]} == {"published", "eager", "ours", "copy", "read"}
    assert len({s["form"] for s in cell["screened"] if s["provider"] == "eager"}) == 6
    ours = next(r for r in cell["rows"] if r["provider"] == "ours")
    assert ours["against"].keys() == {"published", "eager", "copy", "read"}
    assert ours["largest_difference"]["counts"] == 0


def test_self_paced_weights_providers_agree_in_every_scheme(suite):
    for scheme in suite.weights.SCHEMES:
        cell = suite.weights.build_cell(scheme, 500, suite.settings)
        assert {c.role for c in cell.contenders} == {"rival", "ours", "floor"}
        for contender in cell.contenders:
            if contender.role != "floor":
                cell.expected.differences(contender.form, contender.make()(), contender.omits)
        weight = cell.expected.outputs["weight"]
        assert 0 < weight.sum() < 500


def test_super_loss_providers_agree(suite, tmp_path):
    module = SimpleNamespace(cells=lambda s: [partial(suite.super_losses.build_cell, 3000, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    assert {s["form"] for s in cell["screened"]} >= {"SciPy's lambertw", "halley", "newton", "op", "arrays"}
    ours = [r for r in cell["rows"] if r["provider"] == "ours"]
    assert all(r["against"].keys() == {"published", "eager", "copy"} for r in ours)
    assert all(r["largest_difference"]["weight"] < 5e-4 for r in ours)  # of losses that were rounded to float32


def test_modality_scores_providers_agree_on_the_gradient(suite, tmp_path):
    module = SimpleNamespace(cells=lambda s: [partial(suite.gradients.build_cell, "tiny", 50, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    rows = {row["provider"]: row for row in cell["rows"]}
    assert rows.keys() == {"eager", "ours", "no-op"}
    assert rows["ours"]["note"] == "backend cpu"
    assert "gradient" in rows["ours"]["largest_difference"]
    assert sum(s["provider"] == "eager" for s in cell["screened"]) == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backward", [False, True])
def test_window_coherence_providers_agree(suite, tmp_path, dtype, backward):
    module = SimpleNamespace(cells=lambda s: [partial(suite.coherence.build_cell, 130, dtype, backward, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    ours = next(r for r in cell["rows"] if r["provider"] == "ours")
    assert ours["against"].keys() == {"eager", "read"}
    assert ("gradient" in ours["largest_difference"]) == backward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_multiview_hardness_providers_agree(suite, tmp_path, dtype):
    module = SimpleNamespace(cells=lambda s: [partial(suite.hardness.build_cell, 300, dtype, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    ours = next(r for r in cell["rows"] if r["provider"] == "ours")
    assert ours["against"].keys() == {"published", "eager", "read"}
    missing = int((~suite.hardness.problem(300, dtype).present).sum())
    assert cell["traffic_bytes"] == (12 * 300 - 2 * (900 - missing)) * 256 * dtype.itemsize + 300 * 15


def test_running_scores_providers_agree(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(suite.running, "IN_TURN", 100)
    module = SimpleNamespace(cells=lambda s: [partial(suite.running.build_cell, "tiny", 30, 2000, s)])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    (cell,) = result["cells"]
    assert {row["provider"] for row in cell["rows"]} == {"dictionary", "eager", "ours", "copy"}
    assert {s["form"] for s in cell["screened"] if s["provider"] == "eager"} == {"index, columns", "index, rows"}
    assert all(row["largest_difference"].get("num_forgotten", 0) == 0 for row in cell["rows"])
    assert suite.running.known_batches(30, 2000)[0][0].unique().numel() == 30
    notes = {row["form"]: row["note"] for row in cell["rows"]}
    assert notes["row numbers"] == "24 bytes an utterance"
    assert int(notes["tuples of floats"].split()[0]) > 200


@pytest.mark.parametrize("kind", ["selection", "weights", "epoch", "super_loss"])
def test_curml_providers_agree(suite, tmp_path, kind):
    sizes = {
        "selection": [(51,), (1797,)],
        "weights": [("linear", 52), ("polynomial-3", 51), ("logistic", 1797)],
        "epoch": [("hard", 0.5, 8), ("linear", 0.5, 8)],
        "super_loss": [(51,)],
    }
    build = getattr(suite.curml, f"{kind}_cell")
    module = SimpleNamespace(cells=lambda s: [partial(build, *size, s) for size in sizes[kind]])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    for cell in result["cells"]:
        groups = {r["group"] for r in cell["rows"] if r["role"] != "floor"}
        assert groups == ({"rows", "shuffled"} if kind == "selection" else {""})
        for group in groups:
            rows = {r["provider"] for r in cell["rows"] if r["group"] == group}
            assert {"published", "ours"} <= rows
        assert all("against" in r for r in cell["rows"] if r["role"] == "ours")


@pytest.mark.parametrize("backward", [False, True])
def test_scheduler_providers_agree_in_every_kind(suite, tmp_path, backward):
    kinds = list(suite.schedulers.KINDS)
    build = partial(suite.schedulers.build_cell, "tiny", (4, 1, 9, 3), 6)
    module = SimpleNamespace(cells=lambda s: [partial(build, kind, backward, s) for kind in kinds])
    result = json.loads(suite.run.run_one("tiny", module, suite.settings, tmp_path, lambda _: None).read_text())
    assert [cell["name"].split(", ", 1)[1].rpartition(", ")[0] for cell in result["cells"]] == kinds
    for cell in result["cells"]:
        rows = {row["provider"]: row for row in cell["rows"]}
        assert rows.keys() == {"eager", "ours", "step"}
        assert ("gradient" in rows["ours"]["largest_difference"]) == backward


def test_forms_for_the_compiler_agree_before_they_are_compiled(suite):
    forms, problem = suite.steps.forms, suite.steps.make_problem((4, 1, 9, 3), 6, False)
    for scores in (forms.log_softmax, forms.one_hot, forms.unrolled):
        for sums in (forms.index_add, forms.masked_sum):
            step = forms.step_of(scores, sums, forms.searched)
            problem.expected.differences(scores.__name__, step(*problem[:4]))


@pytest.mark.parametrize("output", ["weight", "difficulty", "gradient"])
def test_a_wrong_provider_is_named_and_nothing_is_shown_or_stored(suite, tmp_path, output):
    def wrong_cell(settings):
        cell = suite.steps.build_cell("tiny", (4, 1, 9, 3), 6, True, settings)
        ours = next(c for c in cell.contenders if c.role == "ours")

        def make():
            call = ours.make()

            def wrong():
                outputs = dict(call())
                value = outputs[output]
                outputs[output] = value + 0.25 if isinstance(value, torch.Tensor) else [g + 0.25 for g in value]
                return outputs

            return wrong

        liar = dataclasses.replace(ours, provider="liar", make=make)
        return dataclasses.replace(cell, contenders=[*cell.contenders, liar])

    module = SimpleNamespace(cells=lambda s: [partial(wrong_cell, s)])
    shown = []
    with pytest.raises(suite.run.DisagreementError, match=rf"^liar .*: {output} differs .* by up to 0\.25"):
        suite.run.run_one("tiny", module, suite.settings, tmp_path, shown.append)
    assert not any("p50" in text for text in shown)
    assert list(tmp_path.iterdir()) == []


def test_nan_and_missing_outputs_do_not_pass(suite):
    expected = suite.steps.make_problem((4, 3), 6, False).expected
    right = dict(expected.outputs)
    expected.differences("right", right)
    for wrong in (
        {**right, "loss": right["loss"] * float("nan")},
        {**right, "spread": right["spread"][:1]},
        {k: v for k, v in right.items() if k != "weight"},
    ):
        with pytest.raises(suite.run.DisagreementError, match=r"^wrong"):
            expected.differences("wrong", wrong)


def test_command_refuses_outside_a_checkout_and_unknown_names(suite, capsys, monkeypatch, tmp_path):
    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as done:
            cli.main(["bench", *arguments])
        assert done.value.code == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert f"no benchmark is named sorting: there are {', '.join(suite.run.names())}" in refused("sorting")
    monkeypatch.setattr(command, "CHECKOUT", tmp_path)
    assert "run this command from a checkout" in refused("--quick")
