"""Whether a contender computes what the float64 reference computes: no speed is shown of one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

AT_ONCE = 1 << 15  # utterances compared at once: what stays in the caches is compared four times as fast
AT_ONCE_ON_DEVICE = 1 << 23  # there each slice costs some launches and a wait


class DisagreementError(Exception):
    """A contender's output is too far from the reference's."""


@dataclass(frozen=True)
class Tolerance:
    """|output - reference| <= absolute + relative |reference|; `at_ties`: also where the selection is a tie."""

    absolute: float
    relative: float = 0.0
    at_ties: bool = True


@dataclass(frozen=True)
class Expected:
    """The reference's outputs in float64 and how near a contender must come to each.

    ties: positions along the last dimension (the last but one of a gradient) where the selection hangs on a
    rounding error; outputs with `at_ties=False` are not compared there.
    """

    outputs: Mapping[str, Tensor]
    tolerances: Mapping[str, Tolerance]
    ties: Tensor | None = None

    def differences(
        self, contender: str, got: Mapping[str, Tensor | Sequence[Tensor]], omits: frozenset[str] = frozenset()
    ) -> dict[str, float]:
        """The largest difference of every output but those it `omits`.

        Raises:
            DisagreementError: one is missing, has another shape, or is beyond its tolerance.
        """
        largest = {}
        for name, reference in self.outputs.items():
            if name in omits:
                continue
            if name not in got:
                raise DisagreementError(f"{contender}: gives no {name}, so it is not timed")
            value, tolerance = got[name], self.tolerances[name]
            x = (value if isinstance(value, Tensor) else torch.stack(tuple(value))).detach()
            if x.shape != reference.shape:
                raise DisagreementError(
                    f"{contender}: {name} has shape {tuple(x.shape)}, the reference {tuple(reference.shape)}"
                )
            along = -2 if name == "gradient" else -1
            ties = None if tolerance.at_ties else self.ties
            parts = [_difference(*part, tolerance) for part in _parts(x, reference, ties, along)]
            largest[name] = max((difference for difference, _ in parts), default=0.0)
            if any(is_beyond for _, is_beyond in parts):
                raise DisagreementError(
                    f"{contender}: {name} differs from the float64 reference by up to {largest[name]:.3g}, beyond "
                    f"{tolerance.absolute:g} + {tolerance.relative:g} |reference|, so no speed is shown"
                )
        return largest

    def record(self) -> dict[str, Any]:
        """The tolerances, for the result file."""
        return {
            name: {"absolute": t.absolute, "relative": t.relative, "compared_at_ties": t.at_ties}
            for name, t in self.tolerances.items()
        } | {"ties": 0 if self.ties is None else int(self.ties.sum())}


def _parts(
    x: Tensor, reference: Tensor, ties: Tensor | None, along: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Both in slices along a dimension: a comparison in float64 must not take many times the memory of the output."""
    if x.dim() < -along:
        yield x, reference, ties
        return
    at_once = AT_ONCE if x.device.type == "cpu" else AT_ONCE_ON_DEVICE
    for start in range(0, x.shape[along], at_once):
        length = min(at_once, x.shape[along] - start)
        of_ties = None if ties is None else ties.narrow(0, start, length).view(-1, *[1] * (-along - 1))
        yield x.narrow(along, start, length), reference.narrow(along, start, length), of_ties


def _difference(x: Tensor, reference: Tensor, ties: Tensor | None, tolerance: Tolerance) -> tuple[float, bool]:
    """The largest difference, and whether one is beyond the tolerance."""
    if not x.numel():
        return 0.0, False
    x = x.double()
    difference = torch.where(x == reference, 0.0, (x - reference).abs())  # two infinities are equal
    difference = torch.where(x.isnan() & reference.isnan(), 0.0, difference)
    if ties is not None:
        difference = torch.where(ties, 0.0, difference)
    size = reference.abs().nan_to_num(nan=0.0, posinf=0.0)  # what must be NaN or infinite is so, or is beyond
    beyond = ~(difference <= tolerance.absolute + tolerance.relative * size)  # NaN on one side is beyond
    return float(difference.nan_to_num(nan=float("inf")).max()), bool(beyond.any())
