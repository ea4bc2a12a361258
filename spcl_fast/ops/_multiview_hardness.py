"""The op `multiview_hardness`."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

from spcl_fast import backends, reference
from spcl_fast._options import TARGET_SOURCES
from spcl_fast.ops import _check
from spcl_fast.ops._engines import tensor_list
from spcl_fast.reference import MultiviewHardness

OP = "multiview_hardness"
MOST_MODALITIES = 8


def multiview_hardness(
    reconstruction: Tensor | Sequence[Tensor],
    target: Tensor | Sequence[Tensor] | None,
    hidden: Tensor | Sequence[Tensor],
    crossed: Tensor | Sequence[Tensor],
    present: Tensor,
    *,
    scaling: Tensor | None = None,
    target_source: str = "true",
    mi_sign: int = 1,
    slope: float = 4.0,
    direct_weight: float = 0.6,
    information_weight: float = 0.4,
    valid: Tensor | None = None,
    backend: str | None = None,
) -> MultiviewHardness:
    """How hard an utterance with missing modalities is: HARDY-MER's multi-view hardness (arXiv 2508.06800).

    With the reconstruction r, the target x and the hidden units z of each modality:

    - direct hardness `d_t = 1/M sum over missing m of mean_f (r^m_tf - x^m_tf)^2`; 1/M whatever is missing
    - entropy proxy `H(z) = -sum_f p log(p + 1e-7)`, p = softmax(z) clamped to [1e-6, 1], not divided by its sum again
    - information `g_t = mi_sign * sum over pairs m < n of H(z^m_t) + H(z^n_t) - H(c^mn_t)`, whatever is missing;
      `c^mn = CA(m <- n) + CA(n <- m)`, the two cross attentions of the pair
    - hardness `h_t = sigmoid(slope * (direct_weight * d~_t + information_weight * g~_t))`, d~ and g~ being d and g
      scaled to [0, 1] over the utterances that count; a constant becomes 0

    The published code scales padding too; it guards d alone against a constant; and it compares with the input in
    which missing modalities are zeros (`target_source="code"`), where the intent is the true feature ("true").
    `mi_sign=-1`, by which shared information makes an utterance easy, is what the paper's motivation suggests.

    Args:
        reconstruction: M tensors `[T, F_m]`, of as many features as each modality has, or one `[M, T, F]`; M from 2 to
            8. All floating point tensors are of one dtype, float16, bfloat16, float32 or float64; any strides, read in
            place. Units are those of the target.
        target: the same shapes; of "code" not looked at, and None will do.
        hidden: `[M, T, F]`, or M tensors `[T, F]`, before the softmax; -Inf is a probability of 0.
        crossed: `[P, T, F]`, or P tensors `[T, F]`, one for each of the P = M (M - 1) / 2 pairs, in the order (0, 1),
            (0, 2), .., (1, 2), ..
        present: `bool[M, T]`, False where a modality is missing: there alone r and x are looked at. None missing: d is
            0; all missing: the mean over all M.
        scaling: None for the smallest and largest of this call, or those of before, float64`[4]` as in the result
            (`merged_scaling` joins them). Then d~ and g~ may leave [0, 1].
        target_source: "true" or "code".
        mi_sign: 1 as in the published code, or -1.
        slope: of the sigmoid, finite.
        direct_weight: of d~, finite.
        information_weight: of g~, finite.
        valid: `bool[T]`, False for padding; None: all are.
        backend: None for the fastest that can do the call, or a name of `spcl_fast.backends`.

    Returns:
        `MultiviewHardness(hardness, direct, information, scaling)`: three of `[T]`, float64 for float64 inputs and
        float32 for all others, the information in nats and with its sign; the scaling that was used, float64`[4]`:
        smallest and largest d, smallest and largest g, (Inf, -Inf, Inf, -Inf) where none counts. An utterance counts
        unless `valid` is False or it is at fault: d is NaN or Inf, or a row of z or c has no softmax (NaN, +Inf, -Inf
        everywhere). One that does not count is NaN in all three and does not touch the scaling. Empty for T = 0. Not
        differentiable. Deterministic, an utterance depending on the others by the scaling alone.

    Raises:
        TypeError: something else than tensors, a dtype that is not taken, two dtypes, a number of another type.
        ValueError: M below 2 or above 8, shapes that do not fit, no features, two devices, an unknown target source, no
            target for "true", a sign other than 1 and -1, a number that is not finite.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> text, audio = torch.zeros(2, 3), torch.zeros(2, 5)  # the true features of two utterances
        >>> present = torch.tensor([[True, True], [True, False]])  # the second has no audio
        >>> z = torch.zeros(2, 2, 4)
        >>> result = ops.multiview_hardness([text, audio + 2.0], [text, audio], z, z[:1], present)
        >>> result.direct.tolist(), [round(h, 3) for h in result.hardness.tolist()]
        ([0.0, 2.0], [0.5, 0.917])
    """
    _check.choice(OP, "target_source", target_source, TARGET_SOURCES)
    if isinstance(mi_sign, bool) or mi_sign not in (1, -1):
        raise ValueError(f"{OP}: mi_sign must be 1 or -1 (got {mi_sign!r})")
    numbers = {"slope": slope, "direct_weight": direct_weight, "information_weight": information_weight}
    options = [_check.number(OP, name, number, "be finite") for name, number in numbers.items()]
    z = _check.logits(OP, hidden, "hidden", "F")
    if not 2 <= z.M <= MOST_MODALITIES:
        raise ValueError(
            f"{OP}: the information between modalities needs at least 2 of them, and at most {MOST_MODALITIES} "
            f"(got {z.M})"
        )
    c = _tensors("crossed", crossed, [(z.T, z.C)] * comb(z.M, 2), z)
    r = _tensors("reconstruction", reconstruction, [(z.T, None)] * z.M, z)
    widths: list[tuple[int, int | None]] = [(z.T, int(part.shape[1])) for part in r.rows]
    if target is None and target_source == "true":
        raise ValueError(f"{OP}: target_source 'true' needs a target (got None)")
    x = None if target is None or target_source == "code" else _tensors("target", target, widths, z)
    if not isinstance(present, Tensor):
        raise TypeError(f"{OP}: present must be a tensor (got {type(present).__name__})")
    _check.present(OP, present, (z.M, z.T), z.device)
    if valid is not None:
        _check.tensor(OP, "valid", valid, 1, (torch.bool,), "booleans")
        _check.shaped(OP, "valid", valid, (z.T,), z.device, "hidden")
    if scaling is not None:
        _check_scaling("scaling", scaling)
        _check.shaped(OP, "scaling", scaling, (4,), z.device, "hidden")

    with torch.no_grad():
        if backends.choose(OP, backend, z.device, needs_grad=False) == "reference":
            names = dict(zip(numbers, options, strict=True))
            result = reference.multiview_hardness(
                r.rows,
                x and x.rows,
                z.joined,
                c.joined,
                present,
                scaling=scaling,
                mi_sign=mi_sign,
                valid=valid,
                **names,
            )
            return result if scaling is None else result._replace(scaling=scaling.clone())
        target_tensors = [] if x is None else x.tensors
        kinds = (r.tensors, target_tensors, z.tensors, c.tensors)
        return MultiviewHardness(
            *torch.ops.spcl_fast.multiview_hardness(*kinds, present, valid, scaling, mi_sign, *options)
        )


def merged_scaling(first: Tensor, second: Tensor) -> Tensor:
    """The scaling of all that two scalings of `multiview_hardness` are of: what an epoch or a fold remembers.

    Args:
        first: float64`[4]`: smallest and largest direct hardness, smallest and largest information.
        second: the same, on the same device.

    Returns:
        float64`[4]`. (Inf, -Inf, Inf, -Inf), the scaling of no utterance, changes nothing. NaN where either is NaN.

    Raises:
        TypeError: not tensors of float64.
        ValueError: another shape, two devices.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> a, b = torch.tensor([[0.0, 1.0, -2.0, 3.0], [0.5, 4.0, -1.0, 2.0]], dtype=torch.float64)
        >>> ops.merged_scaling(a, b).tolist()
        [0.0, 4.0, -2.0, 3.0]
    """
    _check_scaling("first", first)
    _check_scaling("second", second)
    _check.shaped(OP, "second", second, (4,), first.device, "first")
    return torch.where(_IS_LARGEST.to(first.device), torch.maximum(first, second), torch.minimum(first, second))


_IS_LARGEST = torch.tensor([False, True, False, True])


def _check_scaling(name: str, value: Tensor) -> None:
    _check.tensor(OP, name, value, 1, (torch.float64,), "float64")
    _check.shaped(OP, name, value, (4,), value.device, name)


class _Tensors(NamedTuple):
    """One tensor a row of `shapes`: as they came, and each by itself."""

    tensors: list[Tensor]
    rows: list[Tensor]

    @property
    def joined(self) -> Tensor | list[Tensor]:
        return self.tensors[0] if self.tensors[0].ndim == 3 else self.tensors


def _tensors(
    name: str, value: Tensor | Sequence[Tensor], shapes: list[tuple[int, int | None]], z: _check.Logits
) -> _Tensors:
    """As many tensors as there are shapes, of the dtype and on the device of the hidden units."""
    if isinstance(value, Tensor):
        rows = list(_check.tensor(OP, name, value, 3, _check.FLOATS, "floating point numbers").unbind(0))
    else:
        rows = [
            _check.tensor(OP, f"{name}[{k}]", part, 2, _check.FLOATS, "floating point numbers")
            for k, part in enumerate(value)
        ]
    if len(rows) != len(shapes):
        raise ValueError(f"{OP}: {name} must have {len(shapes)} entries for {z.M} modalities (got {len(rows)})")
    for k, (part, (T, F)) in enumerate(zip(rows, shapes, strict=True)):
        if part.dtype != z.dtype:
            raise TypeError(f"{OP}: all tensors must have one dtype (hidden {z.dtype}, {name} {part.dtype})")
        width = int(part.shape[1]) if F is None else F
        _check.shaped(OP, f"{name}[{k}]", part, (T, width), z.device, "hidden")
        if width == 0:
            raise ValueError(f"{OP}: {name} must have at least one feature (got none)")
    return _Tensors(tensor_list(value), rows)
