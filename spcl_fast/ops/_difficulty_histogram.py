"""The op `difficulty_histogram`."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import _check
from spcl_fast.reference import keys

OP = "difficulty_histogram"


def difficulty_histogram(difficulty: Tensor, prefix: Tensor, level: int, *, backend: str | None = None) -> Tensor:
    """Counts difficulties by one digit of their keys: a pass of a radix select, whose counts add up over parts.

    The key of a number is the unsigned integer of as many bits that has its place in the order of all numbers: 0 for
    -Inf, the same for -0 and 0. Its digits have 11 bits, from the highest, and the last one what is left: 2 digits for
    a half (11 and 5 bits), 3 for float32 (11, 11, 10), 6 for float64 and int64 (five of 11 and one of 9).

    With the histograms of all shards of a corpus added up, the bucket in which the count first reaches a rank is the
    next digit of the value of that rank. `prefix * 2**bits + bucket` is the prefix of the next level, and the count
    before the bucket is taken from the rank; after the last level the prefix is the key of the value, and the value is
    exact. So a threshold over any number of shards or processes takes 2, 3 or 6 small histograms and no difficulty
    leaves its place (`difficulty_quantile` with a `process_group` does that). Radix selection is textbook; the
    digits are ours.

    Args:
        difficulty: `[T]`, float16, bfloat16, float32 or float64, any strides; read in place. NaN is not counted. Or
            int64, for ids: their keys are in their order, and 2^63 - 1 is not counted.
        prefix: 0-dim int64 on the device of `difficulty`: the digits above, as one number; 0 at level 0. One that no
            key begins with, such as -1, counts nothing. The value is not looked at.
        level: which digit, 0 the highest; below 2, 3 or 6 by the dtype.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `int64[2**bits]` on the device of `difficulty`: how many have each digit, of those whose key begins with
        `prefix`; zeros for T = 0. The sum at level 0 is the number of difficulties that are not NaN. Nothing waits for
        the device. Not differentiable. Deterministic.

    Raises:
        TypeError: a difficulty, prefix or level of another type.
        ValueError: a difficulty that is not `[T]`, a prefix that is not 0-dim or lies on another device, a level that
            the dtype does not have.

    Example:
        The second smallest of two shards:

        >>> import torch
        >>> from spcl_fast import ops
        >>> shards = torch.tensor([0.5, 2.0, 0.25]), torch.tensor([float("nan"), 0.25])
        >>> prefix, rank = torch.tensor(0), 2
        >>> for level, bits in enumerate((11, 11, 10)):
        ...     counts = sum(ops.difficulty_histogram(shard, prefix, level) for shard in shards).cumsum(0)
        ...     bucket = (counts < rank).sum()
        ...     rank -= int(counts[bucket - 1]) if bucket > 0 else 0
        ...     prefix = prefix * 2**bits + bucket
        >>> int(prefix) - 0x7F800000 == torch.tensor(0.25).view(torch.int32)  # a key counts from that of 0
        tensor(True)
    """
    _check.tensor(OP, "difficulty", difficulty, 1, (*_check.FLOATS, torch.int64), "floating point numbers or int64")
    _check.tensor(OP, "prefix", prefix, 0, (torch.int64,), "an int64")
    if prefix.device != difficulty.device:
        raise ValueError(
            f"{OP}: all tensors must be on one device (difficulty on {difficulty.device}, prefix on {prefix.device})"
        )
    if isinstance(level, bool) or not isinstance(level, Integral):
        raise TypeError(f"{OP}: level must be an integer (got {type(level).__name__})")
    if not 0 <= level < keys.levels(difficulty.dtype):
        raise ValueError(
            f"{OP}: level must be in [0, {keys.levels(difficulty.dtype)}) for {difficulty.dtype} (got {level})"
        )
    difficulty = difficulty.detach()
    if backends.choose(OP, backend, difficulty.device, needs_grad=False) != "reference":
        return torch.ops.spcl_fast.difficulty_histogram(difficulty, prefix, int(level))
    return reference.difficulty_histogram(difficulty, prefix, int(level))
