"""modality_scores on the CPU beside the best plain PyTorch, in one run, at the sizes of one corpus and of many.

Steady: outputs reused. Fresh: outputs allocated by every call, page faults included. No contender is timed
before its scores agree with float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from spcl_fast import backends, reference

M, C = 3, 7
Scores = Sequence[Tensor]


def eager(logits: Tensor, labels: Tensor) -> Scores:
    """The fewest passes found: one log_softmax and one exp, gathers for the label, amax for its best rival."""
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    index = labels.expand(logits.shape[:-1])[..., None]
    confidence = p.gather(-1, index).squeeze(-1)
    loss = log_p.gather(-1, index).squeeze(-1).neg_()
    entropy = log_p.mul_(p).sum(-1).neg_()
    margin = confidence - p.scatter_(-1, index, -1.0).amax(-1)
    return loss, confidence, entropy, margin


def steady_eager(logits: Tensor, labels: Tensor) -> Callable[[], Scores]:
    """The same with every intermediate and output in memory that an earlier call touched."""
    log_p, p = torch.empty_like(logits), torch.empty_like(logits)
    index = labels.expand(logits.shape[:-1])[..., None].contiguous()
    column = torch.empty(*logits.shape[:-1], 1)
    loss, confidence, entropy, margin = (torch.empty(logits.shape[:-1]) for _ in range(4))

    def call() -> Scores:
        torch._log_softmax(logits, -1, False, out=log_p)
        torch.exp(log_p, out=p)
        torch.gather(log_p, -1, index, out=column)
        torch.neg(column.squeeze(-1), out=loss)
        torch.gather(p, -1, index, out=column)
        confidence.copy_(column.squeeze(-1))
        torch.sum(log_p.mul_(p), -1, out=entropy).neg_()
        torch.amax(p.scatter_(-1, index, -1.0), -1, out=margin)
        torch.sub(confidence, margin, out=margin)
        return loss, confidence, entropy, margin

    return call


def steady_native(logits: Tensor, labels: Tensor) -> Callable[[], Scores]:
    out = [torch.empty(logits.shape[:-1]) for _ in range(4)]

    def call() -> Scores:
        torch.ops.spcl_fast.modality_scores_out([logits], labels, None, -100, *out)
        return out

    return call


CONTENDERS: dict[str, Callable[[Tensor, Tensor], Callable[[], Scores]]] = {
    "eager-fresh": lambda z, y: lambda: eager(z, y),
    "eager-steady": steady_eager,
    "cpu-fresh": lambda z, y: lambda: torch.ops.spcl_fast.modality_scores([z], y, None, -100),
    "cpu-steady": steady_native,
}


@pytest.mark.parametrize("T", [100_000, 1_000_000])
@pytest.mark.parametrize("contender", CONTENDERS)
def bench_modality_scores(benchmark, contender: str, T: int) -> None:
    if backends.why_not("cpu"):
        pytest.skip(f"the library is off: {backends.why_not('cpu')}")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(M, T, C, generator=generator)
    labels = torch.randint(C, (T,), generator=generator)
    call = CONTENDERS[contender](logits, labels)
    for got, expected in zip(call(), reference.modality_scores(logits.double(), labels), strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=3e-6, atol=3e-6)
    benchmark.group = f"modality_scores M={M} C={C} T={T}"
    benchmark.extra_info.update(
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        instruction_set=torch.ops.spcl_fast.instruction_set(),
    )
    benchmark.pedantic(call, rounds=30, warmup_rounds=5)
