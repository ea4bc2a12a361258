"""The op `self_paced_weights` on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast import _options
from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "self_paced_weights"


def self_paced_weights(
    difficulty: FloatArray,
    threshold: float,
    *,
    scheme: str = "hard",
    **parameters: float | str | NDArray[np.integer[Any]],
) -> FloatArray:
    """Weights of a self-paced regulariser: `spcl_fast.ops.self_paced_weights` on arrays, where the formulas stand.

    "hard" is the published selection of SPCL (arXiv 2605.21565, code); "linear", "logistic", "log", "mixture"
    (`lower`), "polynomial" (`degree`, `formula`) and "spld" (`gamma`, `groups`) are the literature's usual forms;
    "superloss" (`regularization`) is the confidence of Castells et al. 2020, "given" the difficulty as it is.

    Args:
        difficulty: float16, float32 or float64, any shape, also an empty one; higher is harder.
        threshold: lambda, a number in units of difficulty.
        scheme: name of the regulariser.
        **parameters: those of the scheme, all of them: `lower`, `degree`, `gamma`, `regularization` are finite
            numbers, `groups` an array of integers of the shape of `difficulty`; `formula` may be left out.

    Returns:
        Weights of the shape and dtype of `difficulty`, at least 0 and for most schemes at most 1; 0 where it is NaN.
        Deterministic.

    Raises:
        TypeError: something else than an array or a number, a dtype that is not taken, a parameter that the scheme
            does not have or one that is missing.
        ValueError: an unknown scheme, a parameter or threshold out of its domain, groups of another shape.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> difficulty = np.array([0.0, 0.25, 0.5, 1.0])
        >>> arrays.self_paced_weights(difficulty, 0.5).tolist()
        [1.0, 1.0, 1.0, 0.0]
        >>> arrays.self_paced_weights(difficulty, 0.5, scheme="polynomial", degree=2).tolist()
        [1.0, 0.5, 0.0, 0.0]
    """
    kernels = _inputs.kernels()
    _inputs.array(OP, "difficulty", difficulty)
    number, parameter = _options.weighting(OP, scheme, parameters)
    level = _inputs.threshold(OP, threshold)
    _options.require_threshold(OP, scheme, parameter, level)
    groups = _inputs.optional(OP, "groups", parameters.get("groups"))
    # The kernels take float32 and float64 without gaps; what is so already is not copied.
    rho = difficulty.astype(np.float32) if difficulty.dtype == np.float16 else difficulty
    rho = np.require(rho, requirements=["C", "ALIGNED"])
    groups = None if groups is None else np.require(groups, requirements=["C"])
    weight: FloatArray = kernels.self_paced_weights(rho, level, number, parameter, groups)
    return weight.astype(difficulty.dtype, copy=False)
