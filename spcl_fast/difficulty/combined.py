"""Several measurers as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spcl_fast._scheduler_state import described
from spcl_fast.difficulty._scaling import NORMALIZE
from spcl_fast.difficulty.measurer import Difficulty, StepInputs, require_difficulty
from spcl_fast.ops import _check

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class CombinedDifficulty(Difficulty):
    """The weighted sum of several difficulties, as they are or each normalised first.

    A term that the fused step measures itself costs nothing more where it is the first of its kind, has weight 1 and is
    not normalised. An utterance that one term cannot judge (NaN) is judged by none.

    Args:
        terms: pairs of a measurer (or the name of a registered one) and its weight, which is finite; below 0 turns a
            difficulty around.
        normalize: None, or "minmax" (to [0, 1]), "zscore" (less the mean, over the standard deviation) or "rank" (the
            share that is easier), over the batch, which makes the combination batch-relative. With a process group
            over the batch of all processes, except "rank", which is refused there.

    Raises:
        TypeError, ValueError: no term, a term that is no measurer, a weight that is no finite number, an unknown name.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.difficulty import CombinedDifficulty
        >>> both = CombinedDifficulty([("spcl", 1.0), ("dif", 0.5)])
        >>> scheduler = SelfPacedScheduler(threshold=0.9, difficulty=both)
        >>> sorted(both.needs)
        ['dialogues', 'modalities', 'speakers']
    """

    def __init__(self, terms: Sequence[tuple[Difficulty | str, float]], *, normalize: str | None = None) -> None:
        from spcl_fast.difficulty.registry import make  # names what this module is one of

        super().__init__()
        if normalize is not None:
            _check.choice("CombinedDifficulty", "normalize", normalize, tuple(NORMALIZE))
        if not terms:
            raise ValueError("CombinedDifficulty: terms must have at least one measurer (got none)")
        measurers, weights = [], []
        for k, pair in enumerate(terms):
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise TypeError(
                    f"CombinedDifficulty: terms[{k}] must be a pair of a measurer and its weight (got {pair!r})"
                )
            term, weight = pair
            measurer = make(term) if isinstance(term, str) else term
            if not isinstance(measurer, Difficulty):
                raise TypeError(f"CombinedDifficulty: terms[{k}] must be a Difficulty (got {type(term).__name__})")
            measurers.append(measurer)
            weights.append(_check.number("CombinedDifficulty", f"the weight of terms[{k}]", weight, "be finite"))
        self.terms = nn.ModuleList(measurers)
        self.weights = tuple(weights)
        self.normalize = normalize
        self.needs = frozenset().union(*(m.needs for m in measurers))
        self.is_batch_relative = normalize is not None or any(m.is_batch_relative for m in measurers)
        # The term that the step measures while it trains, if one can be left as it is.
        plain = [k for k, m in enumerate(measurers) if m.fused != "none" and weights[k] == 1 and normalize is None]
        self._fused_term = plain[0] if plain else None
        self.fused = "none" if self._fused_term is None else measurers[self._fused_term].fused  # type: ignore[misc]

    @property
    def config(self) -> dict[str, Any]:
        """Those of the terms, the weights and the normalisation."""
        terms = [described(m) for m in self._measurers()]
        return {"terms": terms, "weights": list(self.weights), "normalize": self.normalize}

    @torch.no_grad()
    def forward(self, inputs: StepInputs) -> Tensor:
        """The weighted sum, `[T]`."""
        if self._fused_term is not None:
            return super().forward(inputs)
        total = self.extra(inputs)
        assert total is not None  # there is at least one term
        return total

    @torch.no_grad()
    def extra(self, inputs: StepInputs) -> Tensor | None:
        """The sum of all that the step does not measure itself."""
        total: Tensor | None = None
        for k, (measurer, weight) in enumerate(zip(self._measurers(), self.weights, strict=True)):
            if k == self._fused_term:
                term = measurer.extra(inputs)
                if term is None:
                    continue
            else:
                term = require_difficulty(measurer, measurer(inputs), inputs)
                if self.normalize is not None:
                    term = NORMALIZE[self.normalize](term, inputs.process_group)
                term = weight * term
            total = term if total is None else total + term
        return total

    def require(self, inputs: StepInputs) -> None:
        """That of every term."""
        for measurer in self._measurers():
            measurer.require(inputs)

    def end_epoch(self, process_group: ProcessGroup | None = None) -> None:
        """That of every term."""
        for measurer in self._measurers():
            measurer.end_epoch(process_group)

    def synchronize(self, process_group: ProcessGroup) -> None:
        """That of every term."""
        for measurer in self._measurers():
            measurer.synchronize(process_group)

    def _measurers(self) -> list[Difficulty]:
        return list(self.terms)  # type: ignore[arg-type]
