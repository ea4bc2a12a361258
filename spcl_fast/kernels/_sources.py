"""What the host side of every kernel needs: where the rows lie, how they are tiled, on which device to launch."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Tensors that a kernel takes one by one; more of them are stacked first.
MOST_SOURCES = 32


class Sources(NamedTuple):
    """The rows of M modalities, read in place: M tensors `[T, C]`, or one `[M, T, C]`.

    A kernel loops over `tensors` while it is compiled, and over the `per_source` modalities of each while it runs.
    """

    tensors: tuple[Tensor, ...]
    row_strides: tuple[int, ...]
    column_strides: tuple[int, ...]
    modality_stride: int
    per_source: int
    M: int
    T: int
    C: int

    @property
    def first(self) -> Tensor:
        """Any of them: all have one dtype and one device."""
        return self.tensors[0]

    @property
    def result_dtype(self) -> torch.dtype:
        """That of the arithmetic and of the results."""
        return torch.float64 if self.first.dtype == torch.float64 else torch.float32

    @property
    def real(self) -> tl.dtype:
        """The same for a kernel."""
        return tl.float64 if self.first.dtype == torch.float64 else tl.float32

    @property
    def pointers(self) -> tuple[object, ...]:
        """The first five arguments of every kernel that reads rows."""
        return self.tensors, self.row_strides, self.column_strides, self.modality_stride, self.per_source


def sources(tensors: Sequence[Tensor]) -> Sources:
    """`tensors` as the ops take them."""
    first = tensors[0]
    if first.ndim == 2 and len(tensors) > MOST_SOURCES:
        first = torch.stack(tuple(tensors))
        tensors = (first,)
    T, C = first.shape[-2:]
    if first.ndim == 3:
        M = first.shape[0]
        return Sources((first,), (first.stride(1),), (first.stride(2),), first.stride(0), M, M, T, C)
    strides = tuple(z.stride(0) for z in tensors), tuple(z.stride(1) for z in tensors)
    return Sources(tuple(tensors), *strides, 0, 1, len(tensors), T, C)


class Tiles(NamedTuple):
    """Rows and columns that a program holds at a time; whether its columns are all there are."""

    rows: int
    columns: int
    only_tile: bool

    @property
    def options(self) -> dict[str, int | bool]:
        """The same as arguments of a kernel."""
        return {"ROWS": self.rows, "COLUMNS": self.columns, "ONLY_TILE": self.only_tile}


def tiles(columns: int, real: tl.dtype, elements: int = 1024) -> Tiles:
    """How rows of so many columns are tiled: by the columns and the dtype alone.

    Never by the number of rows: the order in which a row is summed may not depend on what else is in the batch.
    What a program keeps for each row takes registers too, so that there are at most 64 of them.
    """
    if real == tl.float64:
        elements //= 2
    width = min(max(triton.next_power_of_2(columns), 2), elements)
    return Tiles(min(elements // width, 64), width, columns <= width)


def bits(number: float) -> int:
    """A float64 for a kernel, which takes a Python number as float32; the kernel says `double_of_bits`."""
    return struct.unpack("<q", struct.pack("<d", number))[0]


def matrix_strides(tensor: Tensor | None) -> tuple[int, int]:
    """Those of a matrix that may be missing."""
    return (0, 0) if tensor is None else (tensor.stride(0), tensor.stride(1))


def blocks(count: int, size: int) -> tuple[int]:
    """A grid of programs that have `size` of `count` each."""
    return (triton.cdiv(count, size),)


def on_device_of(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, whatever device the tensors are on."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()
