"""The graph of DialogueGCN: each utterance and those of its window, kept in blocks of rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spcl_fast.batch import DialogueBatch

#: Rows of a block: few products with what lies outside the window, and few rows that two blocks share.
ROWS = 16


class WindowGraph:
    """The edges between the utterances of a dialogue that are at most `window` apart, each to itself too.

    An edge list would be gathered and scattered. Here N rows (the T utterances and padding behind them) form B
    blocks of R rows, and all that such a block is linked with are the R + 2 `window` rows around it: an edge is
    an entry of a matrix `[B, R, R + 2 window]`, and sums over edges are products. Padding is a dialogue of its
    own, so nothing of it reaches an utterance.

    Args:
        batch: the dialogues; T may be 0.
        window: utterances on either side, at least 0.
        num_speakers: S; later ones and unknown ones (-1, or `speakers` None) count as the last.

    Attributes:
        num_rows: N, at least 1 even without utterances.
        edges: `bool[B, R, R + 2 window]`.
        relations: `int64[B, R, R + 2 window]`, the relation of the edge from the utterance of the column to that of
            the row: (speaker of the source * S + speaker of the target) * 2, + 1 unless the source is earlier;
            2 S^2 where there is no edge.
        counts: `int64[B, R, R + 2 window]`, how many edges of this relation the row has.

    Example:
        >>> from spcl_fast import DialogueBatch
        >>> from spcl_fast.merc.models.window_graph import WindowGraph
        >>> batch = DialogueBatch.from_lists([[0, 0, 0], [0]], speakers=[[0, 1, 0], [0]])
        >>> graph = WindowGraph(batch, window=1, num_speakers=2)
        >>> graph.num_rows, graph.relations[0, :4, 1:5].tolist()  # 8: no edge
        (16, [[1, 5, 8, 8], [2, 7, 3, 8], [8, 4, 1, 8], [8, 8, 8, 1]])
    """

    def __init__(self, batch: DialogueBatch, window: int, num_speakers: int) -> None:
        T, device = batch.num_utterances, batch.labels.device
        self.window, self.num_relations = window, 2 * num_speakers**2
        self._block = max(ROWS, window)
        self._fill = -T % self._block if T else self._block
        self.num_rows = T + self._fill

        rows = torch.arange(T, device=device)
        dialogue = torch.searchsorted(batch.offsets[1:].contiguous(), rows, right=True)
        last = num_speakers - 1
        if batch.speakers is None:
            speaker = torch.full_like(rows, last)
        else:
            speaker = torch.where(batch.speakers < 0, last, batch.speakers.clamp(max=last)).long()
        own_dialogue, around_dialogue = self._blocks_of(dialogue, -1)
        own_speaker, around_speaker = self._blocks_of(speaker, last)

        column = torch.arange(self._block + 2 * window, device=device)
        distance = column - torch.arange(self._block, device=device)[:, None] - window  # of the column from the row
        self.edges = (distance.abs() <= window) & (own_dialogue == around_dialogue)
        kind = (around_speaker * num_speakers + own_speaker) * 2 + (distance >= 0)
        self.relations = kind.masked_fill(~self.edges, self.num_relations)
        self.counts = (self.relations[..., None] == self.relations[..., None, :]).sum(-1)

    def _blocks_of(self, values: Tensor, fill: int) -> tuple[Tensor, Tensor]:
        """Values `[T]` as those of the rows `[B, R, 1]` and of the columns `[B, 1, R + 2 window]`."""
        around = F.pad(values, (self.window, self.window + self._fill), value=fill)
        own = around[self.window : self.window + self.num_rows]
        return own.view(-1, self._block, 1), around.unfold(0, self._block + 2 * self.window, self._block)[:, None]

    def pad(self, x: Tensor) -> Tensor:
        """Rows `[M, T, F]` with padding behind them, `[M, N, F]`.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.window_graph import WindowGraph
            >>> graph = WindowGraph(DialogueBatch.from_lists([[0, 0, 0]]), window=1, num_speakers=2)
            >>> graph.pad(torch.ones(2, 3, 5)).shape
            torch.Size([2, 16, 5])
        """
        return F.pad(x, (0, 0, 0, self._fill))

    def split(self, x: Tensor) -> Tensor:
        """Rows `[M, N, F]` in their blocks, `[M, B, R, F]`.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.window_graph import WindowGraph
            >>> graph = WindowGraph(DialogueBatch.from_lists([[0] * 20]), window=1, num_speakers=2)
            >>> graph.split(torch.ones(2, 32, 5)).shape
            torch.Size([2, 2, 16, 5])
        """
        return x.unflatten(1, (-1, self._block))

    def around(self, x: Tensor) -> Tensor:
        """The rows that each block is linked with: `[M, N, F]` to `[M, B, R + 2 window, F]`.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.window_graph import WindowGraph
            >>> graph = WindowGraph(DialogueBatch.from_lists([[0] * 20]), window=1, num_speakers=2)
            >>> graph.around(torch.arange(32.0).view(1, 32, 1))[0, 1, :3, 0].tolist()
            [15.0, 16.0, 17.0]
        """
        w = self.window
        return F.pad(x, (0, 0, w, w)).unfold(1, self._block + 2 * w, self._block).transpose(2, 3)

    def add_around(self, x: Tensor) -> Tensor:
        """Adds up what all blocks say of a row: `[M, B, R + 2 window, F]` to `[M, N, F]`, the adjoint of `around`.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> from spcl_fast.merc.models.window_graph import WindowGraph
            >>> graph = WindowGraph(DialogueBatch.from_lists([[0] * 20]), window=1, num_speakers=2)
            >>> graph.add_around(torch.ones(1, 2, 18, 1))[0, 14:18, 0].tolist()
            [1.0, 2.0, 2.0, 1.0]
        """
        w, size = self.window, self._block
        # A block speaks of its own rows, of the last of the block before it and of the first of the one after it.
        before = F.pad(x[:, 1:, :w], (0, 0, size - w, 0, 0, 1))
        after = F.pad(x[:, :-1, size + w :], (0, 0, 0, size - w, 1, 0))
        return (x[:, :, w : w + size] + before + after).flatten(1, 2)
