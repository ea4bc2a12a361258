"""The self-paced learning of CurML and CurBench, epoch by epoch on digits, beside the same by `formula="curml"`."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spcl_fast import ops
from spcl_fast.cli.bench import load_benchmarks
from spcl_fast.thresholds import threshold_at_pace

pytest.importorskip("sklearn")  # the digits are its own, and Lambert's W is SciPy's
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = load_benchmarks(ROOT).__package__
curml = importlib.import_module(f"{PACKAGE}.providers.curml")
digits = importlib.import_module(f"{PACKAGE}.digits")

pytestmark = pytest.mark.host_only

EPOCHS = 5
SCHEDULES = [("linear", 0.0, 6), ("linear", 0.3, 3), ("geom", 0.05, 5), ("root-2", 0.1, 6), ("root-3", 0.2, 7)]
SOFT = ["linear", "logistic", "polynomial-2", "polynomial-3", "polynomial-4"]


@pytest.fixture(scope="module")
def data():
    return digits.load()


@pytest.fixture(params=SCHEDULES, ids=lambda s: f"{s[0]} from {s[1]}")
def schedule(request):
    return digits.Schedule(*request.param)


@pytest.mark.parametrize("select", ["easiest_by_argsort", "easiest_by_topk"])
def test_hard_selection_is_theirs_in_every_epoch_and_ends_with_the_same_parameters(data, schedule, select):
    theirs, their_model = digits.run(
        digits.theirs("hard", schedule, getattr(curml, select)), data, epochs=EPOCHS, seed=0
    )
    ours, our_model = digits.run(digits.ours("hard", schedule), data, epochs=EPOCHS, seed=0)
    for epoch, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        assert len(a.rows) == int(len(data.y) * curml.pace(*schedule, epoch))
        assert torch.equal(a.rows, b.rows)
    assert len({len(choice.rows) for choice in ours}) > 2  # the pace moves within the run
    for a, b in zip(their_model.parameters(), our_model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("scheme", SOFT)
def test_soft_weights_are_theirs_in_every_epoch(data, schedule, scheme):
    theirs = digits.theirs(scheme, schedule, curml.easiest_by_argsort)
    ours = digits.ours(scheme, schedule)
    seen = []

    def both(loss, epoch):
        choice, same = theirs(loss, epoch), ours(loss, epoch)
        torch.testing.assert_close(same.weights, choice.weights, rtol=0, atol=3e-7)
        exact = [choose(loss.double(), epoch).weights for choose in (theirs, ours)]
        torch.testing.assert_close(*exact, rtol=0, atol=1e-15)
        if scheme != "logistic":  # which gives a weight to all
            assert torch.equal(
                same.weights > 0, loss < threshold_at_pace(loss, schedule.ours()(epoch), formula="curml")
            )
        seen.append(same.weights)
        return same

    digits.run(both, data, epochs=EPOCHS, seed=1)
    assert len(seen) == EPOCHS
    assert all(0 < w.mean() < 1 for w in seen)


def test_logarithmic_weights_are_theirs_below_a_threshold_of_1_where_theirs_are_all_nan(data):
    schedule = digits.Schedule("linear", 0.3, 6)
    theirs = digits.theirs("logarithmic", schedule, curml.easiest_by_argsort)
    ours = digits.ours("logarithmic", schedule)
    domain = []

    def both(loss, epoch):
        level = curml.easiest_by_argsort(loss, curml.pace(*schedule, epoch)).threshold
        domain.append(bool(level < 1))
        if domain[-1]:
            loss = loss.double()
            torch.testing.assert_close(ours(loss, epoch).weights, theirs(loss, epoch).weights, rtol=0, atol=1e-14)
            return ours(loss, epoch)
        assert bool(theirs(loss, epoch).weights.isnan().all())
        with pytest.raises(ValueError, match=r"threshold of 'log' must lie in \(0, 1\)"):
            ours(loss, epoch)
        return digits.Choice(torch.arange(len(loss)), None)

    digits.run(both, data, epochs=EPOCHS, seed=0)
    assert set(domain) == {False, True}


def test_the_papers_formulas_differ_where_theirs_slips(data):
    loss = curml.measured(digits.make_model(0), data.x, data.y, digits.BATCH)
    root = digits.Schedule("root-3", 0.2, 7)
    kept = {f: len(digits.ours("hard", root, f)(loss, 3).rows) for f in ("curml", "paper")}
    N = len(data.y)
    assert kept["curml"] == int(N * (0.008 + 0.992 / 7 * 4) ** 0.5)
    assert kept["paper"] == math.ceil(N * (0.008 + 0.992 / 7 * 3) ** (1 / 3))
    level = threshold_at_pace(loss, 0.5)
    for degree, largest in ((2.0, 1.0), (3.0, 0.5), (4.0, 1 / 3)):
        theirs = ops.self_paced_weights(loss, level, scheme="polynomial", degree=degree, formula="curml")
        paper = ops.self_paced_weights(loss, level, scheme="polynomial", degree=degree)
        assert theirs.max() <= largest
        torch.testing.assert_close(theirs, curml.weights(f"polynomial-{degree:.0f}", loss, level))
        assert torch.allclose(theirs, paper) == (degree == 2)
        assert bool((paper >= theirs - 1e-6).all())


def test_first_rows_are_taken_whatever_their_losses(data):
    schedule = digits.Schedule("linear", 0.3, 6)
    choices, _ = digits.run(digits.theirs("hard", schedule, curml.first_rows), data, epochs=2, seed=0)
    easiest, _ = digits.run(digits.theirs("hard", schedule, curml.easiest_by_argsort), data, epochs=1, seed=0)
    assert torch.equal(choices[1].rows, torch.arange(int(len(data.y) * (0.3 + 0.7 / 6 * 2))))
    assert len(choices[0].rows) == len(easiest[0].rows)
    assert len(set(choices[0].rows.tolist()) & set(easiest[0].rows.tolist())) < 0.8 * len(easiest[0].rows)


def test_measuring_is_the_loss_of_each_sample_whether_a_graph_is_recorded_or_not(data):
    model = digits.make_model(0)
    expected = torch.nn.functional.cross_entropy(model(data.x), data.y, reduction="none").detach()
    for records_graph in (False, True):
        loss = curml.measured(model, data.x, data.y, 100, records_graph=records_graph)
        assert not loss.requires_grad
        torch.testing.assert_close(loss, expected)


def test_the_code_of_the_document_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/curml.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert len(list(names["kept"])) == int(1797 * (0.2**3 + (1 - 0.2**3) / 20 * 4) ** 0.5)
    assert names["weights"].max() <= 1 / 3


def test_in_training_takes_the_losses_of_the_epoch_before(data):
    model, order = digits.make_model(0), torch.Generator().manual_seed(0)
    still = digits.make_optimizer(model, rate=0.0)  # so that the losses of the epoch are those of the model
    curriculum = digits.InTraining(0.25, len(data.y))
    for _ in range(2):
        curriculum.train_epoch(model, still, data, order)
    loss = curml.measured(model, data.x, data.y, digits.BATCH)
    torch.testing.assert_close(curriculum.scheduler.threshold.float(), threshold_at_pace(loss, 0.25))
    assert curriculum.scheduler.epoch == 2
    shares = []
    for _ in range(2):
        for batch in torch.arange(len(data.y)).split(digits.BATCH):
            curriculum.scheduler(model(data.x[batch]), data.y[batch], ids=batch)
        shares.append(curriculum.scheduler.end_epoch().take_rate)
    assert shares == [pytest.approx(0.25, abs=2 / len(data.y))] * 2


@given(st.integers(1, 300), st.data())
def test_threshold_at_pace_takes_the_whole_of_the_product(n, draw):
    values = torch.randperm(n).double()
    pace = draw.draw(st.one_of(st.floats(1 / n, 1), st.integers(1, n).map(lambda k: k / n)))
    pace = min(1.0, max(pace, 1 / n))
    if int(n * pace) == 0:  # 1 / 49 * 49 lies below 1
        pace = math.nextafter(pace, 1)
    threshold = threshold_at_pace(values, pace, formula="curml")
    assert threshold == int(n * pace) - 1
    assert threshold == curml.easiest_by_argsort(values, pace).threshold
    assert threshold == curml.easiest_by_topk(values, pace).threshold
    assert threshold == threshold_at_pace(values, torch.tensor(pace, dtype=torch.float64), formula="curml")
    assert threshold_at_pace(values, pace) == ops.difficulty_quantile(values, pace)


def test_threshold_at_pace_leaves_out_what_has_no_difficulty():
    nan = math.nan
    values = torch.tensor([nan, 0.5, 0.25, nan, 0.75, 0.0], dtype=torch.float16)
    threshold = threshold_at_pace(values, 0.7, formula="curml")
    assert (threshold.dtype, threshold.item()) == (torch.float16, 0.25)  # int(2.8) of four
    for nothing in (torch.full((3,), nan), torch.zeros(0)):
        assert threshold_at_pace(nothing, 0.5, formula="curml").isnan()


def test_threshold_at_pace_in_a_trace_reads_its_pace_when_it_is_used():
    traced = torch.compile(lambda x, pace: threshold_at_pace(x, pace, formula="curml"), fullgraph=True, backend="eager")
    values = torch.tensor([0.5, math.nan, 0.25, 0.75, 0.0])
    for pace, expected in ((0.7, 0.25), (1.0, 0.75), (1.5, 0.75), (0.25, 0.0)):
        assert traced(values, torch.tensor(pace, dtype=torch.float64)) == expected
    for takes_nothing in (0.2, 0.0, math.nan):
        assert traced(values, torch.tensor(takes_nothing, dtype=torch.float64)).isnan()
    assert traced(values * math.nan, torch.tensor(0.5)).isnan()


def test_threshold_at_pace_refuses_what_takes_nothing():
    losses = torch.rand(9)
    with pytest.raises(IndexError):
        curml.easiest_by_argsort(losses, 0.1)
    with pytest.raises(ValueError, match=r"pace must take at least one of 9 by formula 'curml' \(got 0\.1\)"):
        threshold_at_pace(losses, 0.1, formula="curml")
    with pytest.raises(ValueError, match="formula must be one of 'paper', 'curml'"):
        threshold_at_pace(losses, 0.1, formula="code")
    with pytest.raises(ValueError, match=r"threshold_at_pace: pace must be in \(0, 1\]"):
        threshold_at_pace(losses, 0.0, formula="curml")
    with pytest.raises(TypeError, match="threshold_at_pace: difficulty must hold floating point numbers"):
        threshold_at_pace(torch.arange(3), 0.5, formula="curml")


def test_super_loss_of_scipy_is_that_of_the_op():
    tau = math.log(10)
    loss = torch.cat([torch.rand(50), 6 * torch.rand(50)]).requires_grad_()
    theirs, sigma = curml.SuperLoss(tau, 1.0, keeps="curbench")(loss)
    value, weight = ops.super_loss(loss, tau, regularization=1.0)
    assert (sigma > 2.7).sum() > 50  # the easiest have all the confidence there is
    torch.testing.assert_close(weight, sigma.float(), rtol=0, atol=5e-6)  # theirs stops 1e-12 above the branch point
    torch.testing.assert_close(value.mean(), theirs.float())
    grads = [torch.autograd.grad(total, loss)[0] for total in (theirs, value.mean())]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-7)
    hard = (loss.detach() - tau > -2 / math.e + 1e-6).nonzero().squeeze(-1)  # CurML's own may be NaN for the others
    _, sigma = curml.SuperLoss(tau, 1.0, keeps="curml")(loss.detach()[hard])
    torch.testing.assert_close(weight[hard], sigma.float(), rtol=1e-6, atol=1e-6)


def test_the_two_super_losses_keep_opposite_shares_of_their_mean():
    loss = torch.tensor([1.0, 3.0])
    moved = {keeps: curml.SuperLoss(0.0, 1.0, 0.9, keeps) for keeps in ("curml", "curbench")}
    for super_loss in moved.values():
        super_loss(loss)
    assert {keeps: pytest.approx(m.tau) for keeps, m in moved.items()} == {"curml": 1.8, "curbench": 0.2}
