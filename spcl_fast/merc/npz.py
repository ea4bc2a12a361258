"""Writing a corpus to one ``.npz`` file, and reading it from one that nobody has to be trusted with.

The archive is read member by member: a member is decompressed to the size it declares and no further, its
checksum is verified before its header is looked at, and the header must agree with that size before an array
is made. Nothing is unpickled or evaluated.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spcl_fast.merc.dataset import UNLABELLED, DatasetError, DialogueDataset
from spcl_fast.merc.published import published_notes

_REQUIRED = (
    "feature_names",
    "labels",
    "speakers",
    "offsets",
    "split",
    "split_names",
    "class_names",
    "dialogue_ids",
)

# The header that NumPy writes. Structured and object arrays do not fit it, so they stop here.
_HEADER = re.compile(
    r"\{'descr': ?'(?P<descr>[<>=|]?(?P<kind>[a-zA-Z])\d{0,9})', ?"
    r"'fortran_order': ?(?P<fortran>True|False), ?"
    r"'shape': ?\((?P<shape>(?:\d{1,19}, ?)*(?:\d{1,19})?)\),? ?\}\s*",
    re.ASCII,
)

# Deflate cannot shrink data by more than about 1032; a member that claims more is lying about its size.
_MAX_DEFLATE_RATIO = 1040

# What zipfile, zlib and the file system raise on an archive that is broken, encrypted, or not one at all.
_BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,  # encrypted, or, as NotImplementedError, compressed in a way not known
    MemoryError,
    OverflowError,
)


def read_npz(path: str | os.PathLike[str], modalities: str | Sequence[str] | None = None) -> DialogueDataset:
    """Read a corpus in the project's ``.npz`` format.

    The file holds ``feature_names`` (the arrays that are inputs, each floating point ``[T, F]``),
    ``labels[T]`` (-1 or -100 for an utterance without one), ``speakers[T]``, ``offsets[D + 1]``,
    ``split[D]``, ``dialogue_ids[D]``, ``split_names`` and ``class_names``. Any other array is an annotation
    or a description: it is never an input, and never read.

    Args:
        path: the file.
        modalities: which features make which modality. ``","`` separates modalities and ``"+"`` joins views
            of one modality along the features, in the order given: ``"text_lsa+text_glove,audio"`` is two
            modalities named ``text_lsa+text_glove`` and ``audio``. A sequence holds one modality per item.
            None: every feature of the file is a modality of its own, so choose where a file holds two views
            of the same modality.

    Returns:
        The corpus, named after the file: features in float32, labels with -100 for those without one, and
        ``notes`` on how it differs from the published counts of a corpus with the same class names.

    Raises:
        DatasetError: the file is missing, broken, or breaks a rule of the format, or ``modalities`` asks for
            what is not an input; one line with the name of the file and what is wrong.

    Example:
        >>> import numpy as np
        >>> from spcl_fast.merc.npz import read_npz
        >>> np.savez(
        ...     "two.npz",
        ...     feature_names=["words", "glove", "audio"],
        ...     **{"words": np.zeros((3, 8)), "glove": np.zeros((3, 4)), "audio": np.zeros((3, 5))},
        ...     **{"labels": [0, 1, -1], "speakers": [0, 1, 0], "offsets": [0, 2, 3], "class_names": ["sad", "happy"]},
        ...     **{"split": [0, 1], "split_names": ["train", "test"], "dialogue_ids": ["first", "second"]},
        ... )
        >>> read_npz("two.npz", "words+glove,audio")
        DialogueDataset('two': 2 dialogues, 3 utterances, 2 classes; words+glove 12, audio 5)
    """
    file = os.fspath(path)
    try:
        return _read(Path(file), modalities)
    except DatasetError as error:
        # from None: the line is the whole message, and what zlib thought of the bytes helps nobody
        raise DatasetError(f"{file}: {error}") from None


def write_npz(path: str | os.PathLike[str], dataset: DialogueDataset) -> None:
    """Write a corpus in the project's ``.npz`` format, whole or not at all.

    Features are stored in float16 where that holds every value of the modality exactly, else in float32: so
    `read_npz` gives back the arrays bit by bit. Nothing is compressed and no date is stored: the same corpus gives the
    same bytes, on every machine. The name of the corpus is that of the file, and ``notes`` are not stored.

    Args:
        path: the file; its folder is made where there is none.
        dataset: the corpus. Names of modalities must be free of ``","``, ``"+"``, ``"/"`` and spaces, and no name of
            the format's own arrays.

    Raises:
        DatasetError: a name that the format has no form for.
        OSError: the file cannot be written; an older one stays as it was.

    Example:
        >>> from spcl_fast.merc.npz import read_npz, write_npz
        >>> from spcl_fast.merc.synthetic import make_synthetic
        >>> corpus = make_synthetic("meld-like", dialogues={"train": 2})
        >>> write_npz("corpora/small.npz", corpus)
        >>> again = read_npz("corpora/small.npz")
        >>> all((again.features[m] == corpus.features[m]).all() for m in corpus.features)
        True
    """
    from spcl_fast.merc.files import write_atomically  # brings torch, which reading does without

    arrays = {
        "feature_names": _text_array("feature_names", dataset.features),
        "labels": dataset.labels,
        "speakers": dataset.speakers,
        "offsets": dataset.offsets,
        "split": dataset.split,
        "split_names": _text_array("split_names", dataset.split_names),
        "class_names": _text_array("class_names", dataset.class_names),
        "dialogue_ids": _text_array("dialogue_ids", dataset.dialogue_ids),
    }
    for name, values in dataset.features.items():
        if name in arrays or not re.fullmatch(r"[^,+/\\\s]+", name):
            rule = "must be free of ',', '+', '/' and spaces, and no name of the format"
            raise DatasetError(f"features: names {rule} (got {name!r})")
        arrays[name] = _smallest(values)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            content = io.BytesIO()
            np.save(content, values, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())  # dated 1980, as ZipInfo is
    write_atomically(Path(path), buffer.getvalue())


def _text_array(name: str, texts: Iterable[str]) -> np.ndarray:
    found = list(texts)
    for text in found:
        if "\0" in text or any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            raise DatasetError(f"{name}: must be Unicode text without zeros (got {text!r})")
    return np.array(found, np.dtype("<U1") if not found else None)


def _smallest(values: np.ndarray) -> np.ndarray:
    """In float16 where nothing is lost, else as it is."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    is_same = np.array_equal(half.astype(np.float32).view(np.uint32), np.ascontiguousarray(values).view(np.uint32))
    return half if is_same else values


def _read(path: Path, modalities: str | Sequence[str] | None) -> DialogueDataset:
    try:
        if path.is_dir():
            raise DatasetError("is a directory, not an .npz file")
        if not path.is_file():
            raise DatasetError("no such file")
        with zipfile.ZipFile(path) as archive:
            found = _build(_Arrays(archive, path.stat().st_size), path.stem, modalities)
    except DatasetError:
        raise
    except _BROKEN as error:
        raise DatasetError(f"not a readable .npz file ({_reason(error)})") from None
    return replace(found, notes=published_notes(found))


def _build(arrays: _Arrays, name: str, modalities: str | Sequence[str] | None) -> DialogueDataset:
    missing = [array for array in _REQUIRED if array not in arrays.members]
    if missing:
        raise DatasetError(f"has no array {', '.join(missing)}")
    stored = set(arrays.members)
    feature_names = _check_feature_names(arrays.names("feature_names"), stored)
    views = _parse_modalities(modalities, feature_names, stored)
    labels = arrays.integers("labels")
    labels[labels == -1] = UNLABELLED
    return DialogueDataset(
        name=name,
        features={
            modality: _join([(view, arrays.floats(view)) for view in joined], len(labels))
            for modality, joined in views.items()
        },
        labels=labels,
        speakers=arrays.integers("speakers"),
        offsets=arrays.integers("offsets"),
        split=arrays.integers("split"),
        split_names=arrays.names("split_names"),
        class_names=arrays.names("class_names"),
        dialogue_ids=arrays.names("dialogue_ids"),
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _Arrays:
    """The arrays of an open archive, read and checked when asked for."""

    def __init__(self, archive: zipfile.ZipFile, archive_size: int) -> None:
        self.archive, self.archive_size = archive, archive_size
        self.members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    def names(self, name: str) -> tuple[str, ...]:
        array = self._read(name, "U", "strings", 1)
        # NumPy makes strings of any four bytes and fails later, with SystemError, where Python takes them.
        code_points = array.view(array.dtype.str[0] + "u4")
        if np.any((code_points > 0x10FFFF) | ((code_points >= 0xD800) & (code_points <= 0xDFFF))):
            raise DatasetError(f"{name}: holds what is no Unicode text")
        return tuple(array.tolist())

    def integers(self, name: str) -> np.ndarray:
        array = self._read(name, "iu", "integers", 1)
        if array.dtype.kind == "u" and np.any(array > np.uint64(np.iinfo(np.int64).max)):
            raise DatasetError(f"{name}: must fit int64 (got {array.max()})")
        return array.astype(np.int64)

    def floats(self, name: str) -> np.ndarray:
        return self._read(name, "f", "floating point", 2)

    def _read(self, name: str, kinds: str, wanted: str, ndim: int) -> np.ndarray:
        array = parse_npy(self._content(name), name)
        if array.dtype.kind not in kinds or array.ndim != ndim:
            rule = f"must be {wanted} with {ndim} dimension{'s' if ndim > 1 else ''}"
            raise DatasetError(f"{name}: {rule} (got {array.dtype} of shape {array.shape})")
        return array

    def _content(self, name: str) -> bytes:
        info = self.members[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DatasetError(f"{name}: compression method {info.compress_type} is not one that NumPy writes")
        ratio = 1 if info.compress_type == zipfile.ZIP_STORED else _MAX_DEFLATE_RATIO
        if info.compress_size > self.archive_size or info.file_size > ratio * info.compress_size:
            raise DatasetError(f"{name}: claims {info.file_size} bytes, more than the file can hold")
        try:
            with self.archive.open(info) as member:
                # One byte past the claimed size makes zipfile reach the end, where it compares the checksum.
                content = member.read(info.file_size + 1)
        except _BROKEN as error:
            raise DatasetError(f"{name}: damaged ({_reason(error)})") from None
        if len(content) != info.file_size:
            raise DatasetError(f"{name}: truncated, {len(content)} of {info.file_size} bytes")
        return content


def parse_npy(content: bytes, name: str) -> np.ndarray:
    """The array in the content of an ``.npy`` file, of numbers or text; nothing is unpickled or evaluated.

    Args:
        content: all of it.
        name: of the array, for messages.

    Returns:
        A view of the content with 1 or 2 dimensions; copy it to change it.

    Raises:
        DatasetError: no such file, another kind of array, or another number of bytes than its header says.

    Example:
        >>> import io
        >>> import numpy as np
        >>> from spcl_fast.merc.npz import parse_npy
        >>> file = io.BytesIO()
        >>> np.save(file, np.arange(4.0).reshape(2, 2))
        >>> parse_npy(file.getvalue(), "words").tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(content[:8])
    if width is None:
        raise DatasetError(f"{name}: not an .npy array of format 1 or 2")
    start = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    header = _HEADER.fullmatch(content[8 + width : start].decode("latin-1"))
    if header is None:
        raise DatasetError(f"{name}: its header describes no plain array as NumPy writes it")
    if header["kind"] == "O":
        raise DatasetError(f"{name}: holds Python objects, which are never unpickled")
    try:
        dtype = np.dtype(header["descr"])
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(f"{name}: unknown dtype {header['descr']!r}") from None
    shape = tuple(int(n) for n in header["shape"].split(",") if n.strip())
    wanted, got = math.prod(shape) * dtype.itemsize, len(content) - start
    if dtype.itemsize == 0 or wanted != got:
        raise DatasetError(f"{name}: {dtype} of shape {shape} takes {wanted} bytes, but {got} are there")
    if len(shape) > 2:
        raise DatasetError(f"{name}: must have 1 or 2 dimensions (got shape {shape})")
    values = np.frombuffer(content, dtype, offset=start)  # a view, aligned or not; every caller copies it
    try:
        return values.reshape(shape, order="F" if header["fortran"] == "True" else "C")
    except ValueError:  # nothing to hold, but past NumPy's largest dimension
        raise DatasetError(f"{name}: shape {shape} is too large") from None


def _check_feature_names(feature_names: tuple[str, ...], stored: set[str]) -> tuple[str, ...]:
    if not feature_names:
        raise DatasetError("feature_names: must name at least one array (got none)")
    for i, name in enumerate(feature_names):
        if name not in stored or name in _REQUIRED:
            raise DatasetError(f"feature_names: must name feature arrays of the file (got {name!r})")
        if name in feature_names[:i]:
            raise DatasetError(f"feature_names: must be distinct (got {name!r} a second time)")
        if re.search(r"[,+\s]", name):
            raise DatasetError(f"feature_names: must be free of ',', '+' and spaces (got {name!r})")
    return feature_names


def _parse_modalities(
    modalities: str | Sequence[str] | None, feature_names: tuple[str, ...], stored: set[str]
) -> dict[str, list[str]]:
    """Modality -> the feature arrays it joins."""
    if modalities is None:
        return {name: [name] for name in feature_names}
    choice = f"choose from {', '.join(feature_names)}"
    views: dict[str, list[str]] = {}
    used: set[str] = set()
    for item in modalities.split(",") if isinstance(modalities, str) else modalities:
        names = [name.strip() for name in item.split("+")]
        for name in names:
            if not name:
                raise DatasetError(f"modalities: an item is empty in {modalities!r}; {choice}")
            if name not in feature_names and name in stored:
                rule = "is in the file but not among its feature_names: it is an annotation, not an input"
                raise DatasetError(f"{name!r} {rule}; {choice}")
            if name not in feature_names:
                raise DatasetError(f"{name!r} is not in the file; {choice}")
            if name in used:
                raise DatasetError(f"modalities: {name!r} is used twice in {modalities!r}")
            used.add(name)
        views["+".join(names)] = names
    if not views:
        raise DatasetError(f"modalities: must name at least one (got {modalities!r}); {choice}")
    return views


def _join(views: list[tuple[str, np.ndarray]], T: int) -> np.ndarray:
    """The views side by side, ``float32 [T, F]``."""
    for name, values in views:
        if len(values) != T:
            raise DatasetError(f"{name}: must be as long as labels, {T} (got shape {values.shape})")
        if values.shape[1] == 0:
            raise DatasetError(f"{name}: must have at least one column (got shape {values.shape})")
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            got = f"{name}[{row}, {column}] = {values[row, column]}"
            raise DatasetError(f"{name}: must be finite (got {got})")
    with np.errstate(over="ignore"):  # what does not fit float32 becomes inf, and the dataset says where
        return np.concatenate([values.astype(np.float32) for _, values in views], axis=1)
