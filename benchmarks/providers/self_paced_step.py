"""`self_paced_step` in plain PyTorch: every way to score with every way to sum over dialogues.

The forms do less than the op: no faults, no totals, no options. They do take ragged offsets, as the op does. They
take the logits stacked, which suits them best: the gradient of `z.sum(0)` is then an expanded view that nobody writes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# logits, labels -> utterance loss [T] (with a gradient), confidence [M, T] (without)
Scores = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# confidence, dialogue of every utterance, offsets -> sums [M, D]
Sums = Callable[[Tensor, Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor, Tensor, float], dict[str, Tensor]]


def step_of(scores: Scores, sums: Sums, dialogue_of: Callable[[Tensor, int], Tensor]) -> Step:
    """The whole step, from logits to loss."""

    def step(logits: Tensor, labels: Tensor, offsets: Tensor, threshold: float) -> dict[str, Tensor]:
        loss, confidence = scores(logits, labels)
        with torch.no_grad():
            dialogue = dialogue_of(offsets, labels.shape[0])
            spread = sums(confidence, dialogue, offsets).std(0)
            s = spread[dialogue]
            difficulty = 2 * s * loss / (s + loss)
            weight = (difficulty <= threshold).to(loss.dtype)
        return {
            "loss": (weight * loss).mean(),
            "weight": weight,
            "difficulty": difficulty,
            "utterance_loss": loss.detach(),
            "confidence": confidence,
            "spread": spread,
        }

    return step


def exact(step: Step) -> Step:
    """The step on half precision in float32, as the op computes it: in half precision it is not near the reference."""

    def upcast(logits: Tensor, labels: Tensor, offsets: Tensor, threshold: float) -> dict[str, Tensor]:
        half = logits.dtype in (torch.float16, torch.bfloat16)
        return step(logits.float() if half else logits, labels, offsets, threshold)

    return upcast


def log_softmax(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    index = y[:, None]
    loss = -torch.log_softmax(z.sum(0), -1).gather(-1, index).squeeze(-1)
    with torch.no_grad():
        p = torch.softmax(z, -1).gather(-1, index.expand(z.shape[0], -1, 1)).squeeze(-1)
    return loss, p


def cross_entropy(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    loss = F.cross_entropy(z.sum(0), y, reduction="none")
    with torch.no_grad():
        nll = F.cross_entropy(z.flatten(0, 1), y.repeat(z.shape[0]), reduction="none")
        p = nll.neg_().exp_().view(z.shape[:-1])
    return loss, p


def logsumexp(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    J, index = z.sum(0), y[:, None]
    loss = J.logsumexp(-1) - J.gather(-1, index).squeeze(-1)
    with torch.no_grad():
        of_label = z.gather(-1, index.expand(z.shape[0], -1, 1)).squeeze(-1)
        p = (of_label - z.logsumexp(-1)).exp()
    return loss, p


def one_hot(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    own = y[:, None] == torch.arange(z.shape[-1], device=z.device)
    loss = -torch.where(own, torch.log_softmax(z.sum(0), -1), 0.0).sum(-1)
    with torch.no_grad():
        p = torch.where(own, torch.softmax(z, -1), 0.0).sum(-1)
    return loss, p


def unrolled(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Column by column, with no reduction that a compiler would have to vectorise over six classes."""

    def log_p(columns: tuple[Tensor, ...]) -> Tensor:
        top, own, total = columns[0], columns[0], torch.zeros_like(columns[0])
        for c in range(1, len(columns)):
            top = torch.maximum(top, columns[c])
            own = torch.where(y == c, columns[c], own)
        top = top.detach()
        for column in columns:
            total = total + (column - top).exp()
        return own - top - total.log()

    loss = -log_p(z.sum(0).unbind(-1))
    with torch.no_grad():
        p = log_p(z.unbind(-1)).exp()
    return loss, p


def index_add(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    return p.new_zeros(p.shape[0], offsets.shape[0] - 1).index_add_(1, dialogue, p)


def scatter_add(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    return p.new_zeros(p.shape[0], offsets.shape[0] - 1).scatter_add_(1, dialogue.expand_as(p), p)


def segment_reduce(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    return torch.segment_reduce(p.t().contiguous(), "sum", offsets=offsets, axis=0, unsafe=True).t()


def embedding_bag(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    rows = torch.arange(p.shape[1], device=p.device)
    return F.embedding_bag(rows, p.t().contiguous(), offsets[:-1], mode="sum").t()


def cumsum(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    total = F.pad(p.cumsum(1, dtype=torch.float64), (1, 0))  # float32 would lose the last dialogues
    return total[:, offsets].diff(dim=1).to(p.dtype)


def bincount(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    D = offsets.shape[0] - 1
    return torch.stack([torch.bincount(dialogue, x, minlength=D) for x in p])


def padded(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    """The layout of the published models: dialogues as rows, as long as the longest."""
    D, longest = offsets.shape[0] - 1, int(offsets.diff().max())
    position = torch.arange(p.shape[1], device=p.device) - offsets[dialogue]
    return (
        p.new_zeros(p.shape[0], D * longest)
        .index_copy_(1, dialogue * longest + position, p)
        .view(-1, D, longest)
        .sum(-1)
    )


def membership(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    """A matrix product with the [T, D] indicator: for small batches."""
    return p @ (dialogue[:, None] == torch.arange(offsets.shape[0] - 1, device=p.device)).to(p.dtype)


def masked_sum(p: Tensor, dialogue: Tensor, offsets: Tensor) -> Tensor:
    """The same without the product, for a compiler to fuse."""
    own = dialogue == torch.arange(offsets.shape[0] - 1, device=p.device)[:, None]
    return torch.where(own, p[:, None], 0.0).sum(-1)


def repeated(offsets: Tensor, T: int) -> Tensor:
    """The dialogue of every utterance."""
    return torch.repeat_interleave(offsets.diff(), output_size=T)


def searched(offsets: Tensor, T: int) -> Tensor:
    """The same in one kernel that a compiler can take in."""
    return torch.bucketize(torch.arange(T, device=offsets.device), offsets[1:], right=True)


SCORES: dict[str, Scores] = {f.__name__: f for f in (log_softmax, cross_entropy, logsumexp)}
SUMS: dict[str, Sums] = {
    f.__name__: f for f in (index_add, scatter_add, segment_reduce, embedding_bag, cumsum, bincount, padded, membership)
}
