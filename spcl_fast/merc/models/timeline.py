"""When who speaks: the utterances of a batch in the order in which a recurrence meets them, from both ends."""

from __future__ import annotations

import torch
from torch import Tensor

from spcl_fast.batch import DialogueBatch

__all__ = ["Timeline"]


class Timeline:
    """The T utterances of a batch step by step: at step t those dialogues that have one, the longest first.

    Nothing is padded: step t holds `sizes[t]` utterances, one of each dialogue longer than t, and the steps follow
    one another. Direction 0 meets a dialogue from its beginning, direction 1 from its end; the sizes are those of both.

    Args:
        batch: any. An unknown speaker (below 0, or all where the batch has none) is a speaker of its own at every
            utterance; of known ones a dialogue may have any number, under any ids. With `host_lengths` nothing waits
            for the device.

    Attributes:
        sizes: utterances of each step, as many steps as the longest dialogue has utterances.
        rows: `int64[2, T]`, which utterance of the batch stands at a place of a direction.
        places: `int64[2, T]`, the inverse: at which place of a direction an utterance stands.
        previous: `int64[2, T]`, at which place the speaker of a place has spoken last; T where never.
        following: `int64[2, T]`, at which place that speaker speaks next; T where never.
        positions: `int64[T]`, which of its dialogue an utterance is, from 0.
        slots: `int64[T]`, where an utterance stands in `[sizes[0], L]` flattened: the dialogues that are not empty,
            longest first, by the L steps.

    Example:
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.timeline import Timeline
        >>> batch = DialogueBatch.from_lists([[0], [1, 1, 1]], speakers=[[0], [4, 0, 4]])
        >>> time = Timeline(batch)
        >>> time.sizes, time.rows.tolist()
        ([2, 1, 1], [[1, 0, 2, 3], [3, 0, 2, 1]])
        >>> time.previous[0].tolist()  # the last utterance is by the speaker of place 0
        [4, 4, 4, 0]
    """

    def __init__(self, batch: DialogueBatch) -> None:
        T, device = batch.num_utterances, batch.labels.device
        host = batch.lengths.cpu() if batch.host_lengths is None else batch.host_lengths
        steps = torch.arange(int(host.max()) if host.numel() else 0, device=host.device)
        sizes = (host > steps[:, None]).sum(1)
        self.sizes: list[int] = sizes.tolist()
        starts = (sizes.cumsum(0) - sizes).to(device, non_blocking=True)

        rank = batch.lengths.argsort(descending=True, stable=True).argsort()
        dialogue = torch.repeat_interleave(batch.lengths, output_size=T)
        self.positions = torch.arange(T, device=device) - batch.offsets[dialogue]
        from_end = batch.lengths[dialogue] - 1 - self.positions
        self.slots = rank[dialogue] * len(self.sizes) + self.positions
        self.places = starts[torch.stack([self.positions, from_end])] + rank[dialogue]
        self.rows = self.places.argsort(1)

        before, after = _neighbours(batch.speakers, dialogue)
        self.previous = self._in_places(torch.stack([before, after]))
        self.following = self._in_places(torch.stack([after, before]))

    def _in_places(self, of_utterance: Tensor) -> Tensor:
        """From utterance -> utterance to place -> place, T meaning none in both."""
        T = of_utterance.shape[1]
        none = self.places.new_full((2, 1), T)
        return torch.cat([self.places, none], 1).gather(1, of_utterance.gather(1, self.rows))


def _neighbours(speakers: Tensor | None, dialogue: Tensor) -> tuple[Tensor, Tensor]:
    """The utterances before and after each by the same speaker of its dialogue, T where there is none."""
    T = dialogue.numel()
    before, after = (dialogue.new_full((T,), T) for _ in range(2))
    if speakers is None or T == 0:
        return before, after
    speakers = speakers.long()
    order = speakers.argsort(stable=True)
    order = order[dialogue[order].argsort(stable=True)]  # by dialogue, in it by speaker, of each in time order
    earlier, later = order[:-1], order[1:]
    same = (dialogue[earlier] == dialogue[later]) & (speakers[earlier] == speakers[later]) & (speakers[later] >= 0)
    return (
        before.index_copy(0, later, torch.where(same, earlier, T)),
        after.index_copy(0, earlier, torch.where(same, later, T)),
    )
