"""Rescoring: what every utterance of a corpus past memory is worth, from stored logits or from a model."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from spcl_fast.corpus._rescoring import Rescored as Rescored
from spcl_fast.corpus._rescoring import Rescoring
from spcl_fast.corpus._scoring import OP
from spcl_fast.corpus.place import Where
from spcl_fast.corpus.store import Corpus

__all__ = ["Rescored", "plan", "rescore"]


def plan(corpus: Corpus, world_size: int) -> list[range]:
    """Which shards each of several processes takes: ranges one after the other, of about as many utterances.

    Args:
        corpus: whose shards hold whole dialogues, so that no dialogue is in two ranges.
        world_size: how many processes; more than shards leave some of them without.

    Returns:
        `world_size` ranges that make `range(len(corpus))`. Deterministic: every process finds the same.

    Raises:
        ValueError: world_size below 1.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, plan
        >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)], utterances_per_shard=2) as writer:
        ...     writer.add(range(4), [0] * 8, [0] * 8, {"text": np.zeros((8, 2), np.float32)}, offsets=[0, 2, 4, 6, 8])
        >>> plan(open_corpus("corpus"), 2)
        [range(0, 2), range(2, 4)]
    """
    if isinstance(world_size, bool) or not isinstance(world_size, int) or world_size < 1:
        raise ValueError(f"plan: world_size must be an integer of at least 1 (got {world_size!r})")
    total = max(corpus.num_utterances, 1)
    # A shard goes to the process in whose share its middle lies.
    middles = (2 * s.first_utterance + s.utterances for s in corpus.shards)
    owners = np.array([min(m * world_size // (2 * total), world_size - 1) for m in middles], np.int64)
    ends = np.searchsorted(owners, np.arange(world_size), side="right").tolist()
    return [range(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def rescore(
    corpus: Corpus,
    out: Where,
    *,
    shards: Iterable[int] | None = None,
    columns: Sequence[str] | None = None,
    dtype: str = "float32",
    difficulty: str = "spcl",
    aggregate: str = "sum",
    window: int = 5,
    source: str = "prediction",
    incoherence: float = 1.0,
    transition: float = 1.0,
    surprisal: float = 0.0,
    transitions: Any = None,
    model: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    batch_utterances: int = 4096,
    workers: int = 1,
    memory: int = 512 << 20,
    verify: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Rescored:
    """Scores every utterance of a corpus into a folder, shard by shard; what is there already is not done again.

    Of each utterance: loss and confidence of every modality by itself (`ops.modality_scores`), spread of its dialogue,
    utterance loss and difficulty (SPCL, arXiv 2605.21565; `ops.self_paced_step`), coherence (ours,
    `ops.window_coherence`), transition (DIF of its dialogue, MultiDAG+CL, arXiv 2402.17269) and surprisal (ours,
    `ops.emotion_transitions`): the numbers of these ops, bit for bit. The "extended" difficulty is that of
    `difficulty.ExtendedDifficulty`: rho + incoherence (1 - C_t) / 2 + transition DIF + surprisal / log C.

    The surprisal is over the transitions of the whole corpus, so where it is wanted a pass over the labels comes first;
    `transitions` saves it. Killed at any moment, the same call continues, and the files are those of an undisturbed
    run, byte for byte; several processes may work in one folder, each with its `shards` (see `plan`), and whichever is
    last writes the manifest. A shard counts as done when its record names the very checksums of the corpus' manifest.

    Args:
        corpus: with logits, or with anything that the model takes.
        out: the folder of the scores, as that of `Corpus`; is made where there is none.
        shards: which ones are done now. None: all.
        columns: what is stored, in any order: "loss" and "confidence" (of all modalities), "loss.text" and the like,
            "spread", "coherence", "transition", "surprisal", "utterance_loss", "difficulty". None: all that there can
            be. What is not stored is not computed unless the difficulty needs it.
        dtype: of these columns, "float32" or "float16"; the arithmetic is float32.
        difficulty: "spcl", "extended", "loss" (the utterance loss) or "spread".
        aggregate: "sum" or "mean", of `ops.modality_spread`.
        window: odd number of utterances, of `ops.window_coherence`.
        source: what the coherence compares: "prediction" the softmax of the logits, "embedding" the embeddings.
        incoherence: weight of this term of the extended difficulty, finite and at least 0; 0 switches it off.
        transition: the same of this term.
        surprisal: the same of this term.
        transitions: counts `int [C, C]` of another corpus, as an array, a JSON file with the matrix, or a folder of
            scores.
        model: `package.module:factory` of a `torch.nn.Module`, called as the backbones of `spcl_fast.merc.models` are,
            whose logits are scored in place of stored ones.
        checkpoint: its parameters, a state_dict; tensors and plain containers alone are unpickled.
        device: of the model; "auto" is the GPU that torch prefers, or else the CPU.
        batch_utterances: dialogues are given to the model together until they hold this many.
        workers: threads, each with a shard of its own; the kernels release the GIL.
        memory: bytes that all workers take at most, beside the interpreter and the model, mapped pages included. A
            dialogue that takes more is refused: one of three modalities and seven classes 180 bytes an utterance; and
            so is a shard of very many dialogues, of which each takes 40 bytes, one with a text for its name more.
        verify: whether the checksums of the corpus are compared.
        on_progress: is told how many utterances are done, by any worker, and at the beginning how many were.

    Returns:
        `Rescored(scores, shards, reused, utterances, sync_seconds)`. An utterance without a label, or with logits that
        are not finite, has NaN and is counted in the summary. Deterministic for any workers and memory.

    Raises:
        OSError: a file cannot be written, such as on a full disk; what was written is whole.
        StoreCorrupt: a shard is damaged or missing; the message names the file.
        TypeError: an option of another type.
        ValueError: an option out of its domain, one that the corpus cannot serve, a folder that was begun with other
            options (the message names them), a dialogue past `memory`.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus, rescore
        >>> modalities = [Modality("text", num_classes=2), Modality("audio", num_classes=2)]
        >>> logits = {"text": np.array([[2, 0], [0, 1]], np.float32), "audio": np.zeros((2, 2), np.float32)}
        >>> with CorpusWriter("corpus", modalities) as writer:
        ...     writer.add([7], [0, 1], [0, 1], logits, offsets=[0, 2])
        >>> scores = rescore(open_corpus("corpus"), "scores", columns=["confidence", "difficulty"]).scores
        >>> scores.columns
        ('confidence.text', 'confidence.audio', 'difficulty')
        >>> scores.column("confidence.text", 0).astype(float).round(3).tolist()
        [0.881, 0.731]
        >>> rescore(open_corpus("corpus"), "scores", columns=["confidence", "difficulty"]).reused
        1
    """
    given = dict(locals())  # the arguments, and nothing else
    own = _own(corpus, shards)
    run = Rescoring(**{name: value for name, value in given.items() if name != "shards"})
    missing = run.missing(own)
    run.score(own, missing)
    return run.done(own, missing, run.finish())


def all_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `rescore`, of all shards, with its defaults for the rest; TypeError for one that it does not have."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(rescore).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "shards"
    }
    if unknown := [name for name in options if name not in defaults]:
        raise TypeError(f"{OP}: options must be of {', '.join(defaults)} (got {', '.join(unknown)})")
    return {**defaults, **options}


def _own(corpus: Corpus, shards: Iterable[int] | None) -> list[int]:
    own = list(range(len(corpus))) if shards is None else sorted(set(shards))
    if own and not 0 <= own[0] <= own[-1] < len(corpus):
        raise ValueError(f"{OP}: shards must be in [0, {len(corpus)}) (got {own[0]} to {own[-1]})")
    return own
