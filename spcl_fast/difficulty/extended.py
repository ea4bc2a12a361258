"""The extended difficulty: how little the modalities agree, and how the emotions of the dialogue change."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, ClassVar

import torch
from torch import Tensor

from spcl_fast import ops
from spcl_fast.difficulty.measurer import Difficulty, StepInputs, Vectors, ordered_embeddings
from spcl_fast.difficulty.transitions import of_utterances, require_similarity, transitions
from spcl_fast.ops import _check
from spcl_fast.ops._emotion_transitions import IGNORED
from spcl_fast.ops._engines import has_host_ops, tensor_list
from spcl_fast.ops._window_coherence import MOST_WINDOW, SOURCES


class ExtendedDifficulty(Difficulty):
    """SPCL's difficulty and more: `rho + incoherence + transition + surprisal`, each of the three times its weight.

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
        >>> from spcl_fast.difficulty import ExtendedDifficulty, StepInputs
        >>> logits = torch.tensor([[[2.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
        >>> labels, speakers = torch.tensor([0, 1]), torch.tensor([0, 0])
        >>> inputs = StepInputs(logits, labels, torch.tensor([0, 2]), speakers=speakers)
        >>> difficulty = ExtendedDifficulty(incoherence=0.5, transition=1.0, source="prediction")
        >>> [round(x, 3) for x in difficulty.extra(inputs).tolist()]  # what joins rho
        [0.8, 0.8]
    """

    fused: ClassVar[str] = "spcl"
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
            _check.number(name, term, weight, "be finite and at least 0", lambda x: 0 <= x < math.inf)
        if isinstance(window, bool) or not isinstance(window, int):
            raise TypeError(f"{name}: window must be an integer (got {type(window).__name__})")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"{name}: window must be odd and at least 1 (got {window})")
        _check.choice(name, "source", source, SOURCES)
        _check.choice(name, "ignored", ignored, IGNORED)
        require_similarity(name, similarity)
        if transition_counts is not None:
            _check.tensor(name, "transition_counts", transition_counts, 2, _check.INTEGERS, "integers")
            _check.square_matrix(
                name, "transition_counts", transition_counts, lambda n: n.long() >= 0, "must be at least 0"
            )
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
        needs = {"modalities", "dialogues"}
        if incoherence > 0 and source == "embedding":
            needs.add("embeddings")
        if transition > 0 or surprisal > 0:
            needs.add("speakers")
        self.needs = frozenset(needs)
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

    def require(self, inputs: StepInputs) -> None:
        """ValueError that names what a term needs and the inputs lack, and how to do without."""
        if "embeddings" in self.needs and inputs.embeddings is None:
            raise ValueError(
                f"{type(self).__name__}: the incoherence needs embeddings= (got none); "
                "source='prediction' takes the logits, incoherence=0 switches it off"
            )
        if "speakers" in self.needs and inputs.speakers is None:
            raise ValueError(
                f"{type(self).__name__}: the emotion transitions need speakers= (got none); "
                "transition=0 and surprisal=0 switch them off"
            )

    @torch.no_grad()
    def extra(self, inputs: StepInputs) -> Tensor:
        """The sum of the terms beside rho, `[T]`.

        NaN, so that the utterance is never selected, where the label is not a class (which the step does not score
        either) and where a present embedding holds NaN or Inf (the scheduler counts it as undefined). Embeddings and
        logits that are both mappings must have the same names; `present` follows the order of the logits. No host sync.

        Raises:
            ValueError: embeddings or speakers that a term needs are missing; what the ops refuse.
        """
        if has_host_ops(inputs.labels.device, inputs.backend):
            with suppress(RuntimeError, TypeError, AttributeError, IndexError):  # what it refuses is explained below
                return self._at_once(inputs)
        name = type(self).__name__
        z = _check.logits(name, inputs.logits)
        real = _check.real(z.dtype)
        # Few operations: at the size of a batch each of them costs more than its numbers do.
        if self.incoherence > 0:
            difficulty = _as(real, self._incoherence(name, inputs))
        else:
            difficulty = z.tensors[0].new_zeros(z.T, dtype=real)
        if self.transition > 0 or self.surprisal > 0:
            of_dialogues = transitions(inputs, z.C, self.similarity, self.ignored, self.transition_counts)
            if self.transition > 0:
                term = of_utterances(of_dialogues.difficulty, inputs.offsets, z)
                difficulty.add_(_as(real, term), alpha=self.transition)
            if self.surprisal > 0 and z.C > 1:  # one class surprises nobody, and has log C = 0
                term = _as(real, of_dialogues.surprisal)
                difficulty.add_(term, alpha=self.surprisal / math.log(z.C))
        return difficulty

    def _at_once(self, inputs: StepInputs) -> Tensor:
        """The same from one call of the compiled library, which checks all that it is given."""
        logits = tensor_list(inputs.logits)
        C, is_prediction = logits[0].shape[-1], self.source == "prediction"
        vectors = []
        if self.incoherence > 0:
            vectors = logits if is_prediction else tensor_list(ordered_embeddings(type(self).__name__, inputs))
        return torch.ops.spcl_fast.extended_difficulty(
            vectors,
            inputs.labels,
            inputs.speakers,
            inputs.offsets,
            inputs.present,
            self.similarity,
            self.transition_counts,
            C,
            min(self.window, MOST_WINDOW),
            is_prediction,
            self.incoherence,
            self.transition,
            self.surprisal / math.log(C) if C > 1 else 0.0,  # one class surprises nobody
            inputs.ignore_index,
            self.ignored == "break",
            logits[0].dtype == torch.float64,
        )

    def _incoherence(self, name: str, inputs: StepInputs) -> Tensor:
        """The term, times its weight."""
        is_embedding = self.source == "embedding"
        vectors = ordered_embeddings(name, inputs) if is_embedding else inputs.logits
        coherence = ops.window_coherence(
            vectors,
            inputs.offsets,
            window=self.window,
            source=self.source,
            present=inputs.present,
            backend=inputs.backend,
        )
        half = self.incoherence / 2
        term = torch.rsub(coherence, half, alpha=half)  # half - half * coherence
        if _has_no_nan(coherence):
            return term
        term = torch.where(coherence.isnan(), 0.0, term)
        if is_embedding:  # logits at fault are NaN in the step already
            term = torch.where(_is_faulty(name, vectors, inputs.present), math.nan, term)
        return term


def _as(dtype: torch.dtype, term: Tensor) -> Tensor:
    """The term in this dtype; a call of `to` that does nothing still costs one."""
    return term if term.dtype == dtype else term.to(dtype)


def _has_no_nan(coherence: Tensor) -> bool:
    """Whether it can be seen, without waiting for a device, that no number in [-1, 1] is NaN: their sum is none."""
    if coherence.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not math.isnan(coherence.sum())


def _is_faulty(name: str, embeddings: Vectors, present: Tensor | None) -> Tensor:
    """True, `[T]`, where a present vector holds NaN or Inf."""
    z = _check.logits(name, embeddings, "embeddings", "F")
    bad = torch.stack([~z.modality(m).isfinite().all(-1) for m in range(z.M)])
    return (bad if present is None else bad & present).any(0)
