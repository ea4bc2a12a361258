"""The curricula of a network that does without modalities."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast import SelfPacedScheduler
from spcl_fast.difficulty import Difficulty, StepInputs
from spcl_fast.merc.config import TrainConfig
from spcl_fast.merc.curricula import Curriculum, make_curriculum
from spcl_fast.merc.dataset import DialogueDataset

__all__ = ["AvailableSpclDifficulty", "hardy_curriculum", "shuffled"]


class AvailableSpclDifficulty(Difficulty):
    """SPCL's difficulty over the modalities that are there, and the loss alone where fewer than two are [ours].

    `rho_t = 2 s_d l_t / (s_d + l_t)` as in `ops.self_paced_step` (SPCL, arXiv 2605.21565). A dialogue with fewer than
    two modalities has no spread: its utterances would never be selected. There only the loss says how hard they are,
    and `l_t` is their difficulty, half of what `rho_t` comes to when the spread is large.

    Example:
        >>> import torch
        >>> from spcl_fast.difficulty import StepInputs
        >>> from spcl_fast.hardy.curriculum import AvailableSpclDifficulty
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
        >>> present = torch.tensor([[True, True], [True, False]])  # the second dialogue has one modality
        >>> inputs = StepInputs(logits, torch.tensor([0, 0]), torch.tensor([0, 1, 2]), present=present)
        >>> [round(x, 3) for x in AvailableSpclDifficulty()(inputs).tolist()]
        [0.363, 0.693]
    """

    needs = frozenset({"modalities", "dialogues"})

    def forward(self, inputs: StepInputs) -> Tensor:
        """`float[T]`; NaN where an utterance has no loss.

        Example:
            >>> import torch
            >>> from spcl_fast.difficulty import StepInputs
            >>> from spcl_fast.hardy.curriculum import AvailableSpclDifficulty
            >>> inputs = StepInputs(torch.zeros(2, 1, 2), torch.tensor([-100]), torch.tensor([0, 1]))
            >>> AvailableSpclDifficulty()(inputs).tolist()
            [nan]
        """
        difficulty, loss = (inputs.step(measure).difficulty for measure in ("spcl", "loss"))
        return torch.where(difficulty.isnan(), loss, difficulty)


def hardy_curriculum(dataset: DialogueDataset, config: TrainConfig) -> Curriculum:
    """The weights of the second stage: SPCL's, or all 1 for the curricula that choose rows instead, and for "none".

    Example:
        >>> from spcl_fast.hardy.curriculum import hardy_curriculum
        >>> from spcl_fast.merc.config import TrainConfig
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 4, "dev": 2, "test": 2})
        >>> hardy_curriculum(corpus, TrainConfig(model="hardy", curriculum="spcl", threshold=0.4)).scheduler.difficulty
        AvailableSpclDifficulty()
    """
    if config.curriculum == "spcl":
        return Curriculum(SelfPacedScheduler(config.threshold, config.growth, difficulty=AvailableSpclDifficulty()))
    return make_curriculum(dataset, config)


def shuffled(hardness: Tensor) -> Tensor:
    """The same hardnesses, dealt out anew by lot [ours]: as many neighbours, and no relation to what is hard.

    Example:
        >>> import torch
        >>> from spcl_fast.hardy.curriculum import shuffled
        >>> sorted(shuffled(torch.tensor([0.5, 0.75, 1.0])).tolist())
        [0.5, 0.75, 1.0]
    """
    return hardness[torch.randperm(len(hardness), device=hardness.device)]
