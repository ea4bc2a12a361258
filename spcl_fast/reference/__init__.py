"""Plain PyTorch that reads like the formulas: float64-capable, differentiable, the truth every kernel is held to.

The functions here take arguments that the public ops have checked. They synchronise with no device, so
that they also stand in for a kernel wherever one is missing.
"""

from spcl_fast.reference.difficulty_histogram import difficulty_histogram
from spcl_fast.reference.difficulty_quantile import difficulty_quantile
from spcl_fast.reference.emotion_transitions import EmotionTransitions, emotion_transitions
from spcl_fast.reference.modality_scores import ModalityScores, modality_scores
from spcl_fast.reference.modality_spread import modality_spread
from spcl_fast.reference.multiview_hardness import MultiviewHardness, entropy_proxy, multiview_hardness
from spcl_fast.reference.select_easiest import select_easiest
from spcl_fast.reference.self_paced_step import SelfPacedStep, StepTotals, self_paced_step
from spcl_fast.reference.self_paced_weights import SCHEMES, self_paced_weights
from spcl_fast.reference.super_loss import SuperLoss, super_loss
from spcl_fast.reference.window_coherence import window_coherence

__all__ = [
    "SCHEMES",
    "EmotionTransitions",
    "ModalityScores",
    "MultiviewHardness",
    "SelfPacedStep",
    "StepTotals",
    "SuperLoss",
    "difficulty_histogram",
    "difficulty_quantile",
    "emotion_transitions",
    "entropy_proxy",
    "modality_scores",
    "modality_spread",
    "multiview_hardness",
    "select_easiest",
    "self_paced_step",
    "self_paced_weights",
    "super_loss",
    "window_coherence",
]
