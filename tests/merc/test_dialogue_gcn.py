"""DialogueGCN: its graph by hand, its layers against loops over edges and against torch_geometric."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spcl_fast import DialogueBatch
from spcl_fast.merc.models import DialogueGCN, make_model
from spcl_fast.merc.models.dialogue_gcn import EdgeAttention, RelationalConv, WeightedConv
from spcl_fast.merc.models.window_graph import WindowGraph

SIZES = {"text.glove": 12, "audio": 7, "visual": 5}
LENGTHS = (5, 1, 0, 19, 2, 8)
T = sum(LENGTHS)


def make_batch(num_speakers: int = 3) -> DialogueBatch:
    """Ragged dialogues that end inside, at and beyond the blocks of the graph, with unknown and late speakers."""
    speakers = torch.randint(-1, num_speakers + 2, (T,), generator=torch.Generator().manual_seed(1))
    return DialogueBatch.from_lists([[0] * n for n in LENGTHS], speakers=speakers.split(LENGTHS))


def make(encoder: str = "gru", sizes: dict[str, int] = SIZES, **options):
    options = {"num_speakers": 3, "hidden": 8, "dropout": 0.0} | options
    model = DialogueGCN(sizes, 4, encoder=encoder, **options).double()
    with torch.no_grad():  # biases too say something
        for p in model.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    return model, {m: torch.randn(T, size, dtype=torch.float64) for m, size in sizes.items()}, make_batch()


@pytest.fixture(params=["gru", "transformer"])
def encoder(request):
    return request.param


# ---- the formulas, edge by edge ----


def edges_of(batch: DialogueBatch, window: int, num_speakers: int) -> list[tuple[int, int, int]]:
    """(source, target, relation) of every edge, as the published loops number them."""

    def who(t: int) -> int:
        s = -1 if batch.speakers is None else int(batch.speakers[t])
        return num_speakers - 1 if s < 0 or s >= num_speakers else s

    edges = []
    for first, end in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        for j in range(first, end):
            for i in range(max(first, j - window), min(end, j + window + 1)):
                edges.append((j, i, (who(j) * num_speakers + who(i)) * 2 + (0 if j < i else 1)))
    return edges


def attention_of(x: Tensor, weight: Tensor, edges: list[tuple[int, int, int]]) -> dict[tuple[int, int], Tensor]:
    """softmax over the targets i of x_j^T weight x_i, for each source j."""
    given = {}
    for j in range(len(x)):
        targets = [i for source, i, _ in edges if source == j]
        scores = torch.stack([x[j] @ weight @ x[i] for i in targets]).softmax(0)
        given.update({(j, i): score for i, score in zip(targets, scores, strict=True)})
    return given


def relational_of(x: Tensor, layer: RelationalConv, m: int, edges: list[tuple[int, int, int]]) -> Tensor:
    matrices = torch.einsum("rb,bfh->rfh", layer.mixture[m], layer.bases[m])
    out = []
    for i in range(len(x)):
        row = layer.bias[m, 0] + x[i] @ layer.root[m]
        incoming = [(j, r) for j, target, r in edges if target == i]
        for j, r in incoming:
            row = row + x[j] @ matrices[r] / sum(other == r for _, other in incoming)
        out.append(row)
    return torch.stack(out)


def weighted_of(x: Tensor, layer: WeightedConv, m: int, given: dict[tuple[int, int], Tensor]) -> Tensor:
    out = [layer.bias[m, 0] + x[i] @ layer.root[m] for i in range(len(x))]
    for (j, i), weight in given.items():
        out[i] = out[i] + weight * (x[j] @ layer.weight[m])
    return torch.stack(out)


def logits_of(model: DialogueGCN, features: dict[str, Tensor], batch: DialogueBatch) -> dict[str, Tensor]:
    """The whole backbone, in evaluation, modality by modality and edge by edge."""
    edges = edges_of(batch, model.window, model.num_speakers)
    logits = {}
    for m, (name, encode) in enumerate(zip(model.modalities, model.encoders, strict=True)):
        x = encode(features[name], batch)
        h = relational_of(x, model.relational, m, edges)
        h = weighted_of(h, model.weighted, m, attention_of(x, model.attention.weight[m], edges))
        joined = torch.cat([x, h], -1)
        hidden = (joined @ torch.cat([model.head_context[m], model.head_graph[m]]) + model.head_bias[m]).relu()
        logits[name] = hidden @ model.out[m] + model.out_bias[m]
    return logits


# ---- the graph ----


def test_the_graph_by_hand():
    # speakers 0 1 0 in the first dialogue, 1 in the second; S = 2; (source * 2 + target) * 2 + (not earlier)
    batch = DialogueBatch.from_lists([[0] * 3, [0]], speakers=[[0, 1, 0], [1]])
    graph = WindowGraph(batch, window=2, num_speakers=2)
    no = 8
    expected = [
        [1, 5, 1, no],  # into utterance 0: from itself 0>0, from 1 1>0, from 2 0>0, all not earlier
        [2, 7, 3, no],  # into utterance 1: from 0 0>1 earlier, from itself 1>1, from 2 0>1
        [0, 4, 1, no],
        [no, no, no, 7],
    ]
    assert graph.relations[0, :4, 2:6].tolist() == expected
    assert (graph.relations[0, :4, :2] == no).all()
    assert (graph.relations[0, :4, 6:] == no).all()
    assert torch.equal(graph.edges, graph.relations < no)


@pytest.mark.parametrize("window", [0, 1, 5, 17])
def test_the_graph_has_the_edges_and_relations_of_the_loops(window):
    batch = make_batch()
    graph = WindowGraph(batch, window, num_speakers=3)
    size = graph.edges.shape[1]
    found = []
    for b, i, j in graph.edges.nonzero().tolist():
        source, target = b * size + j - window, b * size + i
        if target < T:
            found.append((source, target, int(graph.relations[b, i, j])))
    assert sorted(found) == sorted(edges_of(batch, window, 3))


def test_unknown_and_late_speakers_count_as_the_last():
    lists = [[0] * 4]
    graphs = [
        WindowGraph(DialogueBatch.from_lists(lists, speakers=[s]), 2, 2).relations
        for s in ([0, -1, 2, 9], [0, 1, 1, 1], [0, 0, 1, 1])
    ]
    assert torch.equal(graphs[0], graphs[1])
    assert not torch.equal(graphs[0], graphs[2])
    nobody, last = DialogueBatch.from_lists(lists), DialogueBatch.from_lists(lists, speakers=[[1] * 4])
    assert torch.equal(WindowGraph(nobody, 2, 2).relations, WindowGraph(last, 2, 2).relations)


def test_adding_around_is_the_adjoint_of_looking_around():
    graph = WindowGraph(make_batch(), 5, 2)
    x = torch.randn(2, graph.num_rows, 3, dtype=torch.float64)
    y = torch.randn_like(graph.around(x))
    torch.testing.assert_close((graph.around(x) * y).sum(), (x * graph.add_around(y)).sum())


# ---- the layers ----


def layers(num_bases: int, num_speakers: int = 3, M: int = 2):
    graph = WindowGraph(make_batch(num_speakers), 5, num_speakers)
    attention, relational = EdgeAttention(M, 6), RelationalConv(M, 6, 4, 2 * num_speakers**2, num_bases)
    weighted = WeightedConv(M, 4, 3)
    for layer in (attention, relational, weighted):
        layer.double()
        for p in layer.parameters():
            torch.nn.init.normal_(p)
    return graph, attention, relational, weighted, torch.randn(M, T, 6, dtype=torch.float64)


@pytest.mark.parametrize("num_bases", [2, 30])  # fewer and more than the 18 relations
def test_the_layers_are_those_of_torch_geometric(num_bases):
    nn = pytest.importorskip("torch_geometric.nn")
    graph, attention, relational, weighted, x = layers(num_bases)
    edges = edges_of(make_batch(), 5, 3)
    edge_index = torch.tensor([(j, i) for j, i, _ in edges]).T
    kinds = torch.tensor([r for *_, r in edges])
    padded = graph.pad(x)
    h = relational(padded, graph)
    out = weighted(h, attention(padded, graph), graph)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # RGCNConv adds up in the default dtype
    try:
        for m in range(2):
            rgcn, conv = nn.RGCNConv(6, 4, 18, num_bases=num_bases), nn.GraphConv(4, 3)
            with torch.no_grad():
                for theirs, ours in (
                    (rgcn.weight, relational.bases[m]),
                    (rgcn.comp, relational.mixture[m]),
                    (rgcn.root, relational.root[m]),
                    (rgcn.bias, relational.bias[m, 0]),
                    (conv.lin_rel.weight, weighted.weight[m].T),
                    (conv.lin_rel.bias, weighted.bias[m, 0]),
                    (conv.lin_root.weight, weighted.root[m].T),
                ):
                    assert theirs.shape == ours.shape
                    theirs.copy_(ours)
            given = attention_of(x[m], attention.weight[m], edges)
            theirs = rgcn(x[m], edge_index, kinds)
            torch.testing.assert_close(h[m, :T], theirs, rtol=1e-9, atol=1e-9)
            theirs = conv(theirs, edge_index, torch.stack([given[j, i] for j, i, _ in edges]))
            torch.testing.assert_close(out[m, :T], theirs, rtol=1e-9, atol=1e-9)
    finally:
        torch.set_default_dtype(default)


def test_the_attention_of_an_utterance_sums_to_one_over_its_window():
    graph, attention, *_, x = layers(2)
    given = attention(graph.pad(x), graph)
    torch.testing.assert_close(given.sum(-1), torch.ones(2, *given.shape[1:3], dtype=torch.float64))
    assert (given.masked_select(~graph.edges) == 0).all()


def test_the_attention_by_hand():
    # two utterances x = 1 and 2, weight log 2: scores x_j x_i log 2, so 2^(1 1), 2^(1 2) from the first
    batch = DialogueBatch.from_lists([[0, 0]])
    graph, attention = WindowGraph(batch, 1, 1), EdgeAttention(1, 1).double()
    torch.nn.init.constant_(attention.weight, torch.tensor(2.0, dtype=torch.float64).log().item())
    x = graph.pad(torch.tensor([[[1.0], [2.0]]], dtype=torch.float64))
    given = attention(x, graph)[0, 0, :2, 1:3]
    torch.testing.assert_close(given, torch.tensor([[2 / 6, 4 / 6], [4 / 20, 16 / 20]], dtype=torch.float64))


# ---- the backbone ----


@pytest.mark.parametrize("num_speakers", [1, 3])
@pytest.mark.parametrize("num_bases", [4, 30])
def test_the_logits_are_those_of_the_loops(encoder, num_speakers, num_bases):
    model, features, batch = make(encoder, num_speakers=num_speakers, num_bases=num_bases)
    model.eval()
    logits, expected = model(features, batch), logits_of(model, features, batch)
    assert list(logits) == list(SIZES)
    for m in SIZES:
        torch.testing.assert_close(logits[m], expected[m], rtol=1e-9, atol=1e-9)


def test_the_gradients_are_those_of_the_loops():
    model, features, batch = make(num_bases=4)
    scale = {m: torch.randn(T, 4, dtype=torch.float64) for m in SIZES}
    gradients = []
    for forward in (model, lambda *x: logits_of(model, *x)):
        logits = forward(features, batch)
        loss = sum((logits[m] * scale[m]).sum() for m in SIZES)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
        assert ours.abs().max() > 0


def test_a_dialogue_alone_is_the_same_as_in_a_batch(encoder):
    model, features, batch = make(encoder)
    model.eval()
    together = model(features, batch)
    for d, n in enumerate(LENGTHS):
        own = slice(int(batch.offsets[d]), int(batch.offsets[d + 1]))
        single = DialogueBatch.from_lists([[0] * n], speakers=[batch.speakers[own]])
        alone = model({m: x[own] for m, x in features.items()}, single)
        for m in SIZES:
            torch.testing.assert_close(alone[m], together[m][own], rtol=1e-9, atol=1e-9)


def test_a_padded_batch_says_the_same_in_either_layout():
    model, features, batch = make()
    labels = torch.zeros(19, len(LENGTHS), dtype=torch.int64)
    rows, _ = batch.layout
    speakers = torch.full((len(LENGTHS), 19), 7).flatten().index_copy(0, rows, batch.speakers).unflatten(0, (-1, 19))
    turned = DialogueBatch.from_padded(labels, lengths=LENGTHS, speakers=speakers.T, batch_first=False)
    # The encoder wants dialogues first; the graph takes any.
    straight = DialogueBatch.from_padded(labels.T, lengths=LENGTHS, speakers=speakers)
    assert torch.equal(WindowGraph(turned, 5, 3).relations, WindowGraph(batch, 5, 3).relations)
    for m, z in model(features, batch).items():
        assert torch.equal(z, model(features, straight)[m])


def test_modalities_do_not_mix_and_any_of_them_will_do(encoder):
    model, features, batch = make(encoder)
    model.eval()
    before = model(features, batch)
    features["audio"] = torch.randn(T, 7, dtype=torch.float64)
    after = model(features, batch)
    assert torch.equal(after["text.glove"], before["text.glove"])
    assert not torch.equal(after["audio"], before["audio"])
    for sizes in ({"audio": 7}, {"visual": 5, "audio": 7}):
        part, features, batch = make(encoder, sizes)
        expected = logits_of(part.eval(), features, batch)
        for m, z in part(features, batch).items():
            torch.testing.assert_close(z, expected[m], rtol=1e-9, atol=1e-9)


def test_speakers_and_the_window_change_what_is_said():
    model, features, batch = make()
    model.eval()
    before = model(features, batch)["audio"]
    other = DialogueBatch.from_arrays(batch.labels, batch.offsets)
    assert not torch.allclose(before, model(features, other)["audio"])
    # Without the encoder only the window counts, once for each of the two layers.
    graph = WindowGraph(batch, model.window, 3)
    x = graph.pad(torch.randn(3, T, 16, dtype=torch.float64))
    changed = x.clone()
    changed[:, 6] += 1.0  # the first utterance of the dialogue of 19

    def layers_of(x):
        return model.weighted(model.relational(x, graph), model.attention(x, graph), graph)

    differs = (layers_of(x) != layers_of(changed)).any(-1).any(0)
    assert torch.equal(differs.nonzero()[:, 0], torch.arange(6, 17))


@pytest.mark.parametrize("labels", [[], [[]], [[], []]])
def test_without_utterances_there_are_no_logits(encoder, labels):
    model, _, _ = make(encoder)
    nothing = {m: torch.zeros(0, size, dtype=torch.float64) for m, size in SIZES.items()}
    logits = model(nothing, DialogueBatch.from_lists(labels))
    assert all(z.shape == (0, 4) for z in logits.values())
    sum(z.sum() for z in logits.values()).backward()


def test_every_parameter_has_a_finite_gradient(encoder):
    model, features, batch = make(encoder, dropout=0.5, num_bases=4)
    sum(z.square().sum() for z in model(features, batch).values()).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name


def test_a_seed_decides_the_numbers():
    def run(seed):
        torch.manual_seed(seed)
        model = DialogueGCN(SIZES, 4, num_speakers=3, hidden=8)
        logits = model({m: torch.randn(T, size) for m, size in SIZES.items()}, make_batch())
        assert all(z.dtype == torch.float32 for z in logits.values())
        return torch.cat(list(logits.values()))

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_the_transformer_has_one_head_and_the_widths_are_those_of_the_published_code():
    model = make_model("dialogue_gcn", {"text": 20}, 6, num_speakers=2, encoder="transformer", hidden=200)
    assert [layer.self_attn.num_heads for layer in model.encoders[0].encoder.layers] == [1, 1]
    assert model.relational.bases.shape == (1, 30, 200, 100)
    assert model.relational.mixture.shape == (1, 8, 30)
    assert model.weighted.weight.shape == (1, 100, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "cnn"}, "DialogueGCN: encoder must be one of gru, transformer"),
        ({"num_speakers": 0}, r"DialogueGCN: num_speakers must be at least 1 \(got 0\)"),
        ({"window": -1}, r"DialogueGCN: window must be at least 0 \(got -1\)"),
        ({"num_bases": 0}, r"DialogueGCN: num_bases must be at least 1 \(got 0\)"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DialogueGCN(SIZES, 4, **options)
    with pytest.raises(ValueError, match="DialogueGCN: at least one modality"):
        DialogueGCN({}, 4)


def test_nothing_is_read_from_the_device_of_a_batch(encoder):
    """On "meta" nothing can be read: what works there does not wait for a GPU either."""
    model = DialogueGCN(SIZES, 4, encoder=encoder, hidden=8).to("meta")
    host = make_batch()
    logits = model({m: torch.zeros(T, size, device="meta") for m, size in SIZES.items()}, host.to("meta"))
    assert [z.shape for z in logits.values()] == [(T, 4)] * 3
