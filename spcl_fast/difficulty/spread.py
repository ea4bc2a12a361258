"""The spread between the modalities as difficulty."""

from __future__ import annotations

from typing import ClassVar

from spcl_fast.difficulty.measurer import Difficulty


class SpreadDifficulty(Difficulty):
    """`s_d`, the spread of the modalities in the utterance's dialogue (`ops.modality_spread`): SPCL without the loss.

    The same for every utterance of a dialogue, and a sum over it unless the scheduler has `aggregate="mean"`. NaN
    with fewer than two modalities. Needs two modalities.

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import SpreadDifficulty, StepInputs
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
        >>> inputs = StepInputs(logits, torch.tensor([0]), torch.tensor([0, 1]))
        >>> round(SpreadDifficulty()(inputs).item(), 3)
        0.433
    """

    fused: ClassVar[str] = "spread"
    needs = frozenset({"modalities", "dialogues"})
