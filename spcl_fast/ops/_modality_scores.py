"""The op `modality_scores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import _check
from spcl_fast.ops._engines import at_most, engine
from spcl_fast.ops._scores_function import native_scores
from spcl_fast.reference import ModalityScores

OP = "modality_scores"


def modality_scores(
    logits: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    labels: Tensor,
    *,
    ignore_index: int = -100,
    present: Tensor | None = None,
    validate: str = "cheap",
    out: ModalityScores | None = None,
    backend: str | None = None,
) -> ModalityScores:
    """Scores every modality's prediction of every utterance in one pass.

    With `p = softmax(z^m_t)` and `y` the label of utterance t:

    - loss `-log p[y]` in nats, confidence `p[y]`, entropy `-sum_c p log p` in nats with `0 log 0 = 0`,
    - margin `p[y] - max_{c != y} p[c]`, in [-1, 1]; NaN for a single class.

    The closed forms are the literature's usual ones; the margin is the normalised margin of confident
    learning (arXiv 1911.00068), not rescaled.

    Args:
        logits: `[M, T, C]`, or M tensors `[T, C]` as a sequence or a mapping; float16, bfloat16, float32 or
            float64, any strides; a sequence is read in place, but copied into one tensor on a device for M > 32.
        labels: `int[T]`, any integer dtype.
        ignore_index: the label of utterances that are not scored.
        present: `bool[M, T]`; a modality that is not present is not looked at. None: all are.
        validate: "cheap" checks shapes, dtypes and devices; "full" also the data, waiting for the device;
            "off" as "cheap" for this op.
        out: the result of an earlier call, to be filled again; refused where a gradient is needed.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `ModalityScores(loss, confidence, entropy, margin)`, each `[M, T]`, float64 for float64 logits and
        float32 for all others. NaN in all four where a label is `ignore_index` or names no class, where a row
        holds NaN or +Inf or is -Inf everywhere, and where `present` is False. A logit of -Inf is a probability
        of 0; on the true class it gives a loss of +Inf. Empty for T = 0.
        Deterministic: each row depends on itself alone.

        All four are differentiable in the logits, once: only `backend="reference"` has a second derivative. The
        gradient is in the dtype of the logits. It is zero where the scores are NaN, whatever arrives there. Rivals
        that tie share the margin's gradient evenly. A logit of -Inf has the gradient of a probability of 0, which is
        zero but for the loss of the true class, where it is -1.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: shapes that do not fit, tensors on two devices, an unknown `validate`, or (validate="full")
            the first label or logit that is out of range.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> text, audio = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])
        >>> scores = ops.modality_scores({"text": text, "audio": audio}, labels=torch.tensor([0, 1]))
        >>> scores.confidence.double().round(decimals=2).tolist()
        [[0.95, 0.73], [0.73, 0.12]]
        >>> scores.margin.double().round(decimals=2).tolist()
        [[0.91, 0.46], [0.46, -0.76]]
    """
    z = _check.logits(OP, logits)
    _check.labels(OP, labels, z)
    _check.present(OP, present, (z.M, z.T), z.device)
    _check.choice(OP, "validate", validate, _check.VALIDATE)
    if out is not None:
        _check_out(out, z)
    if validate == "full":
        _check.data(OP, z, labels, ignore_index, present)

    chosen = backends.choose(OP, backend, z.device, needs_grad=z.requires_grad)
    if chosen == "reference":
        scores = reference.modality_scores(z.joined, labels, ignore_index=ignore_index, present=present)
        if out is None:
            return scores
        for target, source in zip(out, scores, strict=True):
            target.copy_(source)
        return out
    tensors = at_most(z.tensors, chosen)
    if out is None:
        return native_scores(chosen, tensors, labels, present, ignore_index, z.requires_grad)
    engine(chosen).modality_scores_out(tensors, labels, present, ignore_index, *out)
    return out


def _check_out(out: ModalityScores, z: _check.Logits) -> None:
    if z.requires_grad:
        raise ValueError(f"{OP}: out= takes no logits that require a gradient (got requires_grad=True)")
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    if not isinstance(out, ModalityScores):
        raise TypeError(f"{OP}: out must be a ModalityScores (got {type(out).__name__})")
    for name, target in out._asdict().items():
        _check.tensor(OP, f"out.{name}", target, 2, (dtype,), str(dtype))
        _check.shaped(OP, f"out.{name}", target, (z.M, z.T), z.device)
        if z.T > 1 and target.stride(1) != 1:
            raise ValueError(f"{OP}: out.{name} must have contiguous rows (got stride {target.stride(1)})")
