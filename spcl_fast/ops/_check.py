"""Argument checks of the ops. Messages read "op: rule (got ...)".

What needs only shapes, dtypes and devices is always checked and never waits for a device. What needs the data
is checked where it is on the host (offsets), or when the caller asks with `validate="full"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spcl_fast._options import choice as choice
from spcl_fast._options import require_threshold
from spcl_fast.reference.rows import expected_offsets, label_is_scored, row_is_finite

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)
VALIDATE = ("cheap", "full", "off")


class Logits(NamedTuple):
    """Logits, or embeddings with C features, as the ops take them: one `[M, T, C]` tensor or M of `[T, C]`, no copy."""

    tensors: list[Tensor]
    M: int
    T: int
    C: int
    device: torch.device
    dtype: torch.dtype

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient has to reach the logits."""
        return torch.is_grad_enabled() and any(z.requires_grad for z in self.tensors)

    @property
    def joined(self) -> Tensor | list[Tensor]:
        """The form the reference takes."""
        return self.tensors[0] if self.tensors[0].ndim == 3 else self.tensors

    def modality(self, m: int) -> Tensor:
        """`[T, C]` of one modality."""
        return self.tensors[0][m] if self.tensors[0].ndim == 3 else self.tensors[m]


def tensor(op: str, name: str, value: Any, ndim: int, dtypes: Sequence[torch.dtype], kind: str) -> Tensor:
    """TypeError or ValueError unless `value` is a tensor of this rank and one of these dtypes."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor (got {type(value).__name__})")
    if value.dtype not in dtypes:
        raise TypeError(f"{op}: {name} must hold {kind} (got {value.dtype})")
    if value.ndim != ndim:
        raise ValueError(f"{op}: {name} must have {ndim} dimension(s) (got shape {tuple(value.shape)})")
    return value


def shaped(
    op: str, name: str, value: Tensor, shape: tuple[int, ...], device: torch.device, beside: str = "logits"
) -> None:
    """ValueError unless `value` has this shape and lies on this device, where `beside` lies."""
    if tuple(value.shape) != shape:
        raise ValueError(f"{op}: {name} must have shape {shape} (got {tuple(value.shape)})")
    if value.device != device:
        raise ValueError(f"{op}: all tensors must be on one device ({beside} on {device}, {name} on {value.device})")


def logits(
    op: str, value: Tensor | Sequence[Tensor] | Mapping[str, Tensor], name: str = "logits", letter: str = "C"
) -> Logits:
    """The logits of all modalities, in the order of the sequence or of the mapping; or embeddings, by another name.

    `letter` is that of the columns: "C" for classes, "F" for features.
    """
    if isinstance(value, Tensor):
        tensor(op, name, value, 3, FLOATS, "floating point numbers")
        (M, T, C), tensors = value.shape, [value]
    else:
        named = value.items() if isinstance(value, Mapping) else enumerate(value)
        tensors = [tensor(op, f"{name}[{k!r}]", z, 2, FLOATS, "floating point numbers") for k, z in named]
        if not tensors:
            raise ValueError(f"{op}: {name} must have at least one modality (got none)")
        for m, z in enumerate(tensors[1:], 1):
            shaped(op, f"{name}[{m}]", z, tuple(tensors[0].shape), tensors[0].device, name)
            if z.dtype != tensors[0].dtype:
                raise TypeError(f"{op}: all {name} must have one dtype (got {tensors[0].dtype} and {z.dtype})")
        M, (T, C) = len(tensors), tensors[0].shape
    if M == 0:
        raise ValueError(f"{op}: {name} must have at least one modality (got none)")
    if C == 0:
        raise ValueError(f"{op}: {name} must have at least one {'class' if letter == 'C' else 'feature'} (got none)")
    return Logits(tensors, M, T, C, tensors[0].device, tensors[0].dtype)


def apart(op: str, name: str, target: Tensor, inputs: Sequence[Tensor | None]) -> None:
    """ValueError if `target`, which is to be written, shares memory with an input; data that is traced is not known."""
    if torch.compiler.is_compiling() or target.device.type == "meta":
        return
    begin, end = _extent(target)
    for value in inputs:
        first, last = (0, 0) if value is None else _extent(value)
        if begin < last and first < end:
            raise ValueError(f"{op}: {name} must not overlap an input (got shared memory)")


def _extent(value: Tensor) -> tuple[int, int]:
    """The addresses that a tensor can touch."""
    if value.numel() == 0:
        return 0, 0
    elements = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    return value.data_ptr(), value.data_ptr() + elements * value.element_size()


def labels(op: str, value: Tensor, z: Logits) -> None:
    """Labels `int[T]` of any integer dtype."""
    shaped(op, "labels", tensor(op, "labels", value, 1, INTEGERS, "integers"), (z.T,), z.device)


def present(op: str, value: Tensor | None, shape: tuple[int, int], device: torch.device) -> None:
    """`bool[M, T]` or None."""
    if value is not None:
        shaped(op, "present", tensor(op, "present", value, 2, (torch.bool,), "booleans"), shape, device)


def offsets_form(op: str, value: Tensor, device: torch.device) -> None:
    """CSR offsets `int[D+1]`, whatever they hold."""
    tensor(op, "offsets", value, 1, INTEGERS, "integers")
    if value.device != device:
        raise ValueError(f"{op}: all tensors must be on one device (data on {device}, offsets on {value.device})")
    if value.numel() == 0:
        raise ValueError(f"{op}: offsets must have at least one entry (got none)")


def offsets(op: str, value: Tensor, num_rows: int, device: torch.device, validate: str) -> None:
    """CSR offsets `int[D+1]`: on the host their values are checked in every mode."""
    offsets_form(op, value, device)
    if value.device.type != "cpu" and (validate != "full" or value.device.type == "meta"):
        return
    if torch.compiler.is_compiling():  # a trace cannot look at data; what is wrong there is read as its running maximum
        return
    value = value.long()
    expected = expected_offsets(value, num_rows)
    if not torch.equal(expected, value):
        d = int((expected != value).nonzero()[0])
        rule = "must start at 0" if d == 0 else f"must end at the number of utterances, {num_rows}"
        if 0 < d < value.numel() - 1:
            rule = f"must never fall and stay within [0, {num_rows}]"
        before = f", after {int(value[d - 1])}" if d else ""
        raise ValueError(f"{op}: offsets {rule} (got {int(value[d])} at position {d}{before})")


def class_weight(op: str, value: Tensor | None, z: Logits) -> None:
    """`[C]`, finite and at least 0; its values are looked at on the host alone."""
    if value is None:
        return
    shaped(op, "class_weight", tensor(op, "class_weight", value, 1, FLOATS, "floating point numbers"), (z.C,), z.device)
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        value = value.detach()
        bad = ~(value.isfinite() & (value >= 0))
        if bool(bad.any()):
            c = int(bad.nonzero()[0])
            raise ValueError(f"{op}: class_weight must be finite and at least 0 (got {float(value[c])} for class {c})")


def square_matrix(op: str, name: str, value: Tensor, is_right: Callable[[Tensor], Tensor], rule: str) -> None:
    """ValueError unless it is square and every entry is right; waits for the device of a matrix that is on one."""
    if value.shape[0] != value.shape[1]:
        raise ValueError(f"{op}: {name} must be square (got shape {tuple(value.shape)})")
    matrix_values(op, name, value.detach().cpu(), is_right, rule)


def number(op: str, name: str, value: Any, rule: str, is_right: Callable[[float], bool] = math.isfinite) -> float:
    """A real number for which the rule holds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name} must be a number (got {type(value).__name__})")
    if not is_right(float(value)):
        raise ValueError(f"{op}: {name} must {rule} (got {value})")
    return float(value)


def real(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the arithmetic: float64 for float64, float32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def matrix_values(op: str, name: str, value: Tensor, is_right: Callable[[Tensor], Tensor], rule: str) -> None:
    """ValueError with the first entry of a matrix that is not right; looked at on the host alone."""
    if value.device.type == "cpu" and not torch.compiler.is_compiling():
        bad = ~is_right(value)
        if bool(bad.any()):
            i, j = bad.nonzero()[0].tolist()
            raise ValueError(f"{op}: {name} {rule} (got {value[i, j].item()} for classes {i}, {j})")


def data(op: str, z: Logits, y: Tensor, ignore_index: int, has: Tensor | None, joint: Tensor | None = None) -> None:
    """What `validate="full"` adds: every label names a class, every row of logits in use has a softmax."""
    if z.device.type == "meta":
        raise ValueError(f"{op}: validate='full' needs data to look at (got tensors on meta)")
    label_values(op, y, z.C, ignore_index)
    used = y.long() != ignore_index
    for m in range(z.M):
        _rows_have_softmax(op, f"modality {m}", z.modality(m), used if has is None else used & has[m])
    if joint is not None:
        _rows_have_softmax(op, "joint", joint, used if has is None else used & has.any(0))


def label_values(op: str, y: Tensor, num_classes: int, ignore_index: int) -> None:
    """ValueError with the first label that neither names a class nor is `ignore_index`."""
    y = y.long()
    bad = ~label_is_scored(y, num_classes, ignore_index) & (y != ignore_index)
    if bool(bad.any()):
        t = int(bad.nonzero()[0])
        raise ValueError(
            f"{op}: labels must lie in [0, {num_classes}) or be ignore_index {ignore_index}"
            f" (got {int(y[t])} at position {t})"
        )


def _rows_have_softmax(op: str, name: str, logits: Tensor, used: Tensor) -> None:
    logits = logits.detach()
    bad = used & ~row_is_finite(logits)
    if bool(bad.any()):
        t = int(bad.nonzero()[0])
        wrong = ~(logits[t] < float("inf"))
        if bool(wrong.any()):
            c = int(wrong.nonzero()[0])
            got = f"{float(logits[t, c])} at {name}, utterance {t}, class {c}"
        else:
            got = f"-inf everywhere at {name}, utterance {t}"
        raise ValueError(f"{op}: logits must be neither NaN nor +Inf, nor -Inf for every class (got {got})")


def losses(op: str, loss: Tensor, y: Tensor, ignore_index: int, has: Tensor | None) -> None:
    """The rest of `validate="full"` for a step: the loss of every utterance in use is finite."""
    used = y.long() != ignore_index
    bad = (used if has is None else used & has.any(0)) & ~loss.isfinite()
    if bool(bad.any()):
        t = int(bad.nonzero()[0])
        raise ValueError(f"{op}: the loss of every utterance must be finite (got {float(loss[t])} for utterance {t})")


def pace(op: str, value: float | Tensor, device: torch.device) -> float | Tensor:
    """A fraction of the corpus, in (0, 1]: a number, also where a tensor on the host has it, or a tensor to be read."""
    if type(value) is float and 0 < value <= 1:  # at once: the questions below take a microsecond
        return value
    if isinstance(value, Tensor):
        if value.ndim or not value.dtype.is_floating_point:
            raise TypeError(
                f"{op}: pace must be a number or a 0-dim floating point tensor (got {value.dtype}"
                f" of shape {tuple(value.shape)})"
            )
        if value.device != device:
            raise ValueError(
                f"{op}: all tensors must be on one device (difficulty on {device}, pace on {value.device})"
            )
        value = value.detach()
        if device.type != "cpu" or torch.compiler.is_compiling():
            return value
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: pace must be a number (got {type(value).__name__})")
    if not 0 < value <= 1:
        raise ValueError(f"{op}: pace must be in (0, 1] (got {value})")
    return float(value)


def threshold(
    op: str, value: Tensor | float, device: torch.device, scheme: str = "hard", parameter: float = 0.0
) -> Tensor | float:
    """A number or a 0-dim tensor on this device, without its gradient; in its domain where that can be seen at once."""
    if isinstance(value, Tensor):
        if value.ndim or not value.dtype.is_floating_point:
            raise ValueError(
                f"{op}: threshold must be a number or a 0-dim floating point tensor (got {value.dtype}"
                f" of shape {tuple(value.shape)})"
            )
        if value.device != device:
            raise ValueError(f"{op}: all tensors must be on one device (data on {device}, threshold on {value.device})")
        value = value.detach()
        if device.type != "cpu" or torch.compiler.is_compiling():
            return value
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: threshold must be a number or a 0-dim tensor (got {type(value).__name__})")
    if float(value) != float(value):
        raise ValueError(f"{op}: threshold must not be NaN (got {float(value)})")
    require_threshold(op, scheme, parameter, float(value))
    return value if isinstance(value, Tensor) else float(value)
