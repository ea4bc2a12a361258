"""Difficulty by lot: the control that every curriculum should be compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spcl_fast._paces import integer
from spcl_fast.difficulty.measurer import Difficulty, StepInputs
from spcl_fast.ops import _check

MAX_SEED = 2**63 - 1


class RandomDifficulty(Difficulty):
    """A number in [0, 1) for each utterance, uniform and independent of everything: as a threshold, its take rate.

    The number is a hash of seed, epoch and id (SplitMix64; Steele, Lea and Flood 2014), so that it does not depend on
    the batch, the device, the process or the torch version, and a run that is resumed draws what it would have drawn.
    Random thinning by itself can gain as much as a published curriculum, hence this control.

    Args:
        seed: which numbers.
        redraw: whether every epoch draws anew; otherwise the utterances keep their numbers.

    Needs ids; without a corpus that numbers its utterances, `torch.arange` over it will do.

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import RandomDifficulty, StepInputs
        >>> inputs = StepInputs(torch.zeros(1, 3, 2), torch.zeros(3).long(), torch.tensor([0, 3]), ids=torch.arange(3))
        >>> drawn = RandomDifficulty(seed=1)(inputs)
        >>> torch.equal(drawn, RandomDifficulty(seed=1)(inputs)), bool(((drawn >= 0) & (drawn < 1)).all())
        (True, True)
    """

    epoch: Tensor
    needs = frozenset({"ids"})

    def __init__(self, *, seed: int = 0, redraw: bool = True) -> None:
        super().__init__()
        self.seed = integer("RandomDifficulty", "seed", seed, 0, MAX_SEED)
        self.redraw = bool(redraw)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    @property
    def config(self) -> dict[str, Any]:
        """Seed, and whether it draws anew."""
        return {"seed": self.seed, "redraw": self.redraw}

    @torch.no_grad()
    def forward(self, inputs: StepInputs) -> Tensor:
        """Uniform in [0, 1), `[T]`."""
        if inputs.ids is None:
            raise ValueError("RandomDifficulty: needs ids= (got none)")
        z = _check.logits("RandomDifficulty", inputs.logits)
        return uniform(inputs.ids, self.epoch, self.seed, _check.real(z.dtype))

    def end_epoch(self, process_group: Any = None) -> None:
        """Another draw, if it is to draw anew."""
        if self.redraw:
            self.epoch += 1


def uniform(ids: Tensor, epoch: Tensor, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A number in [0, 1) for each id, a hash of it, the epoch and the seed."""
    mixed = _mix(_mix(_mix(ids.long()) ^ epoch) ^ seed)
    return _shift(mixed, 40).to(dtype) * 2.0**-24  # 24 bits, so that a float32 never rounds to 1


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift to the right that brings in zeros; torch's brings in the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64; multiplication of int64 wraps."""
    x = x - 0x61C8864680B583EB  # + 0x9E3779B97F4A7C15 in 64 bits
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ _shift(x, 31)
