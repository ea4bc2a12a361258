"""HARDY-MER's network: the published layers one by one, and nothing of another dialogue or a missing modality."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch.nn.functional import gelu, linear

from spcl_fast import DialogueBatch, ops
from spcl_fast.hardy.attention import DialogueLayout
from spcl_fast.hardy.losses import classification_loss, mutual_information, reconstruction_loss
from spcl_fast.hardy.network import HardyNetwork

SIZES = {"text": 6, "audio": 4, "visual": 5}
LENGTHS = (5, 0, 1, 3)
T = sum(LENGTHS)
PRESENT = torch.tensor(
    [
        [1, 0, 1, 1, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0, 0, 0],  # of the last dialogue nothing is there
        [1, 0, 0, 0, 0, 1, 0, 0, 0],
    ],
    dtype=torch.bool,
)


def make_network(**options):
    options = {"hidden": 8, "blocks": 2, "cross_attention": True} | options
    return HardyNetwork(SIZES, 3, **options).double().eval()


def make_features(count=T):
    return {m: torch.randn(count, size, dtype=torch.float64) for m, size in SIZES.items()}


def make_batch(lengths=LENGTHS):
    return DialogueBatch.from_lists([[0] * n for n in lengths])


def attended(query, key, value, keys, heads):
    """Plain attention of one dialogue: `[L, F]`."""
    if not keys.any():
        return torch.zeros_like(value)
    columns = []
    for q, k, v in zip(query.chunk(heads, 1), key.chunk(heads, 1), value.chunk(heads, 1), strict=True):
        scores = q @ k[keys].T / math.sqrt(q.shape[1])
        columns.append(scores.softmax(1) @ v[keys])
    return torch.cat(columns, 1)


def dialogue_by_dialogue(network, features, present, lengths, *, first_stage):
    """What the network says, by loops over dialogues, modalities and experts, from the same weights."""
    M, names = len(SIZES), list(SIZES)
    zeroed = [torch.where(present[m][:, None], features[name], 0.0) for m, name in enumerate(names)]
    parts = []
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        start += length
        if not length:
            continue
        there = present[:, rows]
        encoded = []
        for m in range(M):
            total = torch.zeros(length, network.hidden, dtype=torch.float64)
            for expert in [m] if first_stage else range(M):
                x = linear(zeroed[m][rows], network.inputs[m].weight, network.inputs[m].bias)
                for block in network.blocks:
                    q, k, v = (x @ block.project.weight[expert] + block.project.bias[expert]).chunk(3, 1)
                    a = attended(q, k, v, there[m], block.heads)
                    inner = gelu(a @ block.first.weight[expert] + block.first.bias[expert])
                    x = x + a + inner @ block.second.weight[expert] + block.second.bias[expert]
                total = total + x
            encoded.append(total)
        cross = network.cross
        crossed = []
        pairs = list(combinations(range(M), 2))
        for p, (m, n) in enumerate(pairs):
            both = 0.0
            for i, (query, key) in ((p, (m, n)), (p + len(pairs), (n, m))):
                q = encoded[query] @ cross.query.weight[i] + cross.query.bias[i]
                k, v = (encoded[key] @ cross.key_value.weight[i] + cross.key_value.bias[i]).chunk(2, 1)
                a = attended(q, k, v, there[m] | there[n], cross.heads) @ cross.out.weight[i] + cross.out.bias[i]
                inner = gelu(a @ cross.first.weight[i] + cross.first.bias[i])
                both = both + a + inner @ cross.second.weight[i] + cross.second.bias[i]
            crossed.append(both)
        left = [torch.where(there[m][:, None], encoded[m], 0.0) for m in range(M)]
        x = torch.cat(left, 1)
        y = x if first_stage else x + linear(x, network.mix.weight, network.mix.bias).relu()
        logits = [head(part) for head, part in zip(network.heads, y.chunk(M, 1), strict=True)]
        parts.append((torch.stack(logits), network.decoder(y), torch.stack(encoded), torch.stack(crossed)))
    logits, decoded, encoded, crossed = zip(*parts, strict=True)
    return torch.cat(logits, 1), torch.cat(decoded), torch.cat(encoded, 1), torch.cat(crossed, 1)


@pytest.mark.parametrize("first_stage", [False, True])
def test_network_is_its_published_layers_dialogue_by_dialogue(first_stage):
    network, features = make_network(), make_features()
    out = network(features, make_batch(), PRESENT, first_stage=first_stage, crossed=True)
    logits, decoded, encoded, crossed = dialogue_by_dialogue(
        network, features, PRESENT, LENGTHS, first_stage=first_stage
    )
    assert list(out.logits) == list(SIZES)
    torch.testing.assert_close(torch.stack(list(out.logits.values())), logits)
    torch.testing.assert_close(out.hidden, encoded)
    torch.testing.assert_close(out.crossed, crossed)
    if first_stage:
        assert out.reconstruction == {}
    else:
        assert list(out.reconstruction) == list(SIZES)
        torch.testing.assert_close(torch.cat(list(out.reconstruction.values()), 1), decoded)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_a_softmax_over_the_keys_of_the_own_dialogue(heads):
    layout = DialogueLayout.of(make_batch())
    projected = torch.randn(2, T, 24, dtype=torch.float64, requires_grad=True)
    keys = PRESENT[:2]
    seen = layout.attend(projected, keys, heads)
    for g in range(2):
        parts = zip(projected[g].split(LENGTHS), keys[g].split(LENGTHS), strict=True)
        expected = torch.cat([attended(*x.chunk(3, 1), there, heads) for x, there in parts])
        torch.testing.assert_close(seen[g], expected)
    assert (seen[:, -3:] == 0).all()  # nobody to look at
    assert torch.autograd.gradcheck(lambda x: layout.attend(x, keys, heads), projected)


@pytest.mark.parametrize("first_stage", [False, True])
def test_network_says_of_a_dialogue_the_same_whatever_is_beside_it(first_stage):
    network, features = make_network(), make_features()
    whole = network(features, make_batch(), PRESENT, first_stage=first_stage, crossed=True)
    start = 0
    for length in LENGTHS:
        rows = slice(start, start + length)
        start += length
        alone = network(
            {m: x[rows] for m, x in features.items()},
            make_batch((length,)),
            PRESENT[:, rows],
            first_stage=first_stage,
            crossed=True,
        )
        for m in SIZES:
            torch.testing.assert_close(alone.logits[m], whole.logits[m][rows])
        torch.testing.assert_close(alone.hidden, whole.hidden[:, rows])
        torch.testing.assert_close(alone.crossed, whole.crossed[:, rows])


def test_network_takes_batches_however_they_were_padded():
    network, features = make_network(), make_features(4)
    mask = torch.tensor([[True, False, True, True], [False, True, False, False]])  # with holes
    labels = torch.zeros(2, 4, dtype=torch.int64)
    expected = network(features, make_batch((3, 1))).logits
    for batch in (
        DialogueBatch.from_padded(labels, mask=mask),
        DialogueBatch.from_padded(labels.T, mask=mask.T, batch_first=False),
    ):
        for m, z in network(features, batch).logits.items():
            torch.testing.assert_close(z, expected[m])


@pytest.mark.parametrize("first_stage", [False, True])
def test_network_never_reads_what_is_missing(first_stage):
    network, features = make_network(), make_features()
    poisoned = {
        m: torch.where(there[:, None], x, math.nan) for (m, x), there in zip(features.items(), PRESENT, strict=True)
    }
    expected = network(features, make_batch(), PRESENT, first_stage=first_stage, crossed=True)
    out = network(poisoned, make_batch(), PRESENT, first_stage=first_stage, crossed=True)
    for m in SIZES:
        assert torch.equal(out.logits[m], expected.logits[m])
    assert torch.equal(out.hidden, expected.hidden)
    assert torch.equal(out.crossed, expected.crossed)
    torch.stack(list(out.logits.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_network_lets_faulty_features_touch_their_own_dialogue_alone():
    network, features = make_network(), make_features()
    features["text"][2, 0] = math.nan  # of the first dialogue, and there
    out = network(features, make_batch(), PRESENT).logits
    assert out["text"][2].isnan().all()
    assert all(z[5:].isfinite().all() for z in out.values())


@pytest.mark.parametrize("there", [(True, False, False), (True, False, True), (False, False, False)])
def test_network_leaves_out_a_modality_that_the_batch_lacks_without_a_difference(there):
    network, features = make_network(), make_features()
    present = torch.tensor(there)[:, None].expand(3, T)
    quick = network(features, make_batch(), present)
    full = network(features, make_batch(), present, crossed=True)  # encodes what is missing too
    for m in SIZES:
        torch.testing.assert_close(quick.logits[m], full.logits[m])
        torch.testing.assert_close(quick.reconstruction[m], full.reconstruction[m])


def test_network_gives_every_utterance_without_a_modality_the_same_and_shows_it_to_nobody():
    network, features = make_network(), make_features()
    present = PRESENT.clone()
    present[:, 1] = False
    out = network(features, make_batch(), present)
    for z in out.logits.values():
        assert z[1].isfinite().all()
        assert torch.equal(z[1], z[-1])
    other = {m: x.clone() for m, x in features.items()}
    for x in other.values():
        x[1] += 100
    for m, z in network(other, make_batch(), present).logits.items():
        assert torch.equal(z, out.logits[m])


def test_network_knows_no_order_of_utterances():
    network, features = make_network(), make_features(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    there = PRESENT[:, :5]
    out = network(features, make_batch((5,)), there).logits
    moved = network({m: x[order] for m, x in features.items()}, make_batch((5,)), there[:, order]).logits
    for m in SIZES:
        torch.testing.assert_close(moved[m], out[m][order])


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_network_takes_batches_without_utterances(lengths):
    network = make_network()
    for first_stage in (False, True):
        out = network(make_features(0), make_batch(lengths), first_stage=first_stage, crossed=True)
        assert all(z.shape == (0, 3) for z in out.logits.values())
        assert out.crossed.shape == (3, 0, 8)


def test_network_of_one_modality_has_no_pairs():
    network = HardyNetwork({"text": 6}, 3, hidden=8, blocks=1, cross_attention=True).eval()
    out = network({"text": torch.randn(2, 6)}, make_batch((2,)), crossed=True)
    assert out.crossed.shape == (0, 2, 8)
    assert mutual_information(out.hidden, out.crossed).shape == (0, 2)


def test_network_drops_out_in_training_alone():
    network = make_network(dropout=0.5)
    features, batch = make_features(), make_batch()
    assert torch.equal(network(features, batch).logits["text"], network(features, batch).logits["text"])
    network.train()
    assert not torch.equal(network(features, batch).logits["text"], network(features, batch).logits["text"])


def test_network_trains_every_weight_that_the_stages_ask_for():
    network = make_network()
    features, batch = make_features(), make_batch()
    first = network(features, batch, first_stage=True, crossed=True)
    second = network(features, batch, PRESENT)
    loss = mutual_information(first.hidden, first.crossed).sum() + torch.stack(list(first.logits.values())).sum()
    loss = loss + reconstruction_loss(second.reconstruction, features, PRESENT)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for name, p in network.named_parameters() if name != "mix.bias")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "HardyNetwork: hidden must be at least 1"),
        ({"blocks": 0}, "HardyNetwork: blocks must be at least 1"),
        ({"heads": 0}, "HardyNetwork: heads must be at least 1"),
        ({"heads": 3}, r"hidden must be a multiple of heads, 3 \(got 8\)"),
        ({"dropout": 1.0}, "p must lie in"),
    ],
)
def test_network_refuses_what_it_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        make_network(**options)


def test_network_refuses_what_does_not_fit():
    network = make_network(cross_attention=False)
    features = make_features()
    with pytest.raises(ValueError, match=r"features must have 2 rows \(got shape \(9, 6\)\)"):
        network(features, make_batch((2,)))
    with pytest.raises(ValueError, match=r"present must have shape \(3, 9\) \(got \(2, 9\)\)"):
        network(features, make_batch(), PRESENT[:2])
    with pytest.raises(ValueError, match="crossed needs a network with cross_attention=True"):
        network(features, make_batch(), crossed=True)
    with pytest.raises(KeyError, match="visual"):
        network({m: features[m] for m in ("text", "audio")}, make_batch())


def test_mutual_information_is_that_of_the_hardness():
    hidden, crossed = torch.randn(3, T, 8, dtype=torch.float64), torch.randn(3, T, 8, dtype=torch.float64)
    features = list(make_features().values())
    expected = ops.multiview_hardness(features, features, hidden, crossed, PRESENT).information
    torch.testing.assert_close(mutual_information(hidden, crossed).sum(0), expected)
    x = hidden[:, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda h: mutual_information(h, crossed[:, :2]), x)


@pytest.mark.parametrize("target_source", ["true", "code"])
def test_reconstruction_loss_is_the_direct_hardness_without_its_third(target_source):
    made, true = make_features(), make_features()
    hidden = torch.randn(3, T, 8, dtype=torch.float64)
    direct = ops.multiview_hardness(
        list(made.values()), list(true.values()), hidden, hidden, PRESENT, target_source=target_source
    ).direct
    loss = reconstruction_loss(made, true, PRESENT, target_source=target_source)
    torch.testing.assert_close(loss, 3 * direct.mean(), check_dtype=False)


def test_reconstruction_loss_is_zero_where_nothing_is_missing():
    made = {m: x.requires_grad_() for m, x in make_features().items()}
    loss = reconstruction_loss(made, make_features(), torch.ones_like(PRESENT))
    loss.backward()
    assert loss == 0
    assert all(not x.grad.any() for x in made.values())
    nothing = {m: x[:0] for m, x in made.items()}
    assert reconstruction_loss(nothing, nothing, PRESENT[:, :0]) == 0


def test_classification_loss_is_the_mean_over_the_labelled():
    logits, labels = torch.randn(4, 3, requires_grad=True), torch.tensor([0, -100, 2, -100])
    expected = torch.nn.functional.cross_entropy(logits[::2], labels[::2])
    torch.testing.assert_close(classification_loss(logits, labels), expected)
    none = classification_loss(logits, torch.full((4,), -100))
    none.backward()
    assert none == 0
    assert not logits.grad.any()
