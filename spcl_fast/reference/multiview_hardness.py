"""How hard an utterance with missing modalities is, by its reconstruction and by what its modalities share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from spcl_fast.reference.rows import stacked

#: of the entropy proxy: what is added to a probability under the logarithm, and the smallest probability
EPSILON, SMALLEST = 1e-7, 1e-6


class MultiviewHardness(NamedTuple):
    """The hardness of each utterance in (0, 1), its two parts before they are scaled, and the scaling.

    `hardness`, `direct` and `information` are `[T]`; `scaling` is float64`[4]`: smallest and largest direct hardness,
    smallest and largest information.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> x, present = torch.zeros(2, 1, 4), torch.tensor([[True], [False]])
        >>> result = ops.multiview_hardness(x + 1, x, hidden=x, crossed=x[:1], present=present)
        >>> {name: value.tolist() for name, value in result._asdict().items() if name != "information"}
        {'hardness': [0.5], 'direct': [0.5], 'scaling': [0.5, 0.5, 1.386..., 1.386...]}
    """

    hardness: Tensor
    direct: Tensor
    information: Tensor
    scaling: Tensor


def multiview_hardness(
    reconstruction: Tensor | Sequence[Tensor],
    target: Tensor | Sequence[Tensor] | None,
    hidden: Tensor | Sequence[Tensor],
    crossed: Tensor | Sequence[Tensor],
    present: Tensor,
    *,
    scaling: Tensor | None = None,
    mi_sign: int = 1,
    slope: float = 4.0,
    direct_weight: float = 0.6,
    information_weight: float = 0.4,
    valid: Tensor | None = None,
) -> MultiviewHardness:
    """Contract: `spcl_fast.ops.multiview_hardness`; without a target the reconstructions are compared with zeros.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> x, present = torch.zeros(2, 3, 4, dtype=torch.float64), torch.tensor([[True] * 3, [False] * 3])
        >>> reconstruction = torch.tensor([0.0, 1.0, 2.0])[:, None].expand(2, 3, 4).double()
        >>> result = reference.multiview_hardness(reconstruction, x, x, x[:1], present)
        >>> result.direct.tolist(), [round(h, 4) for h in result.hardness.tolist()]  # sigmoid of 0, 0.6 and 2.4
        ([0.0, 0.5, 2.0], [0.5, 0.6457, 0.9168])
    """
    M, real = present.shape[0], torch.float64 if hidden[0].dtype == torch.float64 else torch.float32
    valid = torch.ones_like(present[0]) if valid is None else valid

    # Missing modalities that are badly reconstructed make an utterance hard. The mean is over all M.
    direct = torch.zeros_like(valid, dtype=real)
    for m in range(M):
        error = reconstruction[m].to(real) - (0.0 if target is None else target[m].to(real))
        direct = direct + torch.where(present[m], 0.0, error.square().mean(-1))
    direct = direct / M

    H, crossed_H = entropy_proxy(stacked(hidden)), entropy_proxy(stacked(crossed))
    mutual = [H[m] + H[n] - crossed_H[k] for k, (m, n) in enumerate(combinations(range(M), 2))]
    information = mi_sign * torch.stack(mutual).sum(0)

    counts = valid & direct.isfinite() & information.isfinite()
    direct, information = (torch.where(counts, x, float("nan")) for x in (direct, information))
    if scaling is None:
        scaling = torch.stack([*_range(direct, counts), *_range(information, counts)])
    d, g = _scaled(direct, scaling[:2]), _scaled(information, scaling[2:])
    hardness = torch.sigmoid(slope * (direct_weight * d + information_weight * g))
    return MultiviewHardness(hardness.to(real), direct, information, scaling)


def entropy_proxy(x: Tensor) -> Tensor:
    """`H = -sum_f p log(p + 1e-7)`, p = softmax(x) clamped to [1e-6, 1] and not divided by its sum again.

    `[..., F]` gives `[...]`, in nats; NaN where x has no softmax.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> x = torch.tensor([[0.0, 0.0], [0.0, -1e9]], dtype=torch.float64)
        >>> reference.entropy_proxy(x).round(decimals=7).tolist()  # log 2, nearly; and 1e-6 that the clamp adds
        [0.693147, 1.36e-05]
    """
    p = torch.softmax(x, -1).clamp(SMALLEST, 1.0)
    return -(p * (p + EPSILON).log()).sum(-1)


def _range(x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest of what counts; of nothing +Inf and -Inf, which any other range widens."""
    none = x.new_full((1,), float("inf"), dtype=torch.float64)
    x = x.double()
    smallest = torch.cat([torch.where(counts, x, none), none]).amin()
    return smallest, torch.cat([torch.where(counts, x, -none), -none]).amax()


def _scaled(x: Tensor, bounds: Tensor) -> Tensor:
    """To [0, 1] over these bounds; 0 where they leave no room."""
    extent = bounds[1] - bounds[0]
    return torch.where((extent > 0) & extent.isfinite(), (x.double() - bounds[0]) / extent, 0.0 * x.double())
