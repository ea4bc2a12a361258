"""The op `self_paced_step` on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcl_fast import _options
from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "self_paced_step"


class StepTotals(NamedTuple):
    """What a batch came to, in the words of `spcl_fast.ops.StepTotals`: numbers, and arrays `[M]` of float64.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> labels = np.array([0, 1, 7])  # there is no class 7
        >>> totals = arrays.self_paced_step(np.zeros((2, 3, 2)), labels, np.array([0, 3]), 0.5).totals
        >>> totals.scored, totals.selected, totals.bad_label
        (2, 2, 1)
    """

    scored: int
    selected: int
    nonfinite: int
    bad_label: int
    undefined: int
    loss_sum: float
    confidence_sum: NDArray[np.float64]
    selected_confidence_sum: NDArray[np.float64]
    weight_sum: float


class SelfPacedStep(NamedTuple):
    """The loss and what it was made of, in the words of `spcl_fast.ops.SelfPacedStep`.

    loss in nats; weight `[T]` in [0, 1], difficulty and utterance_loss `[T]`, confidence `[M, T]`, spread `[D]`; the
    totals of the batch.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> logits = np.zeros((2, 2, 4))  # both modalities guess
        >>> step = arrays.self_paced_step(logits, np.array([0, 3]), np.array([0, 2]), threshold=None)
        >>> step.utterance_loss.round(3).tolist(), step.spread.tolist()  # log 4, and no spread
        ([1.386, 1.386], [0.0])
    """

    loss: np.floating[Any]
    weight: FloatArray
    difficulty: FloatArray
    utterance_loss: FloatArray
    confidence: FloatArray
    spread: FloatArray
    totals: StepTotals


def self_paced_step(
    logits: FloatArray | Sequence[FloatArray] | Mapping[str, FloatArray],
    labels: NDArray[np.integer[Any]],
    offsets: NDArray[np.integer[Any]],
    threshold: float | None,
    *,
    joint: FloatArray | None = None,
    extra_difficulty: FloatArray | None = None,
    measure: str = "spcl",
    scheme: str = "hard",
    scheme_parameters: Mapping[str, Any] | None = None,
    normalizer: str = "all",
    aggregate: str = "sum",
    class_weight: FloatArray | None = None,
    label_smoothing: float = 0.0,
    present: NDArray[np.bool_] | None = None,
    ignore_index: int = -100,
) -> SelfPacedStep:
    """Difficulty, weights and loss of one batch of whole dialogues: `spcl_fast.ops.self_paced_step` on arrays.

    SPCL (arXiv 2605.21565) as its published code computes it, without the gradient; every formula and every fault is
    described at the torch op, whose results these are bit for bit.

    Args:
        logits: `[M, T, C]`, or M arrays `[T, C]` as a sequence or a mapping; M >= 2, or M >= 1 where the
            measure has no spread; float16, float32 or float64, any strides, read-only and memory-mapped arrays too;
            read in place.
        labels: `int[T]`, any integer dtype.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        threshold: lambda, a number in units of difficulty. None selects every scored utterance.
        joint: `[T, C]` logits to take in place of the sum.
        extra_difficulty: `[T]`, added to the difficulty; NaN makes an utterance impossible to select.
        measure: what the difficulty is beside `extra_difficulty`: "spcl", "loss", "spread" or "none".
        scheme: of `self_paced_weights`.
        scheme_parameters: those of the scheme, as the torch op takes them.
        normalizer: "all" divides by the scored utterances, "selected" by the sum of the weights.
        aggregate: "sum" or "mean", of `modality_spread`.
        class_weight: `[C]`, finite and at least 0, multiplies the utterance loss of its class.
        label_smoothing: in [0, 1].
        present: `bool[M, T]`; a modality that is not present is not looked at. None: all are.
        ignore_index: the label of utterances that are not scored and not counted.

    Returns:
        `SelfPacedStep(loss, weight[T], difficulty[T], utterance_loss[T], confidence[M, T], spread[D], totals)`, in
        float64 for float64 logits and float32 for all others. No scored utterance, or T = 0: the loss is 0.
        Deterministic; each difficulty depends on its own dialogue alone.

    Raises:
        TypeError: something else than an array or a number, a dtype that is not taken, a scheme's parameter that is
            unknown or missing.
        ValueError: M = 1 with a measure of the spread, "none" without `extra_difficulty`, shapes that do not fit, an
            unknown name, a number out of its domain, offsets that do not run from 0 to T.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> text = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> audio = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
        >>> labels, offsets = np.array([0, 1, 1]), np.array([0, 2, 3])  # a dialogue of two, one of one
        >>> step = arrays.self_paced_step({"text": text, "audio": audio}, labels, offsets, threshold=0.5)
        >>> step.difficulty.round(3).tolist()
        [0.089, 0.764, 0.033]
        >>> step.weight.tolist()
        [1.0, 0.0, 1.0]
    """
    kernels = _inputs.kernels()
    arrays = _inputs.modalities(OP, "logits", "C", logits)
    _inputs.array(OP, "labels", labels)
    _inputs.array(OP, "offsets", offsets)
    others = {
        "joint": joint,
        "extra_difficulty": extra_difficulty,
        "class_weight": class_weight,
        "present": present,
    }
    for name, value in others.items():
        _inputs.optional(OP, name, value)
    _options.choice(OP, "measure", measure, _options.MEASURES)
    if measure == "none" and extra_difficulty is None:
        raise ValueError(f"{OP}: measure 'none' needs extra_difficulty (got None)")
    weighting = _options.step_weighting(OP, scheme, scheme_parameters)
    level = None if threshold is None else _inputs.threshold(OP, threshold)
    if level is not None:
        _options.require_threshold(OP, scheme, weighting.parameter, level)
    _options.choice(OP, "normalizer", normalizer, _options.NORMALIZERS)
    _options.choice(OP, "aggregate", aggregate, _options.AGGREGATES)
    numbers = (normalizer == "selected", aggregate == "mean", label_smoothing, ignore_index)
    number = _options.MEASURES.index(measure)
    results = kernels.self_paced_step(arrays, labels, offsets, level, *others.values(), number, *weighting, *numbers)
    loss, weight, difficulty, utterance_loss, confidence, spread, totals = results
    loss = weight.dtype.type(loss)
    return SelfPacedStep(loss, weight, difficulty, utterance_loss, confidence, spread, StepTotals(*totals))
