"""The op `self_paced_step`: scoring, selection and training loss of one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spcl_fast import _options, backends, reference
from spcl_fast._options import AGGREGATES, MEASURES, MEASURES_OF_SPREAD, NORMALIZERS
from spcl_fast.ops import _check
from spcl_fast.ops._engines import takes_all, tensor_list
from spcl_fast.ops._modality_spread import require_two_modalities
from spcl_fast.ops._step_function import native_step
from spcl_fast.reference import SelfPacedStep

OP = "self_paced_step"
_SPLD = _options.NUMBERS["spld"]
_MEASURES = {name: number for number, name in enumerate(MEASURES)}
# (normalizer, aggregate) -> what the compiled op takes for them
_OPTIONS = {
    (normalizer, aggregate): (normalizer == "selected", aggregate == "mean")
    for normalizer in NORMALIZERS
    for aggregate in AGGREGATES
}


def self_paced_step(
    logits: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
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
    validate: str = "cheap",
    backend: str | None = None,
) -> SelfPacedStep:
    """Difficulty, weights and training loss of one batch of whole dialogues.

    SPCL (arXiv 2605.21565) as its published code computes it:

    - joint logits `J = sum_m z^m`; utterance loss `l_t = -log softmax(J_t)[y_t]`
    - confidence `p^m_t = softmax(z^m_t)[y_t]`; spread `s_d = std_m sum_{t in d} p^m_t` (`modality_spread`)
    - difficulty `rho_t = 2 s_d l_t / (s_d + l_t)`, 0 when either is 0, plus `extra_difficulty`; or another `measure`
    - weight `v_t` from `rho_t` and the threshold (`self_paced_weights`)
    - loss `(1/T) sum v l` (`normalizer="all"`) or `sum v l / sum v` ("selected"; 0 when nothing is)

    Only the loss carries a gradient, and only through `l`: spread, difficulty and weights are constants.

    With `measure="loss"` this is self-paced learning of any classifier, M = 1 included. Weights that were computed
    elsewhere are trained with as `measure="none", scheme="given", extra_difficulty=weights`.

    Args:
        logits: `[M, T, C]`, or M tensors `[T, C]` as a sequence or a mapping; M >= 2, or M >= 1 where the measure has
            no spread; float16, bfloat16, float32 or float64; a sequence is read in place, but copied into one tensor
            on a device for M > 32.
        labels: `int[T]`, any integer dtype.
        offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        threshold: lambda, in units of difficulty: a number or a 0-dim tensor. None selects every scored
            utterance: the baseline.
        joint: `[T, C]` logits to take in place of the sum, with a gradient of their own.
        extra_difficulty: `[T]`, added to the difficulty; NaN makes an utterance impossible to select.
        measure: what the difficulty is beside `extra_difficulty`: "spcl" (rho as above), "loss" (`l_t`), "spread"
            (`s_d`) or "none" (0: then `extra_difficulty` has to be given).
        scheme: of `self_paced_weights`.
        scheme_parameters: those of the scheme: `{"lower": l2}`, `{"degree": t}` (and `"formula"`),
            `{"regularization": r}`, or `{"gamma": gamma, "groups": by}` for "spld", where `by` is "class" (the default:
            an utterance's group is its label) or "dialogue"; ranks are those in this batch, so a weight by class hangs
            on the whole batch. On a device the reference computes "spld".
        normalizer: "all" divides by the scored utterances, "selected" by the sum of the weights.
        aggregate: "sum" or "mean", of `modality_spread`.
        class_weight: `[C]`, finite and at least 0, multiplies the utterance loss of its class (and so its
            difficulty). Its values are looked at on the host; elsewhere a class without such a weight is not
            scored.
        label_smoothing: in [0, 1], of the utterance loss, as in `torch.nn.functional.cross_entropy`.
        present: `bool[M, T]`; a modality that is not present is not looked at. None: all are.
        ignore_index: the label of utterances that are not scored and not counted.
        validate: "cheap" flags faults of the data in the totals, without waiting for the device; "full" looks
            first and raises at the first one; "off" leaves their counts at 0. All three score the same.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `SelfPacedStep(loss, weight[T], difficulty[T], utterance_loss[T], confidence[M, T], spread[D], totals)`,
        in float64 for float64 logits and float32 for all others; the totals are described at `StepTotals` and
        stay on the device. An utterance that is ignored, has a bad label, a NaN or +Inf logit, no modality or a
        NaN loss, has weight 0 and NaN elsewhere, and touches nothing but itself. A loss of +Inf has the
        difficulty +Inf by "spcl" and "loss"; by the other measures it is weighed like any other, and a weight above 0
        makes the loss of the batch +Inf.
        A dialogue with fewer than two modalities has the spread NaN, and by "spcl" and "spread" the difficulty NaN:
        it is scored, not selected.
        No scored utterance: the loss is 0 with a zero gradient. Each difficulty depends on its own dialogue
        alone. Deterministic (of the reference on the host alone).

    Raises:
        TypeError: a dtype that is not taken, a scheme's parameter that is unknown or missing.
        ValueError: M = 1 with "spcl" or "spread", "none" without `extra_difficulty`, shapes that do not fit, two
            devices, an unknown name, a number out of its domain, offsets on the host that do not run from 0 to T
            without falling (on another device they are flagged, and read as their running maximum within [0, T]);
            with validate="full" the first bad label, logit or offset.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> text = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], requires_grad=True)
        >>> audio = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], requires_grad=True)
        >>> labels, offsets = torch.tensor([0, 1, 1]), torch.tensor([0, 2, 3])  # a dialogue of two, one of one
        >>> step = ops.self_paced_step({"text": text, "audio": audio}, labels, offsets, threshold=0.5)
        >>> [round(x, 3) for x in step.difficulty.tolist()]
        [0.089, 0.764, 0.033]
        >>> step.weight.tolist()
        [1.0, 0.0, 1.0]
        >>> step.loss.backward()
        >>> text.grad.any(1).tolist()  # what is not selected teaches nothing
        [True, False, True]
    """
    # The compiled ops check all they are given, so the usual call goes straight to them. Whatever they refuse comes
    # back here, where the checks in Python find the fault again and name it in their own words.
    weighting = None if scheme_parameters else _options.PLAIN.get(scheme)
    if weighting is None:
        weighting = _options.step_weighting(OP, scheme, scheme_parameters)
    options, number = _OPTIONS.get((normalizer, aggregate)), _MEASURES.get(measure)
    refused: Exception | None = None
    is_usual = validate in ("cheap", "off") and (threshold is None or isinstance(threshold, (Tensor, float)))
    if is_usual and options is not None and number is not None:
        try:
            tensors = tensor_list(logits)
            needs_grad = _needs_grad(tensors, joint)
            is_ranked = weighting[0] == _SPLD
            chosen = backends.choose(OP, backend, tensors[0].device, needs_grad=needs_grad, ranks=is_ranked)
            if takes_all(chosen):
                return native_step(
                    chosen,
                    tensors,
                    labels,
                    offsets,
                    threshold,
                    joint,
                    extra_difficulty,
                    class_weight,
                    present,
                    (number, *weighting, *options, label_smoothing, ignore_index, validate == "cheap"),
                    needs_grad,
                )
        except (RuntimeError, TypeError, AttributeError, IndexError) as error:
            refused = error

    z = _check.logits(OP, logits)
    _check.choice(OP, "measure", measure, MEASURES)
    if measure in MEASURES_OF_SPREAD:
        require_two_modalities(OP, z.M)
    if measure == "none" and extra_difficulty is None:
        raise ValueError(f"{OP}: measure 'none' needs extra_difficulty (got None)")
    _check.choice(OP, "validate", validate, _check.VALIDATE)
    _check.labels(OP, labels, z)
    _check.offsets(OP, offsets, z.T, z.device, validate)
    _check.present(OP, present, (z.M, z.T), z.device)
    for name, value, shape in (
        ("joint", joint, (z.T, z.C)),
        ("extra_difficulty", extra_difficulty, (z.T,)),
    ):
        if value is not None:
            _check.tensor(OP, name, value, len(shape), _check.FLOATS, "floating point numbers")
            _check.shaped(OP, name, value, shape, z.device)
    _check.class_weight(OP, class_weight, z)
    if threshold is not None:
        threshold = _check.threshold(OP, threshold, z.device, scheme, weighting.parameter)
    _check.choice(OP, "normalizer", normalizer, NORMALIZERS)
    _check.choice(OP, "aggregate", aggregate, AGGREGATES)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{OP}: label_smoothing must lie in [0, 1] (got {label_smoothing})")
    if validate == "full":
        _check.data(OP, z, labels, ignore_index, present, joint)

    if refused is not None:
        raise refused
    needs_grad = _needs_grad(z.tensors, joint)
    chosen = backends.choose(OP, backend, z.device, needs_grad=needs_grad, ranks=scheme == "spld")
    if chosen != "reference":
        options = _OPTIONS[normalizer, aggregate]
        numbers = (_MEASURES[measure], *weighting, *options, label_smoothing, ignore_index, validate != "off")
        others = (joint, extra_difficulty, class_weight, present)
        step = native_step(chosen, z.tensors, labels, offsets, threshold, *others, numbers, needs_grad)
    else:
        step = reference.self_paced_step(
            z.joined,
            labels,
            offsets,
            threshold,
            joint=joint,
            extra_difficulty=extra_difficulty,
            measure=measure,
            scheme=scheme,
            scheme_parameters=scheme_parameters,
            normalizer=normalizer,
            aggregate=aggregate,
            class_weight=class_weight,
            label_smoothing=label_smoothing,
            present=present,
            ignore_index=ignore_index,
            flags=validate != "off",
        )
    if validate == "full":  # finite logits can still have a sum that overflows, or a loss of +Inf
        _check.losses(OP, step.utterance_loss, labels, ignore_index, present)
    return step


def _needs_grad(logits: list[Tensor], joint: Tensor | None) -> bool:
    """Whether the loss needs a gradient: it comes from the joint logits where they are given."""
    for z in logits if joint is None else (joint,):
        if z.requires_grad:
            return torch.is_grad_enabled()
    return False
