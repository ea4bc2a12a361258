"""State that lasts: how it is compared with present settings, and what keeps it exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from torch import Tensor, nn


class KeepsDtypes(nn.Module):
    """A module whose buffers `.half()` and the like do not round; they move with `.to(device)`."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {name: x for name, x in self.named_buffers(recurse=False) if x.is_floating_point()}
        super()._apply(fn, recurse)
        for name, x in before.items():
            if getattr(self, name).dtype != x.dtype:
                setattr(self, name, x.to(getattr(self, name).device))
        return self


def differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """The fields in which two settings differ, in words; empty when they agree."""
    return "; ".join(
        f"{name} {saved.get(name)!r} there, {present.get(name)!r} here"
        for name in sorted(saved.keys() | present.keys())
        if saved.get(name) != present.get(name)
    )
