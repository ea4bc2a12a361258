"""The op `super_loss` on arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spcl_fast import _options
from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "super_loss"


class SuperLoss(NamedTuple):
    """The value of each loss, and the confidence in it, of its shape and dtype.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> value, weight = arrays.super_loss(np.array([1.0]), 1.0, regularization=1.0)
        >>> value.tolist(), weight.round(6).tolist()  # a loss at the threshold
        ([0.0], [1.0])
    """

    value: FloatArray
    weight: FloatArray


def super_loss(loss: FloatArray, threshold: float, *, regularization: float) -> SuperLoss:
    """SuperLoss (Castells et al. 2020): `spcl_fast.ops.super_loss` on arrays, where the formulas stand.

    Args:
        loss: float16, float32 or float64, any shape.
        threshold: tau, in units of the loss, any number but NaN.
        regularization: finite and above 0.

    Returns:
        `SuperLoss(value, weight)` of the shape and dtype of `loss`, the bits of the torch op on the CPU.

    Raises:
        TypeError: something else than an array or a number, a dtype that is not taken.
        ValueError: a regularization out of its domain, a threshold that is NaN.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> arrays.super_loss(np.array([0.5, 2.0]), 1.0, regularization=1.0).weight.round(3).tolist()
        [1.43, 0.703]
    """
    kernels = _inputs.kernels()
    _inputs.array(OP, "loss", loss)
    number = _options.weighting(OP, "superloss", {"regularization": regularization}).parameter
    level = _inputs.threshold(OP, threshold)
    # The kernels take float32 and float64 without gaps; what is so already is not copied.
    l = loss.astype(np.float32) if loss.dtype == np.float16 else loss
    value, weight = kernels.super_loss(np.require(l, requirements=["C", "ALIGNED"]), level, number)
    return SuperLoss(value.astype(loss.dtype, copy=False), weight.astype(loss.dtype, copy=False))
