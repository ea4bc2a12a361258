"""Batches of whole dialogues without padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


def _integers(name: str, values: Any, ndim: int) -> Tensor:
    """An integer tensor of this rank, sharing memory with NumPy input where it can."""
    if isinstance(values, np.ndarray):
        # What torch has no tensors for is copied: other byte orders, negative strides, read-only memory.
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if not values.flags.writeable or min(values.strides, default=0) < 0:
            values = values.copy()
    tensor = torch.as_tensor(values)
    if tensor.numel() == 0 and not isinstance(values, (Tensor, np.ndarray)):
        tensor = tensor.long()  # an empty list has no integers to show its type by
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        raise TypeError(f"DialogueBatch: {name} must hold integers (got {tensor.dtype})")
    if tensor.ndim != ndim:
        raise ValueError(f"DialogueBatch: {name} must have {ndim} dimension(s) (got shape {tuple(tensor.shape)})")
    return tensor


@dataclass(frozen=True, eq=False)
class DialogueBatch:
    """D dialogues of T utterances in all, one after another: CSR instead of padding.

    Attributes:
        labels: `int[T]`; -100 where an utterance is context only.
        offsets: `int64[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
        speakers: `int[T]`, numbered inside the dialogue, or None.
        rows: `int64[T]`, where each utterance stands in the padded tensors flattened to rows; None for a batch
            that was never padded, and is then laid out as `[D, longest]` when asked for.
        padded_shape: the two leading sizes of those padded tensors, or None.
        host_lengths: `int64[D]` on the host, for what is decided there; None where nobody knew them.

    Build one on the host, with `from_padded`, `from_lists` or `from_arrays`, and move it with `to`: what has to be
    known on the host goes along, so that no use of the batch waits for its device.

    Example:
        >>> from spcl_fast import DialogueBatch
        >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]], speakers=[[0, 1, 0], [0]])
        >>> batch.labels.tolist(), batch.offsets.tolist()
        ([0, 2, 1, 1], [0, 3, 4])
        >>> batch.num_dialogues, batch.num_utterances, batch.lengths.tolist()
        (2, 4, [3, 1])
    """

    labels: Tensor
    offsets: Tensor
    speakers: Tensor | None = None
    rows: Tensor | None = None
    padded_shape: tuple[int, int] | None = None
    host_lengths: Tensor | None = None

    @classmethod
    def from_padded(
        cls,
        labels: Tensor | np.ndarray,
        *,
        lengths: Tensor | np.ndarray | Sequence[int] | None = None,
        mask: Tensor | np.ndarray | None = None,
        speakers: Tensor | np.ndarray | None = None,
        batch_first: bool = True,
    ) -> DialogueBatch:
        """From padded tensors and either lengths or a mask.

        Args:
            labels: `int[B, L]`, or `int[L, B]` with `batch_first=False`, any integer dtype; B and L may be 0. What
                stands in the padding is not read.
            lengths: `int[B]`, utterances of each dialogue, from 0 to L.
            mask: true (or a number other than 0) at the utterances, in the layout of `labels`; holes are allowed,
                and what is left keeps its order.
            speakers: `int`, in the layout of `labels`.
            batch_first: whether dialogues are the leading dimension.

        Raises:
            TypeError: labels, lengths or speakers that are not integers.
            ValueError: both or neither of lengths and mask, shapes that do not fit, a length outside [0, L], NaN in
                the mask.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> labels = torch.tensor([[0, 2, 1], [1, 0, 0]])  # two dialogues, the second of one utterance
            >>> batch = DialogueBatch.from_padded(labels, lengths=[3, 1])
            >>> batch.labels.tolist(), batch.offsets.tolist()
            ([0, 2, 1, 1], [0, 3, 4])
        """
        padded = _integers("labels", labels, 2)
        shape = (padded.shape[0], padded.shape[1])
        B, L = shape if batch_first else shape[::-1]
        if (lengths is None) == (mask is None):
            raise ValueError("DialogueBatch.from_padded: give either lengths or mask (got both or neither)")
        if lengths is not None:
            n = _integers("lengths", lengths, 1).to(padded.device).long()
            if n.numel() != B:
                raise ValueError(f"DialogueBatch.from_padded: lengths must have {B} entries (got {n.numel()})")
            wrong = (n < 0) | (n > L)
            if bool(wrong.any()):
                d = int(wrong.nonzero()[0])
                raise ValueError(
                    f"DialogueBatch.from_padded: lengths must lie in [0, {L}] (got {int(n[d])} for dialogue {d})"
                )
            owned = torch.arange(L, device=padded.device) < n[:, None]  # [B, L]
        else:
            owned = torch.as_tensor(mask).to(padded.device)
            if tuple(owned.shape) != shape:
                raise ValueError(
                    f"DialogueBatch.from_padded: mask must have the shape of labels, {shape} (got {tuple(owned.shape)})"
                )
            if bool(owned.isnan().any()):
                raise ValueError("DialogueBatch.from_padded: mask must say of each place what it is (got NaN)")
            owned = (owned if batch_first else owned.T) != 0

        dialogue, position = owned.nonzero(as_tuple=True)  # dialogue by dialogue, in time order
        rows = dialogue * L + position if batch_first else position * B + dialogue
        offsets = torch.cat([owned.new_zeros(1, dtype=torch.int64), owned.sum(1).cumsum(0)])
        who = None
        if speakers is not None:
            who = _integers("speakers", speakers, 2).to(padded.device)
            if tuple(who.shape) != shape:
                raise ValueError(
                    f"DialogueBatch.from_padded: speakers must have shape {shape} (got {tuple(who.shape)})"
                )
            who = who.flatten()[rows]
        return cls(padded.flatten()[rows], offsets, who, rows, shape)

    @classmethod
    def from_lists(
        cls, labels: Iterable[Sequence[int]], *, speakers: Iterable[Sequence[int]] | None = None
    ) -> DialogueBatch:
        """From one list (or array) of labels a dialogue, and the same of speakers.

        Args:
            labels: `int`, one sequence a dialogue, which may be empty; none give a batch of no dialogues.
            speakers: `int`, as many a dialogue as it has labels, numbered inside the dialogue; or None.

        Raises:
            TypeError: entries that are not integers.
            ValueError: a dialogue whose speakers are not as many as its labels.

        Example:
            >>> from spcl_fast import DialogueBatch
            >>> batch = DialogueBatch.from_lists([[0, 2, 1], [], [1]])
            >>> batch.labels.tolist(), batch.offsets.tolist()
            ([0, 2, 1, 1], [0, 3, 3, 4])
        """
        parts = [_integers(f"labels[{d}]", y, 1) for d, y in enumerate(labels)]
        lengths = [y.numel() for y in parts]
        offsets = torch.tensor([0, *lengths]).cumsum(0)
        flat = torch.cat(parts).long() if parts else torch.zeros(0, dtype=torch.int64)
        if speakers is None:
            return cls(flat, offsets)
        who = [_integers(f"speakers[{d}]", s, 1) for d, s in enumerate(speakers)]
        if [s.numel() for s in who] != lengths:
            raise ValueError(
                f"DialogueBatch.from_lists: every dialogue needs one speaker for each of its labels (got lengths "
                f"{[s.numel() for s in who]} for {lengths})"
            )
        return cls(flat, offsets, torch.cat(who).long() if who else torch.zeros(0, dtype=torch.int64))

    @classmethod
    def from_arrays(
        cls,
        labels: Tensor | np.ndarray,
        offsets: Tensor | np.ndarray,
        *,
        speakers: Tensor | np.ndarray | None = None,
    ) -> DialogueBatch:
        """From NumPy arrays or tensors that have no padding; memory is shared where it can be.

        Args:
            labels: `int[T]`, any integer dtype; T may be 0.
            offsets: `int[D+1]`; dialogue d owns the utterances `offsets[d]:offsets[d+1]`.
            speakers: `int[T]`, numbered inside the dialogue, or None.

        Raises:
            TypeError: entries that are not integers.
            ValueError: shapes that do not fit, offsets that do not run from 0 to T without falling.

        Example:
            >>> import numpy as np
            >>> from spcl_fast import DialogueBatch
            >>> batch = DialogueBatch.from_arrays(np.array([0, 2, 1, 1]), np.array([0, 3, 4]))
            >>> batch.lengths.tolist()
            [3, 1]
        """
        y, o = _integers("labels", labels, 1), _integers("offsets", offsets, 1).long()
        if o.numel() == 0 or int(o[0]) != 0 or int(o[-1]) != y.numel() or bool((o.diff() < 0).any()):
            raise ValueError(f"DialogueBatch.from_arrays: offsets must run from 0 to {y.numel()} without falling")
        who = None if speakers is None else _integers("speakers", speakers, 1)
        if who is not None and who.numel() != y.numel():
            raise ValueError(f"DialogueBatch.from_arrays: speakers must have {y.numel()} entries (got {who.numel()})")
        return cls(y, o, who)

    @property
    def num_dialogues(self) -> int:
        """D."""
        return self.offsets.numel() - 1

    @property
    def num_utterances(self) -> int:
        """T."""
        return self.labels.numel()

    @cached_property
    def lengths(self) -> Tensor:
        """Utterances of each dialogue, `int64[D]`."""
        return self.offsets.diff()

    @cached_property
    def layout(self) -> tuple[Tensor, tuple[int, int]]:
        """`(rows, padded_shape)`; `[D, longest]` for a batch that was never padded."""
        if self.rows is not None and self.padded_shape is not None:
            return self.rows, self.padded_shape
        L = int(self.lengths.max()) if self.num_dialogues else 0
        dialogue = torch.repeat_interleave(self.lengths)
        position = torch.arange(self.num_utterances, device=dialogue.device) - self.offsets[dialogue]
        return dialogue * L + position, (self.num_dialogues, L)

    def flatten(self, padded: Tensor) -> Tensor:
        """The rows `[T, ...]` of a padded `[B, L, ...]` tensor (`[L, B, ...]` if built so); differentiable.

        Raises:
            ValueError: a tensor whose two leading sizes are not those of the padded layout.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> batch = DialogueBatch.from_padded(torch.tensor([[0, 2], [1, 0]]), lengths=[2, 1])
            >>> batch.flatten(torch.tensor([[0.5, 0.25], [1.0, 0.0]])).tolist()
            [0.5, 0.25, 1.0]
        """
        rows, shape = self.layout
        if tuple(padded.shape[:2]) != shape:
            raise ValueError(
                f"DialogueBatch.flatten: must start with the padded shape {shape} (got {tuple(padded.shape)})"
            )
        return padded.flatten(0, 1).index_select(0, rows)

    def pad(self, flat: Tensor, fill: float = 0.0) -> Tensor:
        """The inverse of `flatten`: `[T, ...]` in the padded layout, `fill` in the padding; differentiable.

        The dtype stays, and `fill` has to fit it.

        Raises:
            ValueError: a tensor without T rows.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> batch = DialogueBatch.from_padded(torch.tensor([[0, 2], [1, 0]]), lengths=[2, 1])
            >>> batch.pad(torch.tensor([0.5, 0.25, 1.0]), fill=-1.0).tolist()
            [[0.5, 0.25], [1.0, -1.0]]
        """
        if flat.ndim == 0 or flat.shape[0] != self.num_utterances:
            raise ValueError(f"DialogueBatch.pad: needs {self.num_utterances} rows (got shape {tuple(flat.shape)})")
        rows, shape = self.layout
        padded = flat.new_full((shape[0] * shape[1], *flat.shape[1:]), fill)
        return padded.index_copy(0, rows, flat).unflatten(0, shape)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> DialogueBatch:
        """The batch on another device; what has to be known on the host is found before it leaves it.

        Args:
            device: where to; the batch itself stays as it is.
            non_blocking: copy while the host goes on, which takes page-locked memory (`pin_memory`).

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> device = "cuda" if torch.cuda.is_available() else "cpu"
            >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]]).to(device, non_blocking=True)
            >>> batch.labels.device.type == device
            True
        """
        batch = self if torch.device(device).type == "cpu" else self._prepared()
        return batch._map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> DialogueBatch:
        """The batch in page-locked memory, which a `DataLoader` with `pin_memory=True` asks for.

        Raises:
            RuntimeError: torch finds no accelerator to lock pages for.

        Example:
            >>> import torch
            >>> from spcl_fast import DialogueBatch
            >>> batch = DialogueBatch.from_lists([[0, 2, 1], [1]])
            >>> if torch.cuda.is_available():
            ...     batch = batch.pin_memory().to("cuda", non_blocking=True)
            >>> batch.num_utterances
            4
        """
        return self._prepared()._map(lambda x: x.pin_memory())

    def _prepared(self) -> DialogueBatch:
        """With its layout and lengths, where they can be computed without waiting for a device."""
        if self.offsets.device.type != "cpu" or self.host_lengths is not None:
            return self
        rows, shape = self.layout
        return replace(self, rows=rows, padded_shape=shape, host_lengths=self.lengths)

    def _map(self, move: Any) -> DialogueBatch:
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "host_lengths"}
        return replace(self, **{name: move(x) for name, x in values.items() if isinstance(x, Tensor)})
