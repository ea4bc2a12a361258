"""MMGCN and MM-DFN: the graph by hand, all of it against loops over dialogues and edges, and what may not leak."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from spcl_fast import DialogueBatch
from spcl_fast.merc.models import MMDFN, MMGCN
from spcl_fast.merc.models.dialogue_graph import angular_weight, build_graph
from spcl_fast.merc.models.gcnii import GCNII
from spcl_fast.merc.models.mm_dfn import ModalityGates

SIZES = {"text.glove": 12, "audio": 7, "visual": 5}
LENGTHS = (5, 1, 0, 9)
T = sum(LENGTHS)
MODALITIES = [("audio",), ("text.glove", "visual"), tuple(SIZES)]


@pytest.fixture(params=[MMGCN, MMDFN])
def backbone(request):
    return request.param


def make(backbone, modalities=tuple(SIZES), dtype=torch.float64, **options):
    model = backbone({m: SIZES[m] for m in modalities}, 4, **({"hidden": 6} | options)).to(dtype)
    features = {m: torch.randn(T, SIZES[m], dtype=dtype) for m in modalities}
    return model, features, DialogueBatch.from_lists([[0] * n for n in LENGTHS])


# The formulas, node by node and edge by edge. A node is (m, t), a graph a dictionary of its edges in both directions.


def loop_edges(nodes):
    """`[M, L, F]` of one dialogue to the normalised weight of every edge."""
    M, L, _ = nodes.shape
    weights = {}
    for m, t in ((m, t) for m in range(M) for t in range(L)):
        for n, u in [(m, u) for u in range(L)] + [(n, t) for n in range(M) if n != m]:
            x, y = nodes[m, t], nodes[n, u]
            cosine = x @ y / (x.norm() * y.norm())
            weights[(m, t), (n, u)] = 1 - math.acos(0.99999 * float(cosine)) / math.pi
    degree = {}
    for (node, _), weight in weights.items():
        degree[node] = degree.get(node, 0.0) + weight
    return {(x, y): w / math.sqrt(degree[x] * degree[y]) for (x, y), w in weights.items()}


def loop_propagate(edges, nodes):
    moved = torch.zeros_like(nodes)
    for ((m, t), (n, u)), weight in edges.items():
        moved[m, t] += weight * nodes[n, u]
    return moved


def loop_gcnii(gcnii, nodes, edges, decay=0.5, alpha=0.1):
    first = hidden = gcnii.first(nodes).relu()
    for layer, weight in enumerate(gcnii.weights, 1):
        theta = math.log(decay / layer + 1)
        moved = loop_propagate(edges, hidden)
        kept = (1 - alpha) * moved + alpha * first
        hidden = (theta * torch.cat([moved, first], -1) @ weight + (1 - theta) * kept).relu()
    return hidden


def loop_gates(gates, nodes):
    M = len(nodes)
    h = [(x @ w + b).relu() for x, w, b in zip(nodes, gates.weight, gates.bias, strict=True)]
    if M == 1:
        return h
    pairs = [(i, j) for i in range(M) for j in range(M) if i != j]
    out = [torch.zeros_like(x) for x in h]
    for (i, j), weight, bias in zip(pairs, gates.gate_weight, gates.gate_bias, strict=True):
        z = (torch.cat([h[i], h[j], h[i] * h[j]], -1) @ weight + bias).sigmoid()
        out[i] = out[i] + z * h[i] + (1 - z) * h[j]
    return out


def loop_forward(model, features, lengths):
    """Logits `[M, T, C]`, one dialogue after another."""
    logits, start = [], 0
    for length in lengths:
        if length:
            alone = DialogueBatch.from_lists([[0] * length])
            own = [features[m][start : start + length] for m in model.modalities]
            nodes = torch.stack([encode(x, alone) for encode, x in zip(model.encode.encoders, own, strict=True)])
            both = torch.cat([nodes, loop_gcnii(model.encode.graph, nodes, loop_edges(nodes))], -1)
            out = loop_gates(model.gates, both) if isinstance(model, MMDFN) else both
            logits.append(torch.stack([head(x) for head, x in zip(model.heads, out, strict=True)]))
        start += length
    return torch.cat(logits, 1)


def test_angular_weight_by_hand():
    angles = torch.tensor([1.0, math.sqrt(0.5), 0.5, 0.0, -0.5, -1.0], dtype=torch.float64)
    expected = torch.tensor([1.0, 3 / 4, 2 / 3, 1 / 2, 1 / 3, 0.0], dtype=torch.float64)
    torch.testing.assert_close(angular_weight(angles), expected, rtol=0, atol=2e-3)
    assert angular_weight(angles)[0].item() == pytest.approx(1 - math.acos(0.99999) / math.pi, abs=1e-15)


def test_graph_of_two_utterances_and_two_modalities_by_hand():
    right_angle = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [0.0, -2.0]]], dtype=torch.float64)
    graph = build_graph(right_angle, DialogueBatch.from_lists([[0, 0]]))
    same, opposite = 1 - math.acos(0.99999) / math.pi, 1 - math.acos(-0.99999) / math.pi
    within = [[[same, 0.5], [0.5, same]], [[same, opposite], [opposite, same]]]
    across = [[[0, 0.5], [0.5, 0]], [[0, opposite], [opposite, 0]]]
    torch.testing.assert_close(graph.within, torch.tensor(within, dtype=torch.float64))
    torch.testing.assert_close(graph.across, torch.tensor(across, dtype=torch.float64))
    degrees = [[same + 1, same + opposite + 0.5], [same + 0.5 + opposite, same + 2 * opposite]]
    torch.testing.assert_close(graph.scale[..., 0], torch.tensor(degrees, dtype=torch.float64).rsqrt())


def test_graph_of_one_utterance_has_only_its_own_edges():
    graph = build_graph(torch.ones(1, 1, 3, dtype=torch.float64), DialogueBatch.from_lists([[0]]))
    x = torch.tensor([[[3.0, -1.0]]], dtype=torch.float64)
    torch.testing.assert_close(graph.propagate(x), x)  # its weight over its degree, which is that weight


@pytest.mark.parametrize("M", [1, 2, 3])
def test_propagate_equals_the_loop_over_edges(M):
    nodes, x = torch.randn(T, M, 4, dtype=torch.float64), torch.randn(T, M, 3, dtype=torch.float64)
    batch = DialogueBatch.from_lists([[0] * n for n in LENGTHS])
    moved = build_graph(nodes, batch).propagate(x)
    expected = [
        loop_propagate(loop_edges(a.transpose(0, 1)), b.transpose(0, 1)).transpose(0, 1)
        for a, b in zip(nodes.split(LENGTHS), x.split(LENGTHS), strict=True)
    ]
    torch.testing.assert_close(moved, torch.cat(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", ["time first", "holes", "host lengths"])
def test_graph_does_not_depend_on_how_the_batch_was_made(layout):
    nodes = torch.randn(T, 2, 4, dtype=torch.float64)
    lists = DialogueBatch.from_lists([[0] * n for n in LENGTHS])
    expected = build_graph(nodes, lists).propagate(nodes)
    labels = torch.zeros(4, 10, dtype=torch.int64)
    mask = torch.arange(10, 0, -1) <= torch.tensor(LENGTHS)[:, None]  # in the last places
    batch = {
        "time first": DialogueBatch.from_padded(labels.T, lengths=LENGTHS, batch_first=False),
        "holes": DialogueBatch.from_padded(labels, mask=mask),
        "host lengths": replace(lists, host_lengths=lists.lengths),
    }[layout]
    torch.testing.assert_close(build_graph(nodes, batch).propagate(nodes), expected)


def test_nodes_of_zeros_have_no_direction_and_no_gradient():
    nodes = torch.randn(3, 2, 4, dtype=torch.float64)
    nodes[1, 0] = 0.0
    nodes.requires_grad_()
    graph = build_graph(nodes, DialogueBatch.from_lists([[0, 0, 0]]))
    assert graph.within[0, 1].tolist() == [0.5, 0.5, 0.5]
    graph.propagate(nodes.detach()).square().sum().backward()
    assert nodes.grad[1, 0].tolist() == [0.0] * 4
    assert nodes.grad.isfinite().all()


def test_edges_between_equal_nodes_have_a_bounded_gradient():
    direction = torch.randn(5)
    nodes = (direction * torch.rand(T, 2, 1)).requires_grad_()
    build_graph(nodes, DialogueBatch.from_lists([[0] * n for n in LENGTHS])).within.sum().backward()
    edges = 2 * max(LENGTHS)  # each node's, counted from both ends; 1 / (pi |x|) an edge is the bound
    assert (nodes.grad.norm(dim=-1) <= edges / (math.pi * nodes.detach().norm(dim=-1))).all()


def test_gradient_of_the_graph_is_that_of_differences():
    nodes = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    batch = DialogueBatch.from_lists([[0] * 4, [0] * 2])
    x = torch.randn(6, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: build_graph(a, batch).propagate(b), (nodes, x))


@pytest.mark.parametrize("shape", [(T - 1, 2, 4), (T, 4)])
def test_graph_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"build_graph: nodes must have shape \[15, M, F\]"):
        build_graph(torch.zeros(shape), DialogueBatch.from_lists([[0] * T]))


def test_gcnii_of_one_node_by_hand():
    gcnii = GCNII(1, 1, layers=1).double().eval()
    with torch.no_grad():
        gcnii.first.weight.fill_(2.0)
        gcnii.first.bias.fill_(1.0)
        gcnii.weights[0].copy_(torch.tensor([[3.0], [5.0]]))
    nodes = torch.full((1, 1, 1), 4.0, dtype=torch.float64)
    graph = build_graph(nodes, DialogueBatch.from_lists([[0]]))
    # h_0 = 2 * 4 + 1 = 9, which the graph of one node leaves as it is; theta = log 1.5
    expected = math.log(1.5) * (3 * 9 + 5 * 9) + (1 - math.log(1.5)) * 9
    assert gcnii(nodes, graph).item() == pytest.approx(expected, rel=1e-12)


def test_gates_by_hand():
    gates = ModalityGates(1, 1, 2).double().eval()
    with torch.no_grad():
        gates.weight.copy_(torch.tensor([[[1.0]], [[1.0]]]))
        gates.bias.zero_()
        gates.gate_weight.copy_(torch.tensor([[[1.0], [-1.0], [0.5]], [[0.0], [0.0], [0.0]]]))
        gates.gate_bias.copy_(torch.tensor([[[0.0]], [[-100.0]]]))
    out = gates(torch.tensor([[[3.0], [2.0]], [[-1.0], [2.0]]], dtype=torch.float64))[..., 0].tolist()
    z = 1 / (1 + math.exp(-(3 - 2 + 0.5 * 6)))
    assert out[0] == pytest.approx([3 * z + 2 * (1 - z), 3])  # a closed gate takes all from the other
    z = 1 / (1 + math.exp(2))  # -1 does not pass the ReLU
    assert out[1] == pytest.approx([2 * (1 - z), 0])


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("encoder", ["gru", "transformer"])
def test_backbone_equals_the_loops(backbone, encoder, modalities):
    model, features, batch = make(backbone, modalities, encoder=encoder)
    model.eval()
    logits = model(features, batch)
    assert tuple(logits) == modalities
    with torch.no_grad():
        expected = loop_forward(model, features, LENGTHS)
    torch.testing.assert_close(torch.stack(list(logits.values())), expected, rtol=1e-9, atol=1e-9)


def test_backbone_says_the_same_of_a_dialogue_alone(backbone):
    model, features, batch = make(backbone, dtype=torch.float32)
    model.eval()
    together = model(features, batch)
    for d, n in enumerate(LENGTHS):
        if n:
            own = slice(int(batch.offsets[d]), int(batch.offsets[d + 1]))
            alone = model({m: x[own] for m, x in features.items()}, DialogueBatch.from_lists([[0] * n]))
            for m in SIZES:
                torch.testing.assert_close(alone[m], together[m][own], rtol=1e-5, atol=1e-5)


def test_a_change_reaches_its_dialogue_in_every_modality_and_no_other(backbone):
    model, features, batch = make(backbone)
    model.eval()
    before = model(features, batch)
    features["audio"][0] += 1.0
    after = model(features, batch)
    for m in SIZES:
        assert torch.equal((after[m] != before[m]).any(-1), torch.arange(T) < 5)


@pytest.mark.parametrize("modalities", MODALITIES)
def test_every_parameter_has_a_finite_gradient_beside_an_empty_dialogue(backbone, modalities):
    model, features, batch = make(backbone, modalities)
    sum(z.square().sum() for z in model(features, batch).values()).backward()
    learned = [p for p in model.parameters() if p.numel()]  # one modality has no gates
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in learned)


@pytest.mark.parametrize("labels", [[], [[], []]])
@pytest.mark.parametrize("modalities", MODALITIES)
def test_no_utterances_have_no_logits(backbone, modalities, labels):
    model, features, _ = make(backbone, modalities)
    nothing = {m: x[:0] for m, x in features.items()}
    logits = model(nothing, DialogueBatch.from_lists(labels))
    assert all(z.shape == (0, 4) for z in logits.values())
    sum(z.sum() for z in logits.values()).backward()


def test_speakers_are_not_read(backbone):
    model, features, batch = make(backbone)
    model.eval()
    speakers = [[-1] * n for n in LENGTHS]
    named = DialogueBatch.from_lists([[0] * n for n in LENGTHS], speakers=speakers)
    assert torch.equal(model(features, named)["audio"], model(features, batch)["audio"])


def test_a_seed_decides_the_weights_and_what_is_dropped(backbone):
    def logits(seed):
        torch.manual_seed(seed)
        model, features, batch = make(backbone)
        return model(features, batch)["audio"]

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))


def test_dropout_is_for_training_alone(backbone):
    model, features, batch = make(backbone)
    assert not torch.equal(model(features, batch)["audio"], model(features, batch)["audio"])
    model.eval()
    assert torch.equal(model(features, batch)["audio"], model(features, batch)["audio"])


def test_backbone_reads_nothing_from_the_device_of_a_batch(backbone):
    """On "meta" nothing can be read: what works there does not wait for a GPU either."""
    model, features, batch = make(backbone)
    logits = model.to("meta")({m: x.to("meta") for m, x in features.items()}, batch.to("meta"))
    assert all(z.shape == (T, 4) for z in logits.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "cnn"}, "encoder must be one of gru, transformer"),
        ({"layers": -1}, r"layers must be at least 0 \(got -1\)"),
        ({"decay": 0.0}, r"decay must be positive and finite \(got 0.0\)"),
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\] \(got 1.5\)"),
    ],
)
def test_backbone_refuses_options_out_of_their_domain(backbone, options, message):
    with pytest.raises(ValueError, match=f"{backbone.__name__}: {message}"):
        make(backbone, **options)


def test_backbone_refuses_no_modality_and_no_class(backbone):
    with pytest.raises(ValueError, match=f"{backbone.__name__}: at least one modality"):
        backbone({}, 4)
    with pytest.raises(ValueError, match=r"num_classes must be at least 1 \(got 0\)"):
        backbone(SIZES, 0)


def test_mm_dfn_refuses_a_gate_that_drops_all():
    with pytest.raises(ValueError, match=r"MMDFN: gate_dropout must lie in \[0, 1\) \(got 1.0\)"):
        MMDFN(SIZES, 4, gate_dropout=1.0)
