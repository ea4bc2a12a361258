"""Files that are there whole or not at all, also after a crash."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from spcl_fast.corpus.place import Place

# What a file is called until it is whole: no name of a store begins with a dot.
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}\.partial")


@contextmanager
def atomic_file(path: str | os.PathLike[str] | Place, *, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, put at `path` when the block ends: a reader meets the old file or the new one, never a part.

    The bytes go to another name in the same folder, are synced, and the name is changed; then the folder is synced, so
    that the file is still there when the machine lost its power. A block that raises leaves the old file and nothing
    else. A process that is killed leaves at most the other name, which `sweep_partial` removes.

    Args:
        path: the file; its folder exists. A `Place` keeps what it can of this.
        replace: whether a file that is there is replaced. Without, of several processes at once one alone succeeds.

    Yields:
        The file, open for writing and reading. It is locked as long as it is open, which says that its writer lives.

    Raises:
        FileExistsError: there is one, and it is not to be replaced.
        OSError: it cannot be written, such as on a full disk; the message names `path`, the old file stays.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.corpus.atomic import atomic_file
        >>> with atomic_file("notes.txt") as file:
        ...     _ = file.write(b"whole")
        ...     Path("notes.txt").exists()
        False
        >>> Path("notes.txt").read_bytes()
        b'whole'
    """
    if isinstance(path, Place):
        with path.writing(replace) as elsewhere:
            yield elsewhere
        return
    path = Path(path)
    try:
        file = _locked(path)
    except OSError as error:
        raise _named(error, path) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if replace:
                os.replace(file.name, path)
            else:
                os.link(file.name, path)  # unlike a rename, this is refused where there is one
                os.unlink(file.name)
    except BaseException as error:
        Path(file.name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _named(error, path) from error
        raise
    sync_folder(path.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Waits until the names in a folder are on the disk.

    Raises:
        OSError: there is no such folder, or its disk fails.

    Example:
        >>> from spcl_fast.corpus.atomic import sync_folder
        >>> sync_folder(".")
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_partial(folder: str | os.PathLike[str] | Place) -> list[str]:
    """Removes what killed writers left of files that never became whole; those of living writers stay.

    Returns:
        The names that were removed, sorted.

    Raises:
        OSError: there is no such folder, or a file in it cannot be removed.

    Example:
        >>> from pathlib import Path
        >>> from spcl_fast.corpus.atomic import sweep_partial
        >>> Path(".notes.txt.0123456789abcdef.partial").touch()
        >>> sweep_partial(".")
        ['.notes.txt.0123456789abcdef.partial']
    """
    removed: list[str] = []
    if isinstance(folder, Place):  # nothing there says whether a writer lives
        return removed
    for path in sorted(Path(folder).iterdir()):
        if not _PARTIAL.fullmatch(path.name):
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)  # NFS locks no other
        except OSError:  # became whole meanwhile, or is none of ours
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            removed.append(path.name)
        except BlockingIOError:
            pass  # its writer lives
        finally:
            os.close(descriptor)
    return removed


def _locked(path: Path) -> BinaryIO:
    """A new file under another name that is certainly still there after it has been locked."""
    while True:
        file = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial").open("x+b")
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        if os.path.exists(file.name):  # a sweep may have come between creating and locking
            return file
        file.close()


def _named(error: OSError, path: Path) -> OSError:
    """The same error, of the file that was asked for instead of its other name."""
    return OSError(error.errno, error.strerror or str(error), str(path))
