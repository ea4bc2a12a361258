"""The op `emotion_transitions`."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import _check
from spcl_fast.ops._engines import takes_all
from spcl_fast.reference import EmotionTransitions

OP = "emotion_transitions"
IGNORED = ("skip", "break")
BY = ("dialogue", "speaker")
WEIGHTED = ("both", "same")
MOST_CLASSES = 1 << 15


def emotion_transitions(
    labels: Tensor,
    speakers: Tensor,
    offsets: Tensor,
    num_classes: int,
    *,
    similarity: Tensor | None = None,
    ignore_index: int = -100,
    ignored: str = "skip",
    by: str = "dialogue",
    weighted: str = "both",
    counts: Tensor | None = None,
    validate: str = "cheap",
    backend: str | None = None,
) -> EmotionTransitions:
    """How the emotions of each dialogue change, how hard that makes it, and how surprising each change is.

    Of a dialogue with N_u utterances by N_sp speakers:

    - same-speaker shifts N_same: changes of the label from one utterance of a speaker to the speaker's next, whoever
      speaks between; cross-speaker shifts N_diff: positions t-1, t with different speakers and different labels.
    - difficulty DIF = (N_same + N_sp) / (N_u + N_sp) (MultiDAG+CL, arXiv 2402.17269; HCL, arXiv 2112.11718).
    - difficulty WES, with `similarity`: every change i -> j counts similarity[i, j] + 0.4, and
      WES = (WES_same + WES_diff + N_sp) / (N_u + N_sp) (PRC-Emo, arXiv 2511.07061), or without WES_diff
      (LSDGNN, arXiv 2507.15205, code). `spcl_fast.merc.emotion_wheel` has their similarity.
    - counts n[i, j]: transitions from label i to label j between neighbours; surprisal of utterance t
      -log((n[i, j] + 1) / (sum_k n[i, k] + C)) in nats, 0 for a first utterance (ours).

    An utterance whose label is `ignore_index` or names no class is not scored: it is in no number here. It is taken
    out, and its neighbours become neighbours (`ignored="skip"`), or it cuts the chains it stands in, that of the
    dialogue and that of its speaker (`ignored="break"`); after a cut, the next utterance is a first one.

    Args:
        labels: `int[T]`, any integer dtype, any strides.
        speakers: `int[T]`, any integer dtype; any numbers, and any number of them in a dialogue; they are compared
            as int64, within a dialogue alone. -1: not known, each such utterance has a speaker of its own.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        num_classes: C, from 1 to 32,768.
        similarity: `float[C, C]`, finite; the diagonal is not read. Makes the difficulty WES.
        ignore_index: the label of utterances that are not scored.
        ignored: "skip" or "break".
        by: whose neighbours the counts and the surprisal take: "dialogue", whoever speaks, or "speaker", within the
            subsequence of each speaker.
        weighted: the changes that WES sums: "both" kinds, or those of the "same" speaker. Nothing to DIF.
        counts: `int[C, C]`, at least 0, such as the counts of a training corpus: the surprisal is over them and not
            over this call's, and then an utterance's surprisal depends on its own dialogue alone.
        validate: "cheap" checks shapes, dtypes, devices and what is on the host of offsets, similarity and counts;
            "full" also the data, waiting for the device; "off" as "cheap" for this op.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `EmotionTransitions(counts, same_speaker_shifts, cross_speaker_shifts, num_speakers, difficulty, surprisal)`.
        counts int64 `[C, C]`, of this call; the shifts and num_speakers int64 `[D]`; difficulty `[D]` and surprisal
        `[T]` float64 for a float64 similarity, else float32. A dialogue with no scored utterance has the difficulty
        NaN, one with a single scored utterance the DIF 0.5. The surprisal of an utterance that is not scored is NaN.
        Not differentiable. Deterministic: the integers are exact, a dialogue's difficulty depends on it alone.

    Raises:
        TypeError: a dtype that is not taken, or no speakers.
        ValueError: shapes that do not fit, two devices, num_classes out of its domain, an unknown choice, a
            similarity on the host that is not finite, counts on the host below 0, offsets on the host that do not
            run from 0 to T without falling (on another device they are read as their running maximum, within
            [0, T]), or (validate="full") the first label that names no class.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> labels, speakers = torch.tensor([0, 1, 0, 2]), torch.tensor([0, 1, 0, 1])  # two who take turns
        >>> found = ops.emotion_transitions(labels, speakers, offsets=torch.tensor([0, 4]), num_classes=3)
        >>> found.counts.tolist()
        [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
        >>> found.same_speaker_shifts.tolist(), found.cross_speaker_shifts.tolist()
        ([1], [3])
        >>> [round(x, 3) for x in found.difficulty.tolist()]  # DIF: (1 + 2) / (4 + 2)
        [0.5]
    """
    # As in `self_paced_step`: the compiled ops check all they are given, and what they refuse is explained below.
    flags = (ignored == "break", by == "speaker", weighted == "both")
    is_usual = type(num_classes) is int and similarity is None and validate in ("cheap", "off")
    if is_usual and ignored in IGNORED and by in BY and weighted in WEIGHTED:
        with suppress(RuntimeError, TypeError, AttributeError):
            if takes_all(backends.choose(OP, backend, labels.device, needs_grad=False)):
                results = torch.ops.spcl_fast.emotion_transitions(
                    labels, speakers, offsets, num_classes, None, counts, ignore_index, *flags
                )
                return EmotionTransitions(*results)

    _check.tensor(OP, "labels", labels, 1, _check.INTEGERS, "integers")
    T, device = labels.shape[0], labels.device
    _check.tensor(OP, "speakers", speakers, 1, _check.INTEGERS, "integers")
    _check.shaped(OP, "speakers", speakers, (T,), device, "labels")
    _check.choice(OP, "validate", validate, _check.VALIDATE)
    _check.offsets_form(OP, offsets, device)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"{OP}: num_classes must be an integer (got {type(num_classes).__name__})")
    if not 1 <= num_classes <= MOST_CLASSES:
        raise ValueError(f"{OP}: num_classes must lie in [1, {MOST_CLASSES}] (got {num_classes})")
    _check.choice(OP, "ignored", ignored, IGNORED)
    _check.choice(OP, "by", by, BY)
    _check.choice(OP, "weighted", weighted, WEIGHTED)
    square = (num_classes, num_classes)
    if similarity is not None:
        _check.tensor(OP, "similarity", similarity, 2, _check.FLOATS, "floating point numbers")
        _check.shaped(OP, "similarity", similarity, square, device, "labels")
        similarity = similarity.detach()
        _check.matrix_values(OP, "similarity", similarity, torch.isfinite, "must be finite")
    if counts is not None:
        _check.tensor(OP, "counts", counts, 2, _check.INTEGERS, "integers")
        _check.shaped(OP, "counts", counts, square, device, "labels")
        if counts.dtype.is_signed:
            _check.matrix_values(OP, "counts", counts, lambda n: n >= 0, "must be at least 0")
    if validate == "full":
        _check.label_values(OP, labels, num_classes, ignore_index)

    if backends.choose(OP, backend, device, needs_grad=False) != "reference":
        try:
            results = torch.ops.spcl_fast.emotion_transitions(
                labels, speakers, offsets, num_classes, similarity, counts, ignore_index, *flags
            )
        except RuntimeError:
            _check.offsets(OP, offsets, T, device, validate)  # the kernel refuses them too, with the other error
            raise
        return EmotionTransitions(*results)
    _check.offsets(OP, offsets, T, device, validate)
    return reference.emotion_transitions(
        labels,
        speakers,
        offsets,
        num_classes,
        similarity=similarity,
        ignore_index=ignore_index,
        ignored=ignored,
        by=by,
        weighted=weighted,
        counts=counts,
    )
