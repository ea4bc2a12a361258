"""Where a store lies: a folder of this machine, or a place on an Arrow file system, such as object storage."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, TypeAlias, cast

import numpy as np

from spcl_fast.corpus._arrow import fs, pa
from spcl_fast.corpus.checksum import _fastest

_PIECE = 1 << 22
#: file systems that show a file when all of it is there, and where a move would be a copy
_WHOLE_AT_ONCE = ("s3", "gcs", "abfs")


class _Status(NamedTuple):
    st_size: int


class Place:
    """A file or folder on an Arrow file system, used as a `pathlib.Path` is, as far as a store needs one.

    Files there cannot be mapped: one that is read is copied into the folder for temporary files (TMPDIR) first, and
    looked at there; one that is written is made there and then sent. On S3, Google Cloud and Azure storage a file is
    seen when all of it is there; on others it is sent under another name and moved, where moving is possible.

    Args:
        filesystem: a `pyarrow.fs.FileSystem`; others through `pyarrow.fs.PyFileSystem`.
        path: in its own words, with `/` between names; "" is its root.

    Example:
        >>> from pyarrow import fs
        >>> from spcl_fast.corpus.place import Place
        >>> place = Place(fs.SubTreeFileSystem(".", fs.LocalFileSystem()), "scores")
        >>> place / "manifest.json", (place / "manifest.json").exists()
        (Place('subtree://scores/manifest.json'), False)
    """

    def __init__(self, filesystem: fs.FileSystem, path: str = "") -> None:
        if not isinstance(filesystem, fs.FileSystem):
            raise TypeError(f"filesystem: must be a pyarrow.fs.FileSystem (got {type(filesystem).__name__})")
        self.filesystem, self.path = filesystem, path

    def __truediv__(self, name: str) -> Place:
        return Place(self.filesystem, f"{self.path.rstrip('/')}/{name}" if self.path else name)

    def __str__(self) -> str:
        return f"{self.filesystem.type_name}://{self.path}"

    def __repr__(self) -> str:
        return f"Place({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.filesystem.equals(other.filesystem) and self.path == other.path

    __hash__ = None  # type: ignore[assignment] # file systems have none

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def resolve(self) -> Place:
        """Itself: nothing here is relative, or a link.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> Place(fs.LocalFileSystem(), "scores").resolve()
            Place('local://scores')
        """
        return self

    def exists(self) -> bool:
        """Whether there is anything.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> Place(fs.LocalFileSystem(), "scores").exists()
            False
        """
        return self._info().type != fs.FileType.NotFound

    def is_file(self) -> bool:
        """Whether there is a file.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> Place(fs.LocalFileSystem(), ".").is_file()
            False
        """
        return self._info().type == fs.FileType.File

    def is_dir(self) -> bool:
        """Whether there is a folder; object storage has one where there is a file in it.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> Place(fs.LocalFileSystem(), ".").is_dir()
            True
        """
        return self._info().type == fs.FileType.Directory

    def stat(self) -> _Status:
        """With its size; FileNotFoundError where there is no file.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> with open("notes.txt", "w") as file:
            ...     _ = file.write("whole")
            >>> Place(fs.LocalFileSystem(), "notes.txt").stat().st_size
            5
        """
        info = self._info()
        if info.type != fs.FileType.File:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(self))
        return _Status(info.size)

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Makes the folder, where there is none.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> place = Place(fs.LocalFileSystem(), "scores")
            >>> place.mkdir()
            >>> place.is_dir()
            True
        """
        self.filesystem.create_dir(self.path or "/", recursive=True)

    def iterdir(self) -> list[Place]:
        """The files of the folder.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> place = Place(fs.LocalFileSystem(), "notes")
            >>> place.mkdir()
            >>> with open("notes/first.txt", "w"):
            ...     pass
            >>> place.iterdir()
            [Place('local://notes/first.txt')]
        """
        selector = fs.FileSelector(self.path, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return [self / info.base_name for info in infos if info.type == fs.FileType.File]

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> Place(fs.LocalFileSystem(), "notes.txt").unlink(missing_ok=True)
        """
        if missing_ok and not self.is_file():
            return
        self.filesystem.delete_file(self.path)

    def open(self, mode: str = "rb") -> Any:
        """Opens the file for reading.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> with open("notes.txt", "w") as file:
            ...     _ = file.write("whole")
            >>> with Place(fs.LocalFileSystem(), "notes.txt").open() as file:
            ...     file.read()
            b'whole'
        """
        self.stat()
        return self.filesystem.open_input_stream(self.path)

    @contextmanager
    def writing(self, replace: bool) -> Iterator[BinaryIO]:
        """`atomic_file` of this place. Of several processes at once that may not replace, more than one can succeed.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> place = Place(fs.LocalFileSystem(), "notes.txt")
            >>> with place.writing(replace=True) as file:
            ...     _ = file.write(b"whole")
            >>> place.stat().st_size
            5
        """
        with tempfile.NamedTemporaryFile() as file:
            if not replace and self.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self))
            yield cast(BinaryIO, file)
            file.flush()
            file.seek(0)
            self._send(file)

    @contextmanager
    def copied(self) -> Iterator[tuple[Path, str]]:
        """A copy on this machine, gone when the block ends but for who has mapped it; and its checksum.

        Example:
            >>> from pyarrow import fs
            >>> from spcl_fast.corpus import Place
            >>> place = Place(fs.LocalFileSystem(), "digits")
            >>> with place.writing(replace=True) as file:
            ...     _ = file.write(b"123456789")
            >>> with place.copied() as (path, checksum):
            ...     path.read_bytes(), checksum
            (b'123456789', 'crc32c:e3069283')
        """
        self.stat()
        crc = 0
        with tempfile.NamedTemporaryFile() as file:
            with self.filesystem.open_input_stream(self.path) as stream:
                while piece := stream.read(_PIECE):
                    crc = _fastest()(np.frombuffer(piece, np.uint8), crc)
                    file.write(piece)
            file.flush()
            yield Path(file.name), f"crc32c:{crc:08x}"

    def _send(self, file: IO[bytes]) -> None:
        if self.filesystem.type_name in _WHOLE_AT_ONCE:
            self._fill(file)
            return
        folder, slash, name = self.path.rpartition("/")
        other = Place(self.filesystem, f"{folder}{slash}.{name}.{secrets.token_hex(8)}.partial")
        try:
            other._fill(file)
            self.filesystem.move(other.path, self.path)
        except NotImplementedError:
            file.seek(0)
            self._fill(file)
            with suppress(OSError):
                other.unlink()
        except BaseException:
            with suppress(OSError):
                other.unlink()
            raise

    def _fill(self, file: IO[bytes]) -> None:
        with self.filesystem.open_output_stream(self.path) as stream:
            shutil.copyfileobj(file, stream, _PIECE)

    def _info(self) -> Any:
        return self.filesystem.get_file_info(self.path or "/")


Where: TypeAlias = str | os.PathLike[str] | fs.FileSystem | Place


def place_of(where: Where) -> Path | Place:
    """Where a store lies, from what a user says.

    Args:
        where: a path; a URI that Arrow knows, such as `s3://bucket/corpus` or `file:///data/corpus`; a
            `pyarrow.fs.FileSystem`, whose root it is; or a `Place`.

    Returns:
        A `pathlib.Path` where files can be mapped and renamed, else a `Place`.

    Raises:
        TypeError: something else.
        ValueError: a URI that Arrow does not know.

    Example:
        >>> from spcl_fast.corpus.place import place_of
        >>> place_of("scores"), place_of("file:///data/scores")
        (PosixPath('scores'), PosixPath('/data/scores'))
    """
    if isinstance(where, Place):
        return where
    if isinstance(where, fs.FileSystem):
        return Place(where)
    if isinstance(where, str) and "://" in where:
        try:
            filesystem, path = fs.FileSystem.from_uri(where)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{where}: must be a path or a URI that Arrow knows ({error})") from None
        return Path(path) if isinstance(filesystem, fs.LocalFileSystem) else Place(filesystem, path)
    return Path(where)


@contextmanager
def on_this_machine(path: Path | Place) -> Iterator[tuple[Path, str | None]]:
    """A file that can be mapped, and its checksum where it is known by now: itself, or a copy while the block lasts.

    Example:
        >>> from pathlib import Path
        >>> from pyarrow import fs
        >>> from spcl_fast.corpus.place import Place, on_this_machine
        >>> _ = Path("digits").write_bytes(b"123456789")
        >>> with on_this_machine(Place(fs.SubTreeFileSystem(".", fs.LocalFileSystem()), "digits")) as (copy, checksum):
        ...     copy.read_bytes(), checksum
        (b'123456789', 'crc32c:e3069283')
    """
    if isinstance(path, Place):
        with path.copied() as copy:
            yield copy
    else:
        yield path, None
