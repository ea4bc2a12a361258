"""`torch.compile` as a contender."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

import torch


def compiled(function: Callable[..., Any], mode: str | None = None) -> Callable[..., Any]:
    """`function` compiled apart from all others, for the shapes and the thread count of its first call.

    Dynamo keeps what it compiled beside the code object and tries the entries one after the other. A code
    object of its own spares each contender the guards of the others; and the generated C++ holds the thread
    count, so each one needs its own code in any case.
    """
    f = cast(FunctionType, function)
    own = FunctionType(f.__code__.replace(), f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    own.__kwdefaults__ = f.__kwdefaults__
    return torch.compile(own, dynamic=False, fullgraph=True, mode=mode)
