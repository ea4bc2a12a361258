"""The op `self_paced_weights`."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast import _options, backends, reference
from spcl_fast.ops import _check

OP = "self_paced_weights"


def self_paced_weights(
    difficulty: Tensor,
    threshold: Tensor | float,
    *,
    scheme: str = "hard",
    backend: str | None = None,
    **parameters: float | str | Tensor,
) -> Tensor:
    """Weights of a self-paced regulariser: how much each utterance counts at this threshold.

    With difficulty rho and threshold lambda:

    - "hard": `1[rho <= lambda]`, the published selection of SPCL (arXiv 2605.21565, code); every tie is kept.
    - "linear": `max(0, 1 - rho / lambda)`; "logistic": `(1 + e^-lambda) / (1 + e^(rho - lambda))`.
    - "log", 0 < lambda < 1: `log(rho + z) / log z` for rho < lambda, else 0, with `z = 1 - lambda`.
    - "mixture", l1 = lambda > l2 = `lower` > 0: 1 for rho <= l2, 0 for rho >= l1, else `z / rho - z / l1` with
      `z = l1 l2 / (l1 - l2)`.
    - "polynomial", t = `degree` > 1: `(1 - rho / lambda)^(1 / (t - 1))` for rho < lambda, else 0.
    - "spld", `gamma` >= 0 and `groups`: `1[rho < lambda + gamma / (sqrt r + sqrt(r - 1))]` with r the rank of rho
      in its group, from 1 ascending, ties by index: self-paced learning with diversity, which takes the easiest of
      every group first.
    - "superloss", r = `regularization` > 0 (SuperLoss, Castells et al. 2020): the confidence
      `sigma = exp(-W0(max(-2 / e, (rho - lambda) / r) / 2))` with Lambert's W: 1 at rho = lambda, e for the easiest
      and never 0, of all utterances a little.
    - "given": the weight is the difficulty, where that is above 0 and finite, else 0. The threshold is not used.

    "polynomial" with `formula="curml"` is `(1 - rho / lambda) / (t - 1)`, what the codes of CurML and CurBench compute:
    at t = 2 the same, and above 1 for t < 2.

    The forms but SPCL's and SuperLoss's are the literature's usual ones. All but "hard", "superloss" and "given" are 0
    for lambda <= 0, and for a difficulty below 0 what they are for 0: 1, and 1 / (t - 1) by "curml".

    Args:
        difficulty: floating point, any shape; higher is harder.
        threshold: lambda, in units of difficulty; a number or a 0-dim tensor. Negative or 0 is allowed but for
            "log" and "mixture", and so is +Inf but for "log". It counts in the dtype of the arithmetic.
        scheme: name of the regulariser.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.
        **parameters: those of the scheme, all of them: `lower`, `degree`, `gamma`, `regularization` are finite
            numbers, `groups` a tensor of integers of the shape of `difficulty`; `formula` may be left out.

    Returns:
        Weights of the shape and dtype of `difficulty`, in [0, 1] ("superloss": in [0, e], "given" and "curml": at
        least 0); 0 where it is NaN, and such a difficulty has no rank. Not differentiable. Deterministic; element by
        element but for "spld", whose arithmetic is float64.

    Raises:
        TypeError: a difficulty, threshold or parameter of another type, a parameter that the scheme does not have or
            one that is missing.
        ValueError: an unknown scheme, a parameter out of its domain, groups of another shape or on another device, a
            threshold that is NaN or outside the domain of the scheme. The value of a threshold on another device is
            not looked at: outside the domain of "log" or below `lower` every weight is 0.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> difficulty = torch.tensor([0.0, 0.25, 0.5, 1.0])
        >>> ops.self_paced_weights(difficulty, 0.5).tolist()
        [1.0, 1.0, 1.0, 0.0]
        >>> ops.self_paced_weights(difficulty, 0.5, scheme="linear").tolist()
        [1.0, 0.5, 0.0, 0.0]
        >>> [round(x, 3) for x in ops.self_paced_weights(difficulty, 1.0, scheme="mixture", lower=0.25).tolist()]
        [1.0, 1.0, 0.333, 0.0]
        >>> weight = ops.self_paced_weights(difficulty, 0.5, scheme="superloss", regularization=1.0)
        >>> [round(x, 3) for x in weight.tolist()]
        [1.43, 1.155, 1.0, 0.816]
    """
    if not isinstance(difficulty, Tensor) or difficulty.dtype not in _check.FLOATS:
        got = difficulty.dtype if isinstance(difficulty, Tensor) else type(difficulty).__name__
        raise TypeError(f"{OP}: difficulty must be a floating point tensor (got {got})")
    difficulty = difficulty.detach()
    number, parameter = _options.weighting(OP, scheme, parameters)
    threshold = _check.threshold(OP, threshold, difficulty.device, scheme, parameter)
    groups: Tensor | None = None
    if "groups" in parameters:
        groups = _check.tensor(OP, "groups", parameters["groups"], difficulty.ndim, _check.INTEGERS, "integers")
        _check.shaped(OP, "groups", groups, tuple(difficulty.shape), difficulty.device)
    if backends.choose(OP, backend, difficulty.device, needs_grad=False, ranks=scheme == "spld") != "reference":
        rho = difficulty if difficulty.dtype == torch.float64 else difficulty.float()
        level, value = (threshold, None) if isinstance(threshold, Tensor) else (None, threshold)
        groups = None if groups is None else groups.contiguous()
        weight = torch.ops.spcl_fast.self_paced_weights(rho.contiguous(), level, value, number, parameter, groups)
        return weight.to(difficulty.dtype)
    return reference.self_paced_weights(difficulty, threshold, scheme=scheme, **parameters)
