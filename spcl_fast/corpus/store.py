"""Reading a corpus past memory: shards of whole dialogues, mapped and looked at in place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcl_fast.corpus._arrow import pa
from spcl_fast.corpus._columns import (
    INTEGERS,
    Column,
    columns_of,
    dialogue_schema,
    difference,
    to_numpy,
    utterance_schema,
)
from spcl_fast.corpus._ipc_form import is_compressed
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import Manifest, Modality, ShardInfo, StoreCorrupt, read_manifest
from spcl_fast.corpus.place import Place, Where, on_this_machine, place_of

_UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError, UnicodeError)


class Shard:
    """The utterances and dialogues of one shard, as views of its mapped files.

    Nothing is read until it is looked at, and nothing is copied but `offsets`, `utterance_index` and texts; the arrays
    cannot be written to, and keep the map alive. `D`, `T`: of this shard.

    Attributes:
        info: what the manifest says of it.
        offsets: `int64 [D + 1]`; dialogue d owns the rows `offsets[d]:offsets[d + 1]`. A dialogue may be empty.
        dialogue_id: `int64 [D]`, or an object array of texts.
        utterance_index: `int32 [T]`, from 0 inside each dialogue.
        speaker: `int32 [T]`, numbered inside the dialogue; -1 where not known.
        label: `int32 [T]`; -100 where there is none.
        logits: modality -> `[T, C]` in float16 or float32; bfloat16 as its bits in uint16, see `tensor`.
        embeddings: modality -> `[T, F]`, likewise.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
        >>> with CorpusWriter("small", [Modality("text", num_classes=2)]) as writer:
        ...     writer.add([7, 8], [0, 1, 0], [1, 0, -100], {"text": np.zeros((3, 2), np.float32)}, offsets=[0, 2, 3])
        >>> shard = open_corpus("small").shard(0)
        >>> shard.offsets.tolist(), shard.dialogue_id.tolist(), shard.utterance_index.tolist(), shard.label.tolist()
        ([0, 2, 3], [7, 8], [0, 1, 0], [1, 0, -100])
        >>> shard.logits["text"].shape
        (3, 2)
    """

    def __init__(self, info: ShardInfo, columns: list[Column], utterances: Any, dialogues: Any) -> None:
        self.info = info
        self._dialogues = dialogues
        self._dtypes = {column.name: column.dtype for column in columns}
        self.speaker, self.label = (to_numpy(utterances.column(name), np.dtype("<i4")) for name in INTEGERS)
        of: dict[str, dict[str, NDArray[Any]]] = {"logits": {}, "embedding": {}}
        for column in columns:
            of[column.kind][column.modality] = to_numpy(utterances.column(column.name), column.stored)
        self.logits, self.embeddings = of["logits"], of["embedding"]
        self.offsets = _offsets(to_numpy(dialogues.column("length"), np.dtype("<i8")), info.utterances)

    def __repr__(self) -> str:
        return f"Shard({self.info.name!r}: {self.info.dialogues} dialogues, {self.info.utterances} utterances)"

    @cached_property
    def dialogue_id(self) -> NDArray[Any]:
        """Of each dialogue."""
        return self._dialogues.column("dialogue_id").to_numpy(zero_copy_only=False)

    @cached_property
    def utterance_index(self) -> NDArray[np.int32]:
        """Of each utterance in its dialogue."""
        first = np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return (np.arange(self.info.utterances) - first).astype(np.int32)

    def tensor(self, kind: str, modality: str) -> Any:
        """The logits or embeddings of a modality as a torch tensor, bfloat16 included, which NumPy has no name for.

        Args:
            kind: "logits" or "embedding".
            modality: which one.

        Returns:
            `[T, C]` or `[T, F]` on the CPU, in the dtype that is stored. A copy: torch has no tensors that cannot be
            written to.

        Raises:
            KeyError: the shard has no such column.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
            >>> bits = np.array([[0x3F80, 0x4000]], np.uint16)
            >>> with CorpusWriter("half", [Modality("text", num_classes=2, logits_dtype="bfloat16")]) as writer:
            ...     writer.add(["a"], [0], [1], {"text": bits}, offsets=[0, 1])
            >>> open_corpus("half").shard(0).tensor("logits", "text")
            tensor([[1., 2.]], dtype=torch.bfloat16)
        """
        import torch

        dtype = self._dtypes[f"{kind}.{modality}"]
        values = (self.logits if kind == "logits" else self.embeddings)[modality].copy()
        return torch.from_numpy(values).view(getattr(torch, dtype))


class Corpus:
    """A corpus in a folder, opened by its manifest; the shards are opened one by one.

    Args:
        folder: which `CorpusWriter` wrote, or another tool (docs/corpus.md): a path, a URI such as `s3://bucket/corpus`,
            a `pyarrow.fs.FileSystem` or a `Place` on one. Shards that do not lie on this machine are copied to it when
            they are opened.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.

    Raises:
        StoreCorrupt: the manifest is missing or wrong.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.corpus import Corpus, CorpusWriter, Modality
        >>> with CorpusWriter("small", [Modality("text", num_classes=2)], class_names=["sad", "happy"]) as writer:
        ...     writer.add([7, 8], [0, 1, 0], [1, 0, -100], {"text": np.zeros((3, 2), np.float32)}, offsets=[0, 2, 3])
        >>> corpus = Corpus("small")
        >>> corpus
        Corpus('small': 2 dialogues, 3 utterances, 1 shard; text)
        >>> corpus.num_classes, [shard.label.sum() for shard in corpus]
        (2, [np.int64(-99)])
    """

    def __init__(self, folder: Where) -> None:
        self.folder = place_of(folder)
        self.manifest: Manifest = read_manifest(folder)
        self._columns = columns_of(self.manifest.modalities)

    @property
    def shards(self) -> tuple[ShardInfo, ...]:
        """What there is to open."""
        return self.manifest.shards

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """In the order of M."""
        return self.manifest.modalities

    @property
    def num_utterances(self) -> int:
        """T of the whole corpus."""
        return self.manifest.utterances

    @property
    def num_dialogues(self) -> int:
        """D of the whole corpus."""
        return self.manifest.dialogues

    @property
    def num_classes(self) -> int | None:
        """C; None where neither logits nor class names say it."""
        return self.manifest.num_classes

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[Shard]:
        return map(self.shard, range(len(self.shards)))

    def __repr__(self) -> str:
        count = f"{len(self)} shard{'s' if len(self) != 1 else ''}"
        names = ", ".join(modality.name for modality in self.modalities)
        of = f"{self.num_dialogues} dialogues, {self.num_utterances} utterances, {count}"
        return f"Corpus({str(self.folder)!r}: {of}; {names})"

    def shard(self, index: int, verify: bool = True) -> Shard:
        """Opens one shard: maps its two files and looks at their form.

        Args:
            index: which one, in [0, len(corpus)).
            verify: whether the checksums are compared, which reads both files once. Without it a file is still of the
                right size, well-formed and inside its map, but its numbers may be wrong.

        Returns:
            The shard.

        Raises:
            IndexError: there is no such shard.
            StoreCorrupt: a file is missing, of another size, damaged, or not what the manifest says; the message names
                the file and the shard.

        Example:
            >>> import numpy as np
            >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
            >>> with CorpusWriter("small", [Modality("text", num_classes=2)]) as writer:
            ...     writer.add([7], [0, 1], [1, 0], {"text": np.ones((2, 2), np.float32)}, offsets=[0, 2])
            >>> open_corpus("small").shard(0, verify=False).logits["text"].tolist()
            [[1.0, 1.0], [1.0, 1.0]]
        """
        if not 0 <= index < len(self.shards):
            raise IndexError(f"shard: index must be in [0, {len(self.shards)}) (got {index})")
        info = self.shards[index]
        name = info.dialogues_name
        try:
            size, said = info.dialogue_bytes, info.dialogue_checksum if verify else None
            schema = dialogue_schema(self.manifest.dialogue_id)
            dialogues = _read(self.folder / name, schema, info.dialogues, size, said, full=True)
            name = info.name
            size, said = info.bytes, info.checksum if verify else None
            utterances = _read(self.folder / name, utterance_schema(self._columns), info.utterances, size, said)
            name = f"{info.name}, {info.dialogues_name}"
            return Shard(info, self._columns, utterances, dialogues)
        except _UNREADABLE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreCorrupt(f"{self.folder / name}: shard {index}: {reason}") from None


def open_corpus(folder: Where) -> Corpus:
    """The corpus in a folder.

    Args:
        folder: of the store; as for `Corpus`.

    Raises:
        StoreCorrupt: its manifest is missing or wrong.

    Example:
        >>> from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
        >>> with CorpusWriter("empty", [Modality("text", num_classes=2)]):
        ...     pass
        >>> len(open_corpus("empty"))
        0
    """
    return Corpus(folder)


def _read(path: Path | Place, schema: Any, rows: int, size: int, said: str | None, full: bool = False) -> Any:
    """The one record batch of a file, in its map."""
    if not path.is_file():  # a pipe would be waited for
        raise StoreCorrupt("no such file")
    if (found_size := path.stat().st_size) != size:
        raise StoreCorrupt(f"must have {size} bytes (got {found_size})")
    with on_this_machine(path) as (here, found), pa.memory_map(os.fspath(here)) as mapped:
        content = mapped.read_buffer()
    if len(content) != size:
        raise StoreCorrupt(f"must have {size} bytes (got {len(content)})")
    if said is not None and (found := found or checksum(content)) != said:
        raise StoreCorrupt(f"damaged: its checksum is {found}, not {said}")
    with pa.ipc.open_file(pa.BufferReader(content)) as file:
        if (wrong := difference(file.schema, schema)) is not None:
            raise StoreCorrupt(wrong)
        if file.num_record_batches != 1:
            raise StoreCorrupt(f"must be one record batch (got {file.num_record_batches})")
        if is_compressed(content):
            raise StoreCorrupt("must be uncompressed")
        batch = file.get_batch(0)
    batch.validate(full=full)
    if full and any(column.null_count for column in batch.columns):
        raise StoreCorrupt("must hold no null")
    if batch.num_rows != rows:
        raise StoreCorrupt(f"must have {rows} rows (got {batch.num_rows})")
    for buffer in (buffer for column in batch.columns for buffer in column.buffers() if buffer is not None):
        if buffer.size and not 0 <= buffer.address - content.address <= content.size - buffer.size:
            raise StoreCorrupt("must lie in the file")
    return batch


def _offsets(lengths: NDArray[np.int64], utterances: int) -> NDArray[np.int64]:
    if np.any((lengths < 0) | (lengths > utterances)) or lengths.sum(dtype=np.float64) > 2.0**60:
        raise StoreCorrupt(f"length: must be in [0, {utterances}] (got {lengths.min()} to {lengths.max()})")
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] != utterances:
        raise StoreCorrupt(f"length: must sum to the {utterances} utterances (got {offsets[-1]})")
    return offsets
