"""The statistics that a synthetic corpus is made to match: IEMOCAP-like and MELD-like.

Counts, lengths, speakers and change rates are those of IEMOCAP (Busso et al., 2008; six classes, the split of
Poria et al., 2017) and MELD (Poria et al., 2019). Feature strengths are set so that a logistic regression
on single utterances scores about as on real features of these corpora.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SyntheticModality:
    """How one modality expresses the classes.

    Attributes:
        name: name of the modality.
        size: number of features F, at least the number of classes.
        strength: distance of a class prototype from the origin, in standard deviations of one feature's
            noise.
        confused: groups of classes, by name, whose prototypes are pulled together.
        pull: how far, from 0 (prototypes are orthogonal) to 1 (the group shares one prototype).

    Example:
        >>> from dataclasses import replace
        >>> from spcl_fast.merc.synthetic import PRESETS, SyntheticModality, make_synthetic
        >>> text = SyntheticModality("text", size=16, strength=2.0, confused=(("joy", "surprise"),), pull=0.5)
        >>> audio = SyntheticModality("audio", size=8, strength=1.0, confused=(), pull=0.0)
        >>> preset = replace(PRESETS["meld-like"], name="mine", modalities=(text, audio))
        >>> make_synthetic(preset, dialogues={"train": 10})
        DialogueDataset('mine': 10 dialogues, 96 utterances, 7 classes; text 16, audio 8)
    """

    name: str
    size: int
    strength: float
    confused: tuple[tuple[str, ...], ...]
    pull: float


@dataclass(frozen=True)
class SyntheticPreset:
    """Statistics of one kind of corpus.

    Attributes:
        name: name of the preset and of the corpus made from it.
        class_counts: class -> its share, in any unit; the order is that of the labels.
        splits: split -> (dialogues, utterances) of the full corpus.
        length_quantiles: quantile in [0, 1] -> dialogue length, from the shortest at 0 to the longest at 1.
        speaker_counts: share, in any unit, of dialogues with 1, 2, ... speakers.
        speaker_switch_rate: share of adjacent utterances with different speakers.
        speaker_change_rate: share of utterances labelled unlike the same speaker's previous one.
        adjacent_change_rate: share of adjacent utterances with different labels.
        label_noise: probability that the recorded label is drawn anew from the other classes.
        noise_groups: classes, by name, that annotators take for one another: drawn more often, see
            ``noise_odds``.
        noise_odds: odds of a class in the same group over one outside, at equal shares.
        modalities: the modalities.

    Example:
        >>> from dataclasses import replace
        >>> from spcl_fast.merc.synthetic import PRESETS, make_synthetic
        >>> preset = replace(PRESETS["iemocap-like"], name="clean", label_noise=0.0)
        >>> list(preset.class_counts), preset.splits["test"]
        (['hap', 'sad', 'neu', 'ang', 'exc', 'fru'], (31, 1623))
        >>> make_synthetic(preset, dialogues={"test": 2}).num_utterances  # 2 x 1623 / 31
        105
    """

    name: str
    class_counts: dict[str, int]
    splits: dict[str, tuple[int, int]]
    length_quantiles: dict[float, float]
    speaker_counts: tuple[int, ...]
    speaker_switch_rate: float
    speaker_change_rate: float
    adjacent_change_rate: float
    label_noise: float
    noise_groups: tuple[tuple[str, ...], ...]
    noise_odds: float
    modalities: tuple[SyntheticModality, ...]


_IEMOCAP_VALENCE = (("hap", "exc"), ("sad", "ang", "fru"))
_IEMOCAP_AROUSAL = (("sad", "neu"), ("ang", "exc"), ("hap", "fru"))
_MELD_VALENCE = (("surprise", "joy"), ("fear", "sadness", "disgust", "anger"))
_MELD_AROUSAL = (("surprise", "joy", "anger"), ("neutral", "sadness", "disgust"))

#: Name -> preset.
PRESETS: dict[str, SyntheticPreset] = {
    "iemocap-like": SyntheticPreset(
        name="iemocap-like",
        class_counts={"hap": 648, "sad": 1084, "neu": 1708, "ang": 1103, "exc": 1041, "fru": 1849},
        splits={"train": (108, 5163), "dev": (12, 647), "test": (31, 1623)},
        length_quantiles={0.0: 8, 0.05: 26, 0.25: 37, 0.5: 47, 0.75: 57, 0.95: 74, 1.0: 94},
        speaker_counts=(0, 1),
        speaker_switch_rate=0.683,
        speaker_change_rate=0.295,
        adjacent_change_rate=0.457,
        label_noise=0.1,
        noise_groups=(("hap", "exc"), ("ang", "fru"), ("sad", "neu", "fru")),
        noise_odds=6.0,
        modalities=(
            SyntheticModality("text", 32, 2.05, _IEMOCAP_VALENCE, 0.3),
            SyntheticModality("audio", 24, 1.85, _IEMOCAP_AROUSAL, 0.6),
            SyntheticModality("visual", 24, 1.5, _IEMOCAP_VALENCE, 0.6),
        ),
    ),
    "meld-like": SyntheticPreset(
        name="meld-like",
        class_counts={
            "neutral": 6436,
            "surprise": 1636,
            "fear": 358,
            "sadness": 1002,
            "joy": 2308,
            "disgust": 361,
            "anger": 1607,
        },
        splits={"train": (1038, 9989), "dev": (114, 1109), "test": (280, 2610)},
        length_quantiles={0.0: 1, 0.05: 1, 0.25: 5, 0.5: 9, 0.75: 14, 0.95: 20, 1.0: 24},
        speaker_counts=(96, 463, 264, 122, 58, 25, 8, 1, 1),
        speaker_switch_rate=0.776,
        speaker_change_rate=0.558,
        adjacent_change_rate=0.600,
        label_noise=0.1,
        noise_groups=(("surprise", "joy"), ("fear", "sadness"), ("disgust", "anger")),
        noise_odds=6.0,
        modalities=(
            SyntheticModality("text", 32, 1.8, _MELD_VALENCE, 0.3),
            SyntheticModality("audio", 24, 1.2, _MELD_AROUSAL, 0.6),
            SyntheticModality("visual", 24, 0.75, _MELD_VALENCE, 0.6),
        ),
    ),
}
