"""`modality_scores` in plain PyTorch: loss, confidence, entropy and margin of every modality and utterance.

The forms do less than the op: no ignored labels, no faults, no missing modalities, no -inf logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Scores = dict[str, Tensor]
OUTPUTS = ("loss", "confidence", "entropy", "margin")


def exact(z: Tensor) -> Tensor:
    """What a form must be given to come near the reference: half precision in float32, as the op computes it."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def _index(z: Tensor, y: Tensor) -> Tensor:
    return y.expand(z.shape[:-1])[..., None]


def gather(z: Tensor, y: Tensor) -> Scores:
    """The fewest passes found: one log_softmax and one exp, gathers for the label, amax for its best rival."""
    log_p = torch.log_softmax(z, -1)
    p = log_p.exp()
    index = _index(z, y)
    confidence = p.gather(-1, index).squeeze(-1)
    loss = log_p.gather(-1, index).squeeze(-1).neg_()
    entropy = log_p.mul_(p).sum(-1).neg_()
    margin = confidence - p.scatter_(-1, index, -1.0).amax(-1)
    return {"loss": loss, "confidence": confidence, "entropy": entropy, "margin": margin}


def gather_kept(z: Tensor, y: Tensor) -> Scores:
    """The same with nothing written over, so that autograd can follow."""
    log_p = torch.log_softmax(z, -1)
    p = log_p.exp()
    index = _index(z, y)
    confidence = p.gather(-1, index).squeeze(-1)
    return {
        "loss": -log_p.gather(-1, index).squeeze(-1),
        "confidence": confidence,
        "entropy": -(log_p * p).sum(-1),
        "margin": confidence - p.scatter(-1, index, -1.0).amax(-1),
    }


def topk(z: Tensor, y: Tensor) -> Scores:
    """The best rival as the first or second of the two largest."""
    log_p = torch.log_softmax(z, -1)
    p = log_p.exp()
    log_own = log_p.gather(-1, _index(z, y)).squeeze(-1)
    confidence = log_own.exp()
    (first, second), (where, _) = (x.unbind(-1) for x in p.topk(2, -1))
    margin = confidence - torch.where(where == y, second, first)
    return {"loss": -log_own, "confidence": confidence, "entropy": -(log_p * p).sum(-1), "margin": margin}


def one_hot(z: Tensor, y: Tensor) -> Scores:
    """Masks in the place of gathers, which a compiler can fuse."""
    own = y[:, None] == torch.arange(z.shape[-1], device=z.device)
    log_p = torch.log_softmax(z, -1)
    p = log_p.exp()
    confidence = torch.where(own, p, 0.0).sum(-1)
    loss = -torch.where(own, log_p, 0.0).sum(-1)
    margin = confidence - torch.where(own, -1.0, p).amax(-1)
    return {"loss": loss, "confidence": confidence, "entropy": -(log_p * p).sum(-1), "margin": margin}


def unrolled(z: Tensor, y: Tensor) -> Scores:
    """Column by column, with no reduction over so few classes."""
    columns = z.unbind(-1)
    top = columns[0]
    for column in columns[1:]:
        top = torch.maximum(top, column)
    total, weighted = torch.zeros_like(top), torch.zeros_like(top)
    own, rival = torch.zeros_like(top), torch.full_like(top, float("-inf"))
    for c, column in enumerate(columns):
        shifted = column - top
        e = shifted.exp()
        total, weighted = total + e, weighted + e * shifted
        own = torch.where(y == c, shifted, own)
        rival = torch.where(y == c, rival, torch.maximum(rival, shifted))
    log_total = total.log()
    confidence = (own - log_total).exp()
    margin = confidence - (rival - log_total).exp()
    return {
        "loss": log_total - own,
        "confidence": confidence,
        "entropy": log_total - weighted / total,
        "margin": margin,
    }


def closed_form(z: Tensor, y: Tensor, of: Scores) -> Scores:
    """Scores and gradient without autograd, for the gradients `of` that arrive; one rival of those that tie."""
    log_p = torch.log_softmax(z, -1)
    p = log_p.exp()
    index = _index(z, y)
    confidence = p.gather(-1, index)
    log_own = log_p.gather(-1, index).squeeze(-1)
    weighted = log_p.mul_(p)
    entropy = weighted.sum(-1).neg_()
    rival, where = p.scatter(-1, index, -1.0).max(-1, keepdim=True)
    of_entropy, of_margin = of["entropy"][..., None], of["margin"][..., None]
    of_own = (of["confidence"] + of["margin"])[..., None] * confidence
    of_loss = of["loss"][..., None]
    common = of_loss - of_own + of_margin * rival - of_entropy * entropy[..., None]
    gradient = p.mul_(common).addcmul_(weighted, of_entropy, value=-1)
    gradient.scatter_add_(-1, index, of_own - of_loss).scatter_add_(-1, where, -of_margin * rival)
    margin = (confidence - rival).squeeze(-1)
    scores = {"loss": -log_own, "confidence": confidence.squeeze(-1), "entropy": entropy, "margin": margin}
    return scores | {"gradient": gradient}


def steady_gather(z: Tensor, y: Tensor) -> Callable[[], Scores]:
    """`gather` with every intermediate and output in memory that an earlier call touched."""
    x = torch.empty_like(z, dtype=torch.float32) if z.dtype.itemsize == 2 else z
    log_p, p = torch.empty_like(x), torch.empty_like(x)
    index = _index(z, y).contiguous()
    column = x.new_empty(*z.shape[:-1], 1)
    out = {name: x.new_empty(z.shape[:-1]) for name in OUTPUTS}

    def call() -> Scores:
        if x is not z:
            x.copy_(z)
        torch._log_softmax(x, -1, False, out=log_p)
        torch.exp(log_p, out=p)
        torch.gather(log_p, -1, index, out=column)
        torch.neg(column.squeeze(-1), out=out["loss"])
        torch.gather(p, -1, index, out=column)
        out["confidence"].copy_(column.squeeze(-1))
        torch.sum(log_p.mul_(p), -1, out=out["entropy"]).neg_()
        torch.amax(p.scatter_(-1, index, -1.0), -1, out=out["margin"])
        torch.sub(out["confidence"], out["margin"], out=out["margin"])
        return out

    return call


def steady(form: Callable[[Tensor, Tensor], Scores]) -> Callable[[Tensor, Tensor, Scores], Scores]:
    """A form for a compiler, which writes the results where `out` says."""

    def into(z: Tensor, y: Tensor, out: Scores) -> Scores:
        for name, value in form(z, y).items():
            out[name].copy_(value)
        return out

    return into
