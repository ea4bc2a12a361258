"""BiDDIN against the published loop: one dialogue, modality, direction and utterance at a time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from spcl_fast import DialogueBatch
from spcl_fast.merc.models import BiDDIN
from spcl_fast.merc.models.recurrence import emotion_states, party_states
from spcl_fast.merc.models.timeline import Timeline

SIZES = {"text.glove": 12, "audio": 7}
LENGTHS = (5, 1, 0, 9)
SPEAKERS = ([0, 1, 0, -1, 1], [3], [], [7, 9, 7, -1, -1, 0, 0, 9, 7])


def make_batch(speakers=SPEAKERS):
    return DialogueBatch.from_lists([[0] * len(s) for s in speakers], speakers=speakers)


def make(sizes=SIZES, dtype=torch.float64, **options):
    model = BiDDIN(sizes, 4, **{"hidden": 6, "emotion": 4} | options).to(dtype).eval()
    features = {m: torch.randn(sum(LENGTHS), size, dtype=dtype) for m, size in sizes.items()}
    return model, features, make_batch()


def unit(a, b, state):
    """The gated recurrent unit of inputs n, r, z and states r, z, n."""
    (a_n, a_r, a_z), (b_r, b_z, b_n) = a.chunk(3), b.chunk(3)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    return (1 - z) * torch.tanh(a_n + r * b_n) + z * state


def loop_emotions(rnn, m, direction, x, speakers):
    """DialogueRNN over one dialogue `[n, F]`, as its formulas read."""
    M, g = len(rnn.inputs), 2 * m + direction
    p = 2 * M + g  # the party units follow the global ones
    x_global, x_party = (x @ rnn.inputs[m][direction] + rnn.input_biases[m][direction]).chunk(2, 1)
    party = {}
    history, emotions = [], []
    zeros, emotion = x.new_zeros(rnn.hidden), x.new_zeros(rnn.emotion)
    for t, speaker in enumerate(speakers):
        before = zeros if speaker < 0 else party.get(speaker, zeros)
        context = zeros
        if history:
            past = torch.stack(history)
            context = (past @ rnn.score[g]).softmax(0)[:, 0] @ past
        last = history[-1] if history else zeros
        state = last @ rnn.states[g] + rnn.state_biases[g, 0]
        history.append(unit(x_global[t] + before @ rnn.reads[g], state, last))
        state = before @ rnn.states[p] + rnn.state_biases[p, 0]
        party[speaker] = unit(x_party[t] + context @ rnn.reads[p], state, before)
        felt = party[speaker] @ rnn.emotion_inputs[g] + rnn.emotion_input_biases[g, 0]
        emotion = unit(felt, emotion @ rnn.emotion_states[g] + rnn.emotion_biases[g, 0], emotion)
        emotions.append(emotion)
    return torch.stack(emotions)


def loop_logits(model, m, x, speakers):
    """What the model says of one dialogue in one modality."""
    forward = loop_emotions(model.rnn, m, 0, x, speakers)
    backward = loop_emotions(model.rnn, m, 1, x.flip(0), speakers[::-1]).flip(0)
    width = 2 * model.rnn.emotion
    angles = [[t / 10000 ** (2 * (i // 2) / width) for i in range(width)] for t in range(len(x))]
    waves = [[math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(row)] for row in angles]
    y = torch.cat([forward, backward], 1) * math.sqrt(width) + torch.tensor(waves, dtype=x.dtype)
    q, k, v = (y @ model.attention[m]).chunk(3, 1)
    size = width // model.heads
    found = []
    for h in range(model.heads):
        part = slice(h * size, (h + 1) * size)
        found.append((q[:, part] @ k[:, part].T / math.sqrt(size)).softmax(1) @ v[:, part])
    y = y + torch.cat(found, 1) @ model.joined[m]
    y = (y - y.mean(1, keepdim=True)) / (y.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return (y @ model.hidden[m] + model.hidden_bias[m]).relu() @ model.head[m] + model.head_bias[m]


def loop(model, features, batch):
    """The whole batch, dialogue by dialogue."""
    speakers = [-1] * batch.num_utterances if batch.speakers is None else batch.speakers.tolist()
    bounds = batch.offsets.tolist()
    return {
        name: torch.cat(
            [loop_logits(model, m, features[name][a:b], speakers[a:b]) for a, b in itertools.pairwise(bounds) if a < b]
        )
        for m, name in enumerate(model.modalities)
    }


@pytest.mark.parametrize("speakers", [SPEAKERS, None])
def test_biddin_is_the_published_loop(speakers):
    model, features, batch = make()
    if speakers is None:
        batch = DialogueBatch(batch.labels, batch.offsets)
    found, wanted = model(features, batch), loop(model, features, batch)
    for m in SIZES:
        torch.testing.assert_close(found[m], wanted[m], rtol=1e-9, atol=1e-9)


def test_the_steps_back_are_those_of_autograd_over_the_loop():
    model, features, batch = make()
    leaves = [*model.parameters(), *(x.requires_grad_() for x in features.values())]
    weights = torch.randn(sum(LENGTHS), 4, dtype=torch.float64)
    grads = []
    for f in (model, lambda *given: loop(model, *given)):
        grads.append(torch.autograd.grad(sum((z * weights).sum() for z in f(features, batch).values()), leaves))
    for (name, _), found, wanted in zip(
        [*model.named_parameters(), ("text", None), ("audio", None)], *grads, strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_the_steps_of_a_timeline_by_hand():
    time = Timeline(make_batch([[5, 6, 5], [], [0], [1, 1, -1, -1]]))
    assert time.sizes == [3, 2, 2, 1]  # of the dialogues of 4, 3 and 1 utterances
    assert time.rows.tolist() == [[4, 0, 3, 5, 1, 6, 2, 7], [7, 2, 3, 6, 1, 5, 0, 4]]
    assert time.places.gather(1, time.rows).tolist() == [list(range(8))] * 2
    assert time.previous.tolist() == [[8, 8, 8, 0, 8, 8, 1, 8], [8, 8, 8, 8, 8, 8, 1, 5]]
    assert time.following.tolist() == [[3, 6, 8, 8, 8, 8, 8, 8], [8, 6, 8, 8, 8, 7, 8, 8]]
    assert time.positions.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert time.slots.tolist() == [4, 5, 6, 8, 0, 1, 2, 3]


def still(T, H=1):
    """Weights of no effect: every unit goes halfway to its n, and every n is that of its inputs."""
    G = 2
    weights = [torch.zeros(2 * G, H, 3 * H), torch.zeros(2 * G, H, 3 * H), torch.zeros(2 * G, 1, 3 * H)]
    return torch.zeros(2, G, T, 3 * H), *weights, torch.zeros(G, H, 1)


def test_speakers_go_on_where_they_stopped_and_listeners_stay():
    inputs, *weights = still(5)
    inputs[1, ..., 0] = 100.0  # n = 1: each utterance brings its speaker halfway to 1
    batch = make_batch([[0, 1, 0, -1, 0]])
    forward, backward = party_states(inputs, *weights, Timeline(batch))[..., 0]
    assert forward.tolist() == [0.5, 0.5, 0.75, 0.5, 0.875]
    assert backward.tolist() == [0.5, 0.5, 0.75, 0.5, 0.875]  # as heard from the end: 0, -1, 0, 1, 0


def test_the_context_is_the_mean_of_the_global_states_so_far():
    inputs, read, *weights = still(3)
    inputs[0, ..., 0] = 100.0  # global states 1/2, 3/4, 7/8
    read[2:, :, 0] = 1.0  # n = tanh(context), and the party goes halfway there
    batch = make_batch([[0, 1, 2]])
    forward = party_states(inputs, read, *weights, Timeline(batch))[0, :, 0]
    torch.testing.assert_close(forward, torch.tensor([0.0, 0.5, 0.625]).tanh() / 2)
    weights[-1][:] = 4 * math.log(3)  # the score of the second is larger by log 3
    forward = party_states(inputs, read, *weights, Timeline(batch))[0, :, 0]
    torch.testing.assert_close(forward, torch.tensor([0.0, 0.5, (0.5 + 3 * 0.75) / 4]).tanh() / 2)


def test_a_context_of_any_score_is_finite():
    inputs, read, *weights = still(4)
    inputs[0, 0, :, 0] = torch.tensor([100.0, -100.0, 100.0, 100.0])
    weights[-1][:] = 1e6
    weights[-1].requires_grad_()
    found = party_states(inputs, read, *weights, Timeline(make_batch([[0, 1, 0, 1]])))
    found.sum().backward()
    assert found.isfinite().all()
    assert weights[-1].grad.isfinite().all()


@pytest.mark.parametrize("dropped", [False, True])
def test_the_recurrences_pass_gradcheck(dropped):
    time, G, H, E = Timeline(make_batch([[0, 1, 0], [], [2], [0, -1]])), 2, 2, 2
    T = sum(time.sizes)

    def draw(*shape):
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    keep = (2.0 * (torch.rand(2 * G, T, H) < 0.5)).double() if dropped else None
    leaves = [draw(2, G, T, 3 * H), draw(2 * G, H, 3 * H), draw(2 * G, H, 3 * H), draw(2 * G, 1, 3 * H), draw(G, H, 1)]
    assert torch.autograd.gradcheck(lambda *x: party_states(*x, time, keep), leaves, fast_mode=True)
    keep = None if keep is None else keep[:G]
    leaves = [draw(G, T, 3 * E), draw(G, E, 3 * E), draw(G, 1, 3 * E)]
    assert torch.autograd.gradcheck(lambda *x: emotion_states(*x, time, keep), leaves, fast_mode=True)


def test_biddin_does_not_see_padding_or_other_dialogues():
    model, features, batch = make(dtype=torch.float32)
    together = model(features, batch)
    for d, n in enumerate(LENGTHS):
        if n:
            own = slice(int(batch.offsets[d]), int(batch.offsets[d + 1]))
            alone = model({m: x[own] for m, x in features.items()}, make_batch([SPEAKERS[d]]))
            for m in SIZES:
                torch.testing.assert_close(alone[m], together[m][own], rtol=1e-5, atol=1e-5)


def test_biddin_looks_at_the_whole_dialogue_and_at_one_modality():
    model, features, batch = make()
    before = model(features, batch)
    features["audio"][0] += 1.0
    after = model(features, batch)
    assert torch.equal((after["audio"] != before["audio"]).any(-1), torch.arange(15) < 5)
    assert torch.equal(after["text.glove"], before["text.glove"])


def test_biddin_of_one_modality_and_of_three():
    for sizes in ({"audio": 7}, {"a": 1, "t": 2, "v": 3}):
        model, features, batch = make(sizes)
        found, wanted = model(features, batch), loop(model, features, batch)
        assert list(found) == list(sizes)
        for m in sizes:
            torch.testing.assert_close(found[m], wanted[m], rtol=1e-9, atol=1e-9)


def test_biddin_ids_of_speakers_are_only_names():
    model, features, batch = make()
    renamed = [[s if s < 0 else 2**40 - 7 * s for s in who] for who in SPEAKERS]
    found = model(features, make_batch(renamed))
    for m, wanted in model(features, batch).items():
        assert torch.equal(found[m], wanted)


def test_biddin_takes_the_same_batch_in_any_layout():
    model, features, batch = make()
    padded = DialogueBatch.from_padded(
        batch.pad(batch.labels).T, lengths=batch.lengths, speakers=batch.pad(batch.speakers).T, batch_first=False
    )
    found = model(features, padded)
    for m, wanted in model(features, batch).items():
        assert torch.equal(found[m], wanted)


@pytest.mark.parametrize("lists", [[], [[], []]])
def test_biddin_without_utterances_is_empty(lists):
    model, _, _ = make(dtype=torch.float32)
    nothing = {m: torch.zeros(0, size) for m, size in SIZES.items()}
    logits = model.train()(nothing, make_batch(lists))
    assert all(z.shape == (0, 4) for z in logits.values())
    sum(z.sum() for z in logits.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_biddin_learns_with_every_weight_and_the_same_under_one_seed():
    grads = []
    for _ in range(2):
        torch.manual_seed(1)
        model, features, batch = make(dtype=torch.float32)
        sum(z.square().sum() for z in model.train()(features, batch).values()).backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        assert grad.isfinite().all(), name
        assert grad.any(), name
        assert torch.equal(grad, grads[1][name])


def test_biddin_drops_a_state_for_all_that_read_it():
    """With every state dropped nothing is left of the features but the dialogue's shape."""
    model, features, batch = make(state_dropout=1 - 1e-12)
    model.rnn.train()
    other = {m: torch.randn_like(x) for m, x in features.items()}
    found = model(features, batch)
    for m, wanted in model(other, batch).items():
        assert torch.equal(found[m], wanted)


def test_biddin_widths_and_refusals():
    assert BiDDIN(SIZES, 4).rnn.emotion == 100  # as published, of 150
    assert BiDDIN(SIZES, 4, hidden=1).rnn.emotion == 4
    with pytest.raises(ValueError, match=r"heads must divide twice the emotion width, 10 \(got 4\)"):
        BiDDIN(SIZES, 4, emotion=5)
    with pytest.raises(ValueError, match=r"state_dropout must lie in \[0, 1\) \(got 1\.0\)"):
        BiDDIN(SIZES, 4, state_dropout=1.0)
    with pytest.raises(ValueError, match="at least one modality"):
        BiDDIN({}, 4)
    with pytest.raises(ValueError, match=r"num_classes must be at least 1 \(got 0\)"):
        BiDDIN(SIZES, 0)


def test_biddin_reads_nothing_from_the_device_of_a_batch():
    """On "meta" nothing can be read: what works there does not wait for a GPU either."""
    model = BiDDIN(SIZES, 4, hidden=6).to("meta")
    host = DialogueBatch.from_arrays(
        torch.zeros(6, dtype=torch.int64), torch.tensor([0, 4, 4, 6]), speakers=torch.zeros(6, dtype=torch.int64)
    )
    logits = model({m: torch.zeros(6, size, device="meta") for m, size in SIZES.items()}, host.to("meta"))
    assert [z.shape for z in logits.values()] == [(6, 4), (6, 4)]
