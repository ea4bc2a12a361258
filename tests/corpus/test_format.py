"""The format is what docs/corpus.md says: files written by hand are read, and what is written is as described."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa

from spcl_fast.corpus import CorpusWriter, Modality, open_corpus
from spcl_fast.corpus.checksum import checksum

DOCUMENT = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text()


def test_a_store_written_by_hand_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("corpus").mkdir()
    logits = np.arange(21, dtype=np.float32)
    utterances = pa.table({
        "speaker": pa.array([0, 1, 0], pa.int32()), "label": pa.array([6, -100, 0], pa.int32()),
        "logits.text": pa.FixedSizeListArray.from_arrays(pa.array(logits), 7),
    })  # fmt: skip
    dialogues = pa.table({"dialogue_id": [5, 4], "length": [2, 1]})
    for name, table in (("mine.arrow", utterances), ("mine.dialogues.arrow", dialogues)):
        with pa.OSFile(f"corpus/{name}", "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL) if "ShardInfo(" in code)
    exec(compile(code, "docs/corpus.md", "exec"), {})
    (shard,) = open_corpus("corpus")
    np.testing.assert_array_equal(shard.logits["text"].ravel(), logits)
    assert (shard.dialogue_id.tolist(), shard.offsets.tolist()) == ([5, 4], [0, 2, 3])


def test_files_are_as_described(tmp_path):
    modalities = [Modality("text", 2, "bfloat16", 3, "float16"), Modality("audio", 2)]
    with CorpusWriter(tmp_path, modalities) as writer:
        logits = {"text": np.zeros((2, 2), np.uint16), "audio": np.zeros((2, 2), np.float32)}
        writer.add(["a"], [0, 1], [1, 0], logits, {"text": np.zeros((2, 3), np.float16)}, offsets=[0, 2])
    names = ["manifest.json", "shard-000000.arrow", "shard-000000.dialogues.arrow"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    said = manifest.pop("checksum")
    assert said == checksum(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode("ascii"))
    tables = re.findall(r"^\| field \| value \|\n\|---\|---\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    fields = [re.findall(r"`(\w+)`", row.split("|")[1]) for table in tables for row in table.splitlines()]
    assert {name for row in fields for name in row} == {*manifest, "checksum", *manifest["shards"][0]}
    contents = {name: (tmp_path / name).read_bytes() for name in names}
    (shard,) = manifest["shards"]
    assert (shard["bytes"], shard["checksum"]) == (len(contents[names[1]]), checksum(contents[names[1]]))
    found = (shard["dialogue_bytes"], shard["dialogue_checksum"])
    assert found == (len(contents[names[2]]), checksum(contents[names[2]]))
    file = pa.ipc.open_file(contents[names[1]])
    assert file.num_record_batches == 1
    assert file.schema.names == ["speaker", "label", "logits.text", "logits.audio", "embedding.text"]
    assert [str(t) for t in file.schema.types[:2]] == ["int32", "int32"]
    kinds = [(t.value_type, t.list_size) for t in file.schema.types[2:]]
    assert kinds == [(pa.uint16(), 2), (pa.float32(), 2), (pa.float16(), 3)]
    assert file.schema.field("logits.text").metadata == {b"spcl_fast.dtype": b"bfloat16"}
    dialogues = pa.ipc.open_file(contents[names[2]])
    assert dialogues.schema.names == ["dialogue_id", "length"]
    assert dialogues.schema.types == [pa.string(), pa.int64()]
