"""The BiDDIN backbone against the published loop: one dialogue, one modality, one direction, one utterance at a time."""

from __future__ import annotations

import math

import pytest
import torch

from spcl_fast import DialogueBatch
from spcl_fast.merc.models import BiDDIN
from spcl_fast.merc.models.biddin import sinusoids
from spcl_fast.merc.models.dialogue_rnn import DialogueRNN
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
            context = (past @ rnn.score[g]).softmax(0).T @ past
            context = context[0]
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
    n, width = len(x), 2 * model.rnn.emotion
    y = torch.cat([forward, backward], 1)
    for t in range(n):
        for i in range(width):
            angle = t / 10000 ** (2 * (i // 2) / width)
            y = y.clone()
            y[t, i] += math.sin(angle) if i % 2 == 0 else math.cos(angle)
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
            [
                loop_logits(model, m, features[name][a:b], speakers[a:b])
                for a, b in zip(bounds[:-1], bounds[1:], strict=True)
                if a < b
            ]
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
