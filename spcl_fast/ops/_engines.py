"""What has the raw ops of a backend: the compiled libraries, or the Triton kernels, called in the same words.

`torch.ops.spcl_fast` is the engine of "cpu" and of "cuda": torch picks the kernel by the device of the tensors.
`spcl_fast.kernels` has functions of the same names and parameters.

On a device two things differ from the CPU. A call takes at most `MOST_TENSORS` tensors, whose addresses are arguments
of a kernel; and `self_paced_step` gives its gradient undivided, since no thread knows the divisor before the last has
finished: the backward pass divides, in the launch that multiplies by the gradient that arrives there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor

from spcl_fast import _native, backends

MOST_TENSORS = 32


def tensor_list(vectors: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> list[Tensor]:
    """The tensors of all modalities as the raw ops take them; what they are, the ops look at."""
    if type(vectors) is list:
        return vectors
    if isinstance(vectors, Tensor):
        return [vectors]
    return list(vectors.values()) if isinstance(vectors, Mapping) else list(vectors)


def takes_all(backend: str) -> bool:
    """Whether a usual call can go to the raw op before anything of it is checked in Python."""
    return (backend == "cpu" and not _native.acts_as_device) or backend == "cuda"


def has_host_ops(device: torch.device, backend: str | None) -> bool:
    """Whether the compiled library takes calls of this device for which it has ops of the host alone."""
    return (
        device.type == "cpu"
        and backends.choose("self_paced_step", backend, device, needs_grad=False) == "cpu"
        and not _native.acts_as_device
    )


def engine(backend: str) -> ModuleType:
    """The engine of a backend that is on."""
    if backend == "triton":
        from spcl_fast import kernels  # type: ignore[attr-defined, unused-ignore]

        return kernels
    return torch.ops.spcl_fast


def acts_as_device(backend: str) -> bool:
    """Whether the backend keeps the contract of a device."""
    return backend != "cpu" or _native.acts_as_device


def at_most(tensors: list[Tensor], backend: str) -> list[Tensor]:
    """The tensors of all modalities; stacked, by a copy, where they are more than a device takes."""
    return tensors if len(tensors) <= MOST_TENSORS or not acts_as_device(backend) else [torch.stack(tensors)]
