"""The op `select_easiest`."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from spcl_fast import _distributed, backends, reference
from spcl_fast.ops import _check, _radix_select

OP = "select_easiest"


def select_easiest(
    difficulty: Tensor,
    pace: float | Tensor,
    *,
    process_group: dist.ProcessGroup | None = None,
    ids: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Takes the easiest utterances: exactly `ceil(pace n)` of the n whose difficulty is not NaN.

    They are those below the threshold of `difficulty_quantile` and, of those equal to it, the first by index, or by
    `ids` (ours: the literature leaves ties open). What a pace takes, a larger one takes too.

    `ceil` is that of real numbers: a product `pace n` that differs from an integer by no more than the rounding
    of the pace and of the product counts as that integer, so that a pace of 0.1 takes 3 of 30 and not 4.

    With a `process_group` the n utterances are those of all its processes: exactly `ceil(pace n)` of them are taken,
    those of equal difficulty by `ids`, or without ids by the rank of the process and then by index. With ids the same
    utterances are taken however they are spread over processes. Histograms and counts are summed, never difficulties:
    16 KB for each of 2, 3 or 6 digits of a half, a float32 or a float64, and of 6 digits of the ids. Without one
    nothing is sent.

    Args:
        difficulty: `[T]`, float16, bfloat16, float32 or float64, any strides; read in place. NaN is never taken;
            +Inf is the largest value, -Inf the smallest, -0 equals 0.
        pace: fraction of the corpus, a number in (0, 1]; or a 0-dim floating point tensor on the device of
            `difficulty`, which counts as the number it holds (float64 for 0.1 to be 0.1). One on the host is looked at.
            On a GPU nobody waits for it, and a graph or a compiled function takes another value as it is: there more
            than 1 counts as 1, and 0, less or NaN takes nothing.
        process_group: the processes that have a part of the corpus, of which this is one; None for this one alone.
            All have to call, also with no utterance, with the same pace, with difficulties of one dtype, and all with
            ids or all without.
        ids: `int64[T]` on the device of `difficulty`, the number of each utterance in the corpus. No two are equal, on
            any process; of utterances that share one, all or none are taken, and so perhaps too many.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `bool[T]` on the device of `difficulty`, True where taken. Nothing waits for the device. Deterministic.

    Raises:
        TypeError: a difficulty, a pace, ids or a process group of another type; a bool is no pace.
        ValueError: a difficulty that is not `[T]`, a pace outside (0, 1] or on another device, ids of another shape or
            on another device.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> difficulty = torch.tensor([0.5, 0.25, 0.5, float("nan"), 1.0])
        >>> ops.select_easiest(difficulty, pace=0.5).tolist()  # two of four: of a tie the first
        [True, True, False, False, False]
    """
    _check.tensor(OP, "difficulty", difficulty, 1, _check.FLOATS, "floating point numbers")
    pace = _check.pace(OP, pace, difficulty.device)
    group = None if process_group is None else _distributed.group(OP, process_group)
    difficulty = difficulty.detach()
    chosen = backends.choose(OP, backend, difficulty.device, needs_grad=False)
    if group is not None or ids is not None:
        return _by_threshold(difficulty, pace, group, ids, backend)
    if chosen == "reference":
        return reference.select_easiest(difficulty, pace)
    if isinstance(pace, float):
        return torch.ops.spcl_fast.select_easiest(difficulty, pace)
    return torch.ops.spcl_fast.select_easiest(difficulty, None, pace)


def _by_threshold(
    difficulty: Tensor, pace: float | Tensor, group: dist.ProcessGroup | None, ids: Tensor | None, backend: str | None
) -> Tensor:
    """Those below the threshold of all processes, and as many of the ties as it leaves."""
    if ids is not None:
        _check.tensor(OP, "ids", ids, 1, (torch.int64,), "int64")
        _check.shaped(OP, "ids", ids, tuple(difficulty.shape), difficulty.device, "difficulty")
    count = _radix_select.count_over(difficulty, group, backend)
    threshold, left = _radix_select.threshold(count, difficulty, pace)
    is_tie = difficulty == threshold
    if ids is not None:
        is_taken = _radix_select.smallest(ids, is_tie, left, group, backend)
    else:
        world = _distributed.world(group)
        ties = left.new_zeros(world.size)
        ties[world.rank] = is_tie.sum()
        left = left - _distributed.all_sum(ties, group)[: world.rank].sum()
        is_taken = is_tie & (is_tie.cumsum(0) <= left)
    return (difficulty < threshold) | is_taken
