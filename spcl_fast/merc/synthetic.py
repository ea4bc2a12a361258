"""Synthetic conversations with the statistics of IEMOCAP and MELD, for demos, tests and benchmarks.

Matched, from the real corpora (IEMOCAP: Busso et al., 2008; MELD: Poria et al., 2019): dialogues and
utterances per split, dialogue lengths, class shares, speakers per dialogue, and how often the speaker, the
label and the same speaker's label change from one utterance to the next. Not matched: words, sounds and
faces, for which there are Gaussian features; nothing measured on them says anything about the real corpora.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import numpy as np

from spcl_fast.merc.dataset import DialogueDataset
from spcl_fast.merc.synthetic_presets import PRESETS, SyntheticModality, SyntheticPreset

__all__ = ["PRESETS", "SyntheticModality", "SyntheticPreset", "make_synthetic"]

# Noise on the rank by length, of 0 to 1, by which dialogues get their number of speakers; this much leaves
# MELD's rank correlation between length and speakers, a little over 0.5.
_SPEAKER_RANK_NOISE = 0.55
# Offset of a speaker, in standard deviations of the features' noise.
_SPEAKER_OFFSET = 0.35


def make_synthetic(
    preset: str | SyntheticPreset = "iemocap-like",
    *,
    seed: int = 0,
    dialogues: Mapping[str, int] | None = None,
) -> DialogueDataset:
    """Make a corpus with the statistics of a preset.

    Every dialogue has a mood, one of the classes; every speaker keeps an emotion until it is drawn anew, from
    the mood or from the prior, so that neighbours inform about an utterance. The recorded label differs from
    the emotion by the preset's label noise, in every split, as with human annotators; class shares and change
    rates hold for the recorded labels. A feature vector is the emotion's prototype times the intensity with
    which this utterance expresses it, plus an offset of the speaker, plus unit Gaussian noise. All splits are
    draws from one process.

    Args:
        preset: name of a preset, or a preset of your own.
        seed: seed of the generator; the same arguments and NumPy version give the same corpus on one machine.
        dialogues: split -> number of dialogues, for a corpus of another size; a split left out is empty. The
            utterances of a split scale with its mean length. None: the sizes of the preset.

    Returns:
        The corpus: as many modalities as the preset has, every utterance labelled, dialogues in the order of
        their splits, lengths that sum exactly to the split's number of utterances.

    Raises:
        ValueError: the preset or a split is not known, a number of dialogues is negative or all are 0, or a
            preset of your own has a modality with fewer features than classes, or too much label noise.
        TypeError: a number of dialogues is not an integer.

    Example:
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 3, "dev": 2, "test": 2})
        >>> corpus
        DialogueDataset('meld-like': 7 dialogues, 67 utterances, 7 classes; text 32, audio 24, visual 24)
        >>> corpus.counts()
        {'train': (3, 29), 'dev': (2, 19), 'test': (2, 19)}
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)} (got {preset!r})")
        preset = PRESETS[preset]
    sizes = _split_sizes(preset, dialogues)
    rng = np.random.Generator(np.random.PCG64(seed))
    pieces = [_make_turns(rng, preset, *size) for size in sizes.values() if size[0]]
    lengths = np.concatenate([lengths for lengths, _ in pieces])
    speakers = np.concatenate([speakers for _, speakers in pieces])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    split = np.repeat(np.arange(len(sizes)), [n for n, _ in sizes.values()])
    emotions, labels = _make_labels(rng, preset, lengths, speakers, split)
    return DialogueDataset(
        name=preset.name,
        features=_make_features(rng, preset, emotions, _speaker_index(lengths, speakers)),
        labels=labels,
        speakers=speakers,
        offsets=offsets,
        split=split,
        split_names=tuple(sizes),
        class_names=tuple(preset.class_counts),
        dialogue_ids=tuple(f"{name}_{i}" for name, (n, _) in sizes.items() for i in range(n)),
    )


def _split_sizes(preset: SyntheticPreset, dialogues: Mapping[str, int] | None) -> dict[str, tuple[int, int]]:
    """Split -> (dialogues, utterances)."""
    if dialogues is None:
        return preset.splits
    for name, n in dialogues.items():
        if name not in preset.splits:
            raise ValueError(f"dialogues must name splits among {', '.join(preset.splits)} (got {name!r})")
        if operator.index(n) < 0:
            raise ValueError(f"dialogues must not be negative (got {n} for {name!r})")
    if not any(dialogues.values()):
        raise ValueError("dialogues must ask for at least one (got none)")
    wanted = {name: int(dialogues.get(name, 0)) for name in preset.splits}
    return {name: (n, round(n * preset.splits[name][1] / preset.splits[name][0])) for name, n in wanted.items()}


def _strata(rng: np.random.Generator, n: int) -> np.ndarray:
    """One uniform number from each of n equal parts of [0, 1), shuffled: less chance than n draws."""
    return (rng.permutation(n) + rng.random(n)) / n


def _make_turns(rng: np.random.Generator, preset: SyntheticPreset, D: int, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths [D] that sum to T, and speakers [T], of one split."""
    levels, quantiles = list(preset.length_quantiles), list(preset.length_quantiles.values())
    lengths = np.interp(_strata(rng, D), levels, quantiles)
    shortest, longest = round(quantiles[0]), round(quantiles[-1])
    lengths = np.clip(np.rint(lengths * (T / lengths.sum())), shortest, longest).astype(np.int64)
    while gap := T - int(lengths.sum()):
        room = np.flatnonzero(lengths < longest if gap > 0 else lengths > shortest)
        lengths[rng.choice(room, min(abs(gap), len(room)), replace=False)] += np.sign(gap)

    shares = np.cumsum(preset.speaker_counts) / np.sum(preset.speaker_counts)
    # sorted strata: exactly the histogram where D is the number of dialogues it counts
    counts = 1 + np.searchsorted(shares, (np.arange(D) + 0.5) / D)
    ranks = np.argsort(np.argsort(lengths + rng.random(D))) / D + _SPEAKER_RANK_NOISE * rng.standard_normal(D)
    num_speakers = np.empty(D, np.int64)
    num_speakers[np.argsort(ranks)] = counts
    for d in np.flatnonzero(num_speakers > lengths):  # swap with a dialogue that is long enough
        fits = np.flatnonzero((num_speakers <= lengths[d]) & (lengths >= num_speakers[d]))
        if len(fits):
            other = rng.choice(fits)
            num_speakers[[d, other]] = num_speakers[[other, d]]
    num_speakers = np.minimum(num_speakers, lengths)
    return lengths, _make_speakers(rng, lengths, num_speakers, preset.speaker_switch_rate)


def _make_speakers(
    rng: np.random.Generator, lengths: np.ndarray, num_speakers: np.ndarray, switch_rate: float
) -> np.ndarray:
    """Speakers [T], numbered as they enter, with the wanted share of switches as exactly as it can be had."""
    starts = np.cumsum(lengths) - lengths
    T = int(lengths.sum())
    first = np.zeros(T, bool)
    first[starts] = True
    switch = np.zeros(T, bool)
    for start, length, S in zip(starts.tolist(), lengths.tolist(), num_speakers.tolist(), strict=True):
        switch[start + 1 + rng.choice(length - 1, S - 1, replace=False)] = True  # else some could never enter
    free = np.flatnonzero(~first & ~switch & np.repeat(num_speakers > 1, lengths))
    missing = round(switch_rate * (T - len(lengths))) - int(switch.sum())
    switch[rng.choice(free, min(max(missing, 0), len(free)), replace=False)] = True

    speakers = np.zeros(T, np.int64)
    draws = rng.random(T)
    for start, length, S in zip(starts.tolist(), lengths.tolist(), num_speakers.tolist(), strict=True):
        turns = start + np.flatnonzero(switch[start : start + length])
        # the second turn always brings the second speaker; the others enter at random turns
        enters = {0, *(1 + rng.choice(len(turns) - 1, S - 2, replace=False)).tolist()} if S > 1 else set()
        speaker, entered, runs = 0, 1, np.zeros(length, np.int64)
        for i, turn in enumerate(turns.tolist()):
            if i in enters:
                speaker, entered = entered, entered + 1
            else:
                other = int(draws[turn] * (entered - 1))  # anyone who has entered, but the one who spoke last
                speaker = other + (other >= speaker)
            runs[turn - start :] = speaker
        speakers[start : start + length] = runs
    return speakers


def _speaker_index(lengths: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """A number for every speaker of every dialogue, [T]; not consecutive, but ascending with the dialogue."""
    return np.repeat(np.arange(len(lengths)), lengths) * (int(speakers.max()) + 1) + speakers


def _noise_matrix(preset: SyntheticPreset, prior: np.ndarray) -> np.ndarray:
    """Probability of every recorded label (columns) given the emotion (rows), [C, C]."""
    names = list(preset.class_counts)
    odds = np.ones((len(names), len(names)))
    for group in preset.noise_groups:
        members = [names.index(name) for name in group]
        odds[np.ix_(members, members)] = preset.noise_odds
    redraw = odds * prior
    np.fill_diagonal(redraw, 0.0)
    redraw /= redraw.sum(axis=1, keepdims=True)
    return (1 - preset.label_noise) * np.eye(len(names)) + preset.label_noise * redraw


def _solve_chain(preset: SyntheticPreset, prior: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
    """Probability to draw from the mood, and to draw anew at all, that give the preset's change rates.

    Emotions of a dialogue with mood c are draws from q_c = mood e_c + (1 - mood) prior. Two independent draws
    are recorded alike with probability A = mean over c of sum_y (q_c noise)_y^2, one emotion recorded twice
    with B = sum_z prior_z sum_y noise_zy^2. A speaker's consecutive labels are alike with (1 - redraw) B +
    redraw A, and labels of different speakers with A: two equations for the two probabilities.
    """
    switch = preset.speaker_switch_rate
    alike = 1 - (preset.adjacent_change_rate - (1 - switch) * preset.speaker_change_rate) / switch

    def alike_at(mood: float) -> float:
        recorded = (mood * np.eye(len(prior)) + (1 - mood) * prior) @ noise
        return float(prior @ np.square(recorded).sum(axis=1))

    low, high = 0.0, 1.0
    for _ in range(50):
        mood = (low + high) / 2
        low, high = (mood, high) if alike_at(mood) < alike else (low, mood)
    twice = float(prior @ np.square(noise).sum(axis=1))
    redraw = (twice - (1 - preset.speaker_change_rate)) / (twice - alike_at(mood))
    return mood, min(max(redraw, 0.0), 1.0)


def _make_labels(
    rng: np.random.Generator,
    preset: SyntheticPreset,
    lengths: np.ndarray,
    speakers: np.ndarray,
    split: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Emotions [T], as felt, and labels [T], as recorded."""
    recorded = np.array(list(preset.class_counts.values()), float)
    recorded /= recorded.sum()
    noise = _noise_matrix(preset, recorded)
    prior = np.linalg.solve(noise.T, recorded)  # the emotions whose recorded labels have the wanted shares
    if np.any(prior <= 0):
        raise ValueError(f"label_noise {preset.label_noise} gives a class more labels than its share")
    mood_share, redraw = _solve_chain(preset, prior, noise)

    # Moods fill every split in the shares of the prior, utterance for utterance: free draws for 31 long
    # dialogues would leave the class shares of a test split to chance.
    moods = np.empty(len(lengths), np.int64)
    deficit = np.zeros(len(prior))
    for d in np.lexsort((rng.random(len(lengths)), split)):
        deficit += prior * lengths[d]
        moods[d] = np.argmax(deficit)
        deficit[moods[d]] -= lengths[d]

    T = len(speakers)
    draws = np.minimum(np.searchsorted(np.cumsum(prior), rng.random(T), side="right"), len(prior) - 1)
    draws = np.where(rng.random(T) < mood_share, np.repeat(moods, lengths), draws)
    chain = _speaker_index(lengths, speakers)
    order = np.argsort(chain, kind="stable")  # every speaker's utterances together, in time order
    anew = rng.random(T) < redraw
    anew[0] = True
    anew[1:] |= chain[order][1:] != chain[order][:-1]
    emotions = np.empty(T, np.int64)
    emotions[order] = draws[order][np.maximum.accumulate(np.where(anew, np.arange(T), 0))]
    # a label is the number of cumulated probabilities that its uniform number has passed
    labels = (rng.random((T, 1)) >= np.cumsum(noise, axis=1)[emotions, :-1]).sum(axis=1)
    return emotions, labels.astype(np.int64)


def _make_features(
    rng: np.random.Generator, preset: SyntheticPreset, emotions: np.ndarray, speaker_index: np.ndarray
) -> dict[str, np.ndarray]:
    """Modality -> float32 [T, F]."""
    names = list(preset.class_counts)
    T, C = len(emotions), len(names)
    _, speaker = np.unique(speaker_index, return_inverse=True)
    # 0 to 1.6, three quarters of it shared: some utterances are weak everywhere, some in one modality alone
    shared = rng.beta(1.2, 0.9, T)
    features = {}
    for modality in preset.modalities:
        if modality.size < C:
            raise ValueError(f"{modality.name} must have at least {C} features (got {modality.size})")
        directions = np.linalg.qr(rng.standard_normal((modality.size, C)))[0].T
        prototypes = directions.copy()
        for group in modality.confused:
            members = [names.index(name) for name in group]
            centre = directions[members].mean(axis=0)
            prototypes[members] += modality.pull * (centre - prototypes[members])
        intensity = 1.2 * shared + 0.4 * rng.random(T)
        offsets = _SPEAKER_OFFSET * rng.standard_normal((int(speaker.max()) + 1, modality.size))
        signal = (modality.strength * intensity)[:, None] * prototypes[emotions] + offsets[speaker]
        features[modality.name] = (signal + rng.standard_normal((T, modality.size))).astype(np.float32)
    return features
