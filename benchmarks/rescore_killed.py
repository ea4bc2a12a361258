"""Rescoring that is killed at random moments, and what the same call makes of what is left.

    python -m benchmarks.rescore_killed [--moments 20] [--utterances 1e6] [--seed 0] [--folder /tmp]

A seeded corpus of small shards is rescored once without trouble. Then, for each moment, a process that does the same
into a new folder gets SIGKILL somewhere between its start and the time the first one took. What it left is held to
three things: every file that has its final name is whole and is that of the undisturbed run, byte for byte; the same
call, made again, does no shard twice that has its record; and it ends with the same files and the same bytes, and no
others. The seed decides the corpus and the shares of the time; how far a process comes by then, the machine. The script
fails on the first difference.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.corpus import write_corpus
from spcl_fast.corpus import Corpus, rescore

WORKERS = 2


def start(corpus: Corpus, out: Path) -> multiprocessing.process.BaseProcess:
    """A process that rescores the corpus, with everything imported."""
    child = multiprocessing.get_context("fork").Process(target=rescore, args=(corpus, out), kwargs={"workers": WORKERS})
    child.start()
    return child


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def kill_and_continue(corpus: Corpus, out: Path, seconds: float, wanted: dict[str, bytes]) -> str | None:
    """One moment; says what was there, None where all was. AssertionError where what comes of it is not as wanted."""
    child = start(corpus, out)
    time.sleep(seconds)
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    if child.exitcode != -signal.SIGKILL:
        return None
    left = content(out)
    partial = [name for name in left if name.startswith(".")]
    for name in left.keys() - partial:
        assert left[name] == wanted[name], f"{out / name}: is not that of the undisturbed run"
    recorded = sum(name.endswith(".record.json") for name in left)
    done = rescore(corpus, out, workers=WORKERS)
    assert done.reused == recorded, f"{out}: {recorded} shards had a record, {done.reused} were not done again"
    assert done.scores is not None
    found = content(out)
    assert found.keys() == wanted.keys(), f"{out}: other files: {sorted(found.keys() ^ wanted.keys())}"
    for name, data in found.items():
        assert data == wanted[name], f"{out / name}: is not that of the undisturbed run"
    return f"{recorded} of {len(corpus)} shards done, {len(partial)} files begun; continued, the same bytes"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--utterances", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where a folder for the files is made")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spcl_fast-killed-", dir=options.folder))
    try:
        corpus = write_corpus(folder / "corpus", int(options.utterances), options.seed, utterances_per_shard=1 << 15)
        begun = time.monotonic()
        undisturbed = start(corpus, folder / "whole")
        undisturbed.join()
        seconds = time.monotonic() - begun
        assert undisturbed.exitcode == 0
        wanted = content(folder / "whole")
        print(f"undisturbed: {len(wanted)} files, {sum(map(len, wanted.values())):,} bytes in {seconds:.2f} s")
        rng, killed = np.random.default_rng(options.seed), 0
        while killed < options.moments:
            moment = rng.uniform(0, seconds)
            outcome = kill_and_continue(corpus, folder / "killed", moment, wanted)
            killed += outcome is not None
            print(f"{killed}: after {moment:.3f} s {outcome or 'it had ended, which does not count'}", flush=True)
            shutil.rmtree(folder / "killed", ignore_errors=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
