"""Rescoring by several processes: the bytes of one, and every fault has the name of a rank."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from spcl_fast.corpus import (
    RankFailed,
    Scores,
    StoreCorrupt,
    global_threshold,
    plan,
    rescore,
    rescore_rank,
    score_columns,
)
from spcl_fast.corpus._records import read_json, write_json
from spcl_fast.corpus.atomic import atomic_file

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("rescoring", ROOT / "tests" / "corpus" / "rescoring.py")
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
content, write_corpus = helpers.content, helpers.write_corpus

# One rank, as a process of its own; it may kill itself while it is at a shard.
SCRIPT = """
import json, os, signal, sys
from spcl_fast.corpus import open_corpus, rescore_rank
corpus, out, options, dies_at = *sys.argv[1:3], json.loads(sys.argv[3]), int(sys.argv[4])
told = []
def progress(utterances):
    told.append(utterances)
    if len(told) == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
done = rescore_rank(open_corpus(corpus), out, on_progress=progress, **options)
print(json.dumps([done.shards, done.reused, done.scores is not None]))
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def run_ranks(folder: Path, world_size: int, dies: int | None = None, **options) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each rank; where one dies, killed at its second shard, rank 0 begins last."""
    arguments = [sys.executable, "-W", "error", "-c", SCRIPT, str(folder / "corpus"), str(folder / "ranks")]
    found: dict[int, tuple[int, str, str]] = {}
    for together in [range(world_size)] if dies is None else [range(1, world_size), [0]]:
        started = {
            rank: subprocess.Popen(
                [*arguments, json.dumps(options), "3" if rank == dies else "0"],
                env=environment(RANK=str(rank), WORLD_SIZE=str(world_size)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in together
        }
        for rank, process in started.items():
            output, errors = process.communicate(timeout=120)
            found[rank] = process.returncode, output, errors
    return [found[rank] for rank in range(world_size)]


@pytest.fixture
def corpus(tmp_path):
    """Of which `one` has the scores by one process."""
    corpus = write_corpus(tmp_path / "corpus")
    assert len(corpus) >= 6
    rescore(corpus, tmp_path / "one")
    return corpus


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_leave_the_bytes_of_one_process(tmp_path, corpus, world_size):
    found = run_ranks(tmp_path, world_size)
    assert [code for code, *_ in found] == [0] * world_size, found
    told = [json.loads(output) for _, output, _ in found]
    assert [shards for shards, *_ in told] == [len(shards) for shards in plan(corpus, world_size)]
    assert [finished for *_, finished in told] == [True] + [False] * (world_size - 1)
    assert content(tmp_path / "ranks") == content(tmp_path / "one")


def test_a_killed_rank_is_named_and_its_shards_alone_are_done_again(tmp_path, corpus):
    own = plan(corpus, 3)[1]
    found = run_ranks(tmp_path, 3, dies=1, timeout=0.5)
    assert [code for code, *_ in found] == [1, -signal.SIGKILL, 0], found
    missing = f"rank 1 of 3 ({len(own) - 1} of its {len(own)} shards are missing; its last word: at work)"
    assert f"TimeoutError: {tmp_path / 'ranks'}: nothing for 0.5 s from {missing}" in found[0][2]
    assert not (tmp_path / "ranks" / "manifest.json").exists()
    again = run_ranks(tmp_path, 2)  # as many as there are now
    assert [code for code, *_ in again] == [0, 0], again
    assert sum(json.loads(output)[0] for _, output, _ in again) == len(own) - 1
    assert content(tmp_path / "ranks") == content(tmp_path / "one")


def test_torchrun_gives_rank_and_world_size(tmp_path, corpus):
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "spcl_fast", "rescore"]
    paths = [str(tmp_path / "corpus"), "--out", str(tmp_path / "ranks")]
    done = subprocess.run(
        [sys.executable, "-m", *command, *paths], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Rank 1 of 2 is through" in done.stdout
    assert f"Written to {tmp_path / 'ranks'}" in done.stdout
    assert content(tmp_path / "ranks") == content(tmp_path / "one")
    columns = [score_columns(Scores(tmp_path / name)) for name in ("ranks", "one")]
    assert global_threshold(columns[0], 0.4) == global_threshold(columns[1], 0.4)


def test_more_ranks_than_shards(tmp_path, corpus):
    for rank in reversed(range(20)):
        done = rescore_rank(corpus, tmp_path / "ranks", rank=rank, world_size=20)
        assert (done.scores is None) == (rank > 0)
    assert content(tmp_path / "ranks") == content(tmp_path / "one")


def test_a_rank_that_never_begins_is_named(tmp_path, corpus):
    rescore_rank(corpus, tmp_path / "ranks", rank=1, world_size=4)
    counts = [len(shards) for shards in plan(corpus, 4)]
    wanted = "; ".join(
        rf"rank {rank} of 4 \({counts[rank]} of its {counts[rank]} shards are missing; it has not begun\)"
        for rank in (2, 3)
    )
    with pytest.raises(TimeoutError, match=rf"ranks: nothing for 0\.1 s from {wanted}$"):
        rescore_rank(corpus, tmp_path / "ranks", rank=0, world_size=4, timeout=0.1)


def at_once(*calls):
    """The outcome of each of some functions that run together."""
    outcomes: list = [None] * len(calls)

    def run(k):
        try:
            outcomes[k] = calls[k]()
        except Exception as error:
            outcomes[k] = error

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


def rank_of(corpus, folder, rank, world_size=2, **options):
    return lambda: rescore_rank(corpus, folder, rank=rank, world_size=world_size, timeout=20, **options)


def when_at_work(folder, call):
    """A thread that waits as rank 0 of two, and what will be its outcome."""
    outcome: list = []
    waiting = threading.Thread(target=lambda: outcome.extend(at_once(call)), daemon=True)
    waiting.start()
    while waiting.is_alive() and not (folder / "rank-000000-of-000002.json").exists():
        waiting.join(0.01)
    return waiting, outcome


def test_a_rank_with_an_error_is_heard_at_once(tmp_path, corpus):
    path, out = tmp_path / "corpus" / corpus.shards[-1].name, tmp_path / "ranks"
    good, few = path.read_bytes(), {"columns": ["difficulty"]}
    path.write_bytes(good[:-70] + bytes([good[-70] ^ 1]) + good[-69:])
    waiting, outcome = when_at_work(out, rank_of(corpus, out, 0, **few))
    (error,) = at_once(rank_of(corpus, out, 1, **few))
    waiting.join(60)
    assert isinstance(error, StoreCorrupt)
    assert isinstance(outcome[0], RankFailed)
    assert str(outcome[0]) == f"{out}: rank 1 of 2 failed: {error}"
    path.write_bytes(good)
    first, second = at_once(*(rank_of(corpus, out, rank, **few) for rank in (0, 1)))
    assert first.scores is not None
    assert second.shards == 1
    rescore(corpus, tmp_path / "few", **few)
    assert content(out) == content(tmp_path / "few")


def test_ranks_with_other_options_or_another_corpus_are_refused(tmp_path, corpus):
    rescore_rank(corpus, tmp_path / "ranks", rank=1, world_size=2)
    with pytest.raises(ValueError, match="ranks: was begun with window 5, not 7"):
        rescore_rank(corpus, tmp_path / "ranks", rank=0, world_size=2, window=7)
    other = write_corpus(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="ranks: was begun with corpus '"):
        rescore_rank(other, tmp_path / "ranks", rank=0, world_size=2)
    with pytest.raises(ValueError, match="is the corpus itself"):
        rescore_rank(corpus, tmp_path / "corpus", rank=1, world_size=2)
    assert not list((tmp_path / "corpus").glob("rank-*"))


def test_of_ranks_that_begin_at_once_with_other_options_one_decides(tmp_path, corpus):
    for k in range(5):
        calls = [rank_of(corpus, tmp_path / f"ranks{k}", 1, 2, window=window) for window in (3, 5, 7)]
        outcomes = at_once(*calls)
        refused = [outcome for outcome in outcomes if isinstance(outcome, ValueError)]
        begun = read_json(tmp_path / f"ranks{k}" / "rescore.json")
        assert len(refused) == 2
        assert all(f"begun with window {begun['window']}, not" in str(e) for e in refused)
    path = tmp_path / "file"
    with atomic_file(path, replace=False) as file:
        file.write(b"first")
    with pytest.raises(FileExistsError, match=str(path)), atomic_file(path, replace=False) as file:
        file.write(b"second")
    assert path.read_bytes() == b"first"
    assert not list(tmp_path.glob(".*"))


def test_two_runs_at_once_leave_the_same_bytes(tmp_path, corpus):
    calls = [rank_of(corpus, tmp_path / "ranks", rank, size) for size in (2, 2, 3) for rank in range(size)]
    outcomes = at_once(*calls)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)], outcomes
    assert content(tmp_path / "ranks") == content(tmp_path / "one")


def left_behind(folder, target):
    """Puts what a run left in one folder into another."""
    for path in folder.glob("shard-*"):
        shutil.copy(path, target)


def test_what_earlier_runs_left_is_not_believed(tmp_path, corpus):
    other, out = write_corpus(tmp_path / "other", seed=1), tmp_path / "ranks"
    rescore_rank(other, tmp_path / "of_other", rank=1, world_size=2)
    rescore(corpus, out, shards=[])
    left_behind(tmp_path / "of_other", out)
    stale = out / "rank-000001-of-000002.json"
    write_json(stale, {"state": "failed", "message": "long ago", "life": "a", "beats": 3})
    with pytest.raises(TimeoutError, match=r"rank 1 of 2 \(.* its last word: long ago\)"):
        rescore_rank(corpus, out, rank=0, world_size=2, timeout=0.1)
    stale.write_bytes(b"{" * 100)
    first, second = at_once(*(rank_of(corpus, out, rank) for rank in (0, 1)))
    assert first.scores is not None
    assert second.reused == 0
    for path in out.glob("shard-*"):  # shards that this corpus does not have
        if not (tmp_path / "one" / path.name).exists():
            path.unlink()
    assert content(out) == content(tmp_path / "one")
    (out / "rescore.json").unlink()
    with pytest.raises(
        StoreCorrupt, match=r"rescore\.json: missing or damaged, though the folder holds manifest\.json"
    ):
        rescore_rank(corpus, out, rank=0, world_size=2)


def test_records_of_other_options_are_not_taken_for_these(tmp_path, corpus):
    rescore_rank(corpus, tmp_path / "of_others", rank=1, world_size=2, window=3)
    rescore(corpus, tmp_path / "ranks", shards=[])
    left_behind(tmp_path / "of_others", tmp_path / "ranks")
    done = at_once(*(rank_of(corpus, tmp_path / "ranks", rank) for rank in (0, 1)))
    assert [one.reused for one in done] == [0, 0]
    assert content(tmp_path / "ranks") == content(tmp_path / "one")


def test_a_run_that_is_refused_does_not_end_one_that_works(tmp_path, corpus):
    out, path = tmp_path / "ranks", tmp_path / "ranks" / "rank-000001-of-000002.json"
    waiting, outcome = when_at_work(out, rank_of(corpus, out, 0))
    for word in ({"state": "at work", "life": "ours"}, {"state": "failed", "message": "refused", "life": "another's"}):
        write_json(path, word)
        waiting.join(1.2)  # more than a pause
    assert waiting.is_alive()
    assert rescore_rank(corpus, out, rank=1, world_size=2).scores is None
    waiting.join(60)
    assert outcome[0].scores is not None
    assert content(out) == content(tmp_path / "one")


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ({"rank": 2, "world_size": 2}, {}, r"0 <= rank < world_size \(got rank 2 of 2\)"),
        ({"rank": 0}, {}, r"\(got rank 0 of None\)"),
        ({}, {"RANK": "1"}, r"\(got rank 1 of None\)"),
        ({}, {"RANK": "one", "WORLD_SIZE": "2"}, r"RANK: must be an integer \(got 'one'\)"),
        ({"rank": True, "world_size": 2}, {}, r"\(got rank True of 2\)"),
        ({"timeout": 0}, {}, "timeout must be a finite number above 0"),
        ({"timeout": np.nan}, {}, "timeout must be a finite number above 0"),
        ({"rank": 0, "world_size": 2, "shards": [0]}, {}, r"options must be of columns, .*\(got shards\)"),
        ({"rank": 0, "world_size": 2, "windows": 3}, {}, r"options must be of columns, .*\(got windows\)"),
    ],
)
def test_wrong_ranks_are_refused(tmp_path, monkeypatch, arguments, variables, message):
    corpus = write_corpus(tmp_path / "corpus", dialogues=3)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((TypeError, ValueError), match=message):
        rescore_rank(corpus, tmp_path / "ranks", **arguments)
