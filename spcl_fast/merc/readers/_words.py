"""How values of a file and errors of libraries are put into the one line of a message."""

from __future__ import annotations

import numpy as np

_LONGEST_VALUE = 60
_LONGEST_REASON = 200


def shown(value: object) -> str:
    """A value as a message shows it: short, and never the inside of a container."""
    if value is None or isinstance(value, (str, bytes, int, float, np.generic)):
        text = repr(value)
        return _cut(text, _LONGEST_VALUE)
    return f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def reason(error: BaseException) -> str:
    """What an error says; its name where it says nothing."""
    return _cut(" ".join(str(error).split()) or type(error).__name__, _LONGEST_REASON)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
