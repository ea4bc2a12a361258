"""What makes an utterance difficult beside SPCL's own measure."""

from spcl_fast.difficulty.extended import ExtendedDifficulty

__all__ = ["ExtendedDifficulty"]
