"""`ops.self_paced_step` under every scheme: the weights are those of `self_paced_weights`, and make the loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spcl_fast import ops

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = float("nan"), float("inf")
SCHEMES = {
    "hard": None,
    "linear": None,
    "logistic": None,
    "log": None,
    "mixture": {"lower": 0.3},
    "polynomial": {"degree": 3},
    "spld": {"gamma": 0.5},
    "superloss": {"regularization": 0.6},
    "given": None,
    "curml": {"degree": 1.5, "formula": "curml"},
}


def options_of(scheme):
    return {"scheme": named(scheme), "scheme_parameters": SCHEMES[scheme]}


def named(scheme):
    return "polynomial" if scheme == "curml" else scheme


def weights_of(step, labels, threshold, scheme, parameters):
    parameters = dict(parameters or {})
    if scheme == "spld":
        parameters["groups"] = labels
    return ops.self_paced_weights(step.difficulty, threshold, scheme=named(scheme), **parameters)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_weighs_as_the_weights_do_and_the_gradient_is_weighted(make_problem, scheme, dtype):
    logits, labels, offsets = make_problem(lengths=(7, 1, 0, 12, 40), dtype=dtype)
    labels[3], logits[0, 5, 1] = -100, NAN
    logits.requires_grad_()
    options = options_of(scheme)
    step = ops.self_paced_step(logits, labels, offsets, 0.8, **options)
    v = step.weight
    assert torch.equal(v, weights_of(step, labels, 0.8, scheme, SCHEMES[scheme]))
    assert not v[[3, 5]].any()
    assert 0 < v.sum() < (58 if scheme != "given" else 150)
    assert step.totals.selected == (v > 0).sum()
    torch.testing.assert_close(step.totals.selected_confidence_sum, (step.confidence.double() * v).nansum(1))
    scored = ~step.utterance_loss.isnan()
    for normalizer, norm in (("all", scored.sum()), ("selected", v.sum())):
        step = ops.self_paced_step(logits, labels, offsets, 0.8, normalizer=normalizer, **options)
        loss = F.cross_entropy(logits.nan_to_num().sum(0), labels.clamp(0), reduction="none")
        expected = (v * loss).sum() / norm
        torch.testing.assert_close(step.loss, expected)
        (got,) = torch.autograd.grad(step.loss, logits)
        torch.testing.assert_close(got, torch.autograd.grad(expected, logits)[0].nan_to_num())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_step_without_a_threshold_or_utterances_knows_no_scheme(make_problem, scheme):
    logits, labels, offsets = make_problem()
    options = options_of(scheme)
    assert ops.self_paced_step(logits, labels, offsets, None, **options).weight.all()
    step = ops.self_paced_step(logits[:, :0], labels[:0], offsets[:1], 0.8, **options)
    assert step.loss == 0
    assert step.weight.shape == (0,)


def test_step_ranks_by_class_or_by_dialogue(make_problem):
    logits, labels, offsets = make_problem(lengths=(30, 5, 0, 60))
    by = {"class": labels, "dialogue": torch.arange(4).repeat_interleave(offsets.diff())}
    found = {}
    for name, groups in by.items():
        parameters = {"gamma": 3.0, "groups": name}
        step = ops.self_paced_step(logits, labels, offsets, 0.5, scheme="spld", scheme_parameters=parameters)
        expected = ops.self_paced_weights(step.difficulty, 0.5, scheme="spld", gamma=3.0, groups=groups)
        assert torch.equal(step.weight, expected)
        found[name] = expected
    assert not torch.equal(found["class"], found["dialogue"])
    default = ops.self_paced_step(logits, labels, offsets, 0.5, scheme="spld", scheme_parameters={"gamma": 3.0})
    assert torch.equal(default.weight, found["class"])


def test_weights_ranked_by_dialogue_hang_on_their_own_dialogue_alone(make_problem):
    logits, labels, offsets = make_problem(lengths=(30, 5, 0, 60))
    options = {"scheme": "spld", "scheme_parameters": {"gamma": 3.0, "groups": "dialogue"}}
    whole = ops.self_paced_step(logits, labels, offsets, 0.5, **options).weight
    for d in range(4):
        own = slice(int(offsets[d]), int(offsets[d + 1]))
        alone = ops.self_paced_step(logits[:, own], labels[own], offsets[d : d + 2] - offsets[d], 0.5, **options)
        assert torch.equal(alone.weight, whole[own])


def test_step_ranks_around_what_has_no_difficulty(make_problem):
    """A label that names no class, far away from the others, is no group of its own."""
    logits, labels, offsets = make_problem(lengths=(30, 5))
    labels[[2, 9]] = torch.tensor([2**62, -(2**62)])
    logits[1, 20, 3] = INF
    step = ops.self_paced_step(logits, labels, offsets, 0.3, scheme="spld", scheme_parameters={"gamma": 0.7})
    keep = torch.ones(35, dtype=torch.bool)
    keep[[2, 9, 20]] = False
    expected = ops.self_paced_weights(step.difficulty[keep], 0.3, scheme="spld", gamma=0.7, groups=labels[keep])
    assert torch.equal(step.weight[keep], expected)
    assert not step.weight[~keep].any()
    assert step.totals.bad_label == 2


@pytest.mark.parametrize("level", [1.0, INF, 0.0, -1.0])
@pytest.mark.parametrize("form", [float, pytest.param(torch.tensor, marks=pytest.mark.host_only)])
def test_a_threshold_outside_the_domain_of_log_is_refused(make_problem, level, form):
    with pytest.raises(ValueError, match=r"^self_paced_step: threshold of 'log' must lie in \(0, 1\)"):
        ops.self_paced_step(*make_problem(), form(level), scheme="log")


@pytest.mark.parametrize("scheme", ["log", "mixture", "spld", "superloss", "curml"])  # domains, numbers, groups, a name
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_schemes_compile_whole_and_once(make_problem, scheme):
    def both(z, y, o, threshold):
        options = options_of(scheme)
        step = ops.self_paced_step(z, y, o, threshold, **options)
        return step.loss, step.weight, weights_of(step, y, threshold, scheme, SCHEMES[scheme])

    torch._dynamo.reset()
    compiled = torch.compile(both, fullgraph=True, dynamic=True, backend="aot_eager")
    threshold = torch.tensor(0.8, dtype=torch.float64)
    for lengths in ((7, 1, 12), (5, 30, 2, 9)):
        problem = make_problem(lengths=lengths)
        problem.logits.requires_grad_()
        expected = both(*problem, threshold)
        with torch._dynamo.config.patch(error_on_recompile=lengths[0] == 5):
            got = compiled(*problem, threshold)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b)
        gradients = [torch.autograd.grad(x[0], problem.logits)[0] for x in (got, expected)]
        torch.testing.assert_close(*gradients)
