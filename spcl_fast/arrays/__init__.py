"""The ops on NumPy arrays, for data workers, pandas and Arrow. Does not import torch.

The same compiled kernels as the backend "cpu", so the same numbers bit for bit; they run in the calling
thread and release the GIL.
"""

from spcl_fast.arrays._difficulty_quantile import difficulty_quantile
from spcl_fast.arrays._emotion_transitions import EmotionTransitions, emotion_transitions
from spcl_fast.arrays._modality_scores import ModalityScores, modality_scores
from spcl_fast.arrays._select_easiest import select_easiest

__all__ = [
    "EmotionTransitions",
    "ModalityScores",
    "SelfPacedStep",
    "StepTotals",
    "difficulty_quantile",
    "emotion_transitions",
    "modality_scores",
    "modality_spread",
    "select_easiest",
    "self_paced_step",
    "self_paced_weights",
]
