"""Rescoring by several processes, on one machine or on many, that share nothing but the folders.

No port is opened and no score is sent: every process writes the files of its own shards. That a shard is done is said
by its record, which names the checksums of the corpus, so what an earlier run or another corpus left is never taken for
it. Beside that a process keeps one small file, `rank-000001-of-000003.json`, which it writes anew every few seconds and
takes away when it is through. Who waits for another looks whether the file changes, by its own clock: no two clocks are
compared.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spcl_fast.corpus._records import read_json, write_json
from spcl_fast.corpus._rescoring import BEGUN, Rescored, Rescoring
from spcl_fast.corpus.atomic import sweep_partial
from spcl_fast.corpus.place import Place, Where, place_of
from spcl_fast.corpus.rescore import all_options, plan, rescore
from spcl_fast.corpus.scores import Scores
from spcl_fast.corpus.store import Corpus

__all__ = ["RankFailed", "rescore_rank"]

_RANK = re.compile(r"rank-\d{6,}-of-\d{6,}\.json")
_MOST_SECONDS_BETWEEN = 10.0


class RankFailed(OSError):  # noqa: N818 - says what happened, as TimeoutError does
    """Another process of the run ended with an error; the message has its rank and what it said.

    Example:
        >>> from spcl_fast.corpus.distributed import RankFailed
        >>> issubclass(RankFailed, OSError)
        True
    """


def rescore_rank(
    corpus: Corpus,
    out: Where,
    *,
    rank: int | None = None,
    world_size: int | None = None,
    timeout: float = 600.0,
    **options: Any,
) -> Rescored:
    """What one of several processes does of `rescore`: the shards of its rank; the first one ends the run.

    All are given the same corpus and options, and see the same folder. `plan` says which shards are whose. Ranks above
    0 return when their own are done; rank 0 waits for the others and writes the manifest. The files are those of one
    process, byte for byte. Where a rank is lost, rank 0 says which, and the same call on all ranks, or on any other
    number of them, goes on from what is on the disk. More ranks than shards, ranks one after the other, and two runs
    at once are allowed.

    Args:
        corpus: as for `rescore`.
        out: the folder of the scores, one for all.
        rank: from 0 on; None: that of the environment variable RANK, which torchrun and others set.
        world_size: how many processes there are; None: that of WORLD_SIZE. Without either this one is alone.
        timeout: seconds after which rank 0 gives up a rank that says nothing, more than 0. A rank that is at work says
            something ten times as often, at least every 10 seconds, however long a shard takes.
        **options: all others of `rescore` but `shards`. `workers` and `memory` are of each process.

    Returns:
        As `rescore`, of the own shards; `scores` on rank 0 alone.

    Raises:
        OSError: as `rescore`.
        RankFailed: on rank 0, another rank ended with an error; the message has both.
        StoreCorrupt: as `rescore`.
        TimeoutError: on rank 0, a rank said nothing for `timeout` seconds; the message names it and its shards.
        TypeError: as `rescore`, and an option that it does not have.
        ValueError: as `rescore`, also where another rank has other options or another corpus; a rank that is not in
            [0, world_size), one of both without the other.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
        >>> from spcl_fast.corpus.distributed import rescore_rank
        >>> with CorpusWriter("corpus", [Modality("text", num_classes=2)], utterances_per_shard=2) as writer:
        ...     writer.add(range(3), [0] * 6, [0] * 6, {"text": np.zeros((6, 2), np.float32)}, offsets=[0, 2, 4, 6])
        >>> for rank in (1, 0):  # each in a process of its own, usually
        ...     done = rescore_rank(open_corpus("corpus"), "scores", rank=rank, world_size=2, difficulty="loss")
        ...     print(done.shards, done.scores)
        2 None
        1 Scores('scores': 6 utterances, 3 shards; 6 columns)
    """
    rank, world_size = _world(rank, world_size)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
        raise ValueError(f"rescore_rank: timeout must be a finite number above 0 (got {timeout!r})")
    given = all_options(options)
    if world_size == 1:
        return rescore(corpus, out, **options)
    ranges = plan(corpus, world_size)
    ranks = _Ranks(place_of(out), rank, world_size, timeout)
    with ranks.telling():
        run = Rescoring(corpus, out, **given, sweeps=False)
        ranks.begin()
        own = ranges[rank]
        missing = run.missing(own)
        run.score(own, missing)
        scores: Scores | None = None
        while rank == 0 and scores is None:
            ranks.wait(run, ranges)
            scores = run.finish()
    if rank == 0:
        ranks.sweep()
        sweep_partial(run.folder)
    return run.done(own, missing, scores)


def _world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    found = {"RANK": rank, "WORLD_SIZE": world_size}
    for name, value in found.items():
        text = os.environ.get(name)
        if value is None and text:
            try:
                found[name] = int(text)
            except ValueError:
                raise ValueError(f"{name}: must be an integer (got {text!r})") from None
    rank, world_size = found["RANK"], found["WORLD_SIZE"]
    if rank is None and world_size is None:
        return 0, 1
    if type(rank) is not int or type(world_size) is not int or not 0 <= rank < world_size:
        got = f"rank {rank!r} of {world_size!r}"
        raise ValueError(f"rescore_rank: rank and world_size must be integers, 0 <= rank < world_size (got {got})")
    return rank, world_size


class _Ranks:
    """The other processes of a run, as far as their files tell, and what this one tells them."""

    def __init__(self, folder: Path | Place, rank: int, world_size: int, timeout: float) -> None:
        self.folder, self.rank, self.size, self.timeout = folder, rank, world_size, timeout
        self._life = secrets.token_hex(8)  # what tells a file of this process from that of an earlier one
        self._beats = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        # What is there now may be of an earlier run, and only what changes is believed.
        self._heard = {other: self._read(other) for other in range(world_size) if rank == 0 and other != rank}

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Says how the block ends: by an error, or by the end of the own file."""
        try:
            yield
        except BaseException as error:
            self._end()
            if (self.folder / BEGUN).exists():  # else nobody waits there
                with contextlib.suppress(OSError):  # the disk may be what failed
                    self._tell("failed", " ".join(str(error).split()) or type(error).__name__)
            raise
        self._end()
        with contextlib.suppress(OSError):
            self._path(self.rank).unlink()

    def begin(self) -> None:
        """From now on others hear that this process is at work."""
        self._tell("at work")
        self._thread = threading.Thread(target=self._beat, name="rank", daemon=True)
        self._thread.start()

    def wait(self, run: Rescoring, ranges: Sequence[range]) -> None:
        """Until all shards are done; an error says which rank is to blame."""
        begins = [shards.start for shards in ranges]
        since = dict.fromkeys(self._heard, time.monotonic())
        at_work: dict[int, Any] = {}
        pause = 0.02
        while True:
            for rank, shards in enumerate(ranges):
                while begins[rank] < shards.stop and not run.missing([begins[rank]]):
                    begins[rank] += 1
            waited_for = [rank for rank, shards in enumerate(ranges) if begins[rank] < shards.stop]
            if not waited_for:
                return
            for rank in set(waited_for) & set(since):
                word = self._read(rank)
                if word != self._heard[rank]:
                    self._heard[rank], since[rank] = word, time.monotonic()
                    life = word.get("life")
                    if word.get("state") == "at work":
                        at_work[rank] = life
                    elif word and at_work.get(rank, life) == life:  # not one of another run, while this one's lives
                        raise RankFailed(f"{self.folder}: rank {rank} of {self.size} failed: {word.get('message')}")
            now = time.monotonic()
            silent = [rank for rank in waited_for if rank in since and now - since[rank] >= self.timeout]
            if silent:
                which = "; ".join(self._silent(run, rank, ranges[rank]) for rank in silent)
                raise TimeoutError(f"{self.folder}: nothing for {self.timeout:g} s from {which}")
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def sweep(self) -> None:
        """Takes away what ranks of ended runs have told."""
        for path in self.folder.iterdir():
            if _RANK.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _silent(self, run: Rescoring, rank: int, shards: range) -> str:
        missing = len(run.missing(shards))
        text = f"rank {rank} of {self.size} ({missing} of its {len(shards)} shards are missing"
        word = self._heard[rank]
        said = word.get("message") or word.get("state")
        return f"{text}; its last word: {said})" if said else f"{text}; it has not begun)"

    def _path(self, rank: int) -> Path | Place:
        return self.folder / f"rank-{rank:06d}-of-{self.size:06d}.json"

    def _read(self, rank: int) -> dict[str, Any]:
        return read_json(self._path(rank)) or {}

    def _tell(self, state: str, message: str = "") -> None:
        self._beats += 1
        word = {"state": state, "message": message[:1000], "life": self._life, "beats": self._beats}
        write_json(self._path(self.rank), word)

    def _beat(self) -> None:
        while not self._stop.wait(min(self.timeout / 10, _MOST_SECONDS_BETWEEN)):
            with contextlib.suppress(OSError):  # the next one may succeed, and the scores tell of a full disk
                self._tell("at work")

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
