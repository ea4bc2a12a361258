"""The manifest of a store: the one file that says what is in a folder, written last and trusted in nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spcl_fast.corpus._fields import Fields, name_of_file, unique
from spcl_fast.corpus.atomic import atomic_file
from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.place import Where, place_of

MANIFEST = "manifest.json"
VERSION = 1
CORPUS_FORMAT = "spcl_fast corpus"
SCORES_FORMAT = "spcl_fast scores"

#: dtype of logits and embeddings -> bytes of a number
DTYPES = {"float16": 2, "bfloat16": 2, "float32": 4}
#: what identifies a dialogue
DIALOGUE_ID_TYPES = ("int64", "string")

# Of a manifest: some 60,000 shards, and no reader is made to take more; scores of them all have room for their summary.
_MOST_BYTES = {CORPUS_FORMAT: 2**24, SCORES_FORMAT: 2**25}
_MOST_UTTERANCES = 2**48
_MOST_COLUMNS = 2**20


class StoreCorrupt(ValueError):  # noqa: N818 - a state of the store, and the name that the specification gives it
    """A store is damaged, incomplete or not what it says; the message names the file, and the shard where it is one.

    Example:
        >>> from spcl_fast.corpus import StoreCorrupt, read_manifest
        >>> try:
        ...     read_manifest("nowhere")
        ... except StoreCorrupt as error:
        ...     print(error)
        nowhere/manifest.json: no such file, so there is no finished store here
    """


@dataclass(frozen=True)
class Modality:
    r"""What a corpus stores of one modality: logits, embeddings or both.

    Attributes:
        name: without `,`, `+`, `/`, `\` and white space, at most 100 characters.
        num_classes: C, columns of the logits; None where there are none.
        logits_dtype: "float16", "bfloat16" or "float32"; None where there are no logits.
        embedding_size: F, columns of the embeddings; None where there are none.
        embedding_dtype: as `logits_dtype`.

    Raises:
        ValueError: another name, dtype or number of columns; neither logits nor embeddings.

    Example:
        >>> from spcl_fast.corpus import Modality
        >>> Modality("text", num_classes=7, embedding_size=300, embedding_dtype="float16").logits_dtype
        'float32'
    """

    name: str
    num_classes: int | None = None
    logits_dtype: str | None = None
    embedding_size: int | None = None
    embedding_dtype: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[^,+/\\\s\x00-\x1f\ud800-\udfff]{1,100}", self.name):
            rule = "must be 1 to 100 characters without ',', '+', '/', '\\' and spaces"
            raise ValueError(f"name: {rule} (got {self.name!r})")
        for columns, dtype in (("num_classes", "logits_dtype"), ("embedding_size", "embedding_dtype")):
            number, kind = getattr(self, columns), getattr(self, dtype)
            if number is None:
                if kind is not None:
                    raise ValueError(f"{dtype}: must be None where {columns} is None (got {kind!r})")
                continue
            if type(number) is not int or not 1 <= number <= _MOST_COLUMNS:
                raise ValueError(f"{columns}: must be an integer in [1, {_MOST_COLUMNS}] (got {number!r})")
            if kind is None:
                object.__setattr__(self, dtype, "float32")
            elif not isinstance(kind, str) or kind not in DTYPES:
                raise ValueError(f"{dtype}: must be one of {', '.join(DTYPES)} (got {kind!r})")
        if self.num_classes is None and self.embedding_size is None:
            raise ValueError("num_classes, embedding_size: one of them must be given (got None for both)")

    @property
    def row_bytes(self) -> int:
        """Bytes of one utterance."""
        logits = (self.num_classes or 0) * DTYPES[self.logits_dtype or "float32"]
        return logits + (self.embedding_size or 0) * DTYPES[self.embedding_dtype or "float32"]


@dataclass(frozen=True)
class ShardInfo:
    """What a manifest says of one shard: a file of utterances, and one of the dialogues they belong to.

    Attributes:
        name: of the file of utterances.
        utterances, dialogues: how many there are in it; a dialogue is never in two shards.
        first_utterance: its first row among those of the whole store.
        bytes, checksum: of that file.
        dialogue_bytes, dialogue_checksum: of the file `dialogues_name`.

    Example:
        >>> from spcl_fast.corpus import ShardInfo
        >>> ShardInfo("shard-000000.arrow", 3, 2, 0, 1186, "crc32c:00000000", 658, "crc32c:00000000").dialogues_name
        'shard-000000.dialogues.arrow'
    """

    name: str
    utterances: int
    dialogues: int
    first_utterance: int
    bytes: int
    checksum: str
    dialogue_bytes: int
    dialogue_checksum: str

    @property
    def dialogues_name(self) -> str:
        """Of the file with `dialogue_id` and `length`, one row a dialogue."""
        return f"{self.name.removesuffix('.arrow')}.dialogues.arrow"


@dataclass(frozen=True)
class Manifest:
    """What a store holds.

    Attributes:
        shards: in the order of their rows.
        modalities: of a corpus, in the order of M; C is the same in all that have logits, and the number of
            `class_names`.
        class_names: of the C classes, or None.
        dialogue_id: "int64" or "string".
        format: `CORPUS_FORMAT`, or `SCORES_FORMAT` for scores.
        extra: what another format adds, as JSON has it; it is kept as it is.

    Example:
        >>> from spcl_fast.corpus import Manifest, Modality, read_manifest, write_manifest
        >>> write_manifest(".", Manifest(shards=(), modalities=(Modality("text", num_classes=2),)))
        >>> read_manifest(".").utterances
        0
    """

    shards: tuple[ShardInfo, ...]
    modalities: tuple[Modality, ...] = ()
    class_names: tuple[str, ...] | None = None
    dialogue_id: str = "int64"
    format: str = CORPUS_FORMAT
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def utterances(self) -> int:
        """T of the whole store."""
        return sum(shard.utterances for shard in self.shards)

    @property
    def dialogues(self) -> int:
        """D of the whole store."""
        return sum(shard.dialogues for shard in self.shards)

    @property
    def num_classes(self) -> int | None:
        """C; None where neither logits nor class names say it."""
        if self.class_names is not None:
            return len(self.class_names)
        return next((m.num_classes for m in self.modalities if m.num_classes is not None), None)


def write_manifest(folder: Where, manifest: Manifest) -> None:
    """Puts the manifest of a store in its folder, whole or not at all: with it the store is there.

    Args:
        folder: which exists, with all files that the manifest names; as for `Corpus`.
        manifest: what `read_manifest` will give back, `extra` as JSON has it: without tuples and NumPy's numbers.

    Raises:
        OSError: it cannot be written; an older one stays.
        TypeError: something in `extra` that JSON has no form for.
        ValueError: a manifest that `read_manifest` would refuse.

    Example:
        >>> import json
        >>> from spcl_fast.corpus import Manifest, write_manifest
        >>> write_manifest(".", Manifest(shards=(), format="spcl_fast scores", extra={"transitions": [[0, 1], [1, 0]]}))
        >>> with open("manifest.json") as file:
        ...     json.load(file)["format"]
        'spcl_fast scores'
    """
    path = place_of(folder) / MANIFEST
    text = _text(manifest)
    try:
        _parse(text, manifest.format)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    with atomic_file(path) as file:
        file.write(text)


def read_manifest(folder: Where, format: str = CORPUS_FORMAT) -> Manifest:
    """Reads the manifest of a store, and believes nothing: names of files stay in the folder, numbers are possible.

    Args:
        folder: of the store; as for `Corpus`.
        format: which one is wanted.

    Returns:
        The manifest. Whether its files are there and right is found out by who opens them.

    Raises:
        StoreCorrupt: it is missing, too large, no strict JSON, damaged, or breaks a rule; the message names the file.

    Example:
        >>> from spcl_fast.corpus import Manifest, read_manifest, write_manifest
        >>> write_manifest(".", Manifest(shards=(), class_names=("sad", "happy")))
        >>> read_manifest(".").class_names
        ('sad', 'happy')
    """
    path = place_of(folder) / MANIFEST
    try:
        if not path.is_file():
            raise StoreCorrupt("no such file, so there is no finished store here")
        with path.open("rb") as file:
            text = file.read(_most_bytes(format) + 1)
        return _parse(text, format)
    except OSError as error:
        raise StoreCorrupt(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise StoreCorrupt(f"{path}: {error}") from None


def bytes_left(manifest: Manifest) -> int:
    """What `write_manifest` has left for the shards that a manifest does not have yet, in bytes of `bytes_of`."""
    return _most_bytes(manifest.format) - len(_text(manifest)) - 2  # the list, no longer empty, breaks into lines


def bytes_of(shard: ShardInfo) -> int:
    """What a shard takes of its manifest, as it is indented there."""
    return len(json.dumps(vars(shard), indent=3)) + 6


def _most_bytes(format: str) -> int:
    return _MOST_BYTES.get(format, _MOST_BYTES[CORPUS_FORMAT])


def _text(manifest: Manifest) -> bytes:
    """The file of a manifest."""
    value: dict[str, Any] = {"format": manifest.format, "version": VERSION}
    value["modalities"] = [dict(vars(modality)) for modality in manifest.modalities]
    value["class_names"] = None if manifest.class_names is None else list(manifest.class_names)
    value["dialogue_id"] = manifest.dialogue_id
    value["shards"] = [dict(vars(shard)) for shard in manifest.shards]
    value["extra"] = dict(manifest.extra)
    value["checksum"] = checksum(_canonical(value))
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _canonical(value: Mapping[str, Any]) -> bytes:
    """What the checksum of a manifest is of: all of it but the checksum, keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _parse(text: bytes, wanted: str) -> Manifest:
    if len(text) > (most := _most_bytes(wanted)):
        raise StoreCorrupt(f"must be at most {most} bytes (got more)")
    try:
        value = json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_number, parse_float=_finite)
        said = value.pop("checksum", None) if isinstance(value, dict) else None
        found = checksum(_canonical(value))
    except RecursionError:
        raise StoreCorrupt("is nested too deeply") from None
    except (ValueError, UnicodeError) as error:
        raise StoreCorrupt(f"not strict JSON ({error})") from None
    top = Fields("manifest", value)
    if top.text("format") != wanted:
        raise StoreCorrupt(f"format: must be {wanted!r} (got {value['format']!r})")
    if top.integer("version", 0, 2**31) != VERSION:
        raise StoreCorrupt(f"version: this release reads version {VERSION} (got {value['version']})")
    if said != found:
        raise StoreCorrupt(f"damaged: its checksum is {found}, not {said!r}")
    manifest = Manifest(
        shards=_shards(top.list("shards")),
        modalities=tuple(_modality(f"modalities[{i}]", entry) for i, entry in enumerate(top.list("modalities"))),
        class_names=None if top.any("class_names") is None else top.texts("class_names"),
        dialogue_id=top.choice("dialogue_id", DIALOGUE_ID_TYPES),
        format=wanted,
        extra=top.mapping("extra"),
    )
    top.nothing_else()
    unique("modalities", [modality.name for modality in manifest.modalities])
    unique("class_names", list(manifest.class_names or ()))
    C = manifest.num_classes
    for modality in manifest.modalities:
        if modality.num_classes not in (None, C):
            raise StoreCorrupt(f"modalities: {modality.name} must have C = {C} classes (got {modality.num_classes})")
    row_bytes = sum(modality.row_bytes for modality in manifest.modalities)
    for shard in manifest.shards:
        if shard.utterances * row_bytes > shard.bytes or shard.dialogues > shard.dialogue_bytes:
            raise StoreCorrupt(f"shards: {shard.name} must be large enough for its rows (got {shard.bytes} bytes)")
    return manifest


def _modality(where: str, entry: Any) -> Modality:
    fields = Fields(where, entry)
    try:
        modality = Modality(**{name: fields.any(name) for name in Modality.__dataclass_fields__})
    except ValueError as error:
        raise StoreCorrupt(f"{where}.{error}") from None
    fields.nothing_else()
    return modality


def _shards(entries: list[Any]) -> tuple[ShardInfo, ...]:
    shards, first = [], 0
    for i, entry in enumerate(entries):
        fields = Fields(f"shards[{i}]", entry)
        shard = ShardInfo(
            name=name_of_file(f"shards[{i}].name", fields.text("name")),
            utterances=fields.integer("utterances", 0, _MOST_UTTERANCES),
            dialogues=fields.integer("dialogues", 0, _MOST_UTTERANCES),
            first_utterance=fields.integer("first_utterance", first, first),
            bytes=fields.integer("bytes", 0, 2**56),
            checksum=fields.text("checksum"),
            dialogue_bytes=fields.integer("dialogue_bytes", 0, 2**56),
            dialogue_checksum=fields.text("dialogue_checksum"),
        )
        fields.nothing_else()
        first += shard.utterances
        if first > _MOST_UTTERANCES:
            raise StoreCorrupt(f"shards: must hold at most {_MOST_UTTERANCES} utterances (got {first})")
        shards.append(shard)
    unique("shards", [name for shard in shards for name in (shard.name, shard.dialogues_name)])
    return tuple(shards)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key that is there twice")
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
