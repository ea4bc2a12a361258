"""The ops: what is scored, with the contract in each docstring.

Every op takes tensors on any device, chooses a backend (`spcl_fast.backends`), gives the same numbers
whichever runs, and never writes to its inputs.
"""

from spcl_fast.ops._modality_scores import modality_scores
from spcl_fast.ops._modality_spread import modality_spread
from spcl_fast.ops._self_paced_step import self_paced_step
from spcl_fast.ops._self_paced_weights import self_paced_weights
from spcl_fast.ops._window_coherence import window_coherence
from spcl_fast.reference import ModalityScores, SelfPacedStep, StepTotals

__all__ = [
    "ModalityScores",
    "SelfPacedStep",
    "StepTotals",
    "modality_scores",
    "modality_spread",
    "self_paced_step",
    "self_paced_weights",
    "window_coherence",
]
