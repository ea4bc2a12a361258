"""Backbones, one a file: features in, one head of logits per modality out; the joint is their sum.

A backbone is built from `(feature_sizes, num_classes, **options)` and called with `(features, batch)`: a
mapping from modality to `float32[T, F]` and the `DialogueBatch` of those T utterances. It returns a mapping
from modality to logits `[T, C]`, in the order of `feature_sizes`, and what it says of a dialogue depends on
that dialogue alone.
"""

from spcl_fast.merc.models.late_fusion import LateFusion

#: name -> backbone
MODELS = {"late_fusion": LateFusion}

__all__ = ["MODELS", "LateFusion"]
