"""CUDA graphs, repeats and streams: the same bits whichever way a step is run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast.ops import SelfPacedStep


def flat(step: SelfPacedStep) -> list[Tensor]:
    return [step.loss.detach(), *step[1:6], *step.totals]


def same_bits(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a.nan_to_num(nan=-7.0), b.nan_to_num(nan=-7.0)) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("lengths", [(60,) * 16, (7, 1, 0, 3000, 4)], ids=["sixteen", "ragged"])
@pytest.mark.parametrize("normalizer", ["all", "selected"])
def test_a_graph_of_a_step_replays_on_new_values(make_problem, kernels, lengths, normalizer) -> None:
    problem = make_problem(lengths=lengths, dtype=torch.float32)
    z, labels, offsets = problem.logits.clone().requires_grad_(), problem.labels.clone(), problem.offsets
    threshold = torch.tensor(0.8, dtype=torch.float64)

    def run(z: Tensor, labels: Tensor, threshold: Tensor) -> list[Tensor]:
        step = ops.self_paced_step(z, labels, offsets, threshold, normalizer=normalizer, backend=kernels)
        return [*flat(step), *torch.autograd.grad(step.loss, z)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(z, labels, threshold)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(z, labels, threshold)
    for seed, level in ((1, 0.8), (2, 0.3), (3, float("inf"))):
        new = make_problem(lengths=lengths, dtype=torch.float32, seed=seed)
        with torch.no_grad():
            z.copy_(new.logits)
            labels.copy_(new.labels)
            threshold.fill_(level)
        graph.replay()
        expected = run(new.logits.clone().requires_grad_(), new.labels, threshold.clone())
        assert same_bits(captured, expected), (seed, level)
        assert expected[-1].any()


@pytest.mark.parametrize("T", [1000, 100_000])
def test_a_graph_of_a_selection_replays_at_another_pace(every_backend, monkeypatch, T) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", every_backend)
    rho, pace = (torch.rand(T) * 50).round(), torch.tensor(0.3, dtype=torch.float64)

    def run(pace: Tensor | float) -> list[Tensor]:
        return [ops.difficulty_quantile(rho, pace), ops.select_easiest(rho, pace)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run(pace)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(pace)
    for level in (0.1, 0.77, 1.0):
        pace.fill_(level)
        graph.replay()
        assert same_bits(captured, run(level)), level


@pytest.mark.parametrize("lengths", [(60,) * 16, (7, 1, 0, 30_000, 4)], ids=["sixteen", "ragged"])
def test_a_hundred_repeats_give_the_same_bits(make_problem, kernels, lengths) -> None:
    logits, labels, offsets = make_problem(lengths=lengths, dtype=torch.float32)
    logits.requires_grad_()

    def run() -> list[Tensor]:
        step = ops.self_paced_step(logits, labels, offsets, 0.8, scheme="linear", backend=kernels)
        scores = ops.modality_scores(logits, labels, backend=kernels)
        coherence = ops.window_coherence(logits, offsets, source="prediction", backend=kernels)
        total = step.loss + scores.entropy.sum() + coherence.nansum()
        return [*flat(step), *(x.detach() for x in scores), coherence.detach(), *torch.autograd.grad(total, logits)]

    first = run()
    for repeat in range(100):
        assert same_bits(run(), first), repeat


def test_a_step_runs_on_the_current_stream(make_problem, kernels) -> None:
    """Its inputs are written late on that stream, where a launch on another one would read what was there before."""
    problem = make_problem(lengths=(60,) * 16, dtype=torch.float32)
    expected = flat(ops.self_paced_step(*problem, 0.8, backend=kernels))
    late = torch.zeros_like(problem.logits)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(problem.logits)
        z = late.requires_grad_()
        step = ops.self_paced_step(z, problem.labels, problem.offsets, 0.8, backend=kernels)
        (gradient,) = torch.autograd.grad(step.loss, z)
    side.synchronize()
    assert same_bits(flat(step), expected)
    z = problem.logits.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(ops.self_paced_step(z, *problem[1:], 0.8, backend=kernels).loss, z)
    assert torch.equal(gradient, wanted)
