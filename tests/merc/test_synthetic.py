"""make_synthetic: the statistics it promises, on several seeds, and how hard its corpora are."""

import dataclasses
import functools
import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from spcl_fast.merc.synthetic import PRESETS, make_synthetic

SEEDS = (0, 1, 2)
BOTH = pytest.mark.parametrize("preset", ["iemocap-like", "meld-like"])
# quantiles, mean and standard deviation of the real training dialogues
LENGTHS = {
    "iemocap-like": ([26, 37, 47, 57, 74], 47.8, 15.4, 8, 94),
    "meld-like": ([1, 5, 9, 14, 20], 9.62, 5.84, 1, 24),
}
COUNTS = {
    "iemocap-like": {"train": (108, 5163), "dev": (12, 647), "test": (31, 1623)},
    "meld-like": {"train": (1038, 9989), "dev": (114, 1109), "test": (280, 2610)},
}
# switches of speaker, change of the same speaker's label, change between neighbours
RATES = {"iemocap-like": (0.683, 0.295, 0.457), "meld-like": (0.776, 0.558, 0.600)}
# weighted F1 in percent of a logistic regression on single utterances
LEVELS = {
    "iemocap-like": {"text": (47, 58), "audio": (34, 45), "visual": (29, 40), "all": (56, 68)},
    "meld-like": {"text": (48, 58), "audio": (33, 41), "visual": (30, 38), "all": (53, 63)},
}


@functools.cache
def corpus(preset, seed):
    return make_synthetic(preset, seed=seed)


def dialogue_of(data):
    return np.repeat(np.arange(data.num_dialogues), data.lengths)


def change_rates(data):
    """Counted pair by pair, as a reader would."""
    switches, same_speaker, neighbours = [], [], []
    for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        last = {}
        for t in range(start, end):
            speaker, label = data.speakers[t], data.labels[t]
            if speaker in last:
                same_speaker.append(label != last[speaker])
            if t > start:
                switches.append(speaker != data.speakers[t - 1])
                neighbours.append(label != data.labels[t - 1])
            last[speaker] = label
    return np.mean(switches), np.mean(same_speaker), np.mean(neighbours)


@BOTH
@pytest.mark.parametrize("seed", SEEDS)
class TestStatistics:
    def test_synthetic_counts(self, preset, seed):
        data = corpus(preset, seed)
        assert data.counts() == COUNTS[preset]
        assert (data.name, data.notes) == (preset, ())
        assert {name: values.dtype for name, values in data.features.items()} == dict.fromkeys(
            ("text", "audio", "visual"), np.float32
        )

    def test_synthetic_lengths(self, preset, seed):
        lengths = corpus(preset, seed).lengths[corpus(preset, seed).dialogues("train")]
        quantiles, mean, deviation, shortest, longest = LENGTHS[preset]
        np.testing.assert_allclose(np.percentile(lengths, [5, 25, 50, 75, 95]), quantiles, atol=1.5)
        assert lengths.mean() == pytest.approx(mean, abs=0.05)
        assert lengths.std() == pytest.approx(deviation, rel=0.06)
        assert lengths.min() >= shortest
        assert lengths.max() <= longest

    def test_synthetic_class_shares(self, preset, seed):
        data = corpus(preset, seed)
        wanted = np.array(list(PRESETS[preset].class_counts.values()))
        shares = np.bincount(data.labels, minlength=data.num_classes) / data.num_utterances
        np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=0.025)

    def test_synthetic_change_rates(self, preset, seed):
        switch, same_speaker, neighbours = change_rates(corpus(preset, seed))
        assert switch == pytest.approx(RATES[preset][0], abs=0.002)
        assert same_speaker == pytest.approx(RATES[preset][1], abs=0.025)
        assert neighbours == pytest.approx(RATES[preset][2], abs=0.03)

    def test_synthetic_speakers(self, preset, seed):
        data = corpus(preset, seed)
        bounds = zip(data.offsets[:-1], data.offsets[1:], strict=True)
        present = [np.unique(data.speakers[start:end]) for start, end in bounds]
        assert all(speakers.tolist() == list(range(len(speakers))) for speakers in present)
        counts = np.bincount([len(present[d]) for d in data.dialogues("train")])[1:]
        expected = [0, 108] if preset == "iemocap-like" else [96, 463, 264, 122, 58, 25, 8, 1, 1]
        assert counts.tolist() == expected

    def test_synthetic_logistic_regression(self, preset, seed):
        data = corpus(preset, seed)
        split = data.split[dialogue_of(data)]
        train, test = split == 0, split == 2
        inputs = dict(data.features) | {"all": np.concatenate(list(data.features.values()), axis=1)}
        score = {}
        for name, x in inputs.items():
            model = LogisticRegression(max_iter=500, tol=1e-2).fit(x[train], data.labels[train])
            score[name] = 100 * f1_score(data.labels[test], model.predict(x[test]), average="weighted")
            low, high = LEVELS[preset][name]
            assert low < score[name] < high, (name, score)
        assert score["all"] > score["text"] > max(score["audio"], score["visual"]), score


def test_synthetic_label_noise():
    clean = dataclasses.replace(PRESETS["iemocap-like"], label_noise=0.0)
    shares = np.bincount(make_synthetic(clean, seed=0).labels) / 7433
    np.testing.assert_allclose(shares, np.array([648, 1084, 1708, 1103, 1041, 1849]) / 7433, atol=0.025)
    # the statistics are those of the recorded labels, whatever the noise
    assert change_rates(make_synthetic(clean, seed=0))[1] == pytest.approx(0.295, abs=0.025)


@BOTH
def test_synthetic_is_deterministic(preset):
    again = make_synthetic(preset, seed=1)
    for field in ("labels", "speakers", "offsets", "split"):
        np.testing.assert_array_equal(getattr(again, field), getattr(corpus(preset, 1), field))
    for name, values in again.features.items():
        np.testing.assert_array_equal(values, corpus(preset, 1).features[name])


@BOTH
def test_synthetic_seeds_differ(preset):
    one, other = corpus(preset, 0), corpus(preset, 1)
    assert not np.array_equal(one.labels, other.labels)
    assert not np.array_equal(one.lengths, other.lengths)
    assert not np.array_equal(one.features["text"], other.features["text"])


def test_synthetic_leaves_the_global_generator_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    make_synthetic("iemocap-like", dialogues={"train": 2})
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_synthetic_takes_less_than_two_seconds():
    start = time.perf_counter()
    make_synthetic("meld-like", seed=3)
    assert time.perf_counter() - start < 2


@BOTH
def test_synthetic_smaller_corpus(preset):
    data = make_synthetic(preset, seed=4, dialogues={"train": 20, "dev": 5, "test": 5})
    means = {split: T / D for split, (D, T) in COUNTS[preset].items()}
    assert data.counts() == {split: (n, round(n * means[split])) for split, n in zip(means, (20, 5, 5), strict=True)}


@BOTH
@pytest.mark.parametrize("seed", range(20))
def test_synthetic_one_dialogue(preset, seed):
    data = make_synthetic(preset, seed=seed, dialogues={"test": 1})
    assert data.dialogues("test").tolist() == [0]
    assert data.dialogue_ids == ("test_0",)
    assert len(data.dialogues("train")) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "mosei-like"}, "preset must be one of iemocap-like, meld-like \\(got 'mosei-like'\\)"),
        ({"dialogues": {"valid": 3}}, "among train, dev, test \\(got 'valid'\\)"),
        ({"dialogues": {"train": -1}}, "must not be negative \\(got -1 for 'train'\\)"),
        ({"dialogues": {}}, "at least one"),
        ({"dialogues": {"train": 0}}, "at least one"),
    ],
)
def test_synthetic_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_synthetic(**arguments)


def test_synthetic_refuses_a_preset_that_cannot_be():
    preset = PRESETS["meld-like"]
    narrow = (dataclasses.replace(preset.modalities[0], size=6),)
    with pytest.raises(ValueError, match="text must have at least 7 features \\(got 6\\)"):
        make_synthetic(dataclasses.replace(preset, modalities=narrow))
    with pytest.raises(ValueError, match=r"label_noise 0\.9 gives a class more labels than its share"):
        make_synthetic(dataclasses.replace(preset, label_noise=0.9))
