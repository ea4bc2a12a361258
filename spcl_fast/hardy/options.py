"""What of HARDY-MER a run can choose beside its `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HardyOptions"]

CHOICES = {"target_source": ("true", "code"), "mi_sign": (1, -1), "rerank": ("mean_l2", "code")}


@dataclass(frozen=True, kw_only=True)
class HardyOptions:
    """Choices of HARDY-MER (arXiv 2508.06800); the published code has those in brackets where it differs.

    Attributes:
        blocks: of every expert, at least 1 (4).
        heads: of every attention, at least 1, a divisor of `TrainConfig.hidden`.
        target_source: what the missing modalities are to be reconstructed from, and what hardness compares with: "true"
            for the true features, "code" for the input, in which they are zeros ("code").
        mi_sign: sign of the mutual information in the hardness, 1 or -1, of `ops.multiview_hardness`.
        rerank: order of the neighbours, of `NeighbourTable` ("code").
        accumulate_gradients: whether the steps of one batch add up their gradients, each clipped with those before it,
            instead of beginning anew (True, and never clipped).

    Raises:
        ValueError: a value out of its domain.

    Example:
        >>> from spcl_fast.hardy.options import HardyOptions
        >>> published = HardyOptions(blocks=4, target_source="code", rerank="code", accumulate_gradients=True)
        >>> HardyOptions(mi_sign=0)
        Traceback (most recent call last):
            ...
        ValueError: mi_sign must be one of 1, -1 (got 0)
    """

    blocks: int = 2
    heads: int = 2
    target_source: str = "true"
    mi_sign: int = 1
    rerank: str = "mean_l2"
    accumulate_gradients: bool = False

    def __post_init__(self) -> None:
        for name in ("blocks", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 (got {getattr(self, name)})")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))} (got {getattr(self, name)!r})")
