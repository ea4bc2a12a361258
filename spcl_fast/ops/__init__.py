"""The ops: what is scored, with the contract in each docstring.

Every op takes tensors on any device, chooses a backend (`spcl_fast.backends`), gives the same numbers
whichever runs, and never writes to its inputs.
"""

from spcl_fast.ops._difficulty_histogram import difficulty_histogram
from spcl_fast.ops._difficulty_quantile import difficulty_quantile
from spcl_fast.ops._emotion_transitions import emotion_transitions
from spcl_fast.ops._modality_scores import modality_scores
from spcl_fast.ops._modality_spread import modality_spread
from spcl_fast.ops._multiview_hardness import merged_scaling, multiview_hardness
from spcl_fast.ops._select_easiest import select_easiest
from spcl_fast.ops._self_paced_step import self_paced_step
from spcl_fast.ops._self_paced_weights import self_paced_weights
from spcl_fast.ops._super_loss import super_loss
from spcl_fast.ops._window_coherence import window_coherence
from spcl_fast.reference import (
    EmotionTransitions,
    ModalityScores,
    MultiviewHardness,
    SelfPacedStep,
    StepTotals,
    SuperLoss,
)

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
    "merged_scaling",
    "modality_scores",
    "modality_spread",
    "multiview_hardness",
    "select_easiest",
    "self_paced_step",
    "self_paced_weights",
    "super_loss",
    "window_coherence",
]
