"""The op `window_coherence`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import _check
from spcl_fast.ops._coherence_function import native_coherence
from spcl_fast.ops._engines import at_most, engine, takes_all, tensor_list

OP = "window_coherence"
SOURCES = ("embedding", "prediction")
MOST_MODALITIES = 256
MOST_WINDOW = 2**62 + 1  # beyond every dialogue


def window_coherence(
    embeddings: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    offsets: Tensor,
    *,
    window: int = 5,
    source: str = "embedding",
    present: Tensor | None = None,
    out: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """How well the modalities agree around each utterance, in [-1, 1].

    With `e^m_t` the embedding of utterance t in modality m (`source="embedding"`), or the softmax of its logits
    ("prediction"):

    - `c_t = mean over pairs m < n of cos(e^m_t, e^n_t)`, each cosine clamped to [-1, 1]
    - `C_t = mean of the defined c over t - window//2 .. t + window//2`, cut at the borders of the dialogue of t

    The incoherence `(1 - C_t) / 2`, in [0, 1], is a difficulty. Ours: the abstract of SPCL (arXiv 2605.21565) asks for
    the coherence of modalities and gives no formula; BSS (arXiv 2501.01470) ranks whole samples by such a cosine.

    A vector that is exactly zero or not present drops its pairs; an utterance without any pair has no c, and the
    means around it leave it out.

    Args:
        embeddings: `[M, T, F]`, or M tensors `[T, F]` as a sequence or a mapping, read in place (on a device copied
            into one tensor for M > 32); M from 2 to 256; float16, bfloat16, float32 or float64, any strides and
            magnitudes. Logits `[M, T, C]` for `source="prediction"`: -Inf is a probability of 0.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        window: W, odd and at least 1; one wider than a dialogue is the dialogue.
        source: "embedding" or "prediction".
        present: `bool[M, T]`; a modality that is not present is not looked at. None: all are.
        out: `[T]`, contiguous, of the dtype of the result, to be filled; refused where a gradient is needed.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `[T]`, float64 for float64 embeddings and float32 for all others. NaN where no c of the window is defined, and
        where a present vector of the utterance itself is at fault (NaN or Inf; as logits NaN, +Inf or -Inf for every
        class); the means around such an utterance leave it out. Empty for T = 0. Differentiable in the embeddings: the
        clamp passes the gradient through, and what is NaN, zero, absent or at fault receives 0. Deterministic (of the
        reference on the host alone); each value depends on its own dialogue alone.

    Raises:
        TypeError: a dtype that is not taken.
        ValueError: M = 1 (there is no pair), shapes that do not fit, two devices, an even window or one below 1, an
            unknown source, `out` that does not fit, overlaps an input or meets a gradient, offsets on the host that do
            not run from 0 to T without falling (on another device they are read as their running maximum, within
            [0, T]).

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> audio = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])  # cosines 1, 0 and 1
        >>> coherence = ops.window_coherence([text, audio], offsets=torch.tensor([0, 2, 3]), window=3)
        >>> [round(x, 3) for x in coherence.tolist()]
        [0.5, 0.5, 1.0]
    """
    # As in `self_paced_step`: the compiled ops check all they are given, and what they refuse is explained below.
    if out is None and type(window) is int and source in SOURCES:
        with suppress(RuntimeError, TypeError, AttributeError, IndexError):
            tensors = tensor_list(embeddings)
            needs_grad = torch.is_grad_enabled() and any(e.requires_grad for e in tensors)
            chosen = backends.choose(OP, backend, tensors[0].device, needs_grad=needs_grad)
            if takes_all(chosen):
                options = (min(window, MOST_WINDOW), source == "prediction")
                return native_coherence(chosen, tensors, offsets, present, options, needs_grad)

    _check.choice(OP, "source", source, SOURCES)
    z = _check.logits(OP, embeddings, "embeddings", "F" if source == "embedding" else "C")
    if not 2 <= z.M <= MOST_MODALITIES:
        raise ValueError(
            f"{OP}: the coherence between modalities needs at least 2 of them, and at most {MOST_MODALITIES} "
            f"(got {z.M})"
        )
    if isinstance(window, bool) or not isinstance(window, int):
        raise TypeError(f"{OP}: window must be an integer (got {type(window).__name__})")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"{OP}: window must be odd and at least 1 (got {window})")
    _check.offsets_form(OP, offsets, z.device)
    _check.present(OP, present, (z.M, z.T), z.device)
    if out is not None:
        _check_out(out, z, offsets, present)

    chosen = backends.choose(OP, backend, z.device, needs_grad=z.requires_grad)
    if chosen == "reference":
        _check.offsets(OP, offsets, z.T, z.device, "cheap")
        coherence = reference.window_coherence(z.joined, offsets, window=window, source=source, present=present)
        return coherence if out is None else out.copy_(coherence)
    options = (min(window, MOST_WINDOW), source == "prediction")
    tensors = at_most(z.tensors, chosen)
    try:
        if out is None:
            return native_coherence(chosen, tensors, offsets, present, options, z.requires_grad)
        engine(chosen).window_coherence_out(tensors, offsets, present, *options, out)
    except RuntimeError:
        _check.offsets(OP, offsets, z.T, z.device, "cheap")  # the kernel refuses them too, with the other error
        raise
    return out


def _check_out(out: Tensor, z: _check.Logits, offsets: Tensor, present: Tensor | None) -> None:
    if z.requires_grad:
        raise ValueError(f"{OP}: out= takes no embeddings that require a gradient (got requires_grad=True)")
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    _check.tensor(OP, "out", out, 1, (dtype,), str(dtype))
    _check.shaped(OP, "out", out, (z.T,), z.device, "embeddings")
    if not out.is_contiguous():
        raise ValueError(f"{OP}: out must be contiguous (got stride {out.stride(0)})")
    _check.apart(OP, "out", out, [*z.tensors, offsets, present])
