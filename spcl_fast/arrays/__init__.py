"""The ops on NumPy arrays, for data workers, pandas and Arrow. Does not import torch.

The same compiled kernels as the backend "cpu", so the same numbers bit for bit; they run in the calling
thread and release the GIL.
"""

from spcl_fast.arrays._difficulty_histogram import difficulty_histogram
from spcl_fast.arrays._difficulty_quantile import difficulty_quantile
from spcl_fast.arrays._emotion_transitions import EmotionTransitions, emotion_transitions
from spcl_fast.arrays._modality_scores import ModalityScores, modality_scores
from spcl_fast.arrays._modality_spread import modality_spread
from spcl_fast.arrays._multiview_hardness import MultiviewHardness, multiview_hardness
from spcl_fast.arrays._select_easiest import select_easiest
from spcl_fast.arrays._self_paced_step import SelfPacedStep, StepTotals, self_paced_step
from spcl_fast.arrays._self_paced_weights import self_paced_weights
from spcl_fast.arrays._super_loss import SuperLoss, super_loss
from spcl_fast.arrays._window_coherence import window_coherence

__all__ = [
    "EmotionTransitions",
    "ModalityScores",
    "MultiviewHardness",
    "SelfPacedStep",
    "StepTotals",
    "SuperLoss",
    "difficulty_histogram",
    "difficulty_quantile",
    "emotion_transitions",
    "modality_scores",
    "modality_spread",
    "multiview_hardness",
    "select_easiest",
    "self_paced_step",
    "self_paced_weights",
    "super_loss",
    "window_coherence",
]
