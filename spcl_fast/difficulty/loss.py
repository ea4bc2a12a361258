"""The loss as difficulty."""

from __future__ import annotations

from typing import ClassVar

from spcl_fast.difficulty.measurer import Difficulty


class LossDifficulty(Difficulty):
    """`l_t = -log softmax(J_t)[y_t]`: self-paced learning as it began (Kumar, Packer and Koller 2010).

    Takes a single modality too, and needs no dialogues, so it serves any classifier: `scheduler(logits, labels)`
    with logits `[T, C]`. Contract and faults: `ops.self_paced_step`.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> scheduler = SelfPacedScheduler(threshold=0.5, difficulty="loss")
        >>> step = scheduler(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
        >>> step.weight.tolist(), [round(x, 3) for x in step.difficulty.tolist()]
        ([1.0, 0.0], [0.127, 2.127])
    """

    fused: ClassVar[str] = "loss"
