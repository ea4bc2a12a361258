"""The op `difficulty_quantile`."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from spcl_fast import _distributed, backends, reference
from spcl_fast.ops import _check, _radix_select

OP = "difficulty_quantile"


def difficulty_quantile(
    difficulty: Tensor,
    pace: float | Tensor,
    *,
    process_group: dist.ProcessGroup | None = None,
    backend: str | None = None,
) -> Tensor:
    """The threshold at a pace: the `ceil(pace n)`-th smallest of the n difficulties that are not NaN.

    An order statistic, exact and never interpolated. `difficulty <= threshold` takes at least the fraction `pace`:
    it keeps every tie, where `select_easiest` keeps `ceil(pace n)` utterances exactly. The quantile of the
    difficulties as the threshold of self-paced learning is the literature's usual form; for the competence that
    paces it see Platanios et al. 2019 (arXiv 1903.09848).

    `ceil` is that of real numbers: a product `pace n` that differs from an integer by no more than the rounding
    of the pace and of the product counts as that integer, so that a pace of 0.1 takes 3 of 30 and not 4.

    With a `process_group` the n difficulties are those of all its processes, and the threshold is as exact and has the
    same bits on each. Histograms of `difficulty_histogram` are summed, 16 KB for each of 2, 3 or 6 digits of a half,
    a float32 or a float64; difficulties are not sent. Without one nothing is sent.

    Args:
        difficulty: `[T]`, float16, bfloat16, float32 or float64, any strides; read in place. NaN is left out; +Inf
            is the largest value, -Inf the smallest, -0 equals 0.
        pace: fraction of the corpus, a number in (0, 1]; or a 0-dim floating point tensor on the device of
            `difficulty`, which counts as the number it holds (float64 for 0.1 to be 0.1). One on the host is looked at.
            On a GPU nobody waits for it, and a graph or a compiled function takes another value as it is: there more
            than 1 counts as 1, and for 0, less or NaN the threshold is NaN.
        process_group: the processes that have a part of the corpus, of which this is one; None for this one alone.
            All have to call, also with no difficulty, with the same pace, and with difficulties of one dtype.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        The threshold, a 0-dim tensor of the dtype and on the device of `difficulty`; +0 where it is zero, NaN for
        n = 0. Nothing waits for the device. Not differentiable. Deterministic.

    Raises:
        TypeError: a difficulty, a pace or a process group of another type; a bool is no pace.
        ValueError: a difficulty that is not `[T]`, a pace outside (0, 1] or on another device.

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
    pace = _check.pace(OP, pace, difficulty.device)
    group = None if process_group is None else _distributed.group(OP, process_group)
    difficulty = difficulty.detach()
    chosen = backends.choose(OP, backend, difficulty.device, needs_grad=False)
    if group is not None:
        return _radix_select.threshold(_radix_select.count_over(difficulty, group, backend), difficulty, pace)[0]
    if chosen == "reference":
        return reference.difficulty_quantile(difficulty, pace)
    if isinstance(pace, float):
        return torch.ops.spcl_fast.difficulty_quantile(difficulty, pace)
    return torch.ops.spcl_fast.difficulty_quantile(difficulty, None, pace)
