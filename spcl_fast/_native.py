"""The compiled torch library: loading it, once and on first use, and the fakes of its ops.

A fake gives `torch.compile` the shape and dtype of a result without computing it; all of them stand here.
"""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch import Tensor

LIBRARY = Path(__file__).with_name("libspcl_fast.so")

_lock = threading.Lock()
_outcome: str | None = None  # "" once loaded, or why it could not be
_fakes_are_registered = False


def why_not_loaded() -> str | None:
    """None when the library is loaded, which the first call attempts; else the reason, always the same."""
    global _outcome
    if _outcome is None:
        with _lock:
            if _outcome is None:
                _outcome = _load()
    return _outcome or None


def is_loaded() -> bool:
    """Whether the library is loaded; never loads it."""
    return _outcome == ""


def instruction_set() -> str:
    """The instruction set its kernels use on this machine: "avx512", "avx2" or "baseline"."""
    return torch.ops.spcl_fast.instruction_set()


def _load() -> str:
    if not LIBRARY.is_file():
        return f"{LIBRARY.name} is not built; run `make setup`, or `pip install --no-build-isolation -e .`"
    try:
        torch.ops.load_library(str(LIBRARY))
        _register_fakes()
        instruction_set()  # a wrong SPCL_FAST_ISA is found here and not in the middle of a call
    except Exception as error:
        return f"{LIBRARY.name} cannot be used with torch {torch.__version__}: {' '.join(str(error).split())}"
    return ""


def _register_fakes() -> None:
    global _fakes_are_registered
    if not _fakes_are_registered:
        torch.library.register_fake("spcl_fast::modality_scores", _modality_scores_fake)
        torch.library.register_fake("spcl_fast::modality_scores_out", _modality_scores_out_fake)
        torch.library.register_fake("spcl_fast::modality_spread", _modality_spread_fake)
        torch.library.register_fake("spcl_fast::self_paced_weights", _self_paced_weights_fake)
        torch.library.register_fake("spcl_fast::self_paced_step", _self_paced_step_fake)
        _fakes_are_registered = True


def _modality_scores_fake(logits: list[Tensor], labels: Tensor, present: Tensor | None, ignore_index: int) -> Tensor:
    _on_one_device("modality_scores", [*logits, labels, present])
    first = logits[0]
    modalities = first.shape[0] if len(logits) == 1 and first.ndim == 3 else len(logits)
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    return first.new_empty((4, modalities, labels.shape[0]), dtype=dtype)


def _modality_scores_out_fake(
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


def _modality_spread_fake(confidence: Tensor, offsets: Tensor, present: Tensor | None, of_means: bool) -> Tensor:
    _on_one_device("modality_spread", [confidence, offsets, present])
    dtype = torch.float64 if confidence.dtype == torch.float64 else torch.float32
    return confidence.new_empty(offsets.shape[0] - 1, dtype=dtype)


def _self_paced_weights_fake(
    difficulty: Tensor, threshold_tensor: Tensor | None, threshold: float | None, scheme: int
) -> Tensor:
    _on_one_device("self_paced_weights", [difficulty, threshold_tensor])
    return torch.empty_like(difficulty, memory_format=torch.contiguous_format)


def _self_paced_step_fake(
    logits: list[Tensor],
    labels: Tensor,
    offsets: Tensor,
    threshold_tensor: Tensor | None,
    threshold: float | None,
    joint: Tensor | None,
    extra_difficulty: Tensor | None,
    class_weight: Tensor | None,
    present: Tensor | None,
    scheme: int,
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
    M = first.shape[0] if len(logits) == 1 and first.ndim == 3 else len(logits)
    T, C = first.shape[-2:]
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    shapes = [(), (T,), (T,), (T,), (M, T), (offsets.shape[0] - 1,), (T if needs_gradient else 0, C)]
    return (
        *(first.new_empty(shape, dtype=dtype) for shape in shapes),
        first.new_empty(7, dtype=torch.int64),
        first.new_empty(1 + 2 * M, dtype=torch.float64),
    )


def _on_one_device(op: str, tensors: list[Tensor | None]) -> None:
    """A tensor on "meta" among others on a real device brings the call here, where nothing is computed."""
    devices = {tensor.device for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        names = " and ".join(sorted(map(str, devices)))
        raise RuntimeError(f"{op}: all tensors must be on one device (got {names})")
