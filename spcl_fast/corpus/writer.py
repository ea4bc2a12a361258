"""Writing a corpus past memory, a shard at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._arrow import pa
from spcl_fast.corpus._columns import INTEGERS, columns_of, dialogue_schema, to_arrow, utterance_schema
from spcl_fast.corpus._rows import GrowingRows, checked_ids, checked_integers, checked_matrix, checked_offsets
from spcl_fast.corpus.atomic import atomic_file, sweep_partial, sync_folder
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import (
    MANIFEST,
    Manifest,
    Modality,
    ShardInfo,
    bytes_left,
    bytes_of,
    read_manifest,
    write_manifest,
)

# There as long as a writer is at work, who holds its lock, or where one was killed: then shards that no manifest names
# are its own. A file, and open for writing, since a folder cannot be locked everywhere (NFS).
_MARK = ".writing"
_SHARD = re.compile(r"shard-(\d{6,12})(?:\.dialogues)?\.arrow")


class CorpusWriter:
    """Writes a corpus into a folder: dialogues as they come, shards of whole dialogues, the manifest last.

    Until `close`, which the end of a `with` block calls, the folder holds no new corpus; a block that raises takes away
    what it wrote. A process that is killed leaves what the next writer in that folder removes. Where the dialogues are
    cut into shards depends on them alone, not on the calls of `add`: a shard ends before the dialogue that would take
    it past `utterances_per_shard` utterances (a longer dialogue is a shard of its own) or dialogues. The same dialogues
    give the same bytes.

    Memory: one shard.

    Args:
        folder: is made where there is none; no other writer may be at work in it.
        modalities: what is stored, in the order of M; at least one, with distinct names and one number of classes.
        class_names: of the C classes.
        utterances_per_shard: at least 1.
        replace: whether a corpus that is there is replaced, when the new one is whole. It is refused otherwise.

    Raises:
        OSError: the folder cannot be made or written to; another writer is at work; there is a store already, or files
            named like shards that are none of a store and of no writer that was killed.
        StoreCorrupt: the corpus to be replaced has a broken manifest.
        TypeError: a modality that is none, a number that is none.
        ValueError: a rule above is broken.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
        >>> modalities = [Modality("text", num_classes=2), Modality("audio", num_classes=2, logits_dtype="float16")]
        >>> logits = {"text": np.zeros((3, 2), np.float32), "audio": np.zeros((3, 2), np.float16)}
        >>> with CorpusWriter("small", modalities, class_names=["sad", "happy"], utterances_per_shard=2) as writer:
        ...     writer.add(["first", "second"], [0, 1, 0], [1, 0, -100], logits, offsets=[0, 2, 3])
        >>> open_corpus("small")
        Corpus('small': 2 dialogues, 3 utterances, 2 shards; text, audio)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        modalities: Sequence[Modality],
        *,
        class_names: Sequence[str] | None = None,
        utterances_per_shard: int = 1 << 20,
        replace: bool = False,
    ) -> None:
        if type(utterances_per_shard) is not int:
            raise TypeError(f"utterances_per_shard: must be an integer (got {type(utterances_per_shard).__name__})")
        if utterances_per_shard < 1:
            raise ValueError(f"utterances_per_shard: must be at least 1 (got {utterances_per_shard})")
        self.modalities = _checked(modalities, class_names)
        self.class_names = None if class_names is None else tuple(class_names)
        self.folder = Path(folder)
        self._per_shard = utterances_per_shard
        self._columns = columns_of(self.modalities)
        self._utterances = {name: GrowingRows((), np.dtype(np.int32)) for name in INTEGERS}
        self._utterances |= {column.name: GrowingRows((column.size,), column.stored) for column in self._columns}
        self._lengths = GrowingRows((), np.dtype(np.int64))
        self._ids: list[Any] = []
        self._id_type: str | None = None
        self._shards: list[ShardInfo] = []
        self._manifest_left = bytes_left(self._manifest())
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = None
        self._lock, is_first = _locked(self.folder / _MARK)
        try:
            self._old = self._before(replace, was_killed=not is_first)
        except BaseException:
            if is_first:
                (self.folder / _MARK).unlink(missing_ok=True)
            self._release()
            raise
        self._next_number = 1 + max(
            (int(m[1]) for shard in self._old if (m := _SHARD.fullmatch(shard.name))), default=-1
        )

    def add(
        self,
        dialogue_id: Sequence[int] | Sequence[str] | NDArray[Any],
        speaker: Sequence[int] | NDArray[Any],
        label: Sequence[int] | NDArray[Any],
        logits: Mapping[str, NDArray[Any]] | None = None,
        embeddings: Mapping[str, NDArray[Any]] | None = None,
        *,
        offsets: Sequence[int] | NDArray[Any],
    ) -> None:
        """Appends whole dialogues; the arrays are copied. What is wrong is refused before any of it is taken.

        Args:
            dialogue_id: `[D]`, integers in int64 or texts, the same kind in every call. That they are distinct is not
                looked at.
            speaker: `int [T]`, numbered inside the dialogue; -1 where not known.
            label: `int [T]`; -100 where there is none. Others outside [0, C) are stored: rescoring counts them.
            logits: modality -> `[T, C]` in the dtype of the modality, all modalities that have logits; bfloat16 as its
                bits in uint16 (`tensor.view(torch.uint16).numpy()`). NaN and infinite ones are stored, too.
            embeddings: modality -> `[T, F]`, likewise.
            offsets: `int [D + 1]`, from 0 to T without falling; a dialogue may be empty.

        Raises:
            OSError: a shard cannot be written, such as on a full disk; the message names the file, and the writer is
                closed without a corpus.
            TypeError: another dtype, or no array.
            ValueError: another shape, a modality that is missing or not known, offsets that fall, a number that int32
                does not have, a writer that is closed. Also more shards than a manifest has room for, some 60,000: then
                the writer is closed without a corpus.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
            >>> with CorpusWriter("faces", [Modality("visual", embedding_size=4)]) as writer:
            ...     for dialogue in range(3):
            ...         faces = {"visual": np.zeros((2, 4), np.float32)}
            ...         writer.add([dialogue], [0, 1], [-100, -100], embeddings=faces, offsets=[0, 2])
            >>> open_corpus("faces").num_utterances
            6
        """
        if self._lock is None:
            raise ValueError("add: the writer must be open (got one that is closed)")
        ids, kind = checked_ids(dialogue_id)
        if self._id_type not in (None, kind):
            raise TypeError(f"dialogue_id: must be {self._id_type} as before (got {kind})")
        ends = checked_offsets(offsets, len(ids))
        T = int(ends[-1])
        given = {"speaker": checked_integers("speaker", speaker, T), "label": checked_integers("label", label, T)}
        of = {"logits": dict(logits or {}), "embedding": dict(embeddings or {})}
        for column in self._columns:
            if column.modality not in of[column.kind]:
                raise ValueError(f"{column.name}: must be given (got none)")
            values = of[column.kind].pop(column.modality)
            given[column.name] = checked_matrix(column, values, T)
        for unknown, rest in of.items():
            if rest:
                raise ValueError(f"{unknown}: must be of modalities that store it (got {', '.join(map(repr, rest))})")
        self._id_type = kind if len(ids) else self._id_type
        try:
            self._take(ids, ends, given)
        except BaseException:  # nobody can know how much of it was taken
            self.abandon()
            raise

    def close(self) -> None:
        """Writes the last shard, then the manifest: now the corpus is there. Closing twice does nothing.

        Raises:
            OSError: something cannot be written; the folder holds what it held before.

        Example:
            >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
            >>> writer = CorpusWriter("empty", [Modality("text", num_classes=2)])
            >>> writer.close()
            >>> open_corpus("empty").num_utterances
            0
        """
        if self._lock is None:
            return
        try:
            if len(self._ids):
                self._write_shard()
            write_manifest(self.folder, self._manifest())
        except BaseException:
            self.abandon()
            raise
        self._remove(self._old)
        self._leave()

    def abandon(self) -> None:
        """Takes away what was written; the folder holds what it held before.

        Example:
            >>> from spcl_fast.corpus import CorpusWriter, Modality
            >>> writer = CorpusWriter("nothing", [Modality("text", num_classes=2)])
            >>> writer.abandon()
            >>> list(writer.folder.iterdir())
            []
        """
        if self._lock is not None:
            self._remove(self._shards)
            self._leave()

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _before(self, replace: bool, was_killed: bool) -> tuple[ShardInfo, ...]:
        """The shards of the corpus that is there, after what killed writers left is gone."""
        old: tuple[ShardInfo, ...] = ()
        if (self.folder / MANIFEST).exists():
            if not replace:
                rule = "holds a store already; replace=True replaces it"
                raise FileExistsError(errno.EEXIST, rule, os.fspath(self.folder))
            old = read_manifest(self.folder).shards
        kept = {name for shard in old for name in (shard.name, shard.dialogues_name)}
        lost = [path for path in self.folder.iterdir() if _SHARD.fullmatch(path.name) and path.name not in kept]
        if lost and not was_killed:
            rule = f"holds files that no store names and no writer left, such as {min(lost).name}"
            raise FileExistsError(errno.EEXIST, rule, os.fspath(self.folder))
        for path in lost:
            path.unlink()
        sweep_partial(self.folder)
        sync_folder(self.folder)
        return old

    def _take(self, ids: Any, ends: NDArray[np.int64], given: dict[str, NDArray[Any]]) -> None:
        first, D = 0, len(ids)
        while first < D:
            start = int(ends[first])
            room = self._per_shard - len(self._utterances["label"])
            last = int(np.searchsorted(ends, start + room, side="right")) - 1  # as many dialogues as fit
            last = min(last, D, first + self._per_shard - len(self._ids))
            if last <= first:
                if len(self._ids):
                    self._write_shard()
                    continue
                last = first + 1  # longer than a shard
            for name, values in given.items():
                self._utterances[name].append(values[start : int(ends[last])])
            self._lengths.append(np.diff(ends[first : last + 1]))
            self._ids.extend(ids[first:last])
            first = last

    def _write_shard(self) -> None:
        name = f"shard-{self._next_number:06d}.arrow"
        rows = {name: rows.values for name, rows in self._utterances.items()}
        first = sum(shard.utterances for shard in self._shards)
        info = ShardInfo(name, len(rows["label"]), len(self._ids), first, 0, "", 0, "")
        self._shards.append(info)  # from now on there may be something to take away
        schema = utterance_schema(self._columns)
        arrays = [to_arrow(values, kind) for values, kind in zip(rows.values(), schema.types, strict=True)]
        size, said = _write(self.folder / name, schema, arrays)
        schema = dialogue_schema(self._id_type or "int64")
        kind = schema.field("dialogue_id").type
        is_text = self._id_type == "string"
        ids = pa.array(self._ids, kind) if is_text else to_arrow(np.array(self._ids, np.int64), kind)
        arrays = [ids, to_arrow(self._lengths.values, pa.int64())]
        of_dialogues = _write(self.folder / info.dialogues_name, schema, arrays)
        self._shards[-1] = ShardInfo(name, info.utterances, info.dialogues, first, size, said, *of_dialogues)
        self._manifest_left -= bytes_of(self._shards[-1])
        if self._manifest_left < 0:
            rule = f"a manifest has room for {len(self._shards) - 1} such shards: larger ones are needed"
            raise ValueError(f"utterances_per_shard: {rule} (got {self._per_shard})")
        self._next_number += 1
        for growing in (*self._utterances.values(), self._lengths):
            growing.clear()
        self._ids = []

    def _manifest(self) -> Manifest:
        return Manifest(tuple(self._shards), self.modalities, self.class_names, self._id_type or "int64")

    def _remove(self, shards: Sequence[ShardInfo]) -> None:
        for shard in shards:
            for name in (shard.name, shard.dialogues_name):
                (self.folder / name).unlink(missing_ok=True)
        sync_folder(self.folder)

    def _leave(self) -> None:
        (self.folder / _MARK).unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
            os.close(self._lock)
            self._lock = None


def _locked(mark: Path) -> tuple[int, bool]:
    """The lock of a folder, and whether no other writer was there before."""
    while True:
        try:
            descriptor, is_first = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                descriptor, is_first = os.open(mark, os.O_RDWR), False
            except FileNotFoundError:  # its writer has just left
                continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), mark.stat()):
                return descriptor, is_first
        except BlockingIOError:
            os.close(descriptor)
            raise BlockingIOError(errno.EWOULDBLOCK, "another writer is at work", os.fspath(mark.parent)) from None
        except FileNotFoundError:
            pass
        os.close(descriptor)  # of a writer that has left


def _checked(modalities: Sequence[Modality], class_names: Sequence[str] | None) -> tuple[Modality, ...]:
    found = tuple(modalities)
    if not found:
        raise ValueError("modalities: at least one is needed (got none)")
    for modality in found:
        if not isinstance(modality, Modality):
            raise TypeError(f"modalities: must be of Modality (got {type(modality).__name__})")
    names = [modality.name for modality in found]
    if len(set(names)) != len(names):
        raise ValueError(f"modalities: names must be distinct (got {', '.join(names)})")
    counts = {modality.num_classes for modality in found if modality.num_classes is not None}
    counts |= set() if class_names is None else {len(class_names)}
    if len(counts) > 1:
        raise ValueError(f"modalities, class_names: must agree on the number of classes (got {sorted(counts)})")
    return found


def _write(path: Path, schema: Any, arrays: list[Any]) -> tuple[int, str]:
    """A file of one record batch: its size and checksum."""
    with atomic_file(path) as file:
        with pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(pa.record_batch(arrays, schema))
        file.flush()
        with pa.memory_map(file.name) as mapped:
            content = mapped.read_buffer()
        return len(content), checksum(content)
