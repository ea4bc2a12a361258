"""The op `self_paced_weights`."""

from __future__ import annotations

from torch import Tensor

from spcl_fast import reference
from spcl_fast.ops import _check

OP = "self_paced_weights"


def self_paced_weights(
    difficulty: Tensor, threshold: Tensor | float, *, scheme: str = "hard", **parameters: float
) -> Tensor:
    """Weights of a self-paced regulariser: how much each utterance counts at this threshold.

    - "hard": `1[rho <= lambda]`, the published selection of SPCL (arXiv 2605.21565, code); every tie is kept.

    Args:
        difficulty: floating point, any shape; higher is harder.
        threshold: lambda, in units of difficulty; a number or a 0-dim tensor. Negative or 0 is allowed, and so
            is +Inf, which keeps all that is not NaN.
        scheme: name of the regulariser.
        **parameters: those of the scheme; "hard" has none.

    Returns:
        Weights in [0, 1], of the shape and dtype of `difficulty`; 0 where it is NaN. Not differentiable.
        Deterministic, element by element.

    Raises:
        TypeError: a difficulty or threshold of another type.
        ValueError: a NaN threshold (on the host), an unknown scheme or parameter.
    """
    if not isinstance(difficulty, Tensor) or difficulty.dtype not in _check.FLOATS:
        got = difficulty.dtype if isinstance(difficulty, Tensor) else type(difficulty).__name__
        raise TypeError(f"{OP}: difficulty must be a floating point tensor (got {got})")
    _check.threshold(OP, threshold)
    check_scheme(OP, scheme, parameters)
    return reference.self_paced_weights(difficulty.detach(), threshold, scheme=scheme, **parameters)


def check_scheme(op: str, scheme: str, parameters: dict[str, float]) -> None:
    """ValueError for a scheme that does not exist, or a parameter that it does not have."""
    _check.choice(op, "scheme", scheme, tuple(reference.SCHEMES))
    if parameters:
        raise ValueError(f"{op}: scheme {scheme!r} has no parameters (got {', '.join(sorted(parameters))})")
