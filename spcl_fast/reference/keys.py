"""Integers in the order of numbers, and their digits: what order statistics over many processes are found with.

A key is an unsigned integer of as many bits as the number: 0 for -Inf, one for both zeros, and for every number but NaN
a larger one than for all below it. It travels in an int64 by its bits, so that of a float64 may look negative. The keys
of int64 values, such as ids, have their order too; 2^63 - 1 stands for none there, as NaN does among numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_BITS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 32, torch.float64: 64, torch.int64: 64}
_INTEGERS = {16: torch.int16, 32: torch.int32, 64: torch.int64}
_INFINITY = {torch.float16: 0x7C00, torch.bfloat16: 0x7F80, torch.float32: 0x7F800000, torch.float64: 0x7FF0 << 48}
_LARGEST, _SMALLEST = torch.iinfo(torch.int64).max, torch.iinfo(torch.int64).min
_DIGIT_BITS = 11


class Digit(NamedTuple):
    """One digit of the keys of a dtype; the highest has level 0. `below` bits begin with it."""

    shift: int
    bits: int

    @property
    def below(self) -> int:
        """The bits that the digits above leave."""
        return self.shift + self.bits


def levels(dtype: torch.dtype) -> int:
    """How many digits the keys of a dtype have: 2 of a half, 3 of a float32, 6 of 64 bits."""
    return -(-_BITS[dtype] // _DIGIT_BITS)


def digit_at(dtype: torch.dtype, level: int) -> Digit:
    """Digit `level` of the keys of a dtype: of 11 bits, but for the last."""
    left = _BITS[dtype] - _DIGIT_BITS * level
    return Digit(max(left - _DIGIT_BITS, 0), min(left, _DIGIT_BITS))


def key_of(values: Tensor) -> Tensor:
    """The key of each value; of NaN any."""
    if values.dtype == torch.int64:
        return values ^ _SMALLEST
    size = _BITS[values.dtype]
    bits = values.resolve_neg().view(_INTEGERS[size]).long()
    magnitude = bits & (2 ** (size - 1) - 1)
    return torch.where(bits < 0, -magnitude, magnitude) + _INFINITY[values.dtype]


def has_key(values: Tensor) -> Tensor:
    """Whether each value is one that counts."""
    return values != _LARGEST if values.dtype == torch.int64 else ~values.isnan()


def value_of(key: Tensor, dtype: torch.dtype) -> Tensor:
    """The value with a key: +0 for that of zero."""
    if dtype == torch.int64:
        return key ^ _SMALLEST
    size = _BITS[dtype]
    steps = key - _INFINITY[dtype]  # from zero, down or up
    bits = torch.where(steps < 0, -(2 ** (size - 1)) - steps, steps)  # the sign bit and a magnitude
    return bits.to(_INTEGERS[size]).view(dtype)
