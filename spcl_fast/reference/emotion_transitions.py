"""How the emotions of a dialogue change, and how surprising each change is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spcl_fast.reference.rows import dialogue_of_row, label_is_scored, running_offsets, sum_by_dialogue

UNKNOWN_SPEAKER = -1


class EmotionTransitions(NamedTuple):
    """Integers of a batch and of its dialogues, a difficulty of each dialogue, a surprisal (nats) of each utterance.

    counts `[C, C]`; same_speaker_shifts, cross_speaker_shifts, num_speakers and difficulty `[D]`; surprisal `[T]`.

    Example:
        >>> import torch
        >>> from spcl_fast import ops
        >>> labels, speakers, offsets = torch.tensor([0, 1]), torch.tensor([4, 4]), torch.tensor([0, 2])
        >>> found = ops.emotion_transitions(labels, speakers, offsets, num_classes=2)
        >>> found.counts.tolist(), found.num_speakers.tolist()
        ([[0, 1], [0, 0]], [1])
        >>> [round(x, 3) for x in found.surprisal.tolist()]  # 0, and -log((1 + 1) / (1 + 2))
        [0.0, 0.405]
    """

    counts: Tensor
    same_speaker_shifts: Tensor
    cross_speaker_shifts: Tensor
    num_speakers: Tensor
    difficulty: Tensor
    surprisal: Tensor


def emotion_transitions(
    labels: Tensor,
    speakers: Tensor,
    offsets: Tensor,
    num_classes: int,
    *,
    similarity: Tensor | None = None,
    ignore_index: int = -100,
    ignored: str = "skip",
    by: str = "dialogue",
    weighted: str = "both",
    counts: Tensor | None = None,
) -> EmotionTransitions:
    """Contract: `spcl_fast.ops.emotion_transitions`.

    Example:
        >>> import torch
        >>> from spcl_fast import reference
        >>> labels, speakers = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
        >>> found = reference.emotion_transitions(labels, speakers, torch.tensor([0, 3]), 2)
        >>> found.same_speaker_shifts.tolist(), found.cross_speaker_shifts.tolist()
        ([1], [1])
    """
    T, C = labels.shape[0], num_classes
    labels, speakers = labels.long(), speakers.long()
    offsets = running_offsets(offsets, T)
    dialogue, owned = dialogue_of_row(offsets, T)
    scored = owned & label_is_scored(labels, C, ignore_index)
    y = torch.where(scored, labels, 0)

    # The utterance before, in the dialogue and in the speaker's own subsequence; -1 where there is none.
    in_chain = scored if ignored == "skip" else owned
    own = _previous_of_speaker(dialogue, speakers, in_chain)
    before = _previous_of_speaker(dialogue, torch.zeros_like(speakers), in_chain)
    follows_own = scored & (own >= 0) & scored[own]
    follows = scored & (before >= 0) & scored[before]

    is_other = (speakers != speakers[before]) | (speakers == UNKNOWN_SPEAKER)
    shifts_own = follows_own & (y != y[own])
    shifts_across = follows & is_other & (y != y[before])
    is_new = scored & (_previous_of_speaker(dialogue, speakers, scored) < 0)
    sums = sum_by_dialogue(torch.stack([scored, shifts_own, shifts_across, is_new]).double(), offsets)
    utterances, same, cross, num_speakers = sums

    changes = same  # DIF
    if similarity is not None:  # WES
        weight = similarity.double() + 0.4
        of_own = torch.where(shifts_own, weight[y[own], y], 0.0)
        across = torch.where(shifts_across, weight[y[before], y], 0.0)
        weights = [of_own, across] if weighted == "both" else [of_own]
        changes = sum_by_dialogue(torch.stack(weights), offsets).sum(0)
    difficulty = (changes + num_speakers) / (utterances + num_speakers)  # 0 / 0 for no utterance: NaN

    previous, has_previous = (own, follows_own) if by == "speaker" else (before, follows)
    transition = torch.where(has_previous, y[previous] * C + y, C * C)
    own_counts = torch.zeros(C * C + 1, dtype=torch.int64, device=labels.device)
    own_counts = own_counts.index_add(0, transition, torch.ones_like(transition))[:-1].view(C, C)
    n = (own_counts if counts is None else counts).double()
    # -log((n_ij + 1) / (n_i. + C)), of the inverse so that a certain transition gives +0
    n_i = n.sum(1)[y[previous]]
    surprisal = torch.log((n_i + C) / (n.flatten()[torch.where(has_previous, transition, 0)] + 1))
    surprisal = torch.where(has_previous, surprisal, 0.0)
    surprisal = torch.where(scored, surprisal, float("nan"))

    real = torch.float64 if similarity is not None and similarity.dtype == torch.float64 else torch.float32
    shifts = same.long(), cross.long()
    return EmotionTransitions(own_counts, *shifts, num_speakers.long(), difficulty.to(real), surprisal.to(real))


def _previous_of_speaker(dialogue: Tensor, speakers: Tensor, in_chain: Tensor) -> Tensor:
    """The utterance before each one among those `in_chain` of its dialogue and speaker, -1 for the first of them."""
    order = torch.argsort(speakers, stable=True)
    order = order[torch.argsort(dialogue[order], stable=True)]
    order = order[torch.argsort(~in_chain[order], stable=True)]  # the others last; bool sorts False first
    a, b = order[:-1], order[1:]
    is_same = (dialogue[a] == dialogue[b]) & (speakers[a] == speakers[b]) & (speakers[b] != UNKNOWN_SPEAKER)
    return torch.full_like(order, -1).index_put((b,), torch.where(is_same & in_chain[b], a, -1))
