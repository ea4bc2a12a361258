"""The op `multiview_hardness` on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcl_fast._options import TARGET_SOURCES, choice
from spcl_fast.arrays import _inputs
from spcl_fast.arrays._inputs import FloatArray

OP = "multiview_hardness"


class MultiviewHardness(NamedTuple):
    """The hardness of each utterance in (0, 1), its two parts before they are scaled, and the scaling.

    `hardness`, `direct` and `information` are `[T]`; `scaling` is float64`[4]`: smallest and largest direct hardness,
    smallest and largest information.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> x, present = np.zeros((2, 1, 4)), np.array([[True], [False]])
        >>> result = arrays.multiview_hardness(x + 1, x, hidden=x, crossed=x[:1], present=present)
        >>> result.hardness.tolist(), result.direct.tolist(), result.scaling[:2].tolist()
        ([0.5], [0.5], [0.5, 0.5])
    """

    hardness: FloatArray
    direct: FloatArray
    information: FloatArray
    scaling: NDArray[np.float64]


def multiview_hardness(
    reconstruction: FloatArray | Sequence[FloatArray],
    target: FloatArray | Sequence[FloatArray] | None,
    hidden: FloatArray | Sequence[FloatArray],
    crossed: FloatArray | Sequence[FloatArray],
    present: NDArray[np.bool_],
    *,
    scaling: NDArray[np.float64] | None = None,
    target_source: str = "true",
    mi_sign: int = 1,
    slope: float = 4.0,
    direct_weight: float = 0.6,
    information_weight: float = 0.4,
    valid: NDArray[np.bool_] | None = None,
) -> MultiviewHardness:
    """How hard an utterance with missing modalities is: `spcl_fast.ops.multiview_hardness` on arrays.

    HARDY-MER's hardness (arXiv 2508.06800) `sigmoid(slope * (direct_weight * d~ + information_weight * g~))`: d is the
    mean squared error of the missing modalities' reconstructions, times 1/M; g the sum of `H(m) + H(n) - H(crossed)`
    over pairs of modalities, H being the entropy proxy; both are scaled to [0, 1] over the utterances that count.

    Args:
        reconstruction: M arrays `[T, F_m]`, or one `[M, T, F]`; M from 2 to 8. All floating point arrays are of one
            dtype, float16, float32 or float64; any strides, read in place.
        target: the same shapes; of "code" not looked at, and None will do.
        hidden: `[M, T, F]`, or M arrays `[T, F]`, before the softmax; -Inf is a probability of 0.
        crossed: `[P, T, F]`, or P arrays `[T, F]`, one for each pair, in the order (0, 1), (0, 2), .., (1, 2), ..
        present: `bool[M, T]`, False where a modality is missing: there alone reconstruction and target are looked at.
        scaling: None for the smallest and largest of this call, or those of before, float64`[4]`.
        target_source: "true", or "code" for zeros, with which the published code compares.
        mi_sign: 1, or -1 for an information that makes easy.
        slope: of the sigmoid, finite.
        direct_weight: of the scaled d, finite.
        information_weight: of the scaled g, finite.
        valid: `bool[T]`, False for padding; None: all are.

    Returns:
        `MultiviewHardness(hardness, direct, information, scaling)`: three of `[T]`, float64 for float64 inputs and
        float32 for all others, and float64`[4]`. Padding, and what has NaN or Inf where it counts, is NaN in all three
        and does not touch the scaling, which is (Inf, -Inf, Inf, -Inf) where none counts. Empty for T = 0.
        Deterministic.

    Raises:
        TypeError: something else than an array, a dtype that is not taken, a number of another type.
        ValueError: M below 2 or above 8, shapes or dtypes that do not fit, no features, an unknown target source, no
            target for "true", a sign other than 1 and -1, a number that is not finite.
        ImportError: the compiled module is not built.

    Example:
        >>> import numpy as np
        >>> from spcl_fast import arrays
        >>> text, audio = np.zeros((2, 3)), np.zeros((2, 5))  # the true features of two utterances
        >>> present = np.array([[True, True], [True, False]])  # the second has no audio
        >>> z = np.zeros((2, 2, 4))
        >>> result = arrays.multiview_hardness([text, audio + 2.0], [text, audio], z, z[:1], present)
        >>> result.direct.tolist(), result.hardness.round(3).tolist()
        ([0.0, 2.0], [0.5, 0.917])
    """
    kernels = _inputs.kernels()
    choice(OP, "target_source", target_source, TARGET_SOURCES)
    if isinstance(mi_sign, bool) or mi_sign not in (1, -1):
        raise ValueError(f"{OP}: mi_sign must be 1 or -1 (got {mi_sign!r})")
    if target is None and target_source == "true":
        raise ValueError(f"{OP}: target_source 'true' needs a target (got None)")
    numbers = [
        _finite("slope", slope),
        _finite("direct_weight", direct_weight),
        _finite("information_weight", information_weight),
    ]
    kinds: list[list[Any]] = [
        _inputs.modalities(OP, "reconstruction", "F", reconstruction),
        [] if target is None or target_source == "code" else _inputs.modalities(OP, "target", "F", target),
        _inputs.modalities(OP, "hidden", "F", hidden),
        _inputs.modalities(OP, "crossed", "F", crossed),
    ]
    _inputs.array(OP, "present", present)
    _inputs.optional(OP, "valid", valid)
    _inputs.optional(OP, "scaling", scaling)
    return MultiviewHardness(*kernels.multiview_hardness(*kinds, present, valid, scaling, mi_sign, *numbers))


def _finite(name: str, value: Any) -> float:
    number = _inputs.number(OP, name, value)
    if not math.isfinite(number):
        raise ValueError(f"{OP}: {name} must be finite (got {value})")
    return number
