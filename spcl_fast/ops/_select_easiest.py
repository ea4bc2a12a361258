"""The op `select_easiest`."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import _check

OP = "select_easiest"


def select_easiest(difficulty: Tensor, pace: float, *, backend: str | None = None) -> Tensor:
    """Takes the easiest utterances: exactly `ceil(pace n)` of the n whose difficulty is not NaN.

    They are those below the threshold of `difficulty_quantile` and, of those equal to it, the first by index
    (ours: the literature leaves ties open). What a pace takes, a larger one takes too.

    `ceil` is that of real numbers: a product `pace n` that differs from an integer by no more than the rounding
    of the pace and of the product counts as that integer, so that a pace of 0.1 takes 3 of 30 and not 4.

    Args:
        difficulty: `[T]`, float16, bfloat16, float32 or float64, any strides; read in place. NaN is never taken;
            +Inf is the largest value, -Inf the smallest, -0 equals 0.
        pace: fraction of the corpus, a number in (0, 1].
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `bool[T]` on the device of `difficulty`, True where taken. Nothing waits for the device. Deterministic.

    Raises:
        TypeError: a difficulty or a pace of another type; a bool is no pace.
        ValueError: a difficulty that is not `[T]`, a pace outside (0, 1].

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> difficulty = torch.tensor([0.5, 0.25, 0.5, float("nan"), 1.0])
        >>> ops.select_easiest(difficulty, pace=0.5).tolist()  # two of four: of a tie the first
        [True, True, False, False, False]
    """
    _check.tensor(OP, "difficulty", difficulty, 1, _check.FLOATS, "floating point numbers")
    pace = _check.pace(OP, pace)
    difficulty = difficulty.detach()
    if backends.choose(OP, backend, difficulty.device, needs_grad=False) != "reference":
        return torch.ops.spcl_fast.select_easiest(difficulty, pace)
    return reference.select_easiest(difficulty, pace)
