"""Element numbers past 2^31, and more utterances than float32 can count."""

from __future__ import annotations

import pytest
import torch

from spcl_fast import ops

GIB = 2**30
TAIL = 200  # utterances of the last dialogue, which alone is looked at


def need(gib: float) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    if free < gib * GIB:
        pytest.skip(f"needs {gib} GiB of free GPU memory (got {free / GIB:.0f})")


@pytest.fixture(autouse=True)
def memory_is_given_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    yield
    torch.cuda.empty_cache()


def rows(M: int, T: int, C: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Zeros but for the last dialogue, in float16."""
    logits = torch.zeros(M, T, C, dtype=torch.float16)
    logits[:, -TAIL:] = torch.randn(M, TAIL, C).half()
    labels = torch.zeros(T, dtype=torch.int64)
    labels[-TAIL:] = torch.randint(C, (TAIL,))
    middle = torch.arange(0, T - TAIL, 500)
    return logits, labels, torch.cat([middle, torch.tensor([T - TAIL, T])])


def test_scores_past_two_to_the_31_elements(kernels) -> None:
    need(16)
    logits, labels, _ = rows(2, 2**27 + 301, 8)
    assert logits.numel() > 2**31
    got = ops.modality_scores(logits, labels, backend=kernels)
    want = ops.modality_scores(logits[:, -TAIL:].clone(), labels[-TAIL:], backend=kernels)
    for name, value in want._asdict().items():
        assert torch.equal(getattr(got, name)[:, -TAIL:], value), name
    torch.testing.assert_close(got.loss[:, :1000], torch.full((2, 1000), 8.0).log())


def test_coherence_past_two_to_the_31_elements(kernels) -> None:
    need(16)
    embeddings, _, offsets = rows(2, 2**22 + 301, 256)
    assert embeddings.numel() > 2**31
    got = ops.window_coherence(embeddings, offsets, backend=kernels)
    small = embeddings[:, -TAIL:].clone()
    assert torch.equal(got[-TAIL:], ops.window_coherence(small, torch.tensor([0, TAIL]), backend=kernels))
    assert got[:-TAIL].isnan().all()


def test_a_step_whose_gradient_is_past_two_to_the_31_elements(kernels) -> None:
    need(60)
    logits, labels, offsets = rows(2, 2**28 + 301, 8)
    logits.requires_grad_()
    step = ops.self_paced_step(logits, labels, offsets, 0.8, backend=kernels)
    (gradient,) = torch.autograd.grad(step.loss * logits.shape[1], logits)
    small = logits.detach()[:, -TAIL:].clone().requires_grad_()
    alone = ops.self_paced_step(small, labels[-TAIL:], torch.tensor([0, TAIL]), 0.8, backend=kernels)
    (wanted,) = torch.autograd.grad(alone.loss * TAIL, small)
    assert torch.equal(step.difficulty[-TAIL:], alone.difficulty)
    assert torch.equal(step.weight[-TAIL:], alone.weight)
    torch.testing.assert_close(gradient[:, -TAIL:], wanted, rtol=2e-3, atol=1e-6)
    assert wanted.any()
    assert step.totals.scored == logits.shape[1]


def test_more_utterances_than_float32_counts(kernels) -> None:
    need(4)
    logits, labels, offsets = rows(2, 2**24 + 3, 2)
    for threshold in (None, float("inf")):
        totals = ops.self_paced_step(logits, labels, offsets, threshold, backend=kernels).totals
        assert totals.counts[1:3].tolist() == [2**24 + 3] * 2
        assert float(totals.weight_sum) == 2**24 + 3
