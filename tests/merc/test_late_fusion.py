"""The late-fusion backbone: shapes, padding that cannot be seen, gradients."""

from __future__ import annotations

import pytest
import torch

from spcl_fast import DialogueBatch
from spcl_fast.merc.models import LateFusion

SIZES = {"text.glove": 12, "audio": 7}
LENGTHS = (5, 1, 0, 9)


def make(encoder, **options):
    model = LateFusion(SIZES, 4, encoder=encoder, hidden=8, **options)
    labels = [[0] * n for n in LENGTHS]
    features = {m: torch.randn(sum(LENGTHS), size) for m, size in SIZES.items()}
    return model, features, DialogueBatch.from_lists(labels)


@pytest.fixture(params=["gru", "transformer"])
def encoder(request):
    return request.param


def test_late_fusion_gives_one_head_a_modality(encoder):
    model, features, batch = make(encoder)
    logits = model(features, batch)
    assert list(logits) == list(SIZES)
    assert all(z.shape == (15, 4) for z in logits.values())


def test_late_fusion_does_not_see_padding_or_other_dialogues(encoder):
    model, features, batch = make(encoder)
    model.eval()
    together = model(features, batch)
    for d, n in enumerate(LENGTHS):
        if n:
            own = slice(int(batch.offsets[d]), int(batch.offsets[d + 1]))
            alone = model({m: x[own] for m, x in features.items()}, DialogueBatch.from_lists([[0] * n]))
            for m in SIZES:
                torch.testing.assert_close(alone[m], together[m][own], rtol=1e-5, atol=1e-5)


def test_late_fusion_looks_at_the_whole_dialogue(encoder):
    model, features, batch = make(encoder)
    model.eval()
    before = model(features, batch)["audio"]
    features["audio"][0] += 1.0
    changed = (model(features, batch)["audio"] != before).any(-1)
    assert torch.equal(changed, torch.arange(15) < 5)


def test_late_fusion_modalities_do_not_mix(encoder):
    model, features, batch = make(encoder)
    model.eval()
    before = model(features, batch)
    features["audio"] = torch.randn(15, 7)
    after = model(features, batch)
    assert torch.equal(after["text.glove"], before["text.glove"])
    assert not torch.equal(after["audio"], before["audio"])


def test_late_fusion_has_finite_gradients_beside_an_empty_dialogue(encoder):
    model, features, batch = make(encoder)
    sum(z.square().sum() for z in model(features, batch).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("labels", [[], [[], []]])
def test_late_fusion_without_utterances_is_empty(encoder, labels):
    model, _, _ = make(encoder)
    nothing = {m: torch.zeros(0, size) for m, size in SIZES.items()}
    assert all(z.shape == (0, 4) for z in model(nothing, DialogueBatch.from_lists(labels)).values())


def test_late_fusion_transformer_heads_follow_the_published_rule():
    for size, heads in ((500, 5), (55, 5), (8, 8), (342, 6), (13, 13), (17, 1), (4, 1)):
        model = LateFusion({"m": size}, 2, encoder="transformer", hidden=4)
        assert model.encoders[0].encoder.layers[0].self_attn.num_heads == heads


def test_late_fusion_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="encoder must be one of gru, transformer"):
        LateFusion(SIZES, 4, encoder="cnn")
    with pytest.raises(ValueError, match="at least one modality"):
        LateFusion({}, 4)
    with pytest.raises(ValueError, match=r"num_classes must be at least 1 \(got 0\)"):
        LateFusion(SIZES, 0)


@pytest.mark.parametrize("encoder", ["gru", "transformer"])
def test_the_backbones_read_nothing_from_the_device_of_a_batch(encoder: str) -> None:
    """On "meta" nothing can be read: what works there does not wait for a GPU either."""
    sizes = {"text": 10, "audio": 5}
    model = LateFusion(sizes, 4, encoder=encoder, hidden=8).to("meta")
    host = DialogueBatch.from_arrays(torch.zeros(6, dtype=torch.int64), torch.tensor([0, 4, 4, 6]))
    logits = model({m: torch.zeros(6, size, device="meta") for m, size in sizes.items()}, host.to("meta"))
    assert [z.shape for z in logits.values()] == [(6, 4), (6, 4)]


@pytest.mark.parametrize("layout", ["time first", "holes"])
def test_late_fusion_takes_any_padded_layout(encoder, layout):
    model, features, batch = make(encoder)
    model.eval()
    labels = batch.pad(batch.labels)
    mask = batch.pad(torch.ones_like(batch.labels)).bool()
    if layout == "holes":  # every dialogue stands, turned around, at the end of its row
        labels, mask = (torch.nn.functional.pad(x.flip(1), (0, 1)) for x in (labels, mask))
        features = {m: batch.pad(x) for m, x in features.items()}
        features = {m: torch.nn.functional.pad(x.flip(1), (0, 0, 0, 1))[mask] for m, x in features.items()}
        other = DialogueBatch.from_padded(labels, mask=mask)
        plain = DialogueBatch.from_lists([[0] * n for n in LENGTHS])
        expected = model(features, plain)
    else:
        other = DialogueBatch.from_padded(labels.T, mask=mask.T, batch_first=False)
        expected = model(features, batch)
    found = model(features, other)
    for m in SIZES:
        torch.testing.assert_close(found[m], expected[m], rtol=1e-5, atol=1e-5)
