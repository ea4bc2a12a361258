"""Self-paced curriculum learning for emotion recognition in conversations, cheap enough for every step.

The public names load on first use (PEP 562): importing this package builds nothing, starts no thread,
touches no GPU and imports neither torch nor NumPy, so that `spcl_fast.arrays` serves data workers that
have no use for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from spcl_fast import (
        arrays,
        backends,
        balance,
        difficulty,
        ops,
        pacing,
        reference,
        selections,
        testing,
        thresholds,
        weighting,
    )
    from spcl_fast.batch import DialogueBatch
    from spcl_fast.batch_sampler import CurriculumBatchSampler
    from spcl_fast.running_scores import RunningScores
    from spcl_fast.sampler import CurriculumSampler
    from spcl_fast.scheduler import EpochStats, FaultyDataError, SelfPacedScheduler

# public name -> the module that defines it; a module stands for itself
_EXPORTS = {
    "arrays": "spcl_fast.arrays",
    "backends": "spcl_fast.backends",
    "balance": "spcl_fast.balance",
    "difficulty": "spcl_fast.difficulty",
    "ops": "spcl_fast.ops",
    "pacing": "spcl_fast.pacing",
    "reference": "spcl_fast.reference",
    "selections": "spcl_fast.selections",
    "testing": "spcl_fast.testing",
    "thresholds": "spcl_fast.thresholds",
    "weighting": "spcl_fast.weighting",
    "CurriculumBatchSampler": "spcl_fast.batch_sampler",
    "CurriculumSampler": "spcl_fast.sampler",
    "DialogueBatch": "spcl_fast.batch",
    "EpochStats": "spcl_fast.scheduler",
    "FaultyDataError": "spcl_fast.scheduler",
    "RunningScores": "spcl_fast.running_scores",
    "SelfPacedScheduler": "spcl_fast.scheduler",
}

__all__ = [
    "CurriculumBatchSampler",
    "CurriculumSampler",
    "DialogueBatch",
    "EpochStats",
    "FaultyDataError",
    "RunningScores",
    "SelfPacedScheduler",
    "__version__",
    "arrays",
    "backends",
    "balance",
    "difficulty",
    "ops",
    "pacing",
    "reference",
    "selections",
    "testing",
    "thresholds",
    "weighting",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'spcl_fast' has no attribute {name!r}")
    module = importlib.import_module(_EXPORTS[name])
    value = module if _EXPORTS[name] == f"spcl_fast.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_EXPORTS))
