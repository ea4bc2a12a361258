"""The fakes of the compiled ops: the shape and dtype of a result, without computing it, for `torch.compile`."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast.reference import keys

_are_registered = False


def register() -> None:
    """Tells torch of the fakes, once; the ops have to be loaded."""
    global _are_registered
    if _are_registered:
        return
    for op in (
        _difficulty_histogram,
        _difficulty_quantile,
        _select_easiest,
        _select_by_odds,
        _select_as_many,
        _extended_difficulty,
        _emotion_transitions,
        _modality_scores,
        _modality_scores_out,
        _modality_scores_backward,
        _modality_spread,
        _multiview_hardness,
        _self_paced_weights,
        _self_paced_step,
        _self_paced_step_backward,
        _super_loss,
        _window_coherence,
        _window_coherence_out,
        _window_coherence_backward,
    ):
        torch.library.register_fake(f"spcl_fast::{op.__name__.removeprefix('_')}", op)
    _are_registered = True


def _difficulty_histogram(difficulty: Tensor, prefix: Tensor, level: int) -> Tensor:
    _on_one_device("difficulty_histogram", [difficulty, prefix])
    return difficulty.new_empty(1 << keys.digit_at(difficulty.dtype, level).bits, dtype=torch.int64)


def _difficulty_quantile(difficulty: Tensor, pace: float | None, pace_tensor: Tensor | None = None) -> Tensor:
    _on_one_device("difficulty_quantile", [difficulty, pace_tensor])
    return difficulty.new_empty(())


def _select_easiest(difficulty: Tensor, pace: float | None, pace_tensor: Tensor | None = None) -> Tensor:
    _on_one_device("select_easiest", [difficulty, pace_tensor])
    return difficulty.new_empty(difficulty.shape[0], dtype=torch.bool)


def _select_by_odds(difficulty: Tensor, ids: Tensor, epoch: Tensor, seed: int, pace: Tensor, tilt: Tensor) -> Tensor:
    _on_one_device("select_by_odds", [difficulty, ids, epoch, pace, tilt])
    return difficulty.new_empty(difficulty.shape[0], dtype=torch.bool)


def _select_as_many(
    difficulty: Tensor,
    ids: Tensor | None,
    epoch: Tensor,
    seed: int,
    threshold: Tensor,
    instead_of: Tensor | None,
    offsets: Tensor | None,
) -> Tensor:
    _on_one_device("select_as_many", [difficulty, ids, epoch, threshold, instead_of, offsets])
    return difficulty.new_empty(difficulty.shape[0], dtype=torch.bool)


def _extended_difficulty(
    vectors: list[Tensor],
    labels: Tensor,
    speakers: Tensor | None,
    offsets: Tensor,
    present: Tensor | None,
    similarity: Tensor | None,
    fitted: Tensor | None,
    num_classes: int,
    window: int,
    of_predictions: bool,
    incoherence: float,
    transition: float,
    surprisal: float,
    ignore_index: int,
    breaks: bool,
    is_wide: bool,
) -> Tensor:
    _on_one_device("extended_difficulty", [*vectors, labels, speakers, offsets, present, similarity, fitted])
    return labels.new_empty(labels.shape[0], dtype=torch.float64 if is_wide else torch.float32)


def _modality_scores(logits: list[Tensor], labels: Tensor, present: Tensor | None, ignore_index: int) -> Tensor:
    _on_one_device("modality_scores", [*logits, labels, present])
    first = logits[0]
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    return first.new_empty((4, _num_modalities(logits), labels.shape[0]), dtype=dtype)


def _modality_scores_out(
    logits: list[Tensor],
    labels: Tensor,
    present: Tensor | None,
    ignore_index: int,
    loss: Tensor,
    confidence: Tensor,
    entropy: Tensor,
    margin: Tensor,
) -> None:
    _on_one_device("modality_scores", [*logits, labels, present, loss, confidence, entropy, margin])


def _emotion_transitions(
    labels: Tensor,
    speakers: Tensor,
    offsets: Tensor,
    num_classes: int,
    similarity: Tensor | None,
    fitted: Tensor | None,
    ignore_index: int,
    breaks: bool,
    by_speaker: bool,
    weighs_both: bool,
) -> tuple[Tensor, ...]:
    _on_one_device("emotion_transitions", [labels, speakers, offsets, similarity, fitted])
    D = offsets.shape[0] - 1
    real = torch.float64 if similarity is not None and similarity.dtype == torch.float64 else torch.float32
    return (
        labels.new_empty((num_classes, num_classes), dtype=torch.int64),
        *(labels.new_empty(D, dtype=torch.int64) for _ in range(3)),
        labels.new_empty(D, dtype=real),
        labels.new_empty(labels.shape[0], dtype=real),
    )


def _modality_scores_backward(
    logits: list[Tensor],
    labels: Tensor,
    present: Tensor | None,
    ignore_index: int,
    grad_loss: Tensor | None,
    grad_confidence: Tensor | None,
    grad_entropy: Tensor | None,
    grad_margin: Tensor | None,
) -> Tensor:
    gradients = [grad_loss, grad_confidence, grad_entropy, grad_margin]
    _on_one_device("modality_scores_backward", [*logits, labels, present, *gradients])
    first = logits[0]
    return first.new_empty((_num_modalities(logits), *first.shape[-2:]))


def _modality_spread(confidence: Tensor, offsets: Tensor, present: Tensor | None, of_means: bool) -> Tensor:
    _on_one_device("modality_spread", [confidence, offsets, present])
    dtype = torch.float64 if confidence.dtype == torch.float64 else torch.float32
    return confidence.new_empty(offsets.shape[0] - 1, dtype=dtype)


def _multiview_hardness(
    reconstruction: list[Tensor],
    target: list[Tensor],
    hidden: list[Tensor],
    crossed: list[Tensor],
    present: Tensor,
    valid: Tensor | None,
    scaling: Tensor | None,
    mi_sign: int,
    slope: float,
    direct_weight: float,
    information_weight: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tensors = [*reconstruction, *target, *hidden, *crossed, present, valid, scaling]
    _on_one_device("multiview_hardness", tensors)
    first = hidden[0]
    T, dtype = first.shape[-2], torch.float64 if first.dtype == torch.float64 else torch.float32
    hardness, direct, information = (first.new_empty(T, dtype=dtype) for _ in range(3))
    return hardness, direct, information, first.new_empty(4, dtype=torch.float64)


def _self_paced_weights(
    difficulty: Tensor,
    threshold_tensor: Tensor | None,
    threshold: float | None,
    scheme: int,
    parameter: float,
    groups: Tensor | None,
) -> Tensor:
    _on_one_device("self_paced_weights", [difficulty, threshold_tensor, groups])
    return torch.empty_like(difficulty, memory_format=torch.contiguous_format)


def _self_paced_step(
    logits: list[Tensor],
    labels: Tensor,
    offsets: Tensor,
    threshold_tensor: Tensor | None,
    threshold: float | None,
    joint: Tensor | None,
    extra_difficulty: Tensor | None,
    class_weight: Tensor | None,
    present: Tensor | None,
    measure: int,
    scheme: int,
    scheme_parameter: float,
    groups_are_dialogues: bool,
    divides_by_weight: bool,
    of_means: bool,
    label_smoothing: float,
    ignore_index: int,
    flags: bool,
    needs_gradient: bool,
) -> tuple[Tensor, ...]:
    optional = [threshold_tensor, joint, extra_difficulty, class_weight, present]
    _on_one_device("self_paced_step", [*logits, labels, offsets, *optional])
    first = logits[0]
    M = _num_modalities(logits)
    T, C = first.shape[-2:]
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    shapes = [(), (T,), (T,), (T,), (M, T), (offsets.shape[0] - 1,), (T if needs_gradient else 0, C)]
    return (
        *(first.new_empty(shape, dtype=dtype) for shape in shapes),
        first.new_empty(7, dtype=torch.int64),
        first.new_empty(2 + 2 * M, dtype=torch.float64),
    )


def _self_paced_step_backward(
    gradient: Tensor, grad_loss: Tensor, counts: Tensor, sums: Tensor, divides_by_weight: bool, dtype: torch.dtype
) -> Tensor:
    _on_one_device("self_paced_step_backward", [gradient, grad_loss, counts, sums])
    return gradient.new_empty(gradient.shape, dtype=dtype)


def _super_loss(
    loss: Tensor, threshold_tensor: Tensor | None, threshold: float | None, regularization: float
) -> tuple[Tensor, Tensor]:
    _on_one_device("super_loss", [loss, threshold_tensor])
    value = torch.empty_like(loss, memory_format=torch.contiguous_format)
    return value, torch.empty_like(value)


def _num_modalities(logits: list[Tensor]) -> int:
    """One tensor `[M, T, C]`, or M tensors `[T, C]`."""
    return logits[0].shape[0] if logits[0].ndim == 3 else len(logits)


def _window_coherence(
    embeddings: list[Tensor],
    offsets: Tensor,
    present: Tensor | None,
    window: int,
    of_predictions: bool,
    needs_counts: bool,
) -> tuple[Tensor, Tensor]:
    _on_one_device("window_coherence", [*embeddings, offsets, present])
    first = embeddings[0]
    T = first.shape[-2]
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    return first.new_empty(T, dtype=dtype), first.new_empty(T if needs_counts else 0, dtype=torch.int64)


def _window_coherence_out(
    embeddings: list[Tensor], offsets: Tensor, present: Tensor | None, window: int, of_predictions: bool, out: Tensor
) -> None:
    _on_one_device("window_coherence", [*embeddings, offsets, present, out])


def _window_coherence_backward(
    grad: Tensor,
    counts: Tensor,
    embeddings: list[Tensor],
    offsets: Tensor,
    present: Tensor | None,
    window: int,
    of_predictions: bool,
) -> Tensor:
    _on_one_device("window_coherence", [grad, counts, *embeddings, offsets, present])
    first = embeddings[0]
    M = first.shape[0] if len(embeddings) == 1 and first.ndim == 3 else len(embeddings)
    return first.new_empty((M, *first.shape[-2:]))


def _on_one_device(op: str, tensors: list[Tensor | None]) -> None:
    """A tensor on "meta" among others on a real device brings the call here, where nothing is computed."""
    devices = {tensor.device for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        names = " and ".join(sorted(map(str, devices)))
        raise RuntimeError(f"{op}: all tensors must be on one device (got {names})")
