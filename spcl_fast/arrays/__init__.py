"""The ops on NumPy arrays, for data workers, pandas and Arrow. Does not import torch.

The same compiled kernels as the backend "cpu", so the same numbers bit for bit; they run in the calling
thread and release the GIL.
"""

from spcl_fast.arrays._modality_scores import ModalityScores, modality_scores
from spcl_fast.arrays._window_coherence import window_coherence

__all__ = ["ModalityScores", "modality_scores", "window_coherence"]
