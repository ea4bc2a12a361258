"""read_pickle: every published layout gives the corpus it was made of; what does not fit is refused with its place."""

import os
import pickle
import random

import numpy as np
import pytest

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers import assemble, read_corpus, read_pickle
from spcl_fast.merc.readers.pickles import LAYOUTS

IDS = [f"Ses0{s}_impro{i:02}" for s in (1, 2) for i in range(6)]
TRAIN, TEST = IDS[:10], IDS[10:]
LENGTH = {dialogue: 1 + d % 3 for d, dialogue in enumerate(IDS)}
SIZES = {"text": 4, "audio": 3, "visual": 2, **{f"roberta{i}": 5 for i in range(1, 5)}}


def arrays(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    return {d: rng.standard_normal((n, SIZES[name])).astype(np.float32) for d, n in LENGTH.items()}


def entries(**changes):
    """What the entries of all layouts hold, as dicts by dialogue."""
    found = {
        "ids": {d: [f"{d}_F{t:03}" for t in range(n)] for d, n in LENGTH.items()},
        "speakers": {d: ["M", "F", "M"][:n] for d, n in LENGTH.items()},
        "labels": {d: [t % 6 for t in range(n)] for d, n in LENGTH.items()},
        "sentences": {d: ["Hi."] * n for d, n in LENGTH.items()},
        **{"train": TRAIN, "test": TEST, "dev": [], "-": {d: [0] * n for d, n in LENGTH.items()}},
        "text": {d: list(x) for d, x in arrays("text").items()},  # lists of arrays, lists of lists, and arrays
        "audio": {d: x.tolist() for d, x in arrays("audio").items()},
        **{name: arrays(name) for name in SIZES if name not in ("text", "audio")},
    }
    return found | changes


def one_hot(width=9):
    return {d: np.eye(width)[[3, 1, 3][:n]] for d, n in LENGTH.items()}


def write(path, layout="DialogueRNN and MMGCN, IEMOCAP", protocol=2, kind=tuple, **changes):
    found = entries(**changes)
    path.write_bytes(pickle.dumps(kind(found[name] for name in LAYOUTS[layout].split()), protocol))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.pkl"


def refusal(path, **options):
    with pytest.raises(DatasetError) as caught:
        read_pickle(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{os.fspath(path)}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(path, layout, kind):
    is_meld = "MELD" in layout
    dev = ["Ses01_impro03"] if "dev" in LAYOUTS[layout] else []
    train = [d for d in TRAIN if d not in dev]
    changes = {"speakers": one_hot()} if is_meld else {}
    data = read_pickle(write(path, layout, kind=kind, train=train, dev=dev, **changes))
    wanted = [name for name in LAYOUTS[layout].split() if name in SIZES]
    assert list(data.features) == wanted
    assert set(data.dialogue_ids) == set(IDS)
    for name in wanted:
        np.testing.assert_array_equal(data.features[name], np.concatenate([arrays(name)[d] for d in data.dialogue_ids]))
    assert data.class_names[0] == ("neutral" if is_meld else "hap")
    starts = data.offsets[:-1]
    assert not data.labels[starts].any()
    assert not data.speakers[starts].any()  # whoever speaks first is 0
    assert [data.speakers[o : o + n].tolist() for o, n in zip(starts, data.lengths, strict=True)] == [
        [0, 1, 0][:n] for n in data.lengths
    ]
    assert {name: len(data.dialogues(name)) for name in data.split_names} == {"train": 9, "dev": 1, "test": 2}
    assert any(note.startswith("IEMOCAP:" if not is_meld else "MELD:") for note in data.notes)
    if dev:
        assert [data.dialogue_ids[d] for d in data.dialogues("dev")] == dev


@pytest.mark.parametrize("protocol", range(6))
def test_protocols_and_sets(path, protocol):
    lists = read_pickle(write(path, protocol=protocol))
    sets = read_pickle(write(path, protocol=protocol, train=set(TRAIN), test=set(TEST)))
    assert lists.dialogue_ids == sets.dialogue_ids == tuple(IDS)  # a set is sorted
    np.testing.assert_array_equal(lists.features["text"], sets.features["text"])


def test_order_of_training_dialogues_is_that_of_the_file(path):
    data = read_pickle(write(path, train=TRAIN[::-1]))
    assert data.dialogue_ids == (*TRAIN[::-1], *TEST)


SPCL = {"label": "labels", "text": "text", "audio": "audio", "visual": "visual", "sentence": "sentences"}
SPCL |= {"trainVid": "train", "testVid": "test"}


def spcl(**more):
    found = entries()
    return {key: found[name] for key, name in SPCL.items()} | more


def test_dict_of_spcl(path):
    path.write_bytes(pickle.dumps(spcl(speaker=entries()["speakers"], names={"x": 1}, extra=3)))
    data = read_pickle(path)
    assert (list(data.features), data.class_names[0]) == (["text", "audio", "visual"], "hap")
    np.testing.assert_array_equal(data.features["audio"], np.concatenate(list(arrays("audio").values())))

    speakers = {d: np.array([8, 2, 8][:n]) for d, n in LENGTH.items()}
    path.write_bytes(pickle.dumps(spcl(speakers=speakers)))
    data = read_pickle(path, corpus="meld")
    assert (data.class_names[0], data.speakers.tolist()[:3]) == ("neutral", [0, 0, 1])
    assert read_pickle(path).class_names == ("0", "1", "2")  # integers tell of no corpus

    path.write_bytes(pickle.dumps(spcl(speakers=speakers, valVid=["Ses01_impro00"], trainVid=TRAIN[1:])))
    assert read_pickle(path).dialogues("dev").tolist() == [9]
    path.write_bytes(pickle.dumps({"text": {}, "label": {}}))
    assert "has no entry for train, test, speakers; its keys are 'text', 'label'" in refusal(path)


def test_split_of_spcl_is_that_of_its_code(path):
    path.write_bytes(pickle.dumps(spcl(speaker=entries()["speakers"])))
    data = read_pickle(path, split="spcl")
    shuffled = list(TRAIN)
    random.Random(12).shuffle(shuffled)  # `random.seed(12)` and `random.shuffle`, as the code has them
    assert [data.dialogue_ids[d] for d in data.dialogues("dev")] == shuffled[:1]
    data = read_pickle(path, split="spcl", corpus="meld")
    assert [data.dialogue_ids[d] for d in data.dialogues("dev")] == TRAIN[:1]
    few = {d: [0] * n for d, n in LENGTH.items()}
    path.write_bytes(pickle.dumps(spcl(speaker=few) | {"label": few}))
    with pytest.raises(ValueError, match="'spcl' is a rule for IEMOCAP and MELD"):
        read_pickle(path, split="spcl", corpus="mosi")


def test_chosen_features(path):
    write(path, "SDT, IEMOCAP")
    data = read_pickle(path, features={"words": "roberta2+roberta1", "sound": "audio"})
    assert {m: x.shape[1] for m, x in data.features.items()} == {"words": 10, "sound": 3}
    both = [np.concatenate(list(arrays(name).values())) for name in ("roberta2", "roberta1")]
    np.testing.assert_array_equal(data.features["words"], np.hstack(both))
    assert "'smell' is not in the file; choose from roberta1" in refusal(path, features={"text": "smell"})


def test_speakers_as_rows(path):
    rows = [[0, 0, 1], [0, 0, 0], [0.0, 0.0, 1.0]]  # the second is nobody
    speakers = {d: rows[:n] for d, n in LENGTH.items()}
    data = read_pickle(write(path, speakers=speakers))
    assert data.speakers[3:6].tolist() == [0, -1, 0]
    assert data.class_names[0] == "0"  # rows of 9 are MELD's


def test_unlabelled_empty_and_left_out(path):
    labels = entries()["labels"] | {IDS[0]: [-1]}
    data = read_pickle(write(path, labels=labels, test=TEST[:1]))
    assert data.labels[0] == -100
    assert data.notes[0] == "1 dialogues are in no split and left out"
    nothing = {name: {**x, IDS[0]: []} for name, x in entries().items() if isinstance(x, dict)}
    data = read_pickle(write(path, train=TRAIN[::-1], **nothing))
    assert data.lengths[9] == 0


def changed(name, value, dialogue=IDS[4]):
    """The dialogue has 2 utterances."""
    return {name: entries()[name] | {dialogue: value}}


def without(name, dialogue):
    return {name: {d: x for d, x in entries()[name].items() if d != dialogue}}


PARTS = {name: x for name, x in entries().items() if isinstance(x, dict)}
BROKEN = {
    "labels few": (changed("labels", [0]), "speakers of dialogue 'Ses01_impro04': must be as many as the labels, 1"),
    "labels text": (changed("labels", ["joy", "joy"]), "labels of dialogue 'Ses01_impro04': must be integers (got 'jo"),
    "labels float": (changed("labels", [0.5, 1.0]), "must be integers (got 0.5)"),
    "labels bool": (changed("labels", [True, False]), "must be integers (got True)"),
    "labels high": (changed("labels", [0, 6]), "labels of dialogue 'Ses01_impro04': must be below 6"),
    "labels huge": (changed("labels", [0, 2**70]), "must be integers (got 1180591620717411303424)"),
    "labels of 64 bits": (changed("labels", np.array([0, 2**64 - 1], np.uint64)), "must be integers that fit int64"),
    "labels missing": (without("labels", IDS[4]), "labels of dialogue 'Ses01_impro04': is not there"),
    "labels number": (changed("labels", 3), "must be a list or array of integers (got 3)"),
    "speakers few": (changed("speakers", ["M"]), "must be as many as the labels, 2 (got 1)"),
    "speakers number": (changed("speakers", [0.5, 0.5]), "must be names, integers or one-hot rows (got 0.5 at"),
    "speakers wide": (changed("speakers", [[0] * 513] * 2), "must be names, integers or one-hot rows (got list"),
    "features few": (changed("text", [np.zeros(4)]), "text of dialogue 'Ses01_impro04': must be as many rows as"),
    "features many": (changed("visual", np.zeros((3, 2))), "visual of dialogue 'Ses01_impro04': must be as many rows"),
    "features ragged": (changed("text", [np.zeros(4), np.zeros(3)]), "rows must have one length, 4 (got 3 at utt"),
    "features wide": (changed("visual", np.zeros((2, 3))), "visual of dialogue 'Ses01_impro04': must have 2 columns"),
    "features nan": (changed("visual", np.array([[0, 0], [0, np.nan]])), "(got nan at utterance 1, column 1)"),
    "features large": (changed("visual", np.array([[0, 0], [1e300, 0]])), "finite in float32 (got 1e+300 at utteran"),
    "features inf": (changed("audio", [[0.0, 0.0, 0.0], [0.0, float("inf"), 0.0]]), "(got inf at utterance 1, co"),
    "features 10**400": (changed("audio", [[10**150, 0, 0]] * 2), "got 1000000000"),
    "features text": (changed("audio", [["a"] * 3] * 2), "must be rows of numbers (got 'a' at utterance 0)"),
    "features None": (changed("audio", [[None, 0.0, 0.0]] * 2), "must be rows of numbers (got None at utterance 0)"),
    "features deep": (changed("audio", [[[0.0] * 3]] * 2), "must be rows of numbers (got list at utterance 0)"),
    "features rank": (changed("visual", np.zeros((2, 1, 2))), "must be rows of numbers, an array or a list of them"),
    "features of text": (changed("visual", np.array([["a", "b"]] * 2)), "must be rows of numbers"),
    "features missing": (without("audio", IDS[11]), "audio of dialogue 'Ses02_impro05': is not there"),
    "no columns": ({"text": {d: np.zeros((n, 0)) for d, n in LENGTH.items()}}, "at least one column"),
    "twice": ({"train": [*TRAIN, TRAIN[0]]}, "dialogue 'Ses01_impro00' is in train and in train"),
    "twice as text": (
        {**{name: {7: x[IDS[0]], "7": x[IDS[0]], **x} for name, x in PARTS.items()}, "train": [*TRAIN, 7, "7"]},
        "dialogue '7' is there twice",
    ),
    "train and test": ({"test": [TRAIN[3]]}, "dialogue 'Ses01_impro03' is in test and in train"),
    "splits empty": ({"train": [], "test": []}, "its splits are empty"),
    "split of lists": ({"train": [[1]]}, "train must be a list or set of dialogues (got list)"),
    "features list": ({"audio": [1]}, "audio must be a dict with the dialogue 'Ses01_impro00' (got list)"),
    "features words": ({"audio": entries()["sentences"]}, "audio must hold rows of numbers (got list of 'Hi.')"),
    "name": (
        {**{name: {"\ud800": x[IDS[0]], **x} for name, x in PARTS.items()}, "train": ["\ud800", *TRAIN]},
        "its name is no Unicode text",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_is_refused(path, name):
    changes, message = BROKEN[name]
    assert message in refusal(write(path, **changes))


def test_files_without_a_layout(path):
    for value, message in (
        (3, "must hold a tuple, list or dict (got 3)"),
        ((1, 2), "has 2 entries; the layouts that are known have 9, 10, 11, 12, 13"),
        ((1,) * 9, "has no layout that is known (DialogueRNN and MMGCN, IEMOCAP: train must be a list or set"),
        ({1: 2}, "must have keys of text"),
        (spcl(speaker=entries()["speakers"], speakers=1), "one for each entry (got 'speakers')"),
    ):
        path.write_bytes(pickle.dumps(value))
        assert message in refusal(path)
    for options, message in (({"corpus": "movies"}, "corpus must be one of"), ({"split": "x"}, "split must be one of")):
        with pytest.raises(ValueError, match=message):
            read_pickle(path, **options)


def test_cyclic_and_deep_containers_are_refused(path):
    cycle: list = []
    cycle += [cycle, cycle]
    for name, message in (("audio", "must be rows of numbers"), ("labels", "integers"), ("speakers", "speakers of")):
        assert message in refusal(write(path, **changed(name, cycle)))
    path.write_bytes(b"]" * 10_000 + b"a" * 9_999 + b".")
    assert "has 1 entries" in refusal(path)


def test_shared_parts_cannot_become_more_than_a_file_holds(path, monkeypatch):
    monkeypatch.setattr(assemble, "SPARE", 2**16)
    names = [f"d{i}" for i in range(500)]

    def share(n, F):
        shared = {"label": [0] * n, "speaker": ["M"] * n, "text": [np.zeros(F, np.float16)] * n}
        parts = {name: dict.fromkeys(names, value) for name, value in shared.items()}
        path.write_bytes(pickle.dumps({**parts, "trainVid": names, "testVid": []}))

    share(n=1, F=10)
    assert read_pickle(path).num_utterances == 500
    for n, F in ((1, 20_000), (2_000, 1)):  # a million utterances, and more features than 40 MB, in 50 kB
        share(n, F)
        assert path.stat().st_size < 60_000
        assert "its parts are shared" in refusal(path)


def test_read_corpus_chooses_the_reader(path, tmp_path):
    assert read_corpus(write(path)).name == "features"
    other = tmp_path / "features.bin"
    other.write_bytes(path.read_bytes())
    assert read_corpus(other, format="pickle").num_dialogues == 12
    for file, message in ((other, "its name does not say its format"), (tmp_path / "lost", "no such file")):
        with pytest.raises(DatasetError, match=message):
            read_corpus(file)
    with pytest.raises(ValueError, match="format must be one of auto, pickle"):
        read_corpus(path, format="xml")
