"""A step never makes the host wait for the GPU, and after a warm-up it asks the driver for no memory."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist

from spcl_fast import DialogueBatch, SelfPacedScheduler, ops
from spcl_fast.difficulty import CombinedDifficulty, ExtendedDifficulty, HistoryDifficulty
from spcl_fast.thresholds import QuantileThreshold, RunningMeanThreshold

C = 6


def leaves(logits: torch.Tensor) -> list[torch.Tensor]:
    return [z.clone().requires_grad_() for z in logits]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("normalizer", ["all", "selected"])
@pytest.mark.parametrize("measure", ["spcl", "loss", "none"])
def test_a_step_and_its_backward_pass(make_problem, without_waiting, every_backend, measure, normalizer, dtype) -> None:
    logits, labels, offsets = make_problem(dtype=dtype)
    z, threshold = leaves(logits), torch.tensor(0.8, dtype=torch.float64)
    options = {
        "class_weight": torch.rand(C),
        "present": torch.rand(3, 24) < 0.9,
        "extra_difficulty": torch.rand(24),
        "label_smoothing": 0.1,
        "scheme": "linear",
        "measure": measure,
    }

    def run() -> None:
        for level in (threshold, 0.8, None):
            step = ops.self_paced_step(
                z, labels, offsets, level, normalizer=normalizer, backend=every_backend, **options
            )
            (2 * step.loss).backward()
            _ = step.totals.weight_sum, step.totals.scored

    without_waiting(run)


def test_the_ranks_of_spld(make_problem, without_waiting) -> None:
    logits, labels, offsets = make_problem(dtype=torch.float32)
    z = leaves(logits)
    options = {"scheme": "spld", "scheme_parameters": {"gamma": 0.5}}
    without_waiting(lambda: ops.self_paced_step(z, labels, offsets, 0.8, **options).loss.backward())


def test_every_other_op(make_problem, without_waiting, every_backend, monkeypatch) -> None:
    monkeypatch.setenv("SPCL_FAST_BACKEND", every_backend)
    logits, labels, offsets = make_problem(dtype=torch.float32)
    z = leaves(logits)
    speakers, rho, losses = labels % 2, torch.rand(1000), torch.rand(1000, requires_grad=True)
    level, prefix, ids = torch.tensor(0.5), torch.tensor(0), torch.randperm(1000)  # made here: making them waits

    def run() -> None:
        scores = ops.modality_scores(z, labels)
        (scores.loss.sum() + scores.margin.sum()).backward()
        ops.window_coherence(z, offsets).nansum().backward()
        with torch.no_grad():
            again = ops.modality_scores(z, labels)
            ops.modality_scores(z, labels, out=again)
            ops.window_coherence(z, offsets, out=torch.empty(24))
        ops.modality_spread(again.confidence, offsets)
        ops.emotion_transitions(labels, speakers, offsets, C, by="speaker")
        for pace in (0.3, level):
            ops.difficulty_quantile(rho, pace)
            ops.select_easiest(rho, pace)
            ops.select_easiest(rho, pace, ids=ids)
        ops.difficulty_histogram(rho, prefix, 0)
        for scheme, parameters in (("hard", {}), ("log", {}), ("polynomial", {"degree": 2.0}), ("given", {})):
            ops.self_paced_weights(rho, level, scheme=scheme, **parameters)
        ops.super_loss(losses, level, regularization=1.0).value.sum().backward()

    without_waiting(run)


def test_selections_over_the_processes_of_a_group(without_waiting, every_backend, monkeypatch) -> None:
    """A group of one; the first sum, in the warm-up, sets up what sends."""
    if not dist.is_nccl_available():
        pytest.skip("this torch has no NCCL")
    monkeypatch.setenv("SPCL_FAST_BACKEND", every_backend)
    rho, pace, ids = (torch.rand(1000) * 50).round(), torch.tensor(0.3, dtype=torch.float64), torch.randperm(1000)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        found = without_waiting(
            lambda: (
                ops.difficulty_quantile(rho, pace, process_group=dist.group.WORLD),
                ops.select_easiest(rho, pace, process_group=dist.group.WORLD),
                ops.select_easiest(rho, pace, process_group=dist.group.WORLD, ids=ids),
            )
        )
    finally:
        dist.destroy_process_group()
    assert found[0] == ops.difficulty_quantile(rho, 0.3)
    assert torch.equal(found[1], ops.select_easiest(rho, 0.3))
    assert torch.equal(found[2], ops.select_easiest(rho, 0.3, ids=ids))


@pytest.mark.parametrize("weighting", ["hard", "mixture"])
def test_the_scheduler_with_every_term(make_problem, without_waiting, every_backend, weighting) -> None:
    logits, labels, offsets = make_problem(dtype=torch.float32)
    difficulty = ExtendedDifficulty(
        surprisal=0.5, similarity=torch.eye(C), transition_counts=torch.ones(C, C, dtype=torch.int64)
    )
    scheduler = SelfPacedScheduler(
        difficulty=difficulty,
        weighting=weighting,
        weighting_parameters={"lower": 0.2} if weighting == "mixture" else None,
        class_weight=torch.rand(C),
        backend=every_backend if every_backend == "reference" else None,
    )
    z, embeddings, speakers = leaves(logits), torch.randn(3, 24, 32), labels % 2

    def run() -> None:
        scheduler(z, labels, offsets, speakers, embeddings).loss.backward()

    without_waiting(run)
    assert scheduler.check().steps == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"difficulty": "loss"},
        {"difficulty": "bss"},
        {"difficulty": "random"},
        {"difficulty": HistoryDifficulty(24)},
        {"difficulty": HistoryDifficulty(24, keys=torch.arange(24), score="forgetting")},
        {"difficulty": CombinedDifficulty([("loss", 1.0), ("dif", 0.5)], normalize="minmax")},
        {"threshold": QuantileThreshold(0.5)},
        {"threshold": QuantileThreshold(0.5), "weighting": "linear"},
        {"threshold": QuantileThreshold(0.5, over="epoch", num_utterances=24)},
        {
            "threshold": RunningMeanThreshold(1.0),
            "difficulty": "loss",
            "weighting": "superloss",
            "weighting_parameters": {"regularization": 1.0},
        },
        {"weighting": lambda difficulty, threshold: torch.exp(-difficulty / threshold)},
    ],
    ids=["loss", "bss", "random", "history", "keys", "combined", "quantile", "soft", "epoch", "superloss", "function"],
)
def test_the_scheduler_with_any_part(make_problem, without_waiting, settings) -> None:
    logits, labels, offsets = make_problem(dtype=torch.float32)
    scheduler = SelfPacedScheduler(**copy.deepcopy(settings)).to(labels.device)
    z, embeddings, speakers, ids = leaves(logits), torch.randn(3, 24, 32), labels % 2, torch.arange(24)

    def run() -> None:
        scheduler(z, labels, offsets, speakers, embeddings, ids=ids).loss.backward()

    without_waiting(run)
    assert scheduler.check().steps == 2


def test_a_batch_moved_from_the_host(make_problem, without_waiting) -> None:
    """Padded and flat: what has to be known on the host goes along."""
    logits, labels, offsets = make_problem(lengths=(4, 2, 5), dtype=torch.float32)
    here = torch.get_default_device()
    flat = DialogueBatch.from_arrays(labels.cpu(), offsets.cpu())
    scheduler = SelfPacedScheduler()

    def run() -> None:
        batch = flat.pin_memory().to(here, non_blocking=True)
        padded = torch.stack([batch.pad(z) for z in logits])
        batch.pad(scheduler(padded, batch).weight)

    without_waiting(run)


def test_no_memory_is_asked_for_after_the_warm_up(make_problem, kernels) -> None:
    problems = [make_problem(lengths=(60,) * 16, dtype=torch.float32, seed=seed) for seed in range(3)]
    z = leaves(problems[0].logits)

    def run(k: int) -> None:
        _, labels, offsets = problems[k % 3]
        for leaf in z:
            leaf.grad = None
        ops.self_paced_step(z, labels, offsets, 0.8, backend=kernels).loss.backward()

    for k in range(3):
        run(k)
    before = torch.cuda.memory_stats()
    for k in range(50):
        run(k)
    after = torch.cuda.memory_stats()
    for name in ("num_device_alloc", "num_alloc_retries", "reserved_bytes.all.current"):
        assert after[name] == before[name], name
