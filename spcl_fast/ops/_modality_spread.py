"""The op `modality_spread`."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast._options import AGGREGATES
from spcl_fast.ops import _check

OP = "modality_spread"


def modality_spread(
    confidence: Tensor,
    offsets: Tensor,
    *,
    aggregate: str = "sum",
    present: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """How far the modalities of each dialogue stand apart: `s_d = std over m of S^m_d`, divided by M - 1.

    `S^m_d` is the sum of the confidence over the utterances of d (`aggregate="sum"`, as in SPCL,
    arXiv 2605.21565, code) or its mean (`aggregate="mean"`, ours: it does not follow dialogue length).

    With modalities missing, `S^m_d` is the number of scored utterances of d times the mean confidence over
    those where m is present, and the deviation is over the modalities present anywhere in d.

    Args:
        confidence: `[M, T]`, M >= 2. An utterance with NaN in a modality that is present is left out.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        aggregate: "sum" or "mean".
        present: `bool[M, T]`, or None for all.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `[D]`, in units of confidence; float64 for float64 confidence, float32 for all others. Exactly 0 for
        equal modalities. NaN for a dialogue with no scored utterance or fewer than two modalities. Not
        differentiable: the spread is a constant of the curriculum. Deterministic.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: M = 1, shapes that do not fit, two devices, an unknown aggregate, offsets on the host that
            do not run from 0 to T without falling (on another device they are read as their running maximum,
            within [0, T]).

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> confidence = torch.tensor([[0.9, 0.8, 0.5], [0.4, 0.3, 0.5]])  # two modalities, three utterances
        >>> spread = ops.modality_spread(confidence, offsets=torch.tensor([0, 2, 3]))
        >>> [round(x, 3) for x in spread.tolist()]  # |1.7 - 0.7| / sqrt 2, and none
        [0.707, 0.0]
    """
    _check.tensor(OP, "confidence", confidence, 2, _check.FLOATS, "floating point numbers")
    M, T = confidence.shape
    require_two_modalities(OP, M)
    _check.offsets(OP, offsets, T, confidence.device, "cheap")
    _check.present(OP, present, (M, T), confidence.device)
    _check.choice(OP, "aggregate", aggregate, AGGREGATES)
    confidence = confidence.detach()
    if backends.choose(OP, backend, confidence.device, needs_grad=False) != "reference":
        return torch.ops.spcl_fast.modality_spread(confidence, offsets, present, aggregate == "mean")
    return reference.modality_spread(confidence, offsets, aggregate=aggregate, present=present)


def require_two_modalities(op: str, M: int) -> None:
    """The spread of one modality is undefined (and the published code then selects nothing)."""
    if M < 2:
        raise ValueError(f"{op}: the spread between modalities needs at least 2 of them (got {M})")
