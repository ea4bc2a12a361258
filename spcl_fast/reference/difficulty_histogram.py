"""How often each digit comes among difficulties: one pass of a radix select."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast.reference.keys import digit_at, has_key, key_of


def difficulty_histogram(difficulty: Tensor, prefix: Tensor, level: int) -> Tensor:
    """Contract: `spcl_fast.ops.difficulty_histogram`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> difficulty = torch.tensor([0.5, float("nan"), -1.0, 0.5])
        >>> counts = reference.difficulty_histogram(difficulty, prefix=torch.tensor(0), level=0)
        >>> counts.nonzero().flatten().tolist(), counts[counts > 0].tolist()  # the digits of -1 and of 0.5
        ([512, 1524], [1, 2])
    """
    digit, key = digit_at(difficulty.dtype, level), key_of(difficulty)
    # A shift repeats the sign bit of a key of 64 bits: the masks take the digits alone.
    above = (key >> digit.below) & ((1 << 64 - digit.below) - 1) if level else torch.zeros_like(key)
    is_counted = has_key(difficulty) & (above == prefix)
    bucket = (key >> digit.shift) & ((1 << digit.bits) - 1)
    return key.new_zeros(1 << digit.bits).scatter_add_(0, bucket, is_counted.long())
