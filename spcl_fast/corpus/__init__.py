"""Corpora past memory: stored in shards, read in place. Needs pyarrow (`spcl_fast[corpus]`)."""

from spcl_fast.corpus.checksum import checksum
from spcl_fast.corpus.manifest import (
    CORPUS_FORMAT,
    SCORES_FORMAT,
    Manifest,
    Modality,
    ShardInfo,
    StoreCorrupt,
    read_manifest,
    write_manifest,
)
from spcl_fast.corpus.rescore import Rescored, plan, rescore
from spcl_fast.corpus.scores import Scores
from spcl_fast.corpus.store import Corpus, Shard, open_corpus
from spcl_fast.corpus.writer import CorpusWriter

__all__ = [
    "CORPUS_FORMAT",
    "SCORES_FORMAT",
    "Corpus",
    "CorpusWriter",
    "Manifest",
    "Modality",
    "Rescored",
    "Scores",
    "Shard",
    "ShardInfo",
    "StoreCorrupt",
    "checksum",
    "open_corpus",
    "plan",
    "read_manifest",
    "rescore",
    "write_manifest",
]
