"""Shards that are damaged, or of somebody who means harm: StoreCorrupt that names file and shard, never a crash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa

from spcl_fast.corpus import CorpusWriter, Modality, StoreCorrupt, checksum, open_corpus, read_manifest, write_manifest

FILES = ("shard-000001.arrow", "shard-000001.dialogues.arrow")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    modalities = [Modality("text", 2, "float16", 3, "bfloat16"), Modality("audio", 2)]
    rng = np.random.default_rng(0)
    logits = {"text": rng.normal(size=(9, 2)).astype(np.float16), "audio": rng.normal(size=(9, 2)).astype(np.float32)}
    embeddings = {"text": rng.integers(2**16, size=(9, 3), dtype=np.uint16)}
    with CorpusWriter(folder, modalities, utterances_per_shard=5) as writer:
        writer.add(["a", "b", "", "c"], [0] * 9, range(9), logits, embeddings, offsets=[0, 4, 6, 6, 9])
    assert len(open_corpus(folder)) == 2
    return folder


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store")


def refusal(folder, name, verify=True) -> str:
    with pytest.raises(StoreCorrupt) as refused:
        open_corpus(folder).shard(1, verify=verify)
    said = str(refused.value)
    assert name in said
    assert "shard 1: " in said
    assert open_corpus(folder).shard(0).info.utterances == 4  # the others are as they were
    return said


def sealed(folder, name, **changes) -> None:
    """Makes the manifest say what lies there, as one would who means harm."""
    manifest = read_manifest(folder)
    content = (folder / name).read_bytes()
    prefix = "dialogue_" if "dialogues" in name else ""
    changes |= {f"{prefix}bytes": len(content), f"{prefix}checksum": checksum(content)}
    shards = (manifest.shards[0], replace(manifest.shards[1], **changes))
    write_manifest(folder, replace(manifest, shards=shards))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_missing_and_truncated_files(store, name, verify):
    path = store / name
    content = path.read_bytes()
    for size in {0, 1, 7, 8, len(content) // 2, len(content) - 1, len(content) + 1}:
        path.write_bytes((content + b"\0")[:size])
        assert f"must have {len(content)} bytes (got {size})" in refusal(store, name, verify)
    path.unlink()
    assert "no such file" in refusal(store, name, verify)
    path.mkdir()
    assert "no such file" in refusal(store, name, verify)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_found(store, name):
    path = store / name
    content = bytearray(path.read_bytes())
    corpus = open_corpus(store)
    for i in range(0, len(content), 3):  # the checksum does not know one byte from another
        content[i] ^= 1 << i % 8
        path.write_bytes(content)
        content[i] ^= 1 << i % 8
        with pytest.raises(StoreCorrupt, match=f"{name}: shard 1: damaged: its checksum is"):
            corpus.shard(1)


# In a process of its own, which a crash would end.
UNVERIFIED = """
import sys
from pathlib import Path
import numpy as np
from spcl_fast.corpus import StoreCorrupt, open_corpus
corpus, path, rng = open_corpus(sys.argv[1]), Path(sys.argv[1], sys.argv[2]), np.random.default_rng(int(sys.argv[3]))
content, refused = path.read_bytes(), 0
for i in range(int(sys.argv[4])):
    flipped = bytearray(content)
    for at in rng.integers(len(content), size=1 + i % 3):
        flipped[at] = rng.integers(256)
    path.write_bytes(flipped)
    try:
        shard = corpus.shard(1, verify=False)
    except StoreCorrupt:
        refused += 1
        continue
    looked_at = [shard.speaker, shard.label, *shard.logits.values(), *shard.embeddings.values(), shard.utterance_index]
    assert [len(values) for values in looked_at] == [5] * 6
    assert sum(float(values.sum(dtype=np.float64)) for values in looked_at) is not None
    assert len(shard.dialogue_id) == 3 and shard.offsets[-1] == 5
path.write_bytes(content)
print(refused)
"""


@pytest.mark.parametrize("name", FILES)
def test_nothing_crashes_where_nothing_is_verified(store, name):
    arguments = [str(store), name, "0", "400"]
    command = [sys.executable, "-W", "ignore", "-c", UNVERIFIED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 60


def rewritten(path: Path, batches: list, **options) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batches[0].schema, **options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def batch_of(path: Path):
    return pa.ipc.open_file(path.read_bytes()).get_batch(0)


def pairs(*rows):
    return pa.array(rows, pa.list_(pa.float32(), 2))


def with_column(batch, name, values):
    i = batch.schema.names.index(name)
    arrays = list(batch.columns)
    arrays[i] = values
    return pa.record_batch(arrays, batch.schema.names)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (0, lambda b: [b, b], "must be one record batch (got 2)"),
        (0, lambda b: [b.slice(0, 4)], "must have 5 rows (got 4)"),
        (0, lambda b: [b.select(["label", "speaker"])], "columns must be speaker, label, logits.text"),
        (0, lambda b: [with_column(b, "label", pa.array([1.0] * 5))], "column label must be int32 (got double)"),
        (0, lambda b: [with_column(b, "label", pa.array([1, None, 1, 1, 1], pa.int32()))], "must hold no null"),
        (0, lambda b: [with_column(b, "logits.audio", pa.array([[1.0]] * 5))], "column logits.audio must be"),
        (
            0,
            lambda b: [
                with_column(b, "logits.audio", pa.array([[1.0] * 2, None] * 2 + [[1] * 2], pa.list_(pa.float32(), 2)))
            ],
            "must hold no null",
        ),
        (
            0,
            lambda b: [with_column(b, "logits.audio", pa.array([[1.0, None]] * 5, pa.list_(pa.float32(), 2)))],
            "must hold no null",
        ),
        (0, lambda b: [with_column(b, "label", b.column("label").dictionary_encode())], "column label must be int32"),
        (1, lambda b: [with_column(b, "length", pa.array([3, 3, -1]))], "length: must be in [0, 5]"),
        (1, lambda b: [with_column(b, "length", pa.array([2**62, 2**62, 5]))], "length: must be in [0, 5]"),
        (1, lambda b: [with_column(b, "length", pa.array([1, 1, 2]))], "length: must sum to the 5 utterances (got 4)"),
        (1, lambda b: [with_column(b, "length", pa.array([1, None, 4]))], "must hold no null"),
        (1, lambda b: [with_column(b, "dialogue_id", pa.array(["a", None, "b"]))], "must hold no null"),
        (1, lambda b: [with_column(b, "dialogue_id", pa.array([1, 2, 3]))], "column dialogue_id must be string"),
        (1, lambda b: [b.slice(0, 0)], "must have 3 rows (got 0)"),
    ],
)
def test_files_of_another_form_are_refused(store, name, make, message):
    path = store / FILES[name]
    rewritten(path, make(batch_of(path)))
    sealed(store, FILES[name])
    assert message in refusal(store, FILES[name])


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_files_are_refused(store, codec):
    path = store / FILES[0]
    rewritten(path, [batch_of(path)], options=pa.ipc.IpcWriteOptions(compression=codec))
    sealed(store, FILES[0])
    assert "must be uncompressed" in refusal(store, FILES[0])


def test_nothing_is_unpacked_to_find_that_it_is_packed(store):
    """A small file of large zeros took their memory before it was refused."""
    path = store / FILES[0]
    first = batch_of(path).slice(0, 1)
    large = pa.Table.from_batches([first] * 100_000).combine_chunks().to_batches()[0]
    rewritten(path, [large], options=pa.ipc.IpcWriteOptions(compression="zstd"))
    assert path.stat().st_size < large.nbytes // 50
    sealed(store, FILES[0])
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        assert "must be uncompressed" in refusal(store, FILES[0])
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < large.nbytes // 50


def test_files_of_other_tools_are_read(store):
    """Another alignment, nulls that could be there, and metadata of one's own say nothing else."""
    for name in FILES:
        path = store / name
        batch = batch_of(path)
        kinds = [
            pa.list_(t.value_type, t.list_size) if pa.types.is_fixed_size_list(t) else t for t in batch.schema.types
        ]
        schema = pa.schema(list(zip(batch.schema.names, kinds, strict=True)), {"by": "me"})
        columns = [column.cast(kind) for column, kind in zip(batch.columns, kinds, strict=True)]
        rewritten(path, [pa.record_batch(columns, schema)])
        sealed(store, name)
    shard = open_corpus(store).shard(1)
    assert (shard.label.tolist(), shard.dialogue_id.tolist()) == ([4, 5, 6, 7, 8], ["b", "", "c"])


def test_what_is_no_arrow_file_is_refused(store):
    for content in (b"", b"x", b"ARROW1\0\0", b"ARROW1\0\0" + b"\xff" * 3000 + b"ARROW1", bytes(5000)):
        for name in FILES:
            before = (store / name).read_bytes()
            (store / name).write_bytes(content + bytes(1000))
            sealed(store, name)
            refusal(store, name)
            (store / name).write_bytes(before)
            sealed(store, name)
    assert open_corpus(store).shard(1).offsets.tolist() == [0, 2, 2, 5]
