"""Difficulty measurers: how hard an utterance is, for the scheduler and for whoever sorts a corpus.

`make(name)` gives one by name, `register` adds one of your own; the contract is that of `Difficulty`.
"""

from spcl_fast.difficulty.bss import BssDifficulty
from spcl_fast.difficulty.combined import CombinedDifficulty
from spcl_fast.difficulty.extended import ExtendedDifficulty
from spcl_fast.difficulty.history import HistoryDifficulty
from spcl_fast.difficulty.loss import LossDifficulty
from spcl_fast.difficulty.measurer import Difficulty, StepInputs
from spcl_fast.difficulty.random import RandomDifficulty
from spcl_fast.difficulty.registry import make, names, register
from spcl_fast.difficulty.spcl import SpclDifficulty
from spcl_fast.difficulty.spread import SpreadDifficulty
from spcl_fast.difficulty.transitions import TransitionDifficulty

__all__ = [
    "BssDifficulty",
    "CombinedDifficulty",
    "Difficulty",
    "ExtendedDifficulty",
    "HistoryDifficulty",
    "LossDifficulty",
    "RandomDifficulty",
    "SpclDifficulty",
    "SpreadDifficulty",
    "StepInputs",
    "TransitionDifficulty",
    "make",
    "names",
    "register",
]
