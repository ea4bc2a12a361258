"""The op `difficulty_quantile`."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import _check

OP = "difficulty_quantile"


def difficulty_quantile(difficulty: Tensor, pace: float, *, backend: str | None = None) -> Tensor:
    """The threshold at a pace: the `ceil(pace n)`-th smallest of the n difficulties that are not NaN.

    An order statistic, exact and never interpolated. `difficulty <= threshold` takes at least the fraction `pace`:
    it keeps every tie, where `select_easiest` keeps `ceil(pace n)` utterances exactly. The quantile of the
    difficulties as the threshold of self-paced learning is the literature's usual form; for the competence that
    paces it see Platanios et al. 2019 (arXiv 1903.09848).

    `ceil` is that of real numbers: a product `pace n` that differs from an integer by no more than the rounding
    of the pace and of the product counts as that integer, so that a pace of 0.1 takes 3 of 30 and not 4.

    Args:
        difficulty: `[T]`, float16, bfloat16, float32 or float64, any strides; read in place. NaN is left out; +Inf
            is the largest value, -Inf the smallest, -0 equals 0.
        pace: fraction of the corpus, a number in (0, 1].
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        The threshold, a 0-dim tensor of the dtype and on the device of `difficulty`; +0 where it is zero, NaN for
        n = 0. Nothing waits for the device. Not differentiable. Deterministic.

    Raises:
        TypeError: a difficulty or a pace of another type; a bool is no pace.
        ValueError: a difficulty that is not `[T]`, a pace outside (0, 1].

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> difficulty = torch.tensor([0.5, 0.25, 0.5, float("nan"), 1.0])
        >>> threshold = ops.difficulty_quantile(difficulty, pace=0.5)  # the second of four
        >>> threshold.item()
        0.5
        >>> (difficulty <= threshold).tolist()  # the tie is kept
        [True, True, True, False, False]
    """
    _check.tensor(OP, "difficulty", difficulty, 1, _check.FLOATS, "floating point numbers")
    pace = _check.pace(OP, pace)
    difficulty = difficulty.detach()
    if backends.choose(OP, backend, difficulty.device, needs_grad=False) != "reference":
        return torch.ops.spcl_fast.difficulty_quantile(difficulty, pace)
    return reference.difficulty_quantile(difficulty, pace)
