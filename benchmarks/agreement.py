"""Whether a contender computes what the float64 reference computes: no speed is shown of one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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
            x = (value if isinstance(value, Tensor) else torch.stack(tuple(value))).detach().double()
            if x.shape != reference.shape:
                raise DisagreementError(
                    f"{contender}: {name} has shape {tuple(x.shape)}, the reference {tuple(reference.shape)}"
                )
            difference = torch.where(x == reference, 0.0, (x - reference).abs())  # two infinities are equal
            difference = torch.where(x.isnan() & reference.isnan(), 0.0, difference)
            if self.ties is not None and not tolerance.at_ties:
                ties = self.ties[:, None] if name == "gradient" else self.ties
                difference = torch.where(ties, 0.0, difference)
            bound = tolerance.absolute + tolerance.relative * reference.abs()
            beyond = ~(difference <= bound)  # NaN on one side alone is beyond
            largest[name] = float(difference.nan_to_num(nan=float("inf")).max()) if difference.numel() else 0.0
            if bool(beyond.any()):
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
