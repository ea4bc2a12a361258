"""The op `self_paced_weights`."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast.ops import _check

OP = "self_paced_weights"
SCHEME_NUMBERS = {"hard": 0, "linear": 1, "logistic": 2}  # as the compiled library calls them


def self_paced_weights(
    difficulty: Tensor,
    threshold: Tensor | float,
    *,
    scheme: str = "hard",
    backend: str | None = None,
    **parameters: float,
) -> Tensor:
    """Weights of a self-paced regulariser: how much each utterance counts at this threshold.

    - "hard": `1[rho <= lambda]`, the published selection of SPCL (arXiv 2605.21565, code); every tie is kept.
    - "linear": `max(0, 1 - rho / lambda)`; "logistic": `(1 + e^-lambda) / (1 + e^(rho - lambda))`. The forms
      are the literature's usual ones. Both are 0 for lambda <= 0, and 1 for a difficulty below 0.

    Args:
        difficulty: floating point, any shape; higher is harder.
        threshold: lambda, in units of difficulty; a number or a 0-dim tensor. Negative or 0 is allowed, and so
            is +Inf, which keeps all that is not NaN.
        scheme: name of the regulariser.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.
        **parameters: those of the scheme; these three have none.

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
    difficulty = difficulty.detach()
    threshold = _check.threshold(OP, threshold, difficulty.device)
    check_scheme(OP, scheme, parameters)
    if backends.choose(OP, backend, difficulty.device, needs_grad=False) == "cpu":
        rho = difficulty if difficulty.dtype == torch.float64 else difficulty.float()
        level, number = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
        weight = torch.ops.spcl_fast.self_paced_weights(rho.contiguous(), level, number, SCHEME_NUMBERS[scheme])
        return weight.to(difficulty.dtype)
    return reference.self_paced_weights(difficulty, threshold, scheme=scheme, **parameters)


def check_scheme(op: str, scheme: str, parameters: dict[str, float]) -> None:
    """ValueError for a scheme that does not exist, or a parameter that it does not have."""
    _check.choice(op, "scheme", scheme, tuple(reference.SCHEMES))
    if parameters:
        raise ValueError(f"{op}: scheme {scheme!r} has no parameters (got {', '.join(sorted(parameters))})")
