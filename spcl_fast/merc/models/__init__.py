"""Backbones, one a file: features in, one head of logits per modality out; the joint is their sum.

A backbone is built from `(feature_sizes, num_classes, **options)` and called with `(features, batch)`: a
mapping from modality to `float32[T, F]` and the `DialogueBatch` of those T utterances. It returns a mapping
from modality to logits `[T, C]`, in the order of `feature_sizes`, and what it says of a dialogue depends on
that dialogue alone. Options are `num_speakers`, `encoder`, `hidden` and `dropout`, of which a backbone has those that
mean something to it.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from spcl_fast.merc.models.biddin import BiDDIN
from spcl_fast.merc.models.dialogue_gcn import DialogueGCN
from spcl_fast.merc.models.late_fusion import LateFusion
from spcl_fast.merc.models.mm_dfn import MMDFN
from spcl_fast.merc.models.mmgcn import MMGCN

#: name -> backbone
MODELS: dict[str, type[nn.Module]] = {
    "late_fusion": LateFusion,
    "mmgcn": MMGCN,
    "mm_dfn": MMDFN,
    "dialogue_gcn": DialogueGCN,
    "biddin": BiDDIN,
}

#: the model of HARDY-MER: a teacher and a student, so that a trainer of its own makes it
HARDY = "hardy"

__all__ = ["HARDY", "MMDFN", "MMGCN", "MODELS", "BiDDIN", "DialogueGCN", "LateFusion", "make_model"]


def make_model(name: str, feature_sizes: Mapping[str, int], num_classes: int, **options: Any) -> nn.Module:
    """A backbone of `MODELS`, with those of the options that it has.

    Raises:
        ValueError: an unknown name, the model of HARDY-MER, and what the backbone refuses.

    Example:
        >>> from spcl_fast.merc.models import make_model
        >>> model = make_model("late_fusion", {"text": 6}, num_classes=3, hidden=8, num_speakers=2)
        >>> model.modalities
        ('text',)
    """
    if name == HARDY:
        raise ValueError(f"model {HARDY!r} is made by HardyTrainer, with its teacher: see training.make_trainer")
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)} (got {name!r})")
    model = MODELS[name]
    known = inspect.signature(model).parameters
    return model(feature_sizes, num_classes, **{k: x for k, x in options.items() if k in known})
