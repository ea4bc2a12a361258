"""What the backbones ask of their arguments."""

from __future__ import annotations

from collections.abc import Mapping


def require_sizes(owner: str, feature_sizes: Mapping[str, int], num_classes: int) -> None:
    """ValueError, in the name of `owner`, without a modality, a feature or a class.

    Example:
        >>> from spcl_fast.merc.models.options import require_sizes
        >>> require_sizes("LateFusion", {}, num_classes=6)
        Traceback (most recent call last):
            ...
        ValueError: LateFusion: at least one modality is needed (got none)
    """
    if not feature_sizes:
        raise ValueError(f"{owner}: at least one modality is needed (got none)")
    for modality, size in feature_sizes.items():
        if size < 1:
            raise ValueError(f"{owner}: {modality} must have at least one feature (got {size})")
    if num_classes < 1:
        raise ValueError(f"{owner}: num_classes must be at least 1 (got {num_classes})")
