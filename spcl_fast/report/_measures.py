"""How evenly the modalities of a run have learned, and how its curriculum ended."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spcl_fast import balance
from spcl_fast.report._study import Arm, Run, score


def balance_values(arm: Arm, name: str) -> list[float]:
    """One number a run that knows it, on test.

    `accuracy_variance` and `loss_disparity`: of `spcl_fast.balance`, in points squared and nats;
    `modality_ratio`: summed confidence of the strongest modality over that of the weakest, in the last epoch, over
    the selected utterances; `agreement` and `multimodal_gain` as the run evaluated them.
    """
    return [x for run in arm.runs.values() if (x := _BALANCE[name](run)) is not None]


def _accuracy_variance(run: Run) -> float | None:
    values = _of_modalities(run, "modality_accuracy")
    return None if values is None else float(balance.accuracy_variance(100 * values))


def _loss_disparity(run: Run) -> float | None:
    values = _of_modalities(run, "modality_loss")
    return None if values is None else float(balance.loss_disparity(values))


def _modality_ratio(run: Run) -> float | None:
    epochs = [x for x in (run.get("timeline") or {}).get("modality_ratio") or [] if x]
    known = [x for x in epochs[-1] if x is not None] if epochs else []
    return max(known) if len(known) > 1 and len(known) == len(epochs[-1]) else None


def _of_modalities(run: Run, name: str) -> Tensor | None:
    values = (run.get("test") or {}).get(name) or []
    return None if len(values) < 2 or None in values else torch.tensor(values, dtype=torch.float64)


_BALANCE: dict[str, Callable[[Run], float | None]] = {
    "accuracy_variance": _accuracy_variance,
    "loss_disparity": _loss_disparity,
    "modality_ratio": _modality_ratio,
    "agreement": lambda run: score(run, "agreement"),
    "multimodal_gain": lambda run: score(run, "multimodal_gain"),
}
