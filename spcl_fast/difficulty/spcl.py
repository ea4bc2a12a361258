"""SPCL's difficulty."""

from __future__ import annotations

from typing import ClassVar

from spcl_fast.difficulty.measurer import Difficulty


class SpclDifficulty(Difficulty):
    """`rho_t = 2 s_d l_t / (s_d + l_t)`: low where the loss is low, or the modalities agree (SPCL, arXiv 2605.21565).

    Contract and faults: `ops.self_paced_step`, which measures it in the pass that trains. Needs two modalities.

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import SpclDifficulty, StepInputs
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])  # two modalities, one utterance
        >>> inputs = StepInputs(logits, torch.tensor([0]), torch.tensor([0, 1]))
        >>> round(SpclDifficulty()(inputs).item(), 3)
        0.363
    """

    fused: ClassVar[str] = "spcl"
    needs = frozenset({"modalities", "dialogues"})
