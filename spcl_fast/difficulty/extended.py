"""The extended difficulty: how little the modalities agree, and how the emotions of the dialogue change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast._state import KeepsDtypes
from spcl_fast.ops import _check
from spcl_fast.ops._check import FLOATS, INTEGERS, choice, tensor
from spcl_fast.ops._emotion_transitions import IGNORED
from spcl_fast.ops._window_coherence import SOURCES
from spcl_fast.reference.rows import dialogue_of_row, running_offsets

Vectors = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class ExtendedDifficulty(KeepsDtypes):
    """Difficulty that is added to SPCL's: `rho + incoherence + transition + surprisal`, each times its weight.

    Every term has a scale of its own, so that the difficulty of an utterance does not depend on what else is in the
    batch. A weight of 0 switches a term off: then it is not computed, and needs nothing.

    - incoherence `(1 - C_t) / 2`, in [0, 1]; C_t is `ops.window_coherence` of the embeddings (or of the predictions,
      then in [0, 1/2]); 0 where it is undefined, NaN where a present embedding holds NaN or Inf (ours).
    - transition: the dialogue's DIF of `ops.emotion_transitions`, in [0, 1] (MultiDAG+CL, arXiv 2402.17269), or its
      WES with `similarity` (LSDGNN, arXiv 2507.15205; PRC-Emo, arXiv 2511.07061), for each of its utterances.
    - surprisal of the emotion after the one before, over the transition counts of a training corpus, in units of
      `log C` (ours): 1 is the surprise of a uniform guess.

    Args:
        incoherence: weight of the term, finite and at least 0.
        transition: weight of the term.
        surprisal: weight of the term; above 0 it needs `transition_counts`.
        window: odd number of utterances, of `ops.window_coherence`.
        source: "embedding" compares the embeddings of the modalities; "prediction" their softmax, and needs none.
        similarity: `float[C, C]` or None, of `ops.emotion_transitions`; copied.
        transition_counts: `int[C, C]`, the counts of `ops.emotion_transitions` over the training part; copied.
        ignored: "skip" or "break", of `ops.emotion_transitions`.

    Raises:
        TypeError, ValueError: an argument out of its domain, or a surprisal without counts.

    Example:
        >>> import torch
        >>> from spcl_fast import SelfPacedScheduler
        >>> from spcl_fast.difficulty import ExtendedDifficulty
        >>> difficulty = ExtendedDifficulty(incoherence=0, transition=2)  # DIF alone, twice
        >>> scheduler = SelfPacedScheduler(threshold=0.9, difficulty=difficulty)
        >>> labels, speakers, offsets = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 0]), torch.tensor([0, 2, 3])
        >>> step = scheduler(torch.zeros(2, 3, 2), labels, offsets, speakers)  # equal modalities: rho is 0
        >>> [round(x, 3) for x in step.difficulty.tolist()]  # 2 (1 + 1) / (2 + 1) and 2 (0 + 1) / (1 + 1)
        [1.333, 1.333, 1.0]
    """

    similarity: Tensor | None
    transition_counts: Tensor | None

    def __init__(
        self,
        *,
        incoherence: float = 1.0,
        transition: float = 1.0,
        surprisal: float = 0.0,
        window: int = 5,
        source: str = "embedding",
        similarity: Tensor | None = None,
        transition_counts: Tensor | None = None,
        ignored: str = "skip",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for term, weight in (("incoherence", incoherence), ("transition", transition), ("surprisal", surprisal)):
            if isinstance(weight, bool) or not isinstance(weight, Real):
                raise TypeError(f"{name}: {term} must be a number (got {type(weight).__name__})")
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name}: {term} must be finite and at least 0 (got {weight})")
        if isinstance(window, bool) or not isinstance(window, int):
            raise TypeError(f"{name}: window must be an integer (got {type(window).__name__})")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"{name}: window must be odd and at least 1 (got {window})")
        choice(name, "source", source, SOURCES)
        choice(name, "ignored", ignored, IGNORED)
        if similarity is not None:
            tensor(name, "similarity", similarity, 2, FLOATS, "floating point numbers")
            _require_matrix(name, "similarity", similarity, torch.isfinite, "must be finite")
        if transition_counts is not None:
            tensor(name, "transition_counts", transition_counts, 2, INTEGERS, "integers")
            _require_matrix(name, "transition_counts", transition_counts, lambda n: n.long() >= 0, "must be at least 0")
        if surprisal > 0 and transition_counts is None:
            raise ValueError(
                f"{name}: surprisal needs transition_counts, the counts of ops.emotion_transitions over the "
                "training part (got none)"
            )
        self.incoherence = float(incoherence)
        self.transition = float(transition)
        self.surprisal = float(surprisal)
        self.window = window
        self.source = source
        self.ignored = ignored
        self.register_buffer("similarity", None if similarity is None else similarity.detach().clone())
        self.register_buffer("transition_counts", None if transition_counts is None else transition_counts.clone())

    @property
    def config(self) -> dict[str, Any]:
        """What decides its numbers, as plain Python: a saved state of other settings is refused."""
        return {
            "incoherence": self.incoherence,
            "transition": self.transition,
            "surprisal": self.surprisal,
            "window": self.window,
            "source": self.source,
            "ignored": self.ignored,
            "similarity": None if self.similarity is None else self.similarity.tolist(),
            "transition_counts": None if self.transition_counts is None else self.transition_counts.tolist(),
        }

    @torch.no_grad()
    def forward(
        self,
        logits: Vectors,
        labels: Tensor,
        offsets: Tensor,
        speakers: Tensor | None = None,
        embeddings: Vectors | None = None,
        *,
        present: Tensor | None = None,
        ignore_index: int = -100,
        backend: str | None = None,
    ) -> Tensor:
        """The sum of the terms, `[T]`, a constant of the curriculum: what `ops.self_paced_step` takes as extra.

        NaN, so that the utterance is never selected, where the label is not a class (which the step does not score
        either) and where a present embedding holds NaN or Inf (the scheduler counts it as undefined). Embeddings and
        logits that are both mappings must have the same names; `present` follows the order of the logits. No host sync.

        Raises:
            ValueError: embeddings or speakers that a term needs are missing; what the ops refuse.

        Example:
            >>> import torch
            >>> from spcl_fast.difficulty import ExtendedDifficulty
            >>> difficulty = ExtendedDifficulty(transition=0, window=1)
            >>> logits, embeddings = torch.zeros(2, 2, 3), torch.tensor([[[1.0, 0.0]] * 2, [[0.0, 1.0], [1.0, 0.0]]])
            >>> labels, offsets = torch.tensor([0, 1]), torch.tensor([0, 2])
            >>> [round(x, 3) for x in difficulty(logits, labels, offsets, embeddings=embeddings).tolist()]
            [0.5, 0.0]
        """
        name = type(self).__name__
        z = _check.logits(name, logits)
        num_rows, num_classes = z.T, z.C
        real = torch.float64 if z.dtype == torch.float64 else torch.float32
        difficulty = z.tensors[0].new_zeros(num_rows, dtype=real)
        if self.incoherence > 0:
            if self.source == "embedding" and embeddings is None:
                raise ValueError(
                    f"{name}: the incoherence needs embeddings= (got none); "
                    "source='prediction' takes the logits, incoherence=0 switches it off"
                )
            vectors = logits
            if self.source == "embedding" and embeddings is not None:
                vectors = _ordered_as(name, logits, embeddings)
            coherence = ops.window_coherence(
                vectors, offsets, window=self.window, source=self.source, present=present, backend=backend
            )
            undefined = coherence.isnan()
            term = torch.where(undefined, 0.0, (1 - coherence) / 2)
            if self.source == "embedding" and _may_be_any(undefined):  # logits at fault are NaN in the step already
                term = torch.where(_is_faulty(name, vectors, present), math.nan, term)
            difficulty += self.incoherence * term
        if self.transition > 0 or self.surprisal > 0:
            if speakers is None:
                raise ValueError(
                    f"{name}: the emotion transitions need speakers= (got none); "
                    "transition=0 and surprisal=0 switch them off"
                )
            of_dialogues = ops.emotion_transitions(
                labels,
                speakers,
                offsets,
                num_classes,
                similarity=self.similarity,
                ignore_index=ignore_index,
                ignored=self.ignored,
                counts=self.transition_counts,
                backend=backend,
            )
            if self.transition > 0 and offsets.numel() > 1:
                dialogue, owned = dialogue_of_row(running_offsets(offsets, num_rows), num_rows)
                term = torch.where(owned, of_dialogues.difficulty[dialogue], math.nan)
                difficulty += self.transition * term
            if self.surprisal > 0 and num_classes > 1:  # one class surprises nobody, and has log C = 0
                difficulty += self.surprisal / math.log(num_classes) * of_dialogues.surprisal
        return difficulty

    def extra_repr(self) -> str:
        """Settings, for `print`."""
        shown = ("incoherence", "transition", "surprisal", "window", "source")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)


def _require_matrix(name: str, argument: str, value: Tensor, is_right: Callable[[Tensor], Tensor], rule: str) -> None:
    """ValueError unless it is square and every entry is right; waits for the device, as `config` does."""
    if value.shape[0] != value.shape[1]:
        raise ValueError(f"{name}: {argument} must be square (got shape {tuple(value.shape)})")
    _check.matrix_values(name, argument, value.detach().cpu(), is_right, rule)


def _ordered_as(name: str, logits: Vectors, embeddings: Vectors) -> Vectors:
    """The embeddings in the order of the logits, where both have names: `present` follows that of the logits."""
    if not isinstance(logits, Mapping) or not isinstance(embeddings, Mapping):
        return embeddings
    if logits.keys() != embeddings.keys():
        raise ValueError(
            f"{name}: embeddings must have the modalities of the logits, {list(logits)} (got {list(embeddings)})"
        )
    return [embeddings[modality] for modality in logits]


def _may_be_any(flags: Tensor) -> bool:
    """False where it can be seen, without waiting for a device, that no flag is set."""
    return flags.device.type != "cpu" or torch.compiler.is_compiling() or bool(flags.any())


def _is_faulty(name: str, embeddings: Vectors, present: Tensor | None) -> Tensor:
    """True, `[T]`, where a present vector holds NaN or Inf."""
    z = _check.logits(name, embeddings, "embeddings", "F")
    bad = torch.stack([~z.modality(m).isfinite().all(-1) for m in range(z.M)])
    return (bad if present is None else bad & present).any(0)
