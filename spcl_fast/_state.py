"""State that lasts: how it is compared with present settings, and what keeps it exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


def is_plain(value: Any) -> bool:
    """Whether a state may hold it as a setting: it loads with `weights_only=True` and can be compared."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_plain(x) for k, x in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)  # a number of NumPy is a float, and does not load


def differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """The fields in which two settings differ, in words, those of parts by `part.field`; empty when they agree."""
    return "; ".join(_differences(saved, present, ""))


def _differences(saved: Mapping[str, Any], present: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name in sorted(saved.keys() | present.keys()):
        there, here = saved.get(name), present.get(name)
        if there == here:
            continue
        if isinstance(there, Mapping) and isinstance(here, Mapping) and _kind(there) == _kind(here):
            yield from _differences(there, here, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} {there!r} there, {here!r} here"


def _kind(part: Mapping[str, Any]) -> Any:
    """What a part is: only of two that are the same kind it helps to compare the fields."""
    return part.get("class", part.get("pace"))
