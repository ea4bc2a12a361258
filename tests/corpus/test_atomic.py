"""Whoever dies, and wherever: the folder holds the old corpus, the new one or none, and the next writer tidies up."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
from spcl_fast.corpus.atomic import atomic_file, sweep_partial

TEXT = [Modality("text", num_classes=2)]


def write(folder, value: float, dialogues: int = 3, **options) -> None:
    with CorpusWriter(folder, TEXT, utterances_per_shard=4, **options) as writer:
        for d in range(dialogues):
            writer.add([d], [0, 1], [0, 1], {"text": np.full((2, 2), value, np.float32)}, offsets=[0, 2])


def value_of(folder) -> float:
    (value,) = {float(x) for shard in open_corpus(folder) for x in shard.logits["text"].flat}
    return value


def files_of(folder) -> set[str]:
    shards = open_corpus(folder).shards
    return {"manifest.json", *(name for s in shards for name in (s.name, s.dialogues_name))}


def names_in(folder) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_file_is_old_until_it_is_new(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
        assert sweep_partial(tmp_path) == []  # its writer lives
    assert path.read_bytes() == b"new"
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write({}[b"newer"])
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == {"a"}


def test_sweep_takes_what_is_left_of_the_dead_and_nothing_else(tmp_path):
    dead = ".a.0123456789abcdef.partial"
    others = ["a", ".a", ".a.partial", "a.0123456789abcdef.partial", ".a.0123456789ABCDEF.partial"]
    for name in [dead, *others]:
        (tmp_path / name).touch()
    (tmp_path / ".b.0123456789abcdef.partial").symlink_to(tmp_path / "a")
    assert sweep_partial(tmp_path) == [dead]
    assert names_in(tmp_path) == {*others, ".b.0123456789abcdef.partial"}


def test_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file.*nowhere/a'"), atomic_file(tmp_path / "nowhere" / "a"):
        pass


# Counts what a writer does to the file system, and kills it before one of these. A fork for each; what a killed
# process had not yet synced is still in the page cache here, so the order of steps is tested, not the disk.
KILLED = """
import os, shutil, signal, sys
from spcl_fast.corpus import atomic, checksum
sys.path.insert(0, sys.argv[1])
from test_atomic import files_of, names_in, value_of, write
folder, has_old = sys.argv[2], sys.argv[3] == "replace"

def run(bomb):
    left = [bomb]
    def step(*_):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    fsync = os.fsync
    os.fsync = lambda descriptor: (step(), fsync(descriptor))
    events = {"open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock", "os.listdir", "os.scandir"}
    sys.addaudithook(lambda event, arguments: step() if event in events else None)
    write(folder, 2.0, dialogues=3, replace=has_old)

steps, seen = 0, set()
while True:
    steps += 1
    shutil.rmtree(folder, ignore_errors=True)
    if has_old:
        write(folder, 1.0, dialogues=1)
    child = os.fork()
    if child == 0:
        run(steps)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    there = os.path.exists(os.path.join(folder, "manifest.json"))
    seen.add(value_of(folder) if there else None)
    died = os.WIFSIGNALED(status)
    assert died or (os.WEXITSTATUS(status) == 0 and value_of(folder) == 2.0), status
    if died:
        write(folder, 3.0, dialogues=1, replace=there)  # the next writer
        assert value_of(folder) == 3.0
    assert names_in(folder) == files_of(folder), (steps, names_in(folder))
    if not died:
        break
assert seen == {1.0 if has_old else None, 2.0}, seen
print(steps)
"""


@pytest.mark.parametrize("kind", ["new", "replace"])
def test_killed_at_any_step_leaves_the_old_or_the_new(tmp_path, kind):
    arguments = [str(Path(__file__).parent), str(tmp_path / "store"), kind]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25  # steps


@contextmanager
def room_for(size: int):
    """Files may grow to this many bytes: what a full disk does, at a known place."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_large(folder, replace: bool) -> None:
    """A small shard and one of 1.6 MB."""
    with CorpusWriter(folder, TEXT, utterances_per_shard=100_000, replace=replace) as writer:
        for T in (10, 99_999):
            integers = np.zeros(T, np.int32)
            writer.add([T], integers, integers, {"text": np.ones((T, 2), np.float32)}, offsets=[0, T])


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("size", [0, 100, 1000, 20_000, 300_000])
def test_full_disk_names_the_file_and_leaves_nothing(tmp_path, size, replace):
    folder = tmp_path / "store"
    if replace:
        write(folder, 1.0)
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if replace else {}
    with room_for(size), pytest.raises(OSError, match=r"store/shard-00000\d\.arrow'") as failed:
        write_large(folder, replace)
    assert "File too large" in str(failed.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write(folder, 2.0, replace=replace)
    assert (value_of(folder), names_in(folder)) == (2.0, files_of(folder))


def test_full_disk_at_the_manifest_leaves_nothing(tmp_path, monkeypatch):
    write(tmp_path, 1.0)
    before = names_in(tmp_path)
    import spcl_fast.corpus.manifest as module

    real = module.atomic_file

    @contextmanager
    def full(path):
        with real(path) as file:
            yield file
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "atomic_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path, 2.0, replace=True)
    monkeypatch.undo()
    assert (value_of(tmp_path), names_in(tmp_path)) == (1.0, before)


def add_and_fail(writer) -> None:
    writer.add([1, 2], [0, 0], [0, 0], {"text": np.ones((2, 2), np.float32)}, offsets=[0, 1, 2])
    raise KeyError


def test_block_that_raises_leaves_what_was_there(tmp_path):
    write(tmp_path, 1.0)
    before = names_in(tmp_path)
    with pytest.raises(KeyError), CorpusWriter(tmp_path, TEXT, utterances_per_shard=1, replace=True) as writer:
        add_and_fail(writer)
    assert (value_of(tmp_path), names_in(tmp_path)) == (1.0, before)
    writer.close()  # nothing is left to do
    assert value_of(tmp_path) == 1.0
    with pytest.raises(ValueError, match="the writer must be open"):
        writer.add([1], [0], [0], {"text": np.ones((1, 2), np.float32)}, offsets=[0, 1])


def test_corpus_is_not_replaced_unasked(tmp_path):
    write(tmp_path, 1.0)
    with pytest.raises(FileExistsError, match="replace=True"):
        write(tmp_path, 2.0)
    write(tmp_path, 2.0, replace=True)
    assert (value_of(tmp_path), names_in(tmp_path)) == (2.0, files_of(tmp_path))


def test_writer_that_failed_is_closed(tmp_path):
    writer = CorpusWriter(tmp_path, TEXT, utterances_per_shard=1)
    rows = ([0, 0], [0, 0], {"text": np.ones((2, 2), np.float32)})
    with room_for(100), pytest.raises(OSError, match="File too large"):
        writer.add([1, 2], *rows, offsets=[0, 1, 2])
    assert names_in(tmp_path) == set()
    with pytest.raises(ValueError, match="the writer must be open"):
        writer.add([1, 2], *rows, offsets=[0, 1, 2])
    write(tmp_path, 1.0)  # the folder is free


def test_files_of_others_are_not_taken_for_leftovers(tmp_path):
    for name in ("shard-000000.arrow", "notes.txt"):
        (tmp_path / name).write_text("somebody's work")
    with pytest.raises(FileExistsError, match=r"no writer left, such as shard-000000\.arrow"):
        write(tmp_path, 1.0)
    assert names_in(tmp_path) == {"shard-000000.arrow", "notes.txt"}
    (tmp_path / "shard-000000.arrow").unlink()
    write(tmp_path, 1.0)
    assert names_in(tmp_path) == {"notes.txt", *files_of(tmp_path)}


def test_two_writers_do_not_mix(tmp_path):
    with CorpusWriter(tmp_path, TEXT) as writer:
        with pytest.raises(OSError, match="another writer is at work"):
            write(tmp_path, 2.0)
        writer.add([1], [0], [0], {"text": np.ones((1, 2), np.float32)}, offsets=[0, 1])
    assert value_of(tmp_path) == 1.0


def test_locks_are_of_files_that_are_open_for_writing(tmp_path, monkeypatch):
    """As NFS has it, which locks byte ranges in place of files (flock(2))."""
    real = fcntl.flock

    def of_nfs(descriptor, operation):
        if operation & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    (tmp_path / ".a.0123456789abcdef.partial").touch()
    write(tmp_path, 1.0)
    with CorpusWriter(tmp_path, TEXT, replace=True), pytest.raises(OSError, match="another writer is at work"):
        write(tmp_path, 2.0, replace=True)
    write(tmp_path, 3.0, replace=True)
    assert (value_of(tmp_path), names_in(tmp_path)) == (3.0, files_of(tmp_path))


def test_writer_that_is_refused_leaves_no_mark(tmp_path):
    write(tmp_path, 1.0)
    before = names_in(tmp_path)
    with pytest.raises(FileExistsError):
        write(tmp_path, 2.0)
    assert names_in(tmp_path) == before
    (tmp_path / ".writing").touch()  # one was killed
    with pytest.raises(FileExistsError):
        write(tmp_path, 2.0)
    assert names_in(tmp_path) == before | {".writing"}


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    steps = []

    def noted(name, real):
        def call(*arguments):
            what = arguments[0]
            mode = os.fstat(what).st_mode if isinstance(what, int) else 0
            steps.append((name, "folder" if stat.S_ISDIR(mode) else "file"))
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    noted("fsync", os.fsync)
    noted("replace", os.replace)
    with atomic_file(tmp_path / "a") as file:
        file.write(b"whole")
    assert steps == [("fsync", "file"), ("replace", "file"), ("fsync", "folder")]
