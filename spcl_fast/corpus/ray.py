"""Rescoring on a Ray cluster, by Ray Data: the files of `rescore`. Needs ray (`spcl_fast[ray]`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._rescoring import Rescored, Rescoring
from spcl_fast.corpus._transition_counts import count_shard, count_transitions
from spcl_fast.corpus.atomic import sweep_partial
from spcl_fast.corpus.manifest import StoreCorrupt
from spcl_fast.corpus.place import Place, Where, place_of
from spcl_fast.corpus.rescore import all_options
from spcl_fast.corpus.store import Corpus, open_corpus

try:
    import ray.data
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("rescoring with Ray needs ray: install spcl_fast[ray]", name="ray") from error

__all__ = ["rescore_with_ray"]

_COUNTED_TOGETHER = 16  # shards, whose labels are a small part of them
Rows = dict[str, NDArray[Any]]


def rescore_with_ray(
    corpus: Corpus,
    out: Where,
    *,
    concurrency: int | tuple[int, int] = 1,
    num_gpus: float = 0.0,
    **options: Any,
) -> Rescored:
    """`rescore` by the workers of a Ray cluster, which see the folders of the corpus and of the scores, too.

    What goes through the cluster are numbers of shards: a pool of actors (`ray.data.Dataset.map_batches`) takes them
    one after the other, each loads the model once and writes the files of its shards, and this process writes the
    manifest. The files are those of `rescore`, byte for byte. What is there already is not done again, so a run that
    was ended is continued by the same call, or by `rescore`. A worker that is lost is replaced by Ray, and its shards
    are done by another.

    Args:
        corpus: as for `rescore`.
        out: the folder of the scores, which all machines see. A `Place` must be one that can be pickled, as
            those of URIs are.
        concurrency: how many actors, or (least, most) of them. Each asks for `workers` CPUs.
        num_gpus: which each asks for; with a model, `device="cuda"`.
        **options: all others of `rescore` but `shards`; `workers` and `memory` are of each actor, which takes `workers`
            shards at a time. A `model` is imported on the workers.

    Returns:
        As `rescore`, of the whole corpus.

    Raises:
        OSError, StoreCorrupt, TypeError, ValueError: as `rescore`, also where a worker met it; and a concurrency below
            1, or with more least than most.
        ray.exceptions.RayError: the cluster failed.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
        >>> from spcl_fast.corpus.ray import rescore_with_ray
        >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)], utterances_per_shard=2) as writer:
        ...     writer.add(range(3), [0] * 6, [0] * 6, {"text": np.zeros((6, 2), np.float32)}, offsets=[0, 2, 4, 6])
        >>> rescore_with_ray(open_corpus("corpus"), "scores", difficulty="loss").shards
        3
    """
    least, most = concurrency if isinstance(concurrency, tuple) else (concurrency, concurrency)
    if type(least) is not int or type(most) is not int or not 1 <= least <= most:
        rule = "concurrency must be an integer of at least 1, or two, the first not larger"
        raise ValueError(f"rescore_with_ray: {rule} (got {concurrency!r})")
    given = all_options(options)
    # The working folder of a worker is another, and here may be no GPU.
    corpus, out = open_corpus(_for_all(corpus.folder)), _for_all(out)
    run = Rescoring(corpus, out, **{**given, "device": "cpu"}, sweeps=False)
    given |= {"on_progress": None, "transitions": run.counts}
    if given["checkpoint"] is not None:
        given["checkpoint"] = os.path.abspath(given["checkpoint"])
    every = range(len(corpus))
    missing = run.missing(every)
    run.report(sum(corpus.shards[index].utterances for index in set(every) - set(missing)))
    folders = {"corpus": corpus.folder, "out": out}
    counts = run.counts
    if missing and counts is None and run.scoring.wants_surprisal:
        how: dict[str, Any] = {"fn_kwargs": {**folders, "num_classes": run.num_classes}}
        for _ in _mapped(every, _count, _COUNTED_TOGETHER, how):
            pass
        counts = count_transitions(corpus, run.folder, every, run.num_classes, lambda: False)  # adds up what is there
    how = {
        "fn_constructor_kwargs": {**folders, "options": given, "counts": counts},
        "compute": ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        "num_cpus": given["workers"],
        "num_gpus": num_gpus,
    }
    for row in _mapped(missing, _Worker, given["workers"], how):
        run.times.sync += float(row["sync_seconds"])
        run.report(corpus.shards[int(row["shard"])].utterances)
    scores = run.finish()
    sweep_partial(out)  # what lost workers left
    return run.done(every, missing, scores)


def _for_all(where: Where) -> Path | Place:
    """A place by a name that is not of the working folder."""
    place = place_of(where)
    return place if isinstance(place, Place) else place.absolute()


class _Worker:
    """An actor that rescores shards by their numbers."""

    def __init__(
        self, corpus: Path | Place, out: Path | Place, options: dict[str, Any], counts: NDArray[np.int64] | None
    ) -> None:
        self._error = ""
        try:
            self._run = Rescoring(open_corpus(corpus), out, **options, sweeps=False)
            self._run.counts = counts
        except (OSError, ValueError) as error:
            self._error = _shown(error)

    def __call__(self, batch: Rows) -> Rows:
        shards = batch["shard"].tolist()
        before = 0.0 if self._error else self._run.times.sync

        def score() -> None:
            missing = self._run.missing(shards)  # another may have had them, and was lost after that
            self._run.score(shards, missing)

        rows = _answered(shards, score, self._error)
        rows["sync_seconds"] = np.zeros(len(shards))
        rows["sync_seconds"][0] = 0.0 if self._error else self._run.times.sync - before
        return rows


def _count(batch: Rows, *, corpus: Path | Place, out: Path | Place, num_classes: int) -> Rows:
    """Counts the transitions of shards by their numbers."""
    shards = batch["shard"].tolist()

    def count() -> None:
        opened = open_corpus(corpus)
        for index in shards:
            count_shard(opened, out, index, num_classes)

    return _answered(shards, count)


def _answered(shards: Sequence[int], call: Callable[[], None], error: str = "") -> Rows:
    """What a worker sends back: the numbers of its shards, and an error that it met or had before."""
    if not error:
        try:
            call()
        except (OSError, ValueError) as found:
            error = _shown(found)
    return {"shard": np.asarray(shards, np.int64), "error": np.array([error] * len(shards), object)}


def _shown(error: OSError | ValueError) -> str:
    kind = next(kind for kind in (StoreCorrupt, OSError, ValueError) if isinstance(error, kind))
    return f"{kind.__name__}: {' '.join(str(error).split())}"


def _mapped(shards: Sequence[int], function: Any, together: int, how: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answers of the workers as they come; the first error ends it."""
    if not shards:
        return
    rows = [{"shard": index} for index in shards]
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // together))
    for row in dataset.map_batches(function, batch_size=together, **how).iter_rows():
        kind, _, message = row["error"].partition(": ")
        if kind:
            raise {"StoreCorrupt": StoreCorrupt, "OSError": OSError}.get(kind, ValueError)(message)
        yield row
