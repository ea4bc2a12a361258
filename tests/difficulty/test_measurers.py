"""The measurers: each by its formula, through the scheduler, and held to the promises of the protocol."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from spcl_fast import SelfPacedScheduler, difficulty, ops
from spcl_fast.difficulty import (
    BssDifficulty,
    CombinedDifficulty,
    Difficulty,
    ExtendedDifficulty,
    HistoryDifficulty,
    LossDifficulty,
    RandomDifficulty,
    SpclDifficulty,
    SpreadDifficulty,
    TransitionDifficulty,
)
from spcl_fast.difficulty._scaling import NORMALIZE
from spcl_fast.testing import check_measurer, random_inputs

SIMILARITY = torch.tensor([[1.0, 0.5, 0.0, 0.25]] * 4, device="cpu")

MEASURERS: dict[str, Callable[[], Difficulty]] = {
    "spcl": SpclDifficulty,
    "loss": LossDifficulty,
    "spread": SpreadDifficulty,
    "extended": ExtendedDifficulty,
    "dif": TransitionDifficulty,
    "wes": lambda: TransitionDifficulty(SIMILARITY),
    "bss": BssDifficulty,
    "bss running": lambda: BssDifficulty(scale="running", source="prediction"),
    "random": RandomDifficulty,
    "history": lambda: HistoryDifficulty(16),
    "history of confidences": lambda: HistoryDifficulty(16, score="mean_confidence", decay=0.5),
    "sum": lambda: CombinedDifficulty([("spcl", 1.0), ("dif", 0.5), ("loss", 2.0)]),
    "unfused": lambda: CombinedDifficulty([("spcl", 0.5), ("random", 0.5)]),
    "minmax": lambda: CombinedDifficulty([("loss", 1.0), ("spread", 1.0)], normalize="minmax"),
    "rank": lambda: CombinedDifficulty([("loss", 1.0), ("spread", -1.0)], normalize="rank"),
}


@pytest.mark.parametrize("name", MEASURERS)
def test_measurers_keep_their_promises(name):
    check_measurer(MEASURERS[name], device=torch.get_default_device())


@pytest.mark.parametrize("name", MEASURERS)
def test_the_scheduler_selects_by_what_a_measurer_says(name):
    x = random_inputs(device=torch.get_default_device())
    measured = MEASURERS[name]()(x)
    threshold = float(measured.nanmedian())
    scheduler = SelfPacedScheduler(threshold, max_threshold=math.inf, difficulty=MEASURERS[name]())
    step = scheduler(x.logits, x.labels, x.offsets, x.speakers, x.embeddings, ids=x.ids)
    torch.testing.assert_close(step.difficulty, measured, equal_nan=True)
    assert torch.equal(step.weight, (step.difficulty <= threshold).float())
    assert 0 < int(step.totals.selected) < int(step.totals.scored)


def test_fused_measures_are_the_parts_of_spcl():
    x = random_inputs(device=torch.get_default_device())
    step = ops.self_paced_step(x.logits, x.labels, x.offsets, None)
    own = torch.repeat_interleave(step.spread, x.offsets.diff())
    torch.testing.assert_close(LossDifficulty()(x), step.utterance_loss)
    torch.testing.assert_close(SpreadDifficulty()(x), own)
    torch.testing.assert_close(SpclDifficulty()(x), step.difficulty)


def test_dif_and_wes_are_those_of_the_dialogue():
    x = random_inputs(device=torch.get_default_device())
    for similarity in (None, SIMILARITY.to(x.labels.device)):
        of_dialogues = ops.emotion_transitions(x.labels, x.speakers, x.offsets, 4, similarity=similarity).difficulty
        got = TransitionDifficulty(similarity)(x)
        assert torch.equal(got, of_dialogues.repeat_interleave(x.offsets.diff()).to(got.dtype))
    assert float(TransitionDifficulty()(x)[5]) == 0.5  # a dialogue of one utterance


def test_bss_by_hand():
    # Two modalities, three utterances: losses and cosines that can be scaled on paper.
    logits = torch.tensor([[[0.0, 0.0]] * 3, [[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]]])
    embeddings = torch.tensor([[[1.0, 0.0]] * 3, [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    x = random_inputs((3,), num_modalities=2)._replace(
        logits=logits, labels=torch.zeros(3, dtype=torch.int64), offsets=torch.tensor([0, 3]), embeddings=embeddings
    )
    half = math.log(2)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    losses = [0.9 * (half + l) + 0.1 * l for l in (right, half, wrong)]
    scaled = [(l - losses[0]) / (losses[2] - losses[0]) for l in losses]
    expected = [c + l for c, l in zip((0.0, 0.5, 1.0), scaled, strict=True)]
    assert BssDifficulty()(x).tolist() == pytest.approx(expected, abs=1e-6)


def test_bss_adds_losses_of_one_kind():
    """Class weights and smoothing are of the loss that trains; those of the modalities have neither."""
    x = random_inputs(device=torch.get_default_device())
    weighted = x._replace(class_weight=torch.tensor([0.1, 5.0, 1.0, 0.0]), label_smoothing=0.3)
    torch.testing.assert_close(BssDifficulty()(weighted), BssDifficulty()(x))


def test_bss_scales_by_all_it_has_met_when_it_runs():
    x = random_inputs((8,), seed=1)
    first, second = (random_inputs((8,), seed=seed) for seed in (2, 3))
    running = BssDifficulty(scale="running")
    for batch in (first, second):
        running(batch)
    both = first._replace(
        logits=torch.cat([first.logits, second.logits, x.logits], 1),
        labels=torch.cat([first.labels, second.labels, x.labels]),
        offsets=torch.tensor([0, 24]),
        embeddings=torch.cat([first.embeddings, second.embeddings, x.embeddings], 1),
    )
    torch.testing.assert_close(running.eval()(x), BssDifficulty()(both)[16:])
    fresh = BssDifficulty(scale="running").eval()
    fresh(x)
    assert not fresh.loss_range.range.isfinite().any()  # evaluation learns nothing


def test_random_difficulty_depends_on_seed_epoch_and_id_alone():
    x = random_inputs((400,), seed=4)
    measurer = RandomDifficulty(seed=3)
    drawn = measurer(x)
    assert torch.equal(measurer(x), drawn)
    turned = x._replace(ids=x.ids.flip(0))
    assert torch.equal(measurer(turned), drawn.flip(0))
    assert not torch.equal(RandomDifficulty(seed=4)(x), drawn)
    measurer.end_epoch()
    again = measurer(x)
    assert not torch.equal(again, drawn)
    assert abs(float(torch.corrcoef(torch.stack([again, drawn]))[0, 1])) < 0.2
    kept = RandomDifficulty(seed=3, redraw=False)
    kept.end_epoch()
    assert torch.equal(kept(x), drawn)


def test_random_difficulty_is_uniform_and_the_same_everywhere():
    x = random_inputs((2,), seed=4)._replace(ids=torch.tensor([0, 1]))
    # SplitMix64 of what the docstring says, in Python's integers.
    mask = (1 << 64) - 1

    def mix(n: int) -> int:
        n = (n + 0x9E3779B97F4A7C15) & mask
        n = ((n ^ n >> 30) * 0xBF58476D1CE4E5B9) & mask
        n = ((n ^ n >> 27) * 0x94D049BB133111EB) & mask
        return n ^ n >> 31

    expected = [(mix(mix(mix(i)) ^ 7) >> 40) / 2**24 for i in (0, 1)]
    assert RandomDifficulty(seed=7)(x).tolist() == expected
    many = random_inputs((20000,), num_modalities=1)
    drawn = RandomDifficulty()(many)
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    shares = torch.histc(drawn, 10, 0, 1) / 20000
    assert bool(((shares - 0.1).abs() < 0.01).all())


def test_combinations_add_up_and_a_fused_term_changes_nothing():
    x = random_inputs(device=torch.get_default_device())
    parts = {name: difficulty.make(name)(x) for name in ("spcl", "loss", "dif")}
    fused = CombinedDifficulty([("spcl", 1.0), ("loss", 2.0), ("dif", 0.5)])
    assert fused.fused == "spcl"
    torch.testing.assert_close(fused(x), parts["spcl"] + 2 * parts["loss"] + 0.5 * parts["dif"])
    unfused = CombinedDifficulty([("spcl", 0.5), ("loss", -1.0)])
    assert unfused.fused == "none"
    torch.testing.assert_close(unfused(x), 0.5 * parts["spcl"] - parts["loss"])
    inside = CombinedDifficulty([(fused, 1.0), ("dif", 1.0)])
    assert inside.fused == "spcl"
    torch.testing.assert_close(inside(x), fused(x) + parts["dif"])


@pytest.mark.parametrize("how", ["minmax", "zscore", "rank"])
def test_normalised_terms(how):
    x = random_inputs(device=torch.get_default_device())
    x.labels[3] = -100
    loss = LossDifficulty()(x)
    got = CombinedDifficulty([("loss", 1.0)], normalize=how)(x)
    known = ~loss.isnan()
    assert torch.equal(got.isnan(), ~known)
    values, got = loss[known], got[known]
    if how == "minmax":
        expected = (values - values.min()) / (values.max() - values.min())
    elif how == "zscore":
        expected = (values - values.mean()) / values.std(correction=0)
    else:
        expected = values.argsort().argsort() / (len(values) - 1)
    torch.testing.assert_close(got, expected.to(got.dtype))


def test_normalisation_of_what_is_constant_is_nothing():
    x = random_inputs()
    for how in ("minmax", "zscore"):
        same = CombinedDifficulty([(Constant(), 1.0)], normalize=how)(x)
        assert not same.any()


class Constant(Difficulty):
    def forward(self, inputs):
        return torch.full_like(inputs.labels, 3, dtype=torch.float32)


def test_scales_without_a_finite_value_of_equal_values_and_on_any_device():
    inf = math.inf
    minmax, zscore = NORMALIZE["minmax"], NORMALIZE["zscore"]
    assert minmax(torch.tensor([inf, -inf])).tolist() == [1.0, 0.0]
    equal = torch.full((3,), 0.1, dtype=torch.float64)  # their sum over 3 is not 0.1
    assert zscore(equal).tolist() == [0.0, 0.0, 0.0]
    assert zscore(torch.tensor([0.1, 0.1, inf]).double()).tolist() == [0.0, 0.0, inf]
    for scale in (minmax, zscore):  # one object serves all devices
        assert scale(torch.empty(4, device="meta")).device.type == "meta"


def test_one_term_that_cannot_judge_an_utterance_leaves_it_out():
    class Silent(Difficulty):
        def forward(self, inputs):
            return torch.full_like(inputs.labels, math.nan, dtype=torch.float32)

    x = random_inputs()
    assert CombinedDifficulty([("loss", 1.0), (Silent(), 1.0)])(x).isnan().all()


def test_evaluation_needs_no_more_than_the_loss_does():
    x = random_inputs(device=torch.get_default_device())
    for name in ("extended", "dif", "random"):
        scheduler = SelfPacedScheduler(difficulty=name).eval()
        step = scheduler(x.logits, x.labels, x.offsets)
        expected = SelfPacedScheduler().eval()(x.logits, x.labels, x.offsets)
        torch.testing.assert_close(step.loss, expected.loss)
        assert torch.equal(step.weight, expected.weight)
        assert step.difficulty.isnan().all()
        with pytest.raises(ValueError, match="needs"):
            scheduler.train()(x.logits, x.labels, x.offsets)


def test_registry_makes_what_is_registered_and_refuses_the_rest(monkeypatch):
    registry = difficulty.registry._registry
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    assert isinstance(difficulty.make("bss", unimodal=0.5), BssDifficulty)
    assert isinstance(difficulty.make("wes", similarity=SIMILARITY), TransitionDifficulty)
    assert isinstance(difficulty.make("combined", terms=[("loss", 1.0)]), CombinedDifficulty)
    with pytest.raises(ValueError, match=r"difficulty must be one of 'spcl'.* \(got 'easy'\)"):
        difficulty.make("easy")
    with pytest.raises(TypeError, match=r"difficulty: 'history' needs num_utterances \(got the name alone\)"):
        SelfPacedScheduler(difficulty="history")
    with pytest.raises(TypeError, match=r"difficulty: 'combined' needs terms \(got normalize\)"):
        difficulty.make("combined", normalize="rank")
    difficulty.register("constant of this test", Constant)
    assert isinstance(SelfPacedScheduler(difficulty="constant of this test").difficulty, Constant)
    with pytest.raises(ValueError, match="which is taken"):
        difficulty.register("spcl", Constant)
    with pytest.raises(TypeError, match="must be callable"):
        difficulty.register("nothing", 3)
    with pytest.raises(TypeError, match="must be text"):
        difficulty.register(3, Constant)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CombinedDifficulty([]), ValueError, "at least one measurer"),
        (lambda: CombinedDifficulty([(3, 1.0)]), TypeError, r"terms\[0\] must be a Difficulty"),
        (lambda: CombinedDifficulty([("loss", math.inf)]), ValueError, r"weight of terms\[0\] must be finite"),
        (lambda: CombinedDifficulty([("loss", 1.0)], normalize="max"), ValueError, "normalize must be one of"),
        (lambda: BssDifficulty(unimodal=1.5), ValueError, r"unimodal must lie in \[0, 1\]"),
        (lambda: BssDifficulty(scale="epoch"), ValueError, "scale must be one of"),
        (lambda: RandomDifficulty(seed=-1), ValueError, "seed must be at least 0"),
        (lambda: RandomDifficulty(seed=2**63), ValueError, "seed must be at most"),
        (lambda: RandomDifficulty(seed=1.0), TypeError, "seed must be an integer"),
        (lambda: TransitionDifficulty(torch.zeros(2, 3)), ValueError, "similarity must be square"),
        (lambda: TransitionDifficulty(ignored="keep"), ValueError, "ignored must be one of"),
        (lambda: SelfPacedScheduler(difficulty=3), ValueError, "difficulty must be one of"),
    ],
)
def test_settings_out_of_their_domain_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_single_head_needs_neither_dialogues_nor_modalities():
    logits, labels = torch.randn(9, 4, requires_grad=True), torch.randint(4, (9,))
    step = SelfPacedScheduler(1.0, difficulty="loss")(logits, labels)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(step.difficulty, losses.detach())
    torch.testing.assert_close(step.loss, (losses * (losses.detach() <= 1)).mean())
    step.loss.backward()
    assert logits.grad is not None
    empty = SelfPacedScheduler(1.0, difficulty="loss")(logits[:0], labels[:0])
    assert float(empty.loss.detach()) == 0
    with pytest.raises(ValueError, match="labels need offsets"):
        SelfPacedScheduler()(logits[None], labels)
    with pytest.raises(ValueError, match="modalities"):
        SelfPacedScheduler()(logits, labels, torch.tensor([0, 9]))


class Gives(Difficulty):
    """What it is told to give."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, inputs):
        return self.value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "must be a tensor"),
        (1.0, TypeError, "must be a tensor"),
        (torch.ones(16, dtype=torch.int64), TypeError, "must hold floating point numbers"),
        (torch.ones(1), ValueError, r"must have shape \(16,\) \(got \(1,\)\)"),
        (torch.ones(16, 1), ValueError, r"must have 1 dimension\(s\)"),
    ],
)
def test_what_is_no_difficulty_is_refused_in_the_name_of_the_measurer(value, error, message):
    x = random_inputs(device=torch.get_default_device())
    for measurer in (Gives(value), CombinedDifficulty([("loss", 1.0), (Gives(value), 0.5)])):
        for given in (None, torch.ones(16)):
            with pytest.raises(error, match=f"Gives: the difficulty {message}"):
                SelfPacedScheduler(difficulty=measurer)(x.logits, x.labels, x.offsets, extra_difficulty=given)


def test_what_a_measurer_needs_is_asked_for_before_it_is_called():
    class Balance(Difficulty):
        needs = frozenset({"modalities"})

        def require(self, inputs):
            super().require(inputs)
            if inputs.aggregate == "mean":
                raise ValueError("Balance: needs gestures")

        def forward(self, inputs):
            return ops.modality_scores(inputs.logits, inputs.labels).confidence.std(0)

    x = random_inputs(device=torch.get_default_device())
    for measurer in (Balance(), CombinedDifficulty([("loss", 1.0), (Balance(), 0.5)])):
        SelfPacedScheduler(difficulty=measurer)(x.logits, x.labels, x.offsets)
        with pytest.raises(ValueError, match=r"Balance: needs two modalities \(got 1\)"):
            SelfPacedScheduler(difficulty=measurer)(x.logits[0], x.labels)
        with pytest.raises(ValueError, match="Balance: needs gestures"):
            SelfPacedScheduler(difficulty=measurer, aggregate="mean")(x.logits, x.labels, x.offsets)


def test_a_forward_that_the_scheduler_would_not_call_is_refused():
    with pytest.raises(TypeError, match="Twice: forward is not called where `fused` is 'loss'"):

        class Twice(LossDifficulty):
            def forward(self, inputs):
                return 2 * super().forward(inputs)

    class TwiceAll(LossDifficulty):
        fused = "none"

        def forward(self, inputs):
            return 2 * inputs.step("loss").difficulty

    x = random_inputs(device=torch.get_default_device())
    step = SelfPacedScheduler(difficulty=TwiceAll())(x.logits, x.labels, x.offsets)
    torch.testing.assert_close(step.difficulty, 2 * LossDifficulty()(x))


def test_a_factory_that_makes_no_measurer_is_refused(monkeypatch):
    monkeypatch.setattr(difficulty.registry._registry, "_factories", {"linear": lambda: torch.nn.Linear(1, 1)})
    with pytest.raises(TypeError, match=r"the factory of 'linear' must give a Difficulty \(got Linear\)"):
        SelfPacedScheduler(difficulty="linear")


@pytest.mark.parametrize("terms", [["spcl", "loss"], {"spcl": 1.0}, [("loss", 1.0, 2.0)], [SpclDifficulty()]])
def test_terms_that_are_no_pairs_are_refused(terms):
    with pytest.raises(TypeError, match=r"terms\[0\] must be a pair of a measurer and its weight"):
        CombinedDifficulty(terms)
