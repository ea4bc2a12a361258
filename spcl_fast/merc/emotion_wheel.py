"""How near two emotions are on the wheel: the similarity of WES in `spcl_fast.ops.emotion_transitions`.

From LSDGNN, arXiv 2507.15205, and PRC-Emo, arXiv 2511.07061 (code): every emotion has an angle, whose cosine's sign is
its valence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NEUTRAL = "neutral"
#: Emotion -> its angle in twentieths of pi.
ANGLES = {
    "happiness": 3,
    "joy": 3,
    "excitement": 7,
    "surprise": 9,
    "anger": 20 - 9,
    "disgust": 20 - 3,
    "fear": 20 - 1,
    "frustration": 20 + 1,
    "sadness": 20 + 9,
}
#: Other spellings, those of IEMOCAP and MELD among them -> the emotion.
SPELLINGS = {
    "neu": NEUTRAL,
    "hap": "happiness",
    "happy": "happiness",
    "exc": "excitement",
    "excited": "excitement",
    "sur": "surprise",
    "surprised": "surprise",
    "ang": "anger",
    "angry": "anger",
    "dis": "disgust",
    "disgusted": "disgust",
    "fea": "fear",
    "fearful": "fear",
    "fru": "frustration",
    "frustrated": "frustration",
    "sad": "sadness",
}


def wheel_similarity(class_names: Sequence[str]) -> Tensor:
    """Similarity in [0, 1] of every two classes.

    `max(cos(theta_i - theta_j), 0)` where both valences have one sign, 0 where they are opposite, 1/C where either is
    neutral, C being the number of classes given.

    Args:
        class_names: one emotion a class, in the order of the labels: full words, or as IEMOCAP (hap sad neu ang exc
            fru) and MELD (neu sur fea sad joy dis ang) abbreviate them; in any case.

    Returns:
        float64 `[C, C]`, symmetric.

    Raises:
        ValueError: no names, or one that is not known.

    Example:
        >>> from spcl_fast.merc.emotion_wheel import wheel_similarity
        >>> wheel_similarity(["joy", "excitement", "sadness", "neutral"]).round(decimals=2).tolist()
        [[1.0, 0.81, 0.0, 0.25], [0.81, 1.0, 0.0, 0.25], [0.0, 0.0, 1.0, 0.25], [0.25, 0.25, 0.25, 0.25]]
    """
    if not class_names:
        raise ValueError("wheel_similarity: class_names must hold at least one name (got none)")
    emotions = [_emotion(name) for name in class_names]
    rows = [[_similarity(a, b, len(emotions)) for b in emotions] for a in emotions]
    return torch.tensor(rows, dtype=torch.float64)


def _emotion(name: str) -> str:
    word = name.strip().lower()
    emotion = SPELLINGS.get(word, word)
    if emotion != NEUTRAL and emotion not in ANGLES:
        known = ", ".join(sorted({NEUTRAL, *ANGLES, *SPELLINGS}))
        raise ValueError(f"wheel_similarity: class_names must be among {known} (got {name!r})")
    return emotion


def _similarity(a: str, b: str, num_classes: int) -> float:
    if NEUTRAL in (a, b):
        return 1 / num_classes
    theta_a, theta_b = (math.pi / 20 * ANGLES[emotion] for emotion in (a, b))
    if math.cos(theta_a) * math.cos(theta_b) < 0:
        return 0.0
    return max(math.cos(theta_a - theta_b), 0.0)
