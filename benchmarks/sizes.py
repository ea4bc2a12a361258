"""The sizes that benchmarks share, and what must hold before the largest is built."""

from __future__ import annotations

import torch
from torch import Tensor

from . import memory

# Sixteen dialogues of IEMOCAP's range of lengths, 1000 utterances; thirty-two of MELD's, mean 9.6.
IEMOCAP = (24, 96, 48, 71, 30, 63, 108, 52, 37, 88, 56, 81, 43, 76, 60, 67)
MELD = (9, 3, 14, 10, 1, 7, 17, 11, 5, 12, 8, 2, 19, 6, 10, 13, 4, 9, 15, 3, 11, 7, 18, 8, 5, 14, 6, 12, 10, 16, 9, 13)

DTYPES = (torch.bfloat16, torch.float16, torch.float64)  # beside float32, in which every cell is measured
LARGEST = 10_000_000
BEST_ALONE = "of the plain forms only the one runs here that is the fastest in float32 at T=1e6"


class CellTooLargeError(Exception):
    """The machine has not the memory that a cell needs now; the others are measured."""


def require_memory(bytes_needed: int) -> None:
    """Refuses a cell that would make the machine swap.

    Raises:
        CellTooLargeError: less than that is available.
    """
    there = memory.available()
    if there is not None and there < bytes_needed:
        raise CellTooLargeError(f"needs {bytes_needed / 1e9:.1f} GB of memory, {there / 1e9:.1f} GB are available")


def name_of(T: int) -> str:
    """A power of ten as the cells name it."""
    return f"T=1e{len(str(T)) - 1}"


def name_of_dtype(dtype: torch.dtype) -> str:
    """Without the module."""
    return str(dtype).removeprefix("torch.")


def repeated(x: Tensor, times: int, dim: int) -> Tensor:
    """`times` copies of `x` one after the other: what an op does by rows or dialogues repeats with its input."""
    return x if times == 1 else torch.cat([x] * times, dim)
