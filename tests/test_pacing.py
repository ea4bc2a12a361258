"""Paces against values computed by hand, and what holds for all of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast import pacing
from spcl_fast.pacing import (
    ConstantPace,
    ExponentialPace,
    GeometricPace,
    LinearPace,
    LogarithmicPace,
    RootPace,
    StepPace,
)

NAN, INF = float("nan"), float("inf")
GROWING = (LinearPace, RootPace, GeometricPace, ExponentialPace, LogarithmicPace, StepPace)
TWICE = (LinearPace, RootPace, GeometricPace)  # where CurML differs
EXTRA = {StepPace: {"steps": 3}}


def values(pace, epochs):
    return [pace(epoch) for epoch in range(epochs)]


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (LinearPace(start=0.2, total=4), [0.2, 0.4, 0.6, 0.8, 1, 1]),
        (RootPace(start=0.5, total=3), [0.5, math.sqrt(0.5), math.sqrt(0.75), 1, 1]),
        (RootPace(start=0.5, total=7, power=3), [0.5, 0.25 ** (1 / 3), 0.375 ** (1 / 3), 0.5 ** (1 / 3)]),
        (GeometricPace(start=1 / 16, total=4), [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 1]),
        (ExponentialPace(start=0.1, total=2, rate=math.log(9)), [0.1, 0.1 + 0.9 * 2 / 8, 1, 1]),
        (LogarithmicPace(start=0.1, total=2, rate=8), [0.1, 0.1 + 0.9 * math.log(5) / math.log(9), 1, 1]),
        (StepPace(start=0.25, total=6, steps=3), [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]),
        (StepPace(start=0.5, total=49, steps=49), [0.5 + 0.5 * e / 49 for e in range(51)][:49]),
        (ConstantPace(value=0.3), [0.3, 0.3, 0.3]),
        # CurML: the first epoch is e = 1, the exponent 1/2 for every p.
        (LinearPace(start=0.2, total=4, formula="curml"), [0.4, 0.6, 0.8, 1, 1]),
        (LinearPace(start=0, total=4, formula="curml"), [0.25, 0.5, 0.75, 1, 1]),
        (GeometricPace(start=1 / 16, total=4, formula="curml"), [1 / 8, 1 / 4, 1 / 2, 1, 1]),
        (RootPace(start=0.5, total=3, formula="curml"), [math.sqrt(0.5), math.sqrt(0.75), 1, 1]),
        (RootPace(start=0.5, total=7, power=3, formula="curml"), [0.5, math.sqrt(0.375), math.sqrt(0.5)]),
        (RootPace(start=0.04, total=2, power=1, formula="curml"), [math.sqrt(0.52), 1]),
    ],
    ids=lambda value: "" if isinstance(value, list) else repr(value),
)
def test_paces_by_hand(pace, expected):
    assert values(pace, len(expected)) == pytest.approx(expected, rel=1e-14)


def test_defaults_are_those_of_the_papers():
    assert RootPace(total=5) == RootPace(start=0.01, total=5, power=2)
    assert ExponentialPace(start=0.1, total=5).rate == 10
    wu = [1 + 0.1 * math.log(e / 50 + math.exp(-10)) for e in range(1, 51)]
    pace = LogarithmicPace(start=1e-12, total=50)
    assert values(pace, 51)[1:] == pytest.approx(wu, abs=5e-6)


@st.composite
def growing(draw, formulas=("paper",)):
    kind = draw(st.sampled_from(GROWING if formulas == ("paper",) else TWICE))
    chosen = {"start": draw(st.floats(1e-6, 1)), "total": draw(st.integers(1, 400))}
    if kind is RootPace:
        chosen["power"] = draw(st.floats(0.1, 30))
    if kind in (ExponentialPace, LogarithmicPace):
        chosen["rate"] = draw(st.floats(1e-9, 2000))
    if kind is StepPace:
        chosen["steps"] = draw(st.integers(1, 500))
    return kind(**chosen, **({"formula": draw(st.sampled_from(formulas))} if kind in TWICE else {}))


@settings(deadline=None)
@given(growing(), st.integers(0, 10**6))
def test_paces_grow_from_start_to_1_and_stay_there(pace, later):
    assert pace(0) == pace.start
    assert pace(pace.total) == pace(pace.total + later) == 1.0
    got = values(pace, pace.total + 1)
    assert all(type(value) is float and 0 < value <= 1 for value in got)
    assert all(after >= before * (1 - 2**-51) for before, after in itertools.pairwise(got))


@settings(deadline=None)
@given(growing(("curml",)), st.integers(0, 10**6))
def test_paces_of_curml_grow_to_1_one_epoch_earlier(pace, later):
    assert pace(pace.total - 1) == pace(pace.total + later) == 1.0
    got = values(pace, pace.total)
    assert all(type(value) is float and 0 < value <= 1 for value in got)
    assert all(after >= before * (1 - 2**-51) for before, after in itertools.pairwise(got))
    paper = dataclasses.replace(pace, formula="paper")
    if not isinstance(pace, RootPace) or pace.power == 2:
        assert got == pytest.approx(values(paper, pace.total + 1)[1:], rel=1e-12)


@settings(deadline=None)
@given(st.floats(1e-6, 1), st.integers(1, 200))
def test_the_root_of_power_1_is_linear(start, total):
    linear, root = LinearPace(start=start, total=total), RootPace(start=start, total=total, power=1)
    assert values(root, total + 2) == pytest.approx(values(linear, total + 2), rel=1e-14)


def test_extreme_settings_neither_overflow_nor_give_0():
    for pace in (
        ExponentialPace(start=1e-300, total=10, rate=1e300),
        LogarithmicPace(start=1e-300, total=10, rate=1e300),
        RootPace(start=1e-300, total=10, power=1e300),
        RootPace(start=1e-300, total=10, power=1e300, formula="curml"),
        RootPace(start=0.5, total=10, power=1e-300),
        GeometricPace(start=5e-324, total=2**53),
        LinearPace(start=0, total=2**53, formula="curml"),
    ):
        assert all(0 < value <= 1 for value in values(pace, 12))


@pytest.mark.parametrize("kind", [*GROWING, ConstantPace], ids=lambda kind: kind.name)
def test_a_config_makes_the_same_pace_again(kind):
    settings = {"value": 0.5} if kind is ConstantPace else {"start": 0.5, "total": 4} | EXTRA.get(kind, {})
    pace = kind(**settings)
    assert pacing.make(**pace.config) == pace
    assert isinstance(pace, pacing.Pace)
    assert hash(pace) == hash(kind(**settings))
    other = settings | ({"value": 0.25} if kind is ConstantPace else {"total": 5})
    assert kind(**other) != pace
    assert all(type(value) in (str, int, float) for value in pace.config.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        pace.start = 0.1
    with pytest.raises(TypeError, match="positional"):
        kind(*settings.values())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LinearPace(start=0, total=3), ValueError, r"LinearPace: start must be in \(0, 1\] \(got 0.0\)"),
        (lambda: LinearPace(start=NAN, total=3), ValueError, r"start must be in \(0, 1\] \(got nan\)"),
        (lambda: LinearPace(start=-0.1, total=3, formula="curml"), ValueError, r"start must be in \[0, 1\]"),
        (lambda: GeometricPace(start=0, total=3, formula="curml"), ValueError, r"start must be in \(0, 1\]"),
        (lambda: RootPace(start=1.01, total=3), ValueError, "RootPace: start must"),
        (lambda: RootPace(total=0), ValueError, r"RootPace: total must be at least 1 \(got 0\)"),
        (lambda: RootPace(total=2**53 + 1), ValueError, "total must be at most"),
        (lambda: RootPace(total=2.0), TypeError, r"RootPace: total must be an integer \(got float\)"),
        (lambda: RootPace(total=True), TypeError, "total must be an integer"),
        (lambda: RootPace(total=3, power=0), ValueError, "power must be finite and above 0"),
        (lambda: RootPace(total=3, formula="code"), ValueError, "formula must be one of 'paper', 'curml'"),
        (lambda: ExponentialPace(start=0.1, total=3, rate=INF), ValueError, "rate must be finite and above 0"),
        (lambda: LogarithmicPace(start=0.1, total=3, rate=-1), ValueError, "LogarithmicPace: rate must"),
        (lambda: StepPace(start=0.1, total=3, steps=0), ValueError, "steps must be at least 1"),
        (lambda: ConstantPace(value=0), ValueError, r"ConstantPace: value must be in \(0, 1\]"),
        (lambda: ConstantPace(value="all"), TypeError, r"value must be a number \(got str\)"),
        (lambda: ConstantPace(value=True), TypeError, "value must be a number"),
        (lambda: RootPace(total=3)(-1), ValueError, "epoch must be at least 0"),
        (lambda: LinearPace(start=0.1, total=3, formula="curml")(-1), ValueError, "epoch must be at least 0"),
        (lambda: RootPace(total=3)(0.5), TypeError, r"epoch must be an integer \(got float\)"),
        (lambda: ConstantPace(value=1)(None), TypeError, "epoch must be an integer"),
        (lambda: pacing.make("cube", total=3), ValueError, "pace must be one of 'constant', "),
        (lambda: pacing.make("root", total=3, rate=2), TypeError, "rate"),
        (lambda: pacing.register("root", RootPace), ValueError, "which is taken"),
        (lambda: pacing.register(3, RootPace), TypeError, "a name must be text"),
        (lambda: pacing.register("own", 3), TypeError, "must be callable"),
    ],
)
def test_settings_out_of_their_domain_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_pace_of_ones_own_is_made_by_its_name(monkeypatch):
    monkeypatch.setattr(pacing._registry, "_factories", dict(pacing._registry._factories))

    class Late:
        def __init__(self, at):
            self.config = {"pace": "late", "at": at}

        def __call__(self, epoch):
            return 1.0 if epoch >= self.config["at"] else 0.1

    pacing.register("late", Late)
    assert "late" in pacing.names()
    made = pacing.make("late", at=2)
    assert isinstance(made, pacing.Pace)
    assert values(made, 3) == [0.1, 0.1, 1.0]
    assert not isinstance(lambda epoch: 1.0, pacing.Pace)  # it has no config


def test_paces_need_no_torch():
    code = "import sys; from spcl_fast import pacing; pacing.RootPace(total=3)(1); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
