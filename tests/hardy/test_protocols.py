"""Which modalities are there: fixed subsets, and lots by utterance and by dialogue."""

from __future__ import annotations

import zlib

import pytest
import torch

from spcl_fast.hardy import MissingProtocol, parse_available, subsets

NAMES = ("text", "audio", "visual")
IDS = torch.arange(20_000)
RANDOM = (MissingProtocol.at_random, MissingProtocol.by_dialogue)


def test_fixed_is_the_same_for_every_utterance():
    for subset in subsets(NAMES):
        there = MissingProtocol.fixed(subset).present(IDS, IDS, NAMES, epoch=5)
        assert there.dtype == torch.bool
        assert there.shape == (3, 20_000)
        assert there.all(1).tolist() == there.any(1).tolist() == [m in subset for m in NAMES]


@pytest.mark.parametrize("M", [1, 2, 3])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("make", RANDOM)
def test_rates_are_those_asked_for_and_one_always_stays(make, rate, M):
    there = make(rate, seed=1).present(IDS, IDS, NAMES[:M], epoch=2)
    assert there.any(0).all()
    expected = rate - rate**M / M
    spread = 4 * (0.25 / len(IDS)) ** 0.5
    assert (1 - there.double().mean(1)).tolist() == pytest.approx([expected] * M, abs=spread)
    if M > 1:  # independent where the last one is not at stake
        both = (~there[0] & ~there[1]).double().mean().item()
        assert both == pytest.approx(rate**2 - (2 / 3 if M == 3 else 1) * rate**M, abs=spread)


def test_lots_of_modalities_seeds_epochs_and_ids_differ():
    def drawn(seed=0, epoch=0, ids=IDS):
        return MissingProtocol.at_random(0.5, seed=seed).present(ids, ids, NAMES, epoch)

    first = drawn()
    for other in (drawn(seed=1), drawn(epoch=1), drawn(ids=IDS + len(IDS)), first.roll(1, 0)):
        assert 0.4 < (first == other).double().mean() < 0.65
    assert torch.equal(first, drawn())


def test_lots_do_not_hang_on_the_batch_or_on_the_order_of_modalities():
    protocol = MissingProtocol.at_random(0.6, seed=9)
    whole = protocol.present(IDS, IDS, NAMES, epoch=1)
    part = torch.randperm(len(IDS))[:50]
    assert torch.equal(protocol.present(part, part, NAMES, epoch=1), whole[:, part])
    assert torch.equal(protocol.present(IDS, IDS, NAMES[::-1], epoch=1), whole.flip(0))
    assert torch.equal(protocol.present(IDS.int(), IDS.int(), NAMES, epoch=1), whole)


def test_without_redraw_every_epoch_is_the_first():
    kept, drawn = (MissingProtocol.at_random(0.5, redraw=redraw) for redraw in (False, True))
    first = drawn.present(IDS, IDS, NAMES, epoch=0)
    assert torch.equal(kept.present(IDS, IDS, NAMES, epoch=7), first)
    assert not torch.equal(drawn.present(IDS, IDS, NAMES, epoch=7), first)


def test_dialogues_lose_a_modality_as_a_whole():
    dialogues = torch.arange(400).repeat_interleave(5)
    there = MissingProtocol.by_dialogue(0.5).present(dialogues, IDS[:2000], NAMES).view(3, 400, 5)
    assert torch.equal(there.all(2), there.any(2))
    by_utterance = MissingProtocol.at_random(0.5).present(dialogues, IDS[:2000], NAMES).view(3, 400, 5)
    assert not torch.equal(by_utterance.all(2), by_utterance.any(2))


def split_mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def test_lots_are_the_hash_of_id_epoch_seed_and_name():
    """Another one would change every run with missing modalities."""
    seed, epoch, rate = 2**62 + 3, 2, 0.6
    ids = torch.tensor([0, 1, -5, 2**62, 17, 18, 19, 20, 21, 22, 23, 24])
    there = MissingProtocol.at_random(rate, seed=seed).present(ids, ids, NAMES, epoch)
    for t, i in enumerate(ids.tolist()):
        mixed = split_mix(split_mix(i % 2**64) ^ epoch)
        lots = [split_mix(mixed ^ seed ^ zlib.crc32(m.encode())) >> 40 for m in NAMES]
        expected = [lot >= rate * 2**24 or lot == max(lots) for lot in lots]
        assert there[:, t].tolist() == expected


def test_no_utterances():
    none = IDS[:0]
    for protocol in (MissingProtocol.fixed(["text"]), *(make(0.3) for make in RANDOM)):
        assert protocol.present(none, none, NAMES).shape == (3, 0)


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ("all", NAMES),
        ("a", ("audio",)),
        ("vt", ("text", "visual")),
        ("atv", NAMES),
        ("text", ("text",)),
        ("visual, audio", ("audio", "visual")),
    ],
)
def test_short_forms(available, expected):
    assert parse_available(available, NAMES) == expected


def test_a_name_goes_before_initials():
    assert parse_available("at", ("at", "audio", "text")) == ("at",)
    assert parse_available("t", ("text_lsa+text_glove", "audio")) == ("text_lsa+text_glove",)


@pytest.mark.parametrize("available", ["", "x", "aa", "text,text", "text,smell", "taste", ",", "ta "])
def test_short_forms_that_say_nothing_are_refused(available):
    with pytest.raises(ValueError, match="available: must be"):
        parse_available(available, NAMES)


def test_an_initial_of_two_is_refused():
    with pytest.raises(ValueError, match="each once"):
        parse_available("t", ("text", "tone"))
    with pytest.raises(TypeError, match="available: must be a string"):
        parse_available(("text",), NAMES)


def test_subsets_are_in_the_order_of_the_paper():
    assert ["".join(m[0] for m in subset) for subset in subsets(NAMES)] == ["a", "t", "v", "at", "av", "tv"]
    assert subsets(("text",)) == []
    assert len(subsets("abcd")) == 14


@pytest.mark.parametrize("names", [(), ("text", "text")])
def test_names_must_be_distinct(names):
    for call in (subsets, lambda x: parse_available("all", x), lambda x: RANDOM[0](0.1).present(IDS, IDS, x)):
        with pytest.raises(ValueError, match="modalities must be distinct names"):
            call(names)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MissingProtocol.fixed("at"), TypeError, "sequence of names"),
        (lambda: MissingProtocol.fixed(()), ValueError, "must name a modality"),
        (lambda: MissingProtocol(missing="utterance", available=("text",)), ValueError, "must be empty"),
        (lambda: MissingProtocol(missing="never"), ValueError, "missing must be one of"),
        (lambda: MissingProtocol.at_random(1.0), ValueError, r"rate must be in \[0, 1\)"),
        (lambda: MissingProtocol.by_dialogue(-0.1), ValueError, "rate must be"),
        (lambda: MissingProtocol.by_dialogue("much"), TypeError, "rate must be a number"),
        (lambda: MissingProtocol.at_random(0.1, seed=-1), ValueError, "seed must be at least 0"),
        (lambda: MissingProtocol.at_random(0.1, redraw=1), TypeError, "redraw must be"),
        (lambda: MissingProtocol.fixed(["smell"]).present(IDS, IDS, NAMES), ValueError, "available must be among"),
        (lambda: RANDOM[0](0.1).present(IDS, IDS[:3], NAMES), ValueError, "dialogue_ids must have shape"),
        (lambda: RANDOM[0](0.1).present(IDS, IDS.double(), NAMES), TypeError, "utterance_ids must hold integers"),
        (lambda: RANDOM[0](0.1).present(IDS, IDS, NAMES, epoch=-1), ValueError, "epoch must be at least 0"),
    ],
)
def test_faults_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
