"""One step of self-paced curriculum learning (SPCL, arXiv 2605.21565): METHODS of the paper, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from spcl_fast.reference.modality_scores import modality_scores
from spcl_fast.reference.modality_spread import modality_spread
from spcl_fast.reference.rows import (
    dialogue_of_row,
    expected_offsets,
    label_is_scored,
    row_is_finite,
    running_offsets,
    stacked,
)
from spcl_fast.reference.self_paced_weights import self_paced_weights


class StepTotals(NamedTuple):
    """What a step counted, on the device of its logits, in two tensors whose entries have names.

    `counts` int64[7]: steps, always 1. scored: utterances with a loss. selected: those with a weight above 0.
    nonfinite: utterances left out because their logits have no softmax (NaN, +Inf, -Inf everywhere) or their
    loss is NaN, and those whose loss is +Inf. bad_label: labels
    that are neither a class nor `ignore_index`. bad_offset: entries of `offsets` out of order or out of range.
    undefined: scored utterances whose difficulty is NaN, so that they cannot be selected.

    `sums` float64[2 + 2 M]: loss_sum and confidence_sum[M], over the scored. selected_confidence_sum[M]: over
    all, times the weight. weight_sum: of the weights.

    An entry by its name is a 0-dim (or `[M]`) view, so that counting a step reads two tensors and makes none.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> labels = torch.tensor([0, 1, 7])  # there is no class 7
        >>> totals = ops.self_paced_step(torch.zeros(2, 3, 2), labels, torch.tensor([0, 3]), 0.5).totals
        >>> totals.scored.item(), totals.selected.item(), totals.bad_label.item()
        (2, 2, 1)
        >>> totals.confidence_sum.round(decimals=3).tolist()  # 1/2 of each of the two scored
        [1.0, 1.0]
    """

    counts: Tensor
    sums: Tensor

    @property
    def scored(self) -> Tensor:
        """Utterances with a loss."""
        return self.counts[1]

    @property
    def selected(self) -> Tensor:
        """Utterances with a weight above 0."""
        return self.counts[2]

    @property
    def nonfinite(self) -> Tensor:
        """Utterances whose logits have no softmax, or whose loss is NaN or +Inf."""
        return self.counts[3]

    @property
    def bad_label(self) -> Tensor:
        """Labels that are neither a class nor `ignore_index`."""
        return self.counts[4]

    @property
    def bad_offset(self) -> Tensor:
        """Offsets out of order or out of range."""
        return self.counts[5]

    @property
    def undefined(self) -> Tensor:
        """Scored utterances whose difficulty is NaN: no spread in their dialogue, or NaN extra difficulty."""
        return self.counts[6]

    @property
    def loss_sum(self) -> Tensor:
        """Sum of the utterance losses."""
        return self.sums[0]

    @property
    def confidence_sum(self) -> Tensor:
        """Sum of the confidences of each modality, `[M]`."""
        return self.sums[1 : self.sums.shape[0] // 2]

    @property
    def selected_confidence_sum(self) -> Tensor:
        """The same, each confidence times the weight of its utterance."""
        return self.sums[self.sums.shape[0] // 2 : -1]

    @property
    def weight_sum(self) -> Tensor:
        """Sum of the weights: what `normalizer="selected"` divides by."""
        return self.sums[-1]


class SelfPacedStep(NamedTuple):
    """The training loss, which alone is differentiable, and what it was made of.

    loss 0-dim, in nats; weight `[T]` in [0, 1], difficulty and utterance_loss `[T]`, confidence `[M, T]`, spread `[D]`;
    the totals of the batch, on its device.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> logits = torch.zeros(2, 2, 2, requires_grad=True)
        >>> step = ops.self_paced_step(logits, torch.tensor([0, 1]), torch.tensor([0, 2]), threshold=0.5)
        >>> step.loss.backward()
        >>> logits.grad[0].double().round(decimals=3).tolist()  # (softmax - onehot) / T
        [[-0.25, 0.25], [0.25, -0.25]]
        >>> step.weight.requires_grad
        False
    """

    loss: Tensor
    weight: Tensor
    difficulty: Tensor
    utterance_loss: Tensor
    confidence: Tensor
    spread: Tensor
    totals: StepTotals


def harmonic_mean(s: Tensor, l: Tensor) -> Tensor:
    """`2 s l / (s + l)`, 0 when either is 0 and +Inf when `l` is; both at least 0.

    Written with the ratio of the smaller to the larger so that nothing overflows and min <= rho <= 2 min holds
    to the last bit.
    """
    low, high = torch.minimum(s, l), torch.maximum(s, l)
    rho = torch.where(high == 0, 0.0, low * (2 / (1 + low / high)))
    return torch.where(l == float("inf"), torch.where(s.isnan(), s, l), rho)


def measured(measure: str, s: Tensor, l: Tensor) -> Tensor:
    """What the difficulty of an utterance measures: of the spread of its dialogue and its loss, both, one or none."""
    return {"spcl": harmonic_mean(s, l), "loss": l, "spread": s, "none": torch.zeros_like(l)}[measure]


def self_paced_step(
    logits: Tensor | Sequence[Tensor],
    labels: Tensor,
    offsets: Tensor,
    threshold: Tensor | float | None,
    *,
    joint: Tensor | None = None,
    extra_difficulty: Tensor | None = None,
    measure: str = "spcl",
    scheme: str = "hard",
    scheme_parameters: Mapping[str, Any] | None = None,
    normalizer: str = "all",
    aggregate: str = "sum",
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    present: Tensor | None = None,
    ignore_index: int = -100,
    flags: bool = True,
) -> SelfPacedStep:
    """Contract: `spcl_fast.ops.self_paced_step`; `flags=False` leaves the fault counts at 0.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> logits = torch.tensor([[[0.5, 0.5]], [[0.75, 0.25]]], dtype=torch.float64).log()
        >>> step = reference.self_paced_step(logits, torch.tensor([0]), torch.tensor([0, 1]), 0.1)
        >>> s, l, rho = step.spread, step.utterance_loss, step.difficulty
        >>> [round(x.item(), 4) for x in (s, l, rho)]  # rho is 2 s l / (s + l)
        [0.1768, 0.2877, 0.219]
        >>> step.weight.item()
        0.0
    """
    z = stacked(logits)
    num_classes, T = z.shape[-1], z.shape[1]
    clean_offsets = running_offsets(offsets, T)
    dialogue, owned = dialogue_of_row(clean_offsets, T)
    labels = labels.long()
    labelled = label_is_scored(labels, num_classes, ignore_index)
    has = torch.ones_like(z[..., 0], dtype=torch.bool) if present is None else present

    z = torch.where(has[..., None], z, 0.0)  # a missing modality says nothing, whatever is stored there
    # One modality after the other: the order of a reduction would depend on the strides.
    J = reduce(torch.add, z) if joint is None else joint.to(z.dtype)
    candidate = owned & labelled & has.any(0)
    finite = (row_is_finite(z) | ~has).all(0) & row_is_finite(J)

    # Rows that are not scored go in as zeros and come out as NaN, so no gradient ever meets their values.
    y = torch.where(labelled, labels, 0)
    J = torch.where((candidate & finite)[:, None], J, 0.0)
    if class_weight is not None:
        # On the host the op has refused such weights; here a class without a proper weight is not scored.
        proper = class_weight.isfinite() & (class_weight >= 0)
        finite = finite & proper[y]
        class_weight = torch.where(proper, class_weight, 0.0).to(J.dtype)
    l = F.cross_entropy(J, y, class_weight, reduction="none", label_smoothing=label_smoothing)
    finite = finite & ~l.detach().isnan()  # 0 * inf: a class of weight 0 whose loss is +Inf
    scored = candidate & finite

    nan = float("nan")
    with torch.no_grad():
        own_labels = torch.where(scored, labels, ignore_index)
        p = modality_scores(z, own_labels, ignore_index=ignore_index, present=has).confidence
        s = modality_spread(p, offsets, aggregate=aggregate, present=has & scored)
        utterance_loss = torch.where(scored, l, nan)
        s_t = s[dialogue] if s.numel() else torch.full_like(utterance_loss, nan)
        rho = torch.where(scored, measured(measure, s_t, utterance_loss), nan)
        if extra_difficulty is not None:
            rho = rho + extra_difficulty.to(rho.dtype)
        if threshold is None:
            v = scored.to(rho.dtype)
        else:
            parameters = dict(scheme_parameters or {})
            if scheme == "spld":
                parameters["groups"] = dialogue if parameters.get("groups") == "dialogue" else labels
            v = self_paced_weights(rho, threshold, scheme=scheme, **parameters)

    loss_sum = torch.where(v > 0, v * l, 0.0).sum()
    norm = scored.sum() if normalizer == "all" else v.sum()
    loss = loss_sum / torch.where(norm > 0, norm, 1)

    with torch.no_grad():
        p_or_0 = torch.where(p.isnan(), 0.0, p).double()
        zero = torch.zeros((), dtype=torch.int64, device=z.device)
        counts = [
            torch.ones_like(zero),
            scored.sum(),
            (v > 0).sum(),
            (candidate & (~finite | (l == float("inf")))).sum() if flags else zero,
            (~labelled & (labels != ignore_index)).sum() if flags else zero,
            (offsets.long() != expected_offsets(offsets, T)).sum() if flags else zero,
            (scored & rho.isnan()).sum(),
        ]
        loss_total = torch.where(scored, l, 0.0).double().sum()
        sums = [loss_total[None], p_or_0.sum(1), (p_or_0 * v).sum(1), v.double().sum()[None]]
        totals = StepTotals(torch.stack(counts), torch.cat(sums))
    return SelfPacedStep(loss, v, rho, utterance_loss, p, s, totals)
