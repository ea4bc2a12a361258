"""`emotion_transitions` in plain Python and plain PyTorch: counts, shifts, speakers, difficulty and surprisal.

The forms in PyTorch do less than the op: no ignored labels, no unknown speakers, speaker numbers below `SPEAKERS`, no
empty dialogues. A form needs a stable sort to find what a speaker said last, or a pass for every speaker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Outputs = dict[str, Tensor]
SPEAKERS = 4  # how many speakers the forms are told there are


def published(labels: Tensor, speakers: Tensor, offsets: Tensor, C: int) -> Outputs:
    """The published loops, written anew: a list of labels for every speaker of every dialogue, then its changes.

    DIF of MultiDAG+CL, arXiv 2402.17269, and the changes between speakers of PRC-Emo, arXiv 2511.07061. The counts and
    the surprisal, which nobody published, are a loop of the same kind.
    """
    y, s, ends = labels.tolist(), speakers.tolist(), offsets.tolist()
    same, cross, num_speakers, difficulty = [], [], [], []
    counts = [[0] * C for _ in range(C)]
    for first, last in pairwise(ends):
        own_labels: dict[int, list[int]] = {}
        for t in range(first, last):
            if s[t] in own_labels:
                own_labels[s[t]].append(y[t])
            else:
                own_labels[s[t]] = [y[t]]
        shifts = 0
        for chain in own_labels.values():
            for i in range(len(chain) - 1):
                if chain[i] != chain[i + 1]:
                    shifts += 1
        across = 0
        for t in range(first + 1, last):
            counts[y[t - 1]][y[t]] += 1
            if s[t] != s[t - 1] and y[t] != y[t - 1]:
                across += 1
        n = len(set(s[first:last]))
        same.append(shifts)
        cross.append(across)
        num_speakers.append(n)
        difficulty.append((shifts + n) / (last - first + n))
    surprisal = [0.0] * len(y)
    totals = [sum(row) for row in counts]
    for first, last in pairwise(ends):
        for t in range(first + 1, last):
            surprisal[t] = -math.log((counts[y[t - 1]][y[t]] + 1) / (totals[y[t - 1]] + C))
    return {
        "counts": torch.tensor(counts),
        "same_speaker_shifts": torch.tensor(same),
        "cross_speaker_shifts": torch.tensor(cross),
        "num_speakers": torch.tensor(num_speakers),
        "difficulty": torch.tensor(difficulty),
        "surprisal": torch.tensor(surprisal),
    }


def _sorted(labels: Tensor, speakers: Tensor, starts: Tensor, dialogue: Tensor, C: int) -> tuple[Tensor, Tensor]:
    """By one stable sort of (dialogue, speaker): what changes the speaker's label, and what is a speaker's first."""
    key, order = (dialogue * SPEAKERS + speakers).int().sort(stable=True)
    own_labels = labels[order]
    continues = key[1:] == key[:-1]
    flags = torch.zeros(2, labels.shape[0], dtype=torch.bool, device=labels.device)
    flags[0, order[1:]] = continues & (own_labels[1:] != own_labels[:-1])
    flags[1] = True
    flags[1, order[1:]] = ~continues
    return flags[0], flags[1]


def _running_maximum(
    labels: Tensor, speakers: Tensor, starts: Tensor, dialogue: Tensor, C: int
) -> tuple[Tensor, Tensor]:
    """The same without a sort: where each speaker spoke last, and what, is a running maximum for each of them."""
    rows = torch.arange(labels.shape[0], device=labels.device)
    spoke = torch.full((SPEAKERS, labels.shape[0] + 1), -1, device=labels.device)
    spoke[speakers, rows + 1] = rows * C + labels
    last = spoke.cummax(1).values[speakers, rows]
    is_first = last < starts * C
    return ~is_first & (last % C != labels), is_first


def _bincount(flags: list[Tensor], dialogue: Tensor, offsets: Tensor) -> list[Tensor]:
    return [torch.bincount(dialogue[flag], minlength=offsets.shape[0] - 1) for flag in flags]


def _scatter(flags: list[Tensor], dialogue: Tensor, offsets: Tensor) -> list[Tensor]:
    zeros = torch.zeros(len(flags), offsets.shape[0] - 1, dtype=torch.int64, device=offsets.device)
    return [zero.scatter_add_(0, dialogue, flag.long()) for zero, flag in zip(zeros, flags, strict=True)]


def _running_sums(flags: list[Tensor], dialogue: Tensor, offsets: Tensor) -> list[Tensor]:
    """Sums by dialogue as differences of running sums."""
    sums = [torch.nn.functional.pad(flag.cumsum(0), (1, 0)) for flag in flags]
    return [total[offsets[1:]] - total[offsets[:-1]] for total in sums]


def form_of(own: Callable[..., tuple[Tensor, Tensor]], sums: Callable[..., list[Tensor]]) -> Callable[..., Outputs]:
    """A form: how a speaker's last label is found, and how flags are summed by dialogue."""

    def form(labels: Tensor, speakers: Tensor, offsets: Tensor, C: int) -> Outputs:
        T, D = labels.shape[0], offsets.shape[0] - 1
        lengths = offsets.diff()
        dialogue = torch.repeat_interleave(torch.arange(D, device=offsets.device), lengths, output_size=T)
        starts = offsets[dialogue]
        follows = torch.arange(T, device=labels.device) > starts
        before = torch.cat([labels[:1], labels[:-1]])
        is_other = speakers != torch.cat([speakers[:1], speakers[:-1]])
        across = follows & is_other & (labels != before)
        change, first = own(labels, speakers, starts, dialogue, C)
        same, num_speakers, cross = sums([change, first, across], dialogue, offsets)
        transition = torch.where(follows, before * C + labels, C * C)
        if sums is _scatter:
            zeros = torch.zeros(C * C + 1, dtype=torch.int64, device=labels.device)
            counts = zeros.scatter_add_(0, transition, torch.ones_like(transition))
        else:
            counts = torch.bincount(transition, minlength=C * C + 1)
        counts = counts[:-1].view(C, C)
        table = ((counts.sum(1, keepdim=True) + C) / (counts + 1)).log().flatten()
        return {
            "counts": counts,
            "same_speaker_shifts": same,
            "cross_speaker_shifts": cross,
            "num_speakers": num_speakers,
            "difficulty": (same + num_speakers) / (lengths + num_speakers),
            "surprisal": torch.cat([table, table.new_zeros(1)])[transition],  # 0 for a first utterance
        }

    return form


OWN = {"sorted": _sorted, "running maximum": _running_maximum}
SUMS = {"bincount": _bincount, "scatter": _scatter, "running sums": _running_sums}
FORMS = {f"{own}, {sums}": form_of(OWN[own], SUMS[sums]) for own in OWN for sums in SUMS}
