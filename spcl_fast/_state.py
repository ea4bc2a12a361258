"""What saved state and present settings are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """The fields in which two settings differ, in words; empty when they agree."""
    return "; ".join(
        f"{name} {saved.get(name)!r} there, {present.get(name)!r} here"
        for name in sorted(saved.keys() | present.keys())
        if saved.get(name) != present.get(name)
    )
