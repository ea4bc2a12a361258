"""The published scoring of a batch: SPCL, arXiv 2605.21565, written anew from its formulas as the loops they are.

What is quadratic. The published code scores one utterance at a time: `softmax(z^m)[t][y_t]`, in a loop over the
utterances of a dialogue, which is itself in a loop over dialogues and modalities. The softmax is written inside
the loop and takes the logits of the whole batch, T rows, of which one number is kept. A second loop of the same
kind gives the modality ratio of the selected utterances. So 2 M T softmaxes of T rows: 6 T^2 rows for three
modalities, 6 million at T = 1000, beside some 10 M T calls from Python. A batch of twice the utterances costs up
to four times as much.

Only the loss has a gradient, one vectorised expression; the loops, all the time there is, are the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def published_step(logits: Sequence[Tensor], labels: Tensor, offsets: Tensor, threshold: float) -> dict[str, Any]:
    """Loss, selection, difficulty and spread of one batch of dialogues; the modality ratio as `ratio`."""
    joint = torch.stack(tuple(logits)).sum(0)
    loss = F.nll_loss(F.log_softmax(joint, dim=-1), labels, reduction="none")
    T = labels.shape[0]
    ends = offsets.tolist()
    with torch.no_grad():
        scores: list[Any] = []
        for z in logits:
            of_dialogue = []
            for first, last in pairwise(ends):
                confidence = [F.softmax(z, dim=1)[t][labels[t]] for t in range(first, last)]
                of_dialogue.append(torch.stack(confidence).sum())
            scores.append(torch.stack(of_dialogue))
        spread = torch.stack(scores).std(dim=0)

        spread_of_utterance = torch.zeros(T)
        for d, (first, last) in enumerate(pairwise(ends)):
            spread_of_utterance[first:last].fill_(spread[d])
        difficulty = 2 / (1 / spread_of_utterance + 1 / loss)
        weight = (difficulty <= threshold).int()

        selected = [sum(F.softmax(z, dim=1)[t][labels[t]] * weight[t] for t in range(T)) for z in logits]
        least = min(selected)
        ratio = [s / least for s in selected]
    return {
        "loss": (loss * weight).mean(),
        "weight": weight,
        "difficulty": difficulty,
        "utterance_loss": loss,
        "spread": spread,
        "ratio": ratio,
    }
